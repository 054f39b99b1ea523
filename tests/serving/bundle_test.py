"""A bundle gives the lists of its model, follows changes of the catalogue, and is refused where it was changed."""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from etils import epath

import genrec
from genrec import artifacts, config, files
from genrec.data.dataset import Dataset
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding import loaded_model
from genrec.decoding.index_arrays import Layout
from genrec.decoding.live_index import Restriction
from genrec.decoding.sorted_table import CatalogueError
from genrec.errors import GenrecError
from genrec.input_pipeline import learn_transitions
from genrec.models import checkpoints, load
from genrec.ranking import assembly, multi_stage, scoring
from genrec.ranking.boosted_trees import BoostedTrees
from genrec.ranking.lists import GENERATOR
from genrec.ranking.popular import popularity
from genrec.semantic_ids.codes import FrozenCodebooks
from genrec.serving import bundle, bundle_export, bundle_writer, command_line, ranker_export, sources_export
from genrec.serving import requests as user_requests
from genrec.serving.engine import Engine, Options
from genrec.serving.item_scorer import ItemScorer
from genrec.serving.profiles import Profile
from genrec.serving.requests import Request
from genrec.serving.search_programs import EncodedSearcher
from genrec.serving.served_engine import BundleError, ItemChange, Query, ServedEngine
from genrec.training import run_setup

# The generator reads the vectors of SASRec.
EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=60)),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    context=config.Context(sequential=True),
    training=config.Training(max_history=4),
    sasrec=config.SasRec(
        config.SasRecModel(width=16, encoder_layers=1, heads=2, head_width=8, mlp=32), config.Training(max_history=6)
    ),
    multi_stage=config.MultiStage(
        sources=("generator", "SASRec", "item-kNN", "transitions"),
        candidates=10,
        item_columns=("media_type",),
        user_columns=("country",),
        scoring=config.FinalScoring(boosts=("media_type=podcast:0.5",), max_share=0.5, share_of="media_type"),
    ),
    evaluation=config.Evaluation(batch=8, beams=12),
    item_knn=config.ItemKnn(neighbors=20, shrinkage=1.0, decay=0.7),
)
WEIGHTS = {"SASRec": 0.5, "popularity": 0.3, "repeat": -0.7, "content of the history": 2.0, "transitions": 0.4}
WEIGHTS |= {"content of the last item": 1.5, "same media_type": 0.2, "country and media_type": 0.9}
FINAL = {"generator": 0.3, "SASRec": 0.2, "item-kNN": 1.0, "transitions": 0.4, "ranker": 0.7}
EVERY = 120  # items
BASELINES = ["SASRec", "item-kNN", "transitions", "most popular"]
BEAMS, SIZES, WIDTH = 12, (2,), 6  # width of the embeddings that the fixture makes
HEAVY = ("tensorflow", "tensorflow_datasets", "grain", "orbax", "flax", "apache_beam", "optax", "sklearn")


