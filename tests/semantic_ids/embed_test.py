"""Item embeddings from texts, given vectors and co-occurrence, for tiny datasets on disk."""

import dataclasses
import sys
import tracemalloc
import types

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from written_datasets import contents_of

from genrec import artifacts, config, files
from genrec.data import dataset as datasets
from genrec.semantic_ids import cooccurrence, embed, encoders, growth

WORDS = ["piano sonata", "drum machine", "folk guitar", "string quartet", "deep house", "choral mass"]


def write_dataset(path, train, test=((0, 1),), *, texts=None, extra=None, fingerprint="data", source_items=None):
    items = 1 + max(item for row in (*train, *test) for item in row)
    texts = texts or [f"{WORDS[item % 6]} number {item}" for item in range(items)]
    columns = {
        "item_id": [f"i{item}" for item in range(items)],
        "source_row": pa.array(np.arange(items)),
        "title": texts,
    }
    parts = {
        name: [datasets.Sequence(f"u{user}", np.array(row), np.arange(len(row))) for user, row in enumerate(rows)]
        for name, rows in {"train": train, "validation": test, "test": test}.items()
    }
    with artifacts.writing(path, datasets.KIND, fingerprint, config={}) as draft:
        figures = {"text_fields": ["title"], "source_items": source_items or items}
        datasets.write(draft.path, contents_of(parts, pa.table(columns | (extra or {})), figures))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    generator = np.random.default_rng(0)
    train = [generator.integers(0, 24, 6).tolist() for _ in range(40)] + [list(range(24))]
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", train, test=[[0, 1, 2]])


def norms(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def test_texts_give_unit_vectors_and_similar_texts_are_near(dataset, tmp_path):
    embed.embed(config.Embeddings(width=8), dataset, tmp_path / "embeddings")
    vectors = embed.load(tmp_path / "embeddings")
    assert vectors.shape == (24, 8) and vectors.dtype == np.float32
    np.testing.assert_allclose(norms(vectors), 1, rtol=1e-5)
    similarity = vectors @ vectors.T
    assert similarity[0, 6] > 0.5 > similarity[0, 1]  # two piano sonatas; a sonata and a drum machine
    assert artifacts.read(tmp_path / "embeddings", embed.KIND).inputs == {"dataset": "data"}


def test_the_width_shrinks_to_a_small_catalogue(dataset, tmp_path):
    embed.embed(config.Embeddings(width=500), dataset, tmp_path / "embeddings")
    assert embed.load(tmp_path / "embeddings").shape == (24, 24)


def test_the_same_recipe_is_not_run_twice(dataset, tmp_path, monkeypatch):
    folder = tmp_path / "embeddings"
    embed.embed(config.Embeddings(width=8), dataset, folder)
    first = embed.load(folder)
    with monkeypatch.context() as patch:
        patch.setattr(embed, "content", None)  # calling it would raise
        embed.embed(config.Embeddings(width=8), dataset, folder)
    embed.embed(config.Embeddings(width=6), dataset, folder)
    assert embed.load(folder).shape == (24, 6)
    embed.embed(config.Embeddings(width=8), dataset, folder)
    np.testing.assert_array_equal(embed.load(folder), first)


def write_npy(path, array) -> str:
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize("cooccurrence", [0.0, 1.0])
def test_what_is_not_used_and_where_a_file_lies_changes_nothing(dataset, tmp_path, monkeypatch, cooccurrence):
    vectors = np.random.default_rng(0).normal(size=(24, 7)).astype(np.float32)
    settings = config.Embeddings(
        source="vectors", vectors=write_npy(tmp_path / "given.npy", vectors), cooccurrence_weight=cooccurrence
    )
    embed.embed(settings, dataset, tmp_path / "embeddings")
    (tmp_path / "given.npy").rename(tmp_path / "moved.npy")
    moved = dataclasses.replace(settings, vectors=str(tmp_path / "moved.npy"), width=9, sentence_model="another")
    if not cooccurrence:
        moved = dataclasses.replace(moved, cooccurrence_width=9)
    with monkeypatch.context() as patch:
        patch.setattr(embed, "content", None)  # calling it would raise
        embed.embed(moved, dataset, tmp_path / "embeddings")


def test_vectors_in_the_folder_that_is_replaced_are_refused_and_stay(dataset, tmp_path):
    embed.embed(config.Embeddings(width=8), dataset, tmp_path / "embeddings")
    file = tmp_path / "embeddings" / embed.FILE
    with pytest.raises(artifacts.ArtifactError, match="embeddings.vectors.*would replace"):
        embed.embed(config.Embeddings(source="vectors", vectors=str(file)), dataset, tmp_path / "embeddings")
    assert embed.load(tmp_path / "embeddings").shape == (24, 8)


def test_given_vectors_follow_their_items_into_another_order(tmp_path):
    rows = np.array([4, 0, 3])  # the dataset kept three of the file's five items
    data = write_dataset(tmp_path / "dataset", [[0, 1, 2]], extra={"source_row": pa.array(rows)}, source_items=5)
    given = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float16)
    np.save(tmp_path / "given.npy", given)
    settings = config.Embeddings(source="vectors", vectors=str(tmp_path / "given.npy"))
    embed.embed(settings, data, tmp_path / "embeddings")
    expected = given[rows].astype(np.float32)
    np.testing.assert_allclose(embed.load(tmp_path / "embeddings"), expected / norms(expected)[:, None], rtol=1e-5)
    # Other vectors under the same name are another recipe.
    np.save(tmp_path / "given.npy", -given)
    embed.embed(settings, data, tmp_path / "embeddings")
    np.testing.assert_allclose(embed.load(tmp_path / "embeddings"), -expected / norms(expected)[:, None], rtol=1e-5)


