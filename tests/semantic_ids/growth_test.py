"""Growth of a catalogue under frozen codebooks, by the function that the tool calls."""

import dataclasses
import json

import jax
import numpy as np
import pyarrow as pa
import pytest

from genrec import artifacts, config
from genrec.data import dataset as datasets
from genrec.data import hold_out
from genrec.data.prepare import prepare
from genrec.decoding import loaded_model
from genrec.evaluation import evaluate
from genrec.models import checkpoints, load, run_record
from genrec.semantic_ids import codes, embed, encoders, growth, tokenize
from genrec.semantic_ids.codes import SemanticIdError, SemanticIds
from genrec.semantic_ids.residual_kmeans import ResidualCodebooks

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=150, users=80)),
    embeddings=config.Embeddings(width=16, cooccurrence_weight=1.0, cooccurrence_width=8),
    semantic_ids=config.SemanticIdLearning(codes=(8, 8), max_collision_rate=1.0),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(max_history=4),
    evaluation=config.Evaluation(beams=20, batch=64, cutoffs=(1, 10, 20)),
)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Two work directories, `before` with an untrained checkpoint and `after` with the items that were held out."""
    folder = tmp_path_factory.mktemp("grown")
    before, after = folder / "before", folder / "after"
    prepare(EXPERIMENT.data, after / "dataset")
    hold_out.hold_out(after / "dataset", before / "dataset", 0.2)
    embed.embed(EXPERIMENT.embeddings, before / "dataset", before / "item_embeddings")
    tokenize.learn(EXPERIMENT.semantic_ids, before / "item_embeddings", before / "semantic_ids")
    ids, dataset = SemanticIds.load(before / "semantic_ids"), datasets.Dataset(before / "dataset")
    record = run_record.RunRecord.of(EXPERIMENT, ids.sizes, ids.fingerprint, dataset.fingerprint)
    params = jax.jit(load.model_of(record).initialize)()
    store = checkpoints.Checkpoints(before)
    store.save(7, {"ema": params, "params": params}, {}, record, 0.1)
    store.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth, "BLOCK_ROWS", 7)
        growth.assign(EXPERIMENT.embeddings, after, before)
    return before, after


def test_old_items_keep_their_ids_and_vectors_and_new_ones_get_some(grown):
    before, after = grown
    old, new = (SemanticIds.load(path / "semantic_ids") for path in grown)
    catalogues = [datasets.Dataset(path / "dataset").catalogue for path in grown]
    vectors = [embed.load(path / "item_embeddings") for path in grown]
    assert new.sizes == old.sizes and new.items == len(catalogues[1]) > old.items
    for row, item_id in enumerate(catalogues[0].item_ids):
        place = catalogues[1].index[item_id]
        np.testing.assert_array_equal(new.codes[place], old.codes[row])
        np.testing.assert_array_equal(vectors[1][place], vectors[0][row])
    generations = codes.generations(after / "semantic_ids", new.items)
    fresh = [item_id not in catalogues[0].index for item_id in catalogues[1].item_ids]
    assert generations.tolist() == [int(one) for one in fresh]
    assert np.isfinite(vectors[1]).all() and (vectors[1][np.array(fresh), 16:] != 0).any(axis=1).all()
    assert codes.ancestors(after / "semantic_ids") == [
        (old.fingerprint, datasets.Dataset(before / "dataset").fingerprint)
    ]
    drift = json.loads((after / "semantic_ids" / "drift.json").read_text())
    assert drift["new_items"] == sum(fresh) and 0 <= drift["beyond"] <= 1 and drift["new_error"] > 0


def test_a_checkpoint_of_the_parent_recommends_old_and_new_items(grown, capsys):
    before, after = grown
    loaded = loaded_model.load(after, checkpoints_of=before)
    assert loaded.new_items.sum() == len(loaded.dataset.catalogue) - SemanticIds.load(before / "semantic_ids").items
    assert loaded_model.load(before).new_items is None
    shown = {}
    for share in (0.0, 0.5):
        cfg = dataclasses.replace(EXPERIMENT.evaluation, new_items_share=share)
        evaluate.evaluate(dataclasses.replace(EXPERIMENT, evaluation=cfg), after, checkpoints_of=before)
        folder = after / "evaluation" / ("new_items_share=0.5" if share else "")
        figures = json.loads((folder / "test.json").read_text())
        segments = {row["segment"]: row for row in figures["segments"]["new to the model"]}
        assert sum(row["users"] for row in segments.values()) == figures["users"]
        shown[share] = segments["new"]["model"]["recall@20"]
        if share:
            assert set(figures["certified"].values()) == {0.0}
    # Every list has 10 or more of the 30 new items: by chance alone the recall is a third.
    assert shown[0.5] > 0 and shown[0.5] >= shown[0.0]
    assert "new to the model" in capsys.readouterr().out


def test_checkpoints_of_other_semantic_ids_are_refused(grown, tmp_path):
    _, after = grown
    with pytest.raises(artifacts.ArtifactError, match="launch/train.py"):
        loaded_model.load(after)
    ids = SemanticIds.load(after / "semantic_ids")
    record = run_record.RunRecord.of(EXPERIMENT, ids.sizes, "another", "another")
    params = jax.jit(load.model_of(record).initialize)()
    store = checkpoints.Checkpoints(tmp_path)
    store.save(7, {"ema": params, "params": params}, {}, record, 0.1)
    store.close()
    with pytest.raises(artifacts.ArtifactError, match="semantic IDs"):
        loaded_model.load(after, checkpoints_of=tmp_path)


def test_other_settings_than_the_parents_are_refused(grown):
    before, after = grown
    other = dataclasses.replace(EXPERIMENT.embeddings, cooccurrence_weight=2.0)
    with pytest.raises(artifacts.ArtifactError, match="cooccurrence_weight.*1.0.*2.0"):
        growth.assign(other, after, before)


def test_the_parent_as_the_output_is_refused_and_stays(grown):
    before, _ = grown
    files = {path: path.stat().st_mtime_ns for path in before.rglob("*")}
    with pytest.raises(artifacts.ArtifactError, match="would replace the input"):
        growth.assign(EXPERIMENT.embeddings, before, before)
    assert files == {path: path.stat().st_mtime_ns for path in before.rglob("*")}


def test_a_second_call_does_nothing(grown):
    before, after = grown
    manifest = after / "semantic_ids" / "artifact.json"
    written = manifest.stat().st_mtime_ns
    growth.assign(EXPERIMENT.embeddings, after, before)
    assert manifest.stat().st_mtime_ns == written


@pytest.mark.parametrize("method", ["residual_kmeans", "rqvae"])
def test_a_saved_quantizer_gives_the_same_codes(method, grown, tmp_path):
    before, _ = grown
    cfg = dataclasses.replace(
        EXPERIMENT.semantic_ids,
        method=method,
        hidden=(16,),
        latent=4,
        epochs=2,
        min_usage=0.0,
        max_group=200,
        max_reconstruction_error=9.0,
    )
    tokenize.learn(cfg, before / "item_embeddings", tmp_path / "semantic_ids")
    vectors = embed.load(before / "item_embeddings")
    found = tokenize.load_quantizer(tmp_path / "semantic_ids").encode(vectors)
    np.testing.assert_array_equal(found, SemanticIds.load(tmp_path / "semantic_ids").codes[:, :-1])
    (tmp_path / "semantic_ids" / "codebooks.npz").unlink()
    (tmp_path / "semantic_ids" / "rqvae.npz").unlink(missing_ok=True)
    with pytest.raises(artifacts.ArtifactError, match="codebooks.npz"):
        tokenize.load_quantizer(tmp_path / "semantic_ids")


BOOKS = ResidualCodebooks([np.array([[0.0], [10.0]], np.float32), np.array([[-1.0], [0.0], [2.0]], np.float32)])
KNOWN = SemanticIds(np.array([[0, 1, 0], [0, 1, 2], [1, 2, 0]]), (2, 3, 3))


def test_collisions_take_free_codes_and_then_the_next_nearest_center():
    same = np.zeros((5, 1), np.float32)  # nearest: 0 and then 0 (code 1), -1 (code 0), 2 (code 2)
    found, moved = growth.assign_codes(same, BOOKS, KNOWN)
    assert found.tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 2, 0]] and moved == 4
    SemanticIds(np.concatenate([KNOWN.codes, found]), KNOWN.sizes)  # all different
    with pytest.raises(SemanticIdError, match="semantic_ids.codes"):
        growth.assign_codes(np.zeros((8, 1), np.float32), BOOKS, KNOWN)


def test_drift_shows_items_that_the_codebooks_do_not_cover():
    old = np.array([[0.1], [0.2], [12.1]], np.float32)
    near, far = np.array([[0.05], [9.95]], np.float32), np.array([[40.0], [-30.0]], np.float32)
    for vectors, drifts in ((near, False), (far, True)):
        found, moved = growth.assign_codes(vectors, BOOKS, KNOWN)
        drift = growth.measure_drift(BOOKS, KNOWN, old, vectors, found, moved)
        assert (drift.beyond == 1.0) == drifts and ("Learn semantic IDs again" in drift.advice) == drifts
        assert (drift.new_error > drift.old_error) == drifts
        assert drift.advice in growth.table(drift)


@pytest.mark.parametrize(
    ("shape", "named"), [((5, 6), r"\(5, 6\).*4 items"), ((4, 7), "7 dimensions, those of the parent 6")]
)
def test_vectors_of_new_items_must_fit_the_items_file_and_the_parent(tmp_path, shape, named):
    np.save(tmp_path / "given.npy", np.ones(shape, np.float32))
    table = pa.table({"item_id": list("abcd"), "source_row": range(4), "title": list("ABCD")})
    after = datasets.Catalogue(table, ("title",), source_items=4)
    cfg = config.Embeddings(source="vectors", vectors=str(tmp_path / "given.npy"))
    old = np.ones((3, 6), np.float32)
    with pytest.raises(encoders.EmbeddingError, match=named):
        growth.embed_new(cfg, after.take(np.arange(3)), old, after.take(np.array([3])))