@pytest.fixture(scope="module")
def workdir(tokenized, untrained, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("bundled")
    tokenized(workdir, EXPERIMENT)
    learn_transitions.learn(EXPERIMENT.transitions, workdir)
    record = run_setup.baseline(EXPERIMENT, workdir).record
    params = jax.jit(load.model_of(record).initialize)()
    with contextlib.closing(checkpoints.Checkpoints(workdir / checkpoints.SASREC)) as store:
        store.save(1, {"ema": jax.tree.map(lambda x: x * 3, params), "params": params}, {}, record, 0.5)
    untrained(workdir, EXPERIMENT)
    files.write_json(workdir / assembly.FOLDER / assembly.WEIGHTS, {"final": FINAL, "ranker": WEIGHTS})
    identity = {"dataset": Dataset(workdir / "dataset").fingerprint, "item_knn": vars(EXPERIMENT.item_knn)}
    files.write_json(workdir / "evaluation" / "test.json", {"identity": identity})
    return workdir


@pytest.fixture(scope="module")
def loaded(workdir):
    return loaded_model.load(workdir)


@pytest.fixture(scope="module")
def users(loaded):
    split = loaded.dataset.split("test")
    return user_requests.sample_users(split, len(split))


def of_users(users):
    """Returns names and histories, as evaluations read them."""
    return [user.name for user in users], [user.history[-EXPERIMENT.training.max_history :] for user in users]


@pytest.fixture(scope="module")
def recommender(workdir, loaded, users):
    """The multi-stage recommender of the work directory, which has what its evaluation leaves."""
    dataset, cfg = loaded.dataset, EXPERIMENT.multi_stage
    popular, count = popularity(dataset), len(dataset.catalogue)
    sources = assembly.load_sources(EXPERIMENT, workdir, dataset, popular, "best")
    ranker = assembly.load_ranker(EXPERIMENT, workdir, dataset, popular)
    rules = scoring.Rules(cfg.scoring, dataset.catalogue, popular)
    made = multi_stage.MultiStageRecommender(sources, ranker, rules, FINAL, cfg.candidates, count)
    _, found, _ = made.candidates(*of_users(users))
    best = scoring.impute(found.scores["transitions"], found.items).argmax(axis=1)[:, None]
    made.trees = BoostedTrees(found, np.take_along_axis(found.items, best, axis=1)[:, 0])
    trees, folder = made.trees.for_serving().as_json(), workdir / assembly.FOLDER
    files.write_json(folder / assembly.TREES, {"trees": trees})
    of_files = {"weights": {"final": FINAL, "ranker": WEIGHTS}, "trees": artifacts.hash_of(trees)}
    named = {"sources": dict(zip(sources, cfg.sources, strict=True)), "item_knn": vars(EXPERIMENT.item_knn)}
    settings = {"dataset": dataset.fingerprint, "settings": dataclasses.asdict(cfg)}
    files.write_json(folder / "test.json", settings | named | of_files)
    return made


@pytest.fixture(scope="module")
def folder(loaded, workdir, recommender, tmp_path_factory):
    output = tmp_path_factory.mktemp("bundles") / "bundle"
    options = bundle_export.ExportOptions(beams=BEAMS, batch_sizes=SIZES)
    width = WIDTH

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
    assert any(len(user.history) > EXPERIMENT.training.max_history for user in users)  # who have vectors of SASRec
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
    served.rank(users[0], [1, 2])
    assert served.compilations == compiled


def test_the_ranker_scores_as_that_of_the_work_directory(workdir, loaded, served):
    dataset, items = loaded.dataset, np.arange(3, 40)
    scorer = ItemScorer(assembly.load_ranker(EXPERIMENT, workdir, dataset, popularity(dataset)), dataset.catalogue)
    ids = dataset.catalogue.item_ids
    users = user_requests.sample_users(dataset.split("test"), 3)
    for user in (*users, Request("nobody", np.zeros(0, np.int32))):
        scorer.observe(user.name, [ids[item] for item in user.history])
        expected = scorer.score(user.name, [ids[item] for item in items])
        found = dict(zip((ids[item] for item in items), served.rank(user, items), strict=True))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert not len(served.rank(users[0], []))


def test_the_ranker_follows_changes_of_the_catalogue(loaded, served):
    items, ids = np.arange(3, 40), loaded.dataset.catalogue.item_ids
    user = Request("u", np.array([3, 4, 5]))
    before = served.rank(user, items)
    media = served.catalogue.column("media_type")
    other = next(item for item in items if media[int(item)] != media[5])
    vector = np.linspace(1, 7, WIDTH)
    served.change_items(
        [
            ItemChange("add", "new", {"media_type": "hologram"}, vector.tolist()),
            ItemChange("change", ids[other], {"media_type": media[5].as_py()}),
        ]
    )
    row = served.catalogue.index["new"]
    after = served.rank(user, [*items, row])
    assert np.isfinite(after).all()
    kept = items != other
    np.testing.assert_allclose(after[:-1][kept], before[kept], rtol=1e-5)
    assert after[:-1][~kept] != before[~kept]
    # What the sequential model does not know says nothing to it, but to the similarity of content.
    known, again = served.rank(user, [5, row]), served.rank(Request("u", np.array([3, 4, 5, row])), [5, row])
    assert np.isfinite(again).all() and again[1] - again[0] != known[1] - known[0]


def test_a_work_directory_without_a_fitting_sequential_model_has_no_ranker(loaded, workdir, tmp_path):
    assert ranker_export.load_sequential(loaded, tmp_path) is None
    grown = dataclasses.replace(loaded, dataset=SimpleNamespace(fingerprint="of another"))
    assert not ranker_export.can_rank(ranker_export.load_sequential(grown, workdir), grown.dataset)
    plain = dataclasses.replace(grown, tokenizer=SimpleNamespace(context=SimpleNamespace(vectors=())))
    assert ranker_export.load_sequential(plain, workdir) is None


def test_without_fitted_weights_the_ranker_is_the_sequential_model(loaded, tmp_path):
    ranker = ranker_export.Ranker.load(tmp_path, loaded.dataset)
    assert ranker.weights is None and ranker.features.content is None and not ranker.features.values


def of_source(served, source, user, *, conditions=(), **options):
    """Returns the list of a source of the bundle for a user."""
    query = Query(user, Options(**{"top": 9, **options}), Filter.parse(conditions), source)
    return served.recommend([query])[0]


@pytest.mark.parametrize("source", BASELINES)
def test_lists_of_other_sources_are_those_of_the_evaluation(workdir, loaded, served, users, source):
    assert set(served.sources) == {GENERATOR, *BASELINES, "multi-stage"}
    dataset = loaded.dataset
    expected_of = assembly.load_baselines(EXPERIMENT, workdir, dataset, popularity(dataset))[source]
    some = [*users[:5], Request("nobody", np.zeros(0, np.int32))]
    every = [user.history for user in some]
    assert max(map(len, every)) > EXPERIMENT.training.max_history
    for exclude in (None, every):
        expected = expected_of.recommend(*of_users(some), 9, exclude)
        options = Options(top=9, exclude_history=exclude is not None)
        found = served.recommend([Query(user, options, EVERYTHING, source) for user in some])
        for items, scores, one in zip(expected.items, expected.scores, found, strict=True):
            np.testing.assert_array_equal(one.items, items[items >= 0])
            if source == "SASRec":  # other compiled functions
                np.testing.assert_allclose(one.scores, scores[items >= 0], rtol=1e-5)
            else:
                np.testing.assert_array_equal(one.scores, scores[items >= 0])
            assert one.certified == len(one.items)
    assert len(found[0].items) and (source == "item-kNN") == (not len(found[-1].items))
    mixed = served.recommend([Query(some[0], options, EVERYTHING, one) for one in (source, GENERATOR, source)])
    np.testing.assert_array_equal(mixed[0].items, mixed[2].items)
    assert not np.isin(mixed[1].items, some[0].history).any()


@pytest.mark.parametrize("final", ["trees", "weighted sum"])
def test_lists_of_the_multi_stage_recommender_are_those_of_its_evaluation(
    served, recommender, users, final, monkeypatch
):
    if final == "weighted sum":
        monkeypatch.setattr(recommender, "trees", None)
        monkeypatch.setattr(served._sources, "_trees", None)
    for exclude in (None, [user.history for user in users]):
        expected = recommender.recommend(*of_users(users), 7, exclude)
        options = Options(top=7, exclude_history=exclude is not None)
        found = served.recommend([Query(user, options, EVERYTHING, "multi-stage") for user in users])
        assert [len(one.items) for one in found] == (expected.items >= 0).sum(axis=1).tolist()
        items, scores = (np.concatenate([getattr(one, name) for one in found]) for name in ("items", "scores"))
        same = items == expected.items[expected.items >= 0]
        off = np.abs(scores - expected.scores[expected.items >= 0])[same] > 1e-4
        # Where scores are on a threshold, their last digits choose the way through a tree.
        assert same.mean() > 0.95 and off.mean() < (0.2 if final == "trees" else 0.01)
    profile = Profile(users[0].name).with_text("likes:media_type=podcast")  # which the generator alone would read
    liking = of_source(
        served, "multi-stage", dataclasses.replace(users[0], profile=profile), top=7, exclude_history=True
    )
    np.testing.assert_array_equal(liking.items, found[0].items)


def test_new_items_are_candidates_of_the_generator(served):
    vector = np.linspace(1, 7, WIDTH).tolist()
    served.change_items([ItemChange("add", "new", {"media_type": "hologram"}, vector)])
    user = Request("u", np.array([3, served.catalogue.index["new"]]))
    found = of_source(served, "multi-stage", user, conditions=["media_type=hologram"])
    assert [served.catalogue.item_ids[item] for item in found.items] == ["new"] and np.isfinite(found.scores).all()
    served.change_items([ItemChange("remove", "new")])
    assert not len(of_source(served, "multi-stage", user, conditions=["media_type=hologram"]).items)


@pytest.mark.parametrize(
    ("changed", "beams", "missing"),
    [
        ({"dataset": "of another"}, 12, "evaluate_multi_stage"),
        ({"trees": "of another"}, 12, "evaluations"),
        ({"weights": {}}, 12, "evaluations"),
        ({}, 12, "SASRec"),
        ({"settings": {"sources": [GENERATOR], "ranker": True}}, 12, "ranker"),
        ({"settings": {"sources": [GENERATOR], "ranker": False, "candidates": 10}}, 9, "beams"),
    ],
)
def test_what_a_multi_stage_recommender_lacks_is_logged(
    loaded, workdir, recommender, tmp_path, caplog, changed, beams, missing
):
    folder = tmp_path / assembly.FOLDER
    shutil.copytree(workdir / assembly.FOLDER, folder)
    files.write_json(folder / "test.json", files.read_json(folder / "test.json") | changed)
    writer = bundle_writer.BundleWriter(epath.Path(tmp_path / "bundle"))
    with caplog.at_level("WARNING"):
        sources_export.write(writer, ("multi-stage",), epath.Path(tmp_path), loaded.dataset, beams)
    assert bundle.MULTI_STAGE not in writer.measured and missing in caplog.text


@pytest.mark.parametrize("source", BASELINES)
def test_lists_of_other_sources_follow_filters_profiles_and_changes_of_the_catalogue(served, source):
    user, ids = Request("u", np.array([3, 4, 5, 9])), served.catalogue.item_ids
    media = np.array(served.catalogue.column("media_type").to_pylist())
    before = of_source(served, source, user, top=EVERY).items
    kind = media[before[0]]
    kept = before[media[before] == kind]
    np.testing.assert_array_equal(
        of_source(served, source, user, top=EVERY, conditions=[f"media_type={kind}"]).items, kept
    )
    profile = Profile("u").with_text(f"blocked:media_type={kind}").with_text(f"blocked:item={ids[before[-1]]}")
    found = of_source(served, source, dataclasses.replace(user, profile=profile), top=EVERY).items
    assert len(found) and kind not in media[found] and before[-1] not in found
    vector = np.linspace(1, 7, WIDTH).tolist()
    served.change_items(
        [
            ItemChange("remove", ids[before[0]]),
            ItemChange("add", "new", {"media_type": kind}, vector),
            ItemChange("change", ids[before[1]], {"media_type": "hologram"}),
        ]
    )
    row = served.catalogue.index["new"]
    after = of_source(served, source, user, top=EVERY).items
    np.testing.assert_array_equal(after, before[1:])
    changed = of_source(served, source, user, conditions=["media_type=hologram"]).items
    np.testing.assert_array_equal(changed, before[1:2])
    newer = dataclasses.replace(user, history=np.append(user.history, row))
    assert row not in of_source(served, source, newer, top=EVERY).items and len(of_source(served, source, newer).items)
    served.change_items([ItemChange("add", ids[before[0]], {"media_type": kind})])
    np.testing.assert_array_equal(of_source(served, source, user, top=EVERY).items, before)


def test_a_source_that_the_bundle_does_not_have_is_refused(served):
    with pytest.raises(BundleError, match="oracle"):
        of_source(served, "oracle", Request("u", np.array([3])))


def test_item_knn_needs_an_evaluation_of_the_dataset(workdir, loaded, tmp_path):
    assert sources_export.item_knn_settings(workdir, loaded.dataset) == EXPERIMENT.item_knn
    assert sources_export.item_knn_settings(tmp_path, loaded.dataset) is None
    other = SimpleNamespace(fingerprint="of another")
    assert sources_export.item_knn_settings(workdir, other) is None
    assert sources_export.load_transitions(sources_export.CHOICES, workdir, other) is None
    assert sources_export.load_transitions((), workdir, loaded.dataset) is None


def test_a_history_is_encoded_once(served):
    query = Query(Request("u", np.array([3, 4])), Options(top=3))
    first, again = served.recommend([query]), served.recommend([query])
    np.testing.assert_array_equal(first[0].scores, again[0].scores)
    assert (served.cache.misses, served.cache.hits) == (1, 1)
    served.recommend([Query(Request("u", np.array([3, 4, 5])), Options(top=3))])
    assert served.cache.misses == 2


def test_a_search_keeps_its_filter_while_others_take_its_place_in_the_index(served, loaded, monkeypatch):
    live, user = served._model.search.live, user_requests.sample_users(loaded.dataset.split("test"), 1)[0]
    query = Query(user, Options(top=5), Filter(deny=frozenset(range(0, 120, 2))))
    expected, alone = served.recommend([query])[0], live.constrained

    def constrained(restrictions):
        found = alone(restrictions)
        for item in range(SIZES[-1] + 1):  # as other threads do meanwhile
            alone([Restriction(Filter(deny=frozenset({item})))])
        return found

    monkeypatch.setattr(live, "constrained", constrained)
    found = served.recommend([query])[0]
    assert set(found.items % 2) == {1}
    np.testing.assert_array_equal(found.items, expected.items)


def test_threads_find_what_one_finds_with_more_filters_than_the_index_keeps(served, loaded):
    items = np.arange(len(loaded.dataset.catalogue))
    users = user_requests.sample_users(loaded.dataset.split("test"), 6)
    queries = [
        Query(users[n % 6], Options(top=5, exclude_history=n % 2 == 0), Filter(deny=frozenset(items[n::7].tolist())))
        for n in range(7 * 6)
    ]
    expected = [served.recommend([query])[0] for query in queries]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda query: served.recommend([query])[0], queries * 3))
    for one, other in zip(expected * 3, found, strict=True):
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_items_are_added_changed_and_removed_while_serving(served):
    query = Query(Request("u", np.array([3, 4])), Options(top=BEAMS))
    (before,) = served.recommend([query])
    best, vector = served.catalogue.item_ids[before.items[0]], np.linspace(1, 7, WIDTH).tolist()
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