@pytest.mark.parametrize("source", ["tfidf", "vectors"])
def test_blocks_of_items_change_no_vector(dataset, tmp_path, monkeypatch, source):
    given = write_npy(tmp_path / "given.npy", np.random.default_rng(0).normal(size=(24, 7)))
    settings = config.Embeddings(source=source, vectors=given, width=8, cooccurrence_weight=0.5, cooccurrence_width=5)
    embed.embed(settings, dataset, tmp_path / "whole")
    monkeypatch.setattr(encoders, "BLOCK_ITEMS", 7)
    embed.embed(settings, dataset, tmp_path / "blocks")
    np.testing.assert_allclose(embed.load(tmp_path / "blocks"), embed.load(tmp_path / "whole"), atol=1e-6)


def test_embedding_given_vectors_needs_memory_for_a_block_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "BLOCK_ITEMS", 500)
    vectors = np.random.default_rng(0).normal(size=(8000, 256)).astype(np.float32)
    items = pa.table({"item_id": [f"i{item}" for item in range(8000)], "source_row": range(8000)})
    catalogue = datasets.Catalogue(items, (), source_items=8000)
    settings = config.Embeddings(source="vectors", vectors=write_npy(tmp_path / "given.npy", vectors))
    tracemalloc.start()
    try:
        files.save_rows(tmp_path / "made.npy", encoders.content(settings, catalogue), 8000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < vectors.nbytes / 2
    np.testing.assert_allclose(np.load(tmp_path / "made.npy"), vectors / norms(vectors)[:, None], rtol=1e-5)


def test_the_projection_of_many_texts_is_learned_from_some(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "FIT_TEXTS", 18)
    embed.embed(config.Embeddings(width=8), dataset, tmp_path / "embeddings")
    vectors = embed.load(tmp_path / "embeddings")
    similarity = vectors @ vectors.T
    assert vectors.shape == (24, 8) and similarity[0, 6] > 0.5 > similarity[0, 1]


def test_vectors_from_the_items_file(tmp_path):
    column = {"vector": pa.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]], pa.list_(pa.float32()))}
    data = write_dataset(tmp_path / "dataset", [[0, 1, 2]], extra=column)
    embed.embed(config.Embeddings(source="vectors"), data, tmp_path / "embeddings")
    np.testing.assert_allclose(embed.load(tmp_path / "embeddings"), [[0.6, 0.8], [0, 1], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 4)), r"\(2, 4\).*3 items"),
        (np.ones((4, 4)), r"given.npy.*\(4, 4\).*3 items"),
        (np.ones((3, 0)), r"\(3, 0\)"),
        (np.array([["a"], ["b"], ["c"]]), "given.npy.*<U1"),
        (np.array([[{}], [{}], [{}]], object), "given.npy.*object"),
        (np.ones((3, 4), complex), "complex"),
        (np.ones(3), r"\(3,\)"),
        (np.array([[1.0, 2], [np.nan, 1], [1, 1]]), "1 of 3 .*NaN.*'i1'"),
    ],
)
def test_unfit_vectors_are_refused_and_nothing_is_written(tmp_path, array, message):
    data = write_dataset(tmp_path / "dataset", [[0, 1, 2]])
    settings = config.Embeddings(source="vectors", vectors=write_npy(tmp_path / "given.npy", array))
    with pytest.raises(encoders.EmbeddingError, match=message):
        embed.embed(settings, data, tmp_path / "embeddings")
    assert not (tmp_path / "embeddings").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "vectors"}, "embeddings.vectors"),
        ({"source": "vectors", "vectors": "/nowhere.npy"}, "/nowhere.npy"),
        ({"source": "word2vec"}, "'word2vec'"),
    ],
)
def test_unfit_settings_are_refused(dataset, tmp_path, settings, message):
    with pytest.raises((encoders.EmbeddingError, config.ConfigError), match=message):
        embed.embed(config.Embeddings(**settings), dataset, tmp_path / "embeddings")


