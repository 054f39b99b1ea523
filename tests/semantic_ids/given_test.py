"""Given semantic IDs are those of the file, of the items of the catalogue, whatever the health gate says of others."""

import json

import numpy as np
import published
import pytest

from genrec import config
from genrec.data.dataset import Dataset
from genrec.data.prepare import prepare
from genrec.errors import GenrecError
from genrec.semantic_ids import embed, given, tokenize
from genrec.semantic_ids.codes import SemanticIdError, SemanticIds


def test_the_file_of_lcrec_gives_the_ids_and_the_vectors(tmp_path):
    folder = published.lcrec(tmp_path / "raw", users=20) / "Games"
    prepare(config.Data(source="lcrec", folder=str(folder), k_core=2), tmp_path / "dataset")
    vectors = config.Embeddings(source="vectors", vectors=str(folder / "Games.emb-llama-td.npy"))
    embed.embed(vectors, tmp_path / "dataset", tmp_path / "item_embeddings")
    settings = config.SemanticIdLearning(method="given", given=str(folder / "Games.index.json"), min_usage=1.0)
    tokenize.learn(settings, tmp_path / "item_embeddings", tmp_path / "semantic_ids")
    ids = SemanticIds.load(tmp_path / "semantic_ids")
    items = Dataset(tmp_path / "dataset").catalogue.item_ids
    index = json.loads((folder / "Games.index.json").read_text())
    assert ids.sizes[:4] == (3, 4, 2, 1)
    for item, codes in zip(items, ids.codes[:, :4].tolist(), strict=True):
        assert index[item] == [f"<{letter}_{code}>" for letter, code in zip("abcd", codes, strict=True)]
    quantizer = tokenize.load_quantizer(tmp_path / "semantic_ids")
    assert [len(book) for book in quantizer.codebooks] == [3, 4, 2, 1]
    before = (tmp_path / "semantic_ids/artifact.json").stat().st_mtime_ns
    moved = published.put(tmp_path, "elsewhere.json", (folder / "Games.index.json").read_bytes())
    settings.given = str(moved)
    tokenize.learn(settings, tmp_path / "item_embeddings", tmp_path / "semantic_ids")
    assert (tmp_path / "semantic_ids/artifact.json").stat().st_mtime_ns == before  # the content counts, not the path


def test_centers_are_the_means_of_what_is_left():
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    codes = np.random.default_rng(1).integers(0, 5, (50, 2))
    codes[codes == 3] = 4  # a code that no item has
    quantizer = given.quantizer(vectors, codes)
    np.testing.assert_allclose(quantizer.codebooks[0][4], vectors[codes[:, 0] == 4].mean(axis=0), atol=1e-5)
    left = [((vectors - quantizer.reconstruct(codes, levels)) ** 2).sum() for levels in (1, 2)]
    assert left[1] < left[0] < (vectors**2).sum()
    assert 3 not in quantizer.encode(vectors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "list in place of an object"),
        ({}, "2 of 2 items.*none"),
        ({"0": ["<a_1>"]}, "1 of 2 items.*'1'"),
        ({"0": ["<a_1>"], "1": ["<a_1>", "<b_2>"]}, "item '1'"),
        ({"0": ["<a_1>"], "1": ["<a_x>"]}, "item '1'"),
        ({"0": "<a_1>", "1": "<a_2>"}, "item '0'"),
        ({"0": [], "1": []}, "item '0'"),
        ({"0": [99999], "1": [1]}, "item '0'"),
    ],
)
def test_a_file_of_another_catalogue_is_refused(tmp_path, content, message):
    path = published.put(tmp_path, "x.index.json", json.dumps(content))
    with pytest.raises(GenrecError, match=message):
        given.load(path, ["0", "1"])


@pytest.mark.parametrize("path", ["", "absent.json", "."])
def test_a_missing_file_is_named_before_any_work(path):
    with pytest.raises(SemanticIdError, match=r"semantic_ids\.given"):
        given.check_file(config.SemanticIdLearning(method="given", given=path))
    given.check_file(config.SemanticIdLearning())


def test_numbers_are_codes_too(tmp_path):
    path = published.put(tmp_path, "x.index.json", json.dumps({"0": [3, 1], "1": ["<a_3>", "<b_0>"], "2": [0, 0]}))
    assert given.load(path, ["1", "0"]).tolist() == [[3, 0], [3, 1]]
