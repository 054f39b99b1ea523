"""Apache Beam computes the embeddings of one process: vectors and pairs bit by bit, terms up to rounding."""

import dataclasses
import sys
import types

import numpy as np
import pyarrow as pa
import pytest
from etils import epath

from genrec import artifacts, config
from genrec.config import Data, SyntheticCatalogue
from genrec.data.beam.runner import BeamRunner
from genrec.data.dataset import Catalogue, Dataset
from genrec.data.prepare import prepare
from genrec.semantic_ids import cooccurrence, embed, embed_on_beam, encoders, tfidf
from genrec.semantic_ids.encoders import EmbeddingError


@pytest.fixture(scope="module")
def runner():
    return BeamRunner("DirectRunner")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("beam_embed") / "dataset"
    prepare(Data(source="synthetic", synthetic=SyntheticCatalogue(items=150, users=200), k_core=2), path)
    return path


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(embed_on_beam, "BLOCK_ITEMS", 32)
    monkeypatch.setattr(embed_on_beam, "STRIPE_ITEMS", 50)
    monkeypatch.setattr(cooccurrence, "BLOCK_SEQUENCES", 60)


def test_terms_and_pairs(tmp_path, dataset, runner, monkeypatch):
    monkeypatch.setattr(tfidf, "MAX_TERMS", 200)
    settings = config.Embeddings(width=12, cooccurrence_weight=0.5, cooccurrence_width=6)
    embed.embed(settings, dataset, tmp_path / "local")
    embed.embed(settings, dataset, tmp_path / "beam", runner)
    local, beam = embed.load(tmp_path / "local"), embed.load(tmp_path / "beam")
    np.testing.assert_allclose(beam[:, :12], local[:, :12], atol=1e-3)
    np.testing.assert_array_equal(beam[:, 12:], local[:, 12:])
    assert sorted(file.name for file in (tmp_path / "beam").iterdir()) == ["artifact.json", embed.FILE]
    one, two = (artifacts.read(tmp_path / name, embed.KIND) for name in ("local", "beam"))
    assert dataclasses.replace(one, files={}) == dataclasses.replace(two, files={})
    before = (tmp_path / "beam" / "artifact.json").stat().st_mtime_ns
    embed.embed(settings, dataset, tmp_path / "beam")
    assert (tmp_path / "beam" / "artifact.json").stat().st_mtime_ns == before


def test_given_vectors(tmp_path, dataset, runner):
    rows = 1 + Dataset(dataset).catalogue.table["source_row"].to_numpy().max()
    np.save(tmp_path / "given.npy", np.random.default_rng(0).normal(size=(rows, 5)))
    settings = config.Embeddings(source="vectors", vectors=str(tmp_path / "given.npy"))
    embed.embed(settings, dataset, tmp_path / "local")
    embed.embed(settings, dataset, tmp_path / "beam", runner)
    np.testing.assert_array_equal(embed.load(tmp_path / "local"), embed.load(tmp_path / "beam"))


def test_sentence_encoders(tmp_path, dataset, runner, monkeypatch):
    class SentenceTransformer:
        def __init__(self, model: str):
            pass

        def encode(self, texts: list[str], **_) -> np.ndarray:
            return np.array([[len(text), text.count("o") + 1] for text in texts], np.float32)

    module = types.SimpleNamespace(SentenceTransformer=SentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    settings = config.Embeddings(source="sentence_transformers", sentence_model="another/model")
    catalogue = Dataset(dataset).catalogue
    made = embed_on_beam.content(settings, catalogue, epath.Path(tmp_path), runner)
    np.testing.assert_array_equal(
        np.concatenate(list(made)), np.concatenate(list(encoders.content(settings, catalogue)))
    )


@pytest.mark.parametrize(
    ("settings", "vectors", "message"),
    [
        ({"source": "vectors"}, [[1.0, 2.0], [1.0]], "'i1'"),
        ({"source": "vectors"}, [[1.0, 2.0], [np.nan, 1.0]], "1 of 2 .*NaN.*'i1'"),
        ({"source": "tfidf"}, None, "data.text_fields"),
    ],
)
def test_both_raise_the_same_errors(tmp_path, runner, monkeypatch, settings, vectors, message):
    monkeypatch.setattr(embed_on_beam, "BLOCK_ITEMS", 1)
    columns = {"item_id": ["i0", "i1"], "title": ["- -", "!"]} | ({"vector": vectors} if vectors else {})
    catalogue = Catalogue(pa.table(columns), ("title",))
    for make in (
        lambda: encoders.content(config.Embeddings(**settings), catalogue),
        lambda: embed_on_beam.content(config.Embeddings(**settings), catalogue, epath.Path(tmp_path), runner),
    ):
        with pytest.raises(EmbeddingError, match=message):
            list(make())