def test_vectors_of_unequal_widths_and_texts_without_words_are_refused(tmp_path):
    column = {"vector": pa.array([[3.0, 4.0], [2.0]], pa.list_(pa.float32()))}
    data = write_dataset(tmp_path / "dataset", [[0, 1]], extra=column, texts=["- -", "!"])
    with pytest.raises(encoders.EmbeddingError, match="'i1' has 1 values.* 2"):
        embed.embed(config.Embeddings(source="vectors"), data, tmp_path / "embeddings")
    with pytest.raises(encoders.EmbeddingError, match="data.text_fields"):
        embed.embed(config.Embeddings(), data, tmp_path / "embeddings")


def test_sentence_encoders_share_the_interface(dataset, tmp_path, monkeypatch):
    class SentenceTransformer:
        def __init__(self, model: str):
            assert model == "a/model"

        def encode(self, texts: list[str], **_) -> np.ndarray:
            return np.array([[len(text), text.count("o") + 1] for text in texts], np.float32)

    module = types.SimpleNamespace(SentenceTransformer=SentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    settings = config.Embeddings(source="sentence_transformers", sentence_model="a/model")
    embed.embed(settings, dataset, tmp_path / "embeddings")
    np.testing.assert_allclose(norms(embed.load(tmp_path / "embeddings")), 1, rtol=1e-5)


def test_a_missing_sentence_encoder_says_how_to_install_it(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(encoders.EmbeddingError, match="sentences"):
        embed.embed(config.Embeddings(source="sentence_transformers"), dataset, tmp_path / "embeddings")


def test_cooccurrence_is_appended_with_its_weight(dataset, tmp_path):
    settings = config.Embeddings(width=8, cooccurrence_weight=0.5, cooccurrence_width=5)
    embed.embed(settings, dataset, tmp_path / "embeddings")
    vectors = embed.load(tmp_path / "embeddings")
    assert vectors.shape == (24, 13)
    np.testing.assert_allclose(norms(vectors[:, :8]), 1, rtol=1e-5)
    np.testing.assert_allclose(norms(vectors[:, 8:]), 0.5, rtol=1e-5)


def test_cooccurrence_reads_the_training_split_only(tmp_path):
    settings = config.Embeddings(width=4, cooccurrence_weight=1.0, cooccurrence_width=3)
    train, made = [[0, 1, 2], [3, 4, 5], [2, 0, 1], [5, 3, 4]], []
    for name, test in {"near": [[0, 1, 2, 6]], "far": [[3, 4, 5, 6], [0, 5, 1, 6]]}.items():
        data = write_dataset(tmp_path / name / "dataset", train, test)
        embed.embed(settings, data, tmp_path / name / "embeddings")
        made.append(embed.load(tmp_path / name / "embeddings"))
    np.testing.assert_array_equal(*made)
    together = made[0][:, -3:]
    assert (together[6] == 0).all()  # only ever a target: it has no neighbors in training
    assert (together[0] @ together[1]) > 0.9 > 0.1 > abs(together[0] @ together[4])


def test_pairs_count_by_distance_within_one_user(tmp_path):
    data = datasets.Dataset(write_dataset(tmp_path / "dataset", [[0, 1, 0, 2], [2, 3]]))
    expected = np.zeros((4, 4))
    for a, b, weight in [(0, 1, 2), (0, 2, 1 + 1 / 3), (1, 2, 1 / 2), (2, 3, 1)]:
        expected[a, b] = expected[b, a] = weight
    np.testing.assert_allclose(cooccurrence.count_pairs(data.split("train"), 4).toarray(), expected)


def test_pmi_equals_its_definition():
    counts = np.random.default_rng(0).integers(0, 5, (6, 6)).astype(float)
    counts = np.triu(counts, 1) + np.triu(counts, 1).T
    joint = counts / counts.sum()
    margin = joint.sum(axis=1)
    with np.errstate(divide="ignore"):
        expected = np.maximum(np.log(joint / np.outer(margin, margin)), 0)
    np.testing.assert_allclose(cooccurrence.positive_pmi(scipy.sparse.csr_matrix(counts)).toarray(), expected)


@pytest.mark.parametrize("kind", ["archive", "truncated", "longer", "header", "pickle", "empty", "folder", "text"])
def test_files_that_are_no_arrays_are_refused_by_name(tmp_path, kind):
    data, path = write_dataset(tmp_path / "dataset", [[0, 1, 2]]), tmp_path / "given.npy"
    np.save(path, np.ones((3, 4), np.float32))
    whole = path.read_bytes()
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "archive":
        with path.open("wb") as file:
            np.savez(file, vectors=np.ones((3, 4)))
    else:
        content = {"truncated": whole[:-5], "longer": whole + b"1234", "header": whole[:20], "pickle": b"\x80\x02}q."}
        path.write_bytes(content.get(kind, b"" if kind == "empty" else b"1 2 3\n"))
    settings = config.Embeddings(source="vectors", vectors=str(path))
    with pytest.raises(encoders.EmbeddingError, match="embeddings.vectors.*given.npy"):
        embed.embed(settings, data, tmp_path / "embeddings")
    assert not (tmp_path / "embeddings").exists()


def test_items_that_nothing_describes_are_embedded_by_cooccurrence_alone(tmp_path):
    train = [[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5], [1, 2, 0], [4, 5, 3], [6]]
    path = write_dataset(tmp_path / "dataset", train, texts=[""] * 7)
    settings = config.Embeddings(source="cooccurrence", cooccurrence_width=4)
    embed.embed(settings, path, tmp_path / "embeddings")
    vectors = embed.load(tmp_path / "embeddings")
    assert vectors.shape == (7, 4) and not vectors[6].any()
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.4 and abs(similarity[0, 4]) < 0.1
    with pytest.raises(embed.EmbeddingError, match="embeddings.source=cooccurrence"):
        embed.embed(config.Embeddings(), path, tmp_path / "of_texts")
    catalogue = datasets.Dataset(path).catalogue
    with pytest.raises(embed.EmbeddingError, match="cooccurrence.*2 new items"):
        growth.embed_new(settings, catalogue, vectors, catalogue.take(np.arange(2)))