@pytest.mark.parametrize("part", ["serving.engine.PromptRules", "decoding.live_index.index_arrays"])
def test_a_change_at_which_the_server_fails_changes_nothing(served, monkeypatch, part):
    vector = np.linspace(1, 7, WIDTH).tolist()
    gone, changed = served.catalogue.item_ids[:2]
    changes = [
        ItemChange("remove", gone),
        ItemChange("change", changed, {"media_type": "hologram"}),
        ItemChange("add", "new", {"media_type": "hologram"}, vector),
    ]
    query = Query(Request("u", np.array([3, 4])), Options(top=BEAMS), Filter.parse(["media_type!=hologram"]))
    (before,) = served.recommend([query])
    catalogue = served.catalogue

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(f"genrec.{part}", fail)
        with pytest.raises(MemoryError):
            served.change_items(changes)
    assert served.catalogue is catalogue and not served.removed and "new" not in served.catalogue.index
    (after,) = served.recommend([query])
    np.testing.assert_array_equal(after.items, before.items)
    np.testing.assert_array_equal(after.scores, before.scores)
    served.change_items(changes)
    only = dataclasses.replace(query, filter=Filter.parse(["media_type=hologram"]))
    found = [served.catalogue.item_ids[item] for item in served.recommend([only])[0].items]
    assert sorted(found) == sorted([changed, "new"])
    assert served.removed == {catalogue.index[gone]}


