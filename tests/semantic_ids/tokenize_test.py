"""Stage `tokenize`, from embeddings to semantic IDs on disk."""

import json

import numpy as np
import pytest

from genrec import artifacts, config, files
from genrec.semantic_ids import codes, embed, quality, tokenize

SETTINGS = config.SemanticIdLearning(codes=(16, 16, 16), hidden=(16,), latent=8, epochs=3, batch=64)


def write_embeddings(path, vectors: np.ndarray, recipe: str = "made"):
    with artifacts.writing(path, embed.KIND, recipe, config={}, inputs={"dataset": "the data"}) as draft:
        files.save_array(draft.path / embed.FILE, vectors.astype(np.float32))
    return path


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(8, 12))
    vectors = centers[generator.integers(0, 8, 300)] + 0.4 * generator.normal(size=(300, 12))
    vectors[250:260] = vectors[0]  # ten items that no codebook can tell apart
    return vectors


@pytest.mark.parametrize("method", ["residual_kmeans", "rqvae"])
def test_every_item_gets_a_unique_semantic_id(vectors, tmp_path, method):
    settings = config.SemanticIdLearning(
        **vars(SETTINGS) | {"method": method, "max_collision_rate": 1.0, "max_reconstruction_error": 9.0}
    )
    source = write_embeddings(tmp_path / "embeddings", vectors)
    tokenize.learn(settings, source, tmp_path / "ids")
    ids = codes.SemanticIds.load(tmp_path / "ids")
    assert ids.items == 300 and ids.levels == 4 and ids.sizes[:3] == (16, 16, 16) and ids.sizes[3] >= 11
    assert len(np.unique(ids.codes, axis=0)) == 300
    same = ids.codes[[0, *range(250, 260)]]
    assert len(np.unique(same[:, :3], axis=0)) == 1 and len(np.unique(same[:, 3])) == 11

    artifact = artifacts.read(tmp_path / "ids", codes.KIND)
    assert artifact.fingerprint == ids.fingerprint
    assert artifact.inputs == {"item_embeddings": "made", "dataset": "the data"}
    report = json.loads((tmp_path / "ids" / "quality.json").read_text())
    assert report["largest_group"] == ids.sizes[3]
    assert "level" in (tmp_path / "ids" / "quality.txt").read_text()
    assert (tmp_path / "ids" / "quality.png").stat().st_size > 10_000
    with np.load(tmp_path / "ids" / "codebooks.npz") as books:
        assert sorted(books) == ["level_0", "level_1", "level_2"] and len(books["level_1"]) == 16


def test_the_stage_runs_again_only_for_other_embeddings_or_settings(vectors, tmp_path, monkeypatch):
    source, folder = write_embeddings(tmp_path / "embeddings", vectors), tmp_path / "ids"
    tokenize.learn(SETTINGS, source, folder)
    first = codes.SemanticIds.load(folder).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(tokenize, "learn_quantizer", None)  # calling it would raise
        tokenize.learn(SETTINGS, source, folder)
    write_embeddings(source, vectors[::-1], recipe="made anew")
    tokenize.learn(SETTINGS, source, folder)
    assert artifacts.read(folder, codes.KIND).inputs["item_embeddings"] == "made anew"
    assert codes.SemanticIds.load(folder).fingerprint != first
    write_embeddings(source, vectors)
    tokenize.learn(SETTINGS, source, folder)
    assert codes.SemanticIds.load(folder).fingerprint == first


def test_collapsed_codes_stop_the_stage_and_keep_the_old_ids(vectors, tmp_path):
    source, folder = write_embeddings(tmp_path / "embeddings", vectors), tmp_path / "ids"
    tokenize.learn(SETTINGS, source, folder)
    kept = codes.SemanticIds.load(folder).fingerprint
    collapsed = 1e-4 * vectors  # all items in one place, but for one that is far away
    collapsed[:290] = collapsed[0]
    write_embeddings(source, collapsed, recipe="collapsed")
    with pytest.raises(quality.QualityError, match="health gate") as stopped:
        tokenize.learn(SETTINGS, source, folder)
    for named in ("290 items", "semantic_ids.max_group", "semantic_ids.max_collision_rate", "Set more codes"):
        assert named in str(stopped.value)
    assert codes.SemanticIds.load(folder).fingerprint == kept


def test_missing_embeddings_and_unknown_methods_are_named(vectors, tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="item_embeddings"):
        tokenize.learn(SETTINGS, tmp_path / "nothing", tmp_path / "ids")
    source = write_embeddings(tmp_path / "embeddings", vectors)
    with pytest.raises(config.ConfigError, match="'kmeans'"):
        tokenize.learn(config.SemanticIdLearning(method="kmeans"), source, tmp_path / "ids")
