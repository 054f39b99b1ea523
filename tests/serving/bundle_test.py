"""A bundle gives the lists of its model, follows changes of the catalogue, and is refused where it was changed."""

import dataclasses
import datetime
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import genrec
from genrec import config
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding import loaded_model
from genrec.decoding.sorted_table import CatalogueError
from genrec.errors import GenrecError
from genrec.input_pipeline.context import SEQUENTIAL, Context, UserFeatures, VectorFeature
from genrec.semantic_ids.codes import FrozenCodebooks
from genrec.serving import bundle, bundle_export, command_line
from genrec.serving import requests as user_requests
from genrec.serving.engine import Engine, Options
from genrec.serving.requests import Request
from genrec.serving.search_programs import EncodedSearcher
from genrec.serving.served_engine import BundleError, ItemChange, Query, ServedEngine

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=60)),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(max_history=4),
)
BEAMS, SIZES = 12, (2,)
HEAVY = ("tensorflow", "tensorflow_datasets", "grain", "orbax", "flax", "apache_beam", "optax", "sklearn")


@pytest.fixture(scope="module")
def workdir(untrained, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("bundled")
    untrained(workdir, EXPERIMENT)
    return workdir


@pytest.fixture(scope="module")
def loaded(workdir):
    return loaded_model.load(workdir)


@pytest.fixture(scope="module")
def folder(loaded, workdir, tmp_path_factory):
    output = tmp_path_factory.mktemp("bundles") / "bundle"
    options = bundle_export.ExportOptions(beams=BEAMS, batch_sizes=SIZES)
    width = EXPERIMENT.embeddings.width

    def quantize(rows):  # the codes of the fixture are random: any will do
        return rows[0, :2].astype("int32") % 8, rows[0, :8]

    settings = {"source": "vectors", "content_width": width}
    bundle_export.export(loaded, workdir, output, options, FrozenCodebooks(settings, {}, quantize, width))
    return output


@pytest.fixture
def served(folder):
    return ServedEngine.load(folder)


def test_lists_are_those_of_the_model_bit_by_bit_and_nothing_is_compiled_after_the_start(loaded, served):
    served.warm_up()
    compiled = served.compilations
    users = user_requests.sample_users(loaded.dataset.split("test"), 2)
    searcher = EncodedSearcher.of_model(loaded, 2, BEAMS, 5, SIZES)
    media = loaded.dataset.catalogue.column("media_type")[0].as_py()
    for changed, item_filter in [
        ({}, EVERYTHING),
        ({"exclude_history": True}, Filter.parse([f"media_type={media}"])),
        ({"max_share": 0.4, "share_of": "media_type"}, EVERYTHING),
        ({"max_share": 0.4, "temperature": 1.0, "top_p": 0.9}, EVERYTHING),
    ]:
        options = Options(top=5, beams=BEAMS, **changed)
        expected = Engine(loaded, options, 2, searcher=searcher).recommend(users, item_filter)
        seeds = (options, Options(top=5, beams=BEAMS, seed=1, **changed))
        queries = [Query(user, own, item_filter) for user, own in zip(users, seeds, strict=True)]
        for one, other in zip(expected, served.recommend(queries), strict=True):
            np.testing.assert_array_equal(one.items, other.items)
            np.testing.assert_array_equal(one.scores, other.scores)
            assert one.certified == other.certified
    scores = served.score(users[0], expected[0].items)
    np.testing.assert_allclose(scores, expected[0].scores, atol=1e-4)
    assert served.explain(users[0], expected[0].items[:2])[0].reasons
    assert served.compilations == compiled


def test_a_history_is_encoded_once(served):
    query = Query(Request("u", np.array([3, 4])), Options(top=3))
    first, again = served.recommend([query]), served.recommend([query])
    np.testing.assert_array_equal(first[0].scores, again[0].scores)
    assert (served.cache.misses, served.cache.hits) == (1, 1)
    served.recommend([Query(Request("u", np.array([3, 4, 5])), Options(top=3))])
    assert served.cache.misses == 2


def test_items_are_added_changed_and_removed_while_serving(served):
    query = Query(Request("u", np.array([3, 4])), Options(top=BEAMS))
    (before,) = served.recommend([query])
    best, vector = served.catalogue.item_ids[before.items[0]], np.linspace(1, 7, EXPERIMENT.embeddings.width).tolist()
    served.change_items([ItemChange("remove", best), ItemChange("add", "new", {"media_type": "hologram"}, vector)])
    of_new = Query(
        Request("u", np.array([served.catalogue.index["new"]])), Options(top=3), Filter.parse(["media_type=hologram"])
    )
    assert [served.catalogue.item_ids[item] for item in served.recommend([of_new])[0].items] == ["new"]
    assert before.items[0] not in served.recommend([query])[0].items
    served.change_items([ItemChange("change", "new", {"media_type": "record", "release_time": "2020-10-03"})])
    assert not len(served.recommend([of_new])[0].items)
    released = served.catalogue.column("release_time")[served.catalogue.index["new"]].as_py()
    assert released == datetime.date(2020, 10, 3)
    served.change_items([ItemChange("remove", "new"), ItemChange("add", best)])
    (after,) = served.recommend([query])
    np.testing.assert_array_equal(after.items, before.items)
    np.testing.assert_array_equal(after.scores, before.scores)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (ItemChange("add", "m00001", {}), "already"),
        (ItemChange("remove", "nobody"), "nobody"),
        (ItemChange("add", "new", {"color": "red"}, [1.0]), "color"),
        (ItemChange("add", "new", {"release_time": "soon"}, [1.0]), "release_time"),
        (ItemChange("add", "new", {}, [1.0]), "finite numbers"),
        (ItemChange("add", "new", {"title": "no vector"}), "vector"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(served, change, message):
    known = [item for item in served.catalogue.item_ids if item != "new"]
    change = ItemChange("add", known[0]) if message == "already" else change
    before = served.catalogue
    with pytest.raises(CatalogueError, match=message):
        served.change_items([ItemChange("remove", known[1]), change])
    assert served.catalogue is before and not served.removed


def test_a_change_is_json_and_back():
    change = ItemChange("add", "a", {"title": "T", "tags": ["x"]}, [0.5, 1.0])
    assert ItemChange.from_json(change.as_json()) == change
    for text in ("{", '{"kind": "paint", "item_id": "a"}', '{"kind": "add", "item_id": 3}'):
        with pytest.raises(CatalogueError):
            ItemChange.from_json(text)


def test_more_items_than_beams_are_refused(served):
    with pytest.raises(config.ConfigError, match="top"):
        served.program(Query(Request("u", np.array([3])), Options(top=BEAMS + 1)))


@pytest.mark.parametrize("name", ["weights.safetensors", "catalogue.parquet", "card.json"])
def test_changed_and_missing_files_are_named(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(GenrecError, match=name):
        ServedEngine.load(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        ServedEngine.load(copy)


def test_another_version_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    fields = json.loads((copy / bundle.CARD).read_text())
    (copy / bundle.CARD).write_text(json.dumps({**fields, "version": "9.9"}))
    with pytest.raises(BundleError, match=r"9\.9.*" + genrec.__version__):
        ServedEngine.load(copy)


def test_a_folder_of_something_else_is_not_replaced(loaded, workdir):
    with pytest.raises(BundleError, match="something else"):
        bundle_export.export(loaded, workdir, workdir / "dataset", bundle_export.ExportOptions(), None)


def test_a_model_that_reads_sasrec_is_refused(loaded, workdir, tmp_path):
    vectors = (VectorFeature(SEQUENTIAL, 8, 1),)
    features = UserFeatures(Context(vectors=vectors), None)
    reading = dataclasses.replace(loaded, tokenizer=loaded.tokenizer._replace(user_features=features))
    with pytest.raises(BundleError, match="sequential"):
        bundle_export.export(reading, workdir, tmp_path / "bundle", bundle_export.ExportOptions(), None)
    assert not list(tmp_path.iterdir())


def test_a_bundle_answers_without_the_libraries_of_training(folder):
    code = (
        "import sys, numpy as np; from genrec.serving.requests import Request;"
        "from genrec.serving.served_engine import *;"
        f"e = ServedEngine.load({str(folder)!r}); e.recommend([Query(Request('u', np.array([1])), Options(top=3))]);"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_searches_by_the_same_programs(loaded):
    assert isinstance(command_line.engine_of(loaded, Options(), 1).searcher, EncodedSearcher)