def test_a_change_is_json_and_back():
    change = ItemChange("add", "a", {"title": "T", "tags": ["x"]}, [0.5, 1.0])
    assert ItemChange.from_json(change.as_json()) == change
    for text in ("{", '{"kind": "paint", "item_id": "a"}', '{"kind": "add", "item_id": 3}'):
        with pytest.raises(CatalogueError):
            ItemChange.from_json(text)


def test_more_items_than_beams_are_refused(served):
    with pytest.raises(config.ConfigError, match="top"):
        served.prepare(Query(Request("u", np.array([3])), Options(top=BEAMS + 1)))


@pytest.mark.parametrize("name", ["weights.safetensors", "item_knn.safetensors", "card.json"])
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


def test_a_card_keeps_the_layout_of_the_index(served):
    layout = Layout((4, 3, 2), 1, (3, 40, 5), (True, False), 128)
    fields = json.loads(json.dumps(dataclasses.asdict(layout)))
    assert dataclasses.replace(served.card, layout=fields).index_layout == layout


@pytest.mark.parametrize("place", ["nowhere", "no-such-kind://nowhere/x", "a\0b", "a" * 3000])
def test_a_place_without_a_bundle_is_named(place):
    with pytest.raises(BundleError, match=place[:10]):
        bundle.Bundle(place)


def test_a_folder_of_something_else_is_not_replaced(loaded, workdir):
    with pytest.raises(BundleError, match="something else"):
        bundle_export.export(loaded, workdir, workdir / "dataset", bundle_export.ExportOptions(), None)


def test_a_bundle_answers_without_the_libraries_of_training(folder):
    code = (
        "import sys, numpy as np; from genrec.serving.requests import Request;"
        "from genrec.serving.served_engine import *;"
        f"e = ServedEngine.load({str(folder)!r}); e.recommend([Query(Request('u', np.array([1])), Options(top=3))]);"
        "e.rank(Request('u', np.array([1])), [2, 3]);"
        "[e.recommend([Query(Request('u', np.array([1])), Options(), source=one)]) for one in e.sources];"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_searches_by_the_same_programs(loaded):
    assert isinstance(command_line.engine_of(loaded, Options(), 1).searcher, EncodedSearcher)
