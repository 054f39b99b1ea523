"""Stage `evaluate` and the recommendations tool's parts, on a tiny work directory with an untrained checkpoint."""

import collections
import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest

from genrec import artifacts, config
from genrec.data import dataset as datasets
from genrec.data.errors import DataError
from genrec.data.filters import EVERYTHING, Filter
from genrec.decoding import loaded_model
from genrec.evaluation import evaluate, list_checks
from genrec.evaluation.evaluator import Evaluation
from genrec.semantic_ids import codes
from genrec.serving import engine, output
from genrec.serving import requests as user_requests
from genrec.serving.engine import Options

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=60)),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(max_history=4),
    evaluation=config.Evaluation(beams=10, batch=16, cutoffs=(1, 10)),
)


@pytest.fixture(scope="module")
def finished(untrained, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    untrained(workdir, EXPERIMENT)
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "work")


def test_results_cover_every_user_and_are_all_valid(workdir, capsys):
    evaluate.evaluate(EXPERIMENT, workdir, "test", "latest")
    assert "100% valid" in capsys.readouterr().out
    figures = json.loads((workdir / "evaluation" / "test.json").read_text())
    dataset = datasets.Dataset(workdir / "dataset")
    assert figures["step"] == 7 and figures["users"] == len(dataset.split("test")) and figures["valid"] == 1
    users = pyarrow.parquet.read_table(workdir / "evaluation" / "test_users.parquet")
    known = set(dataset.catalogue.item_ids)
    certified = np.array(users["certified"].to_pylist())
    assert figures["certified"] == {"1": (certified >= 1).mean(), "10": (certified >= 10).mean()}
    assert all(len(set(row)) == 10 and set(row) <= known for row in users["recommended"].to_pylist())


def test_certified_shares_are_reported_and_stored(workdir, capsys):
    """The search is exhaustive: all lists are certified."""
    wider = dataclasses.replace(EXPERIMENT.evaluation, beams=128)
    evaluate.evaluate(dataclasses.replace(EXPERIMENT, evaluation=wider), workdir, "test", "latest")
    assert "100.0% of the first 1, 100.0% of the first 10" in capsys.readouterr().out
    figures = json.loads((workdir / "evaluation" / "test.json").read_text())
    assert (figures["beams"], figures["max_beams"], figures["certified"]) == (128, 128, {"1": 1.0, "10": 1.0})
    users = pyarrow.parquet.read_table(workdir / "evaluation" / "test_users.parquet")
    assert set(users["certified"].to_pylist()) == {len(datasets.Dataset(workdir / "dataset").catalogue)}


def test_baselines_segments_and_more_stand_beside_the_metrics(workdir, capsys):
    evaluate.evaluate(EXPERIMENT, workdir, "test", "latest")
    figures = json.loads((workdir / "evaluation" / "test.json").read_text())
    users = pyarrow.parquet.read_table(workdir / "evaluation" / "test_users.parquet").to_pylist()
    assert set(figures["baselines"]) == {"most popular", "item-kNN"}
    for rows in (figures["segments"]["media_type"], figures["segments"]["history length"]):
        assert sum(row["users"] for row in rows) == len(users)
        hits = sum(row["users"] * row["model"]["recall@10"] for row in rows)
        np.testing.assert_allclose(hits, sum(0 < user["rank"] <= 10 for user in users))
    shown = {item for user in users for item in user["recommended"]}
    catalogue = datasets.Dataset(workdir / "dataset").catalogue
    assert figures["beyond_accuracy"]["model"]["coverage@10"] == len(shown) / len(catalogue)
    assert "media_type, recall@10" in capsys.readouterr().out


def test_a_hit_of_the_learned_codes_is_shown_beside_the_item_itself(workdir):
    ids = codes.SemanticIds.load(workdir / "semantic_ids")
    first, second = ids.items_with_prefix(next(c[:2] for c in ids.codes if len(ids.items_with_prefix(c[:2])) == 2))
    other = next(item for item in range(ids.items) if item not in (first, second))
    found = Evaluation(
        metrics={},
        user_ids=["a", "b", "c"],
        targets=np.array([first, second, other]),
        ranks=np.array([2, 0, 0]),
        recommended=np.array([[second, first], [other, first], [first, -1]]),
        scores=np.zeros((3, 2)),
        bounds=np.zeros(3),
        repeats=np.zeros((3, 2), bool),
        target_repeats=np.zeros(3, bool),
    )
    assert list_checks.semantic_id_ranks(found, ids).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("split", "records", "message"),
    [
        ("test", [("u", [1, 2, 3]), ("u", [1, 2, 3])], "user 'u' has two test records"),
        ("train", [("u", [1, 2, 3])], "the validation target leaks"),
        ("validation", [("u", [1, 3])], "the test target leaks"),
    ],
)
def test_planted_duplicates_and_leaks_are_found(split, records, message, monkeypatch, workdir):
    """A dataset that was changed after it was prepared."""
    there = {"train": [("u", [1])], "validation": [("u", [1, 2])], "test": [("u", [1, 2, 3])], split: records}

    class Split:
        def __init__(self, path, name):
            self.records = [
                datasets.Sequence(user, np.array(items), np.arange(len(items))) for user, items in there[name]
            ]
            self.lengths = np.array([len(record.items) for record in self.records])

        def __len__(self):
            return len(self.records)

        def read(self, indices):
            return [self.records[index] for index in indices]

    monkeypatch.setattr(datasets, "Sequences", Split)
    with pytest.raises(DataError, match=message):
        evaluate.evaluate(EXPERIMENT, workdir)


def test_a_segment_column_that_is_not_there_is_named_before_any_work(workdir):
    settings = dataclasses.replace(EXPERIMENT.evaluation, segments=("color",))
    with pytest.raises(DataError, match="no column 'color'"):
        evaluate.evaluate(dataclasses.replace(EXPERIMENT, evaluation=settings), workdir)


def test_inputs_that_do_not_belong_together_are_refused(workdir, tokenized):
    tokenized(workdir, EXPERIMENT, seed=1)
    with pytest.raises(artifacts.ArtifactError, match="trained with other semantic IDs"):
        evaluate.evaluate(EXPERIMENT, workdir)
    tokenized(workdir, EXPERIMENT, made_for="another")
    with pytest.raises(artifacts.ArtifactError, match="these semantic_ids were made for another dataset"):
        evaluate.evaluate(EXPERIMENT, workdir)


def test_what_is_missing_is_named(workdir):
    with pytest.raises(DataError, match="no split 'train' to evaluate"):
        evaluate.evaluate(EXPERIMENT, workdir, "train")
    with pytest.raises(artifacts.ArtifactError, match="no checkpoint '9'"):
        evaluate.evaluate(EXPERIMENT, workdir, checkpoint="9")
    shutil.rmtree(workdir / "checkpoints")
    with pytest.raises(artifacts.ArtifactError, match="Train first"):
        evaluate.evaluate(EXPERIMENT, workdir)


@pytest.mark.parametrize(
    "items, scores, message",
    [
        ([[0, 1, 0]], [[0, 0, 0]], "1 stand twice"),
        ([[0, 1, 5]], [[0, 0, 0]], "1 are not in the catalogue"),
        ([[0, 1, 2]], [[0, 0, -np.inf]], "1 have no finite score"),
        ([[-1, -1, -1]], [[-np.inf] * 3], "no item was returned"),
    ],
)
def test_invalid_lists_are_an_error(items, scores, message):
    with pytest.raises(list_checks.EvaluationError, match=message):
        list_checks.check_lists(lists(items, scores), items=5)


def test_short_lists_are_counted():
    found = lists([[0, -1, -1], [3, 4, 1]], [[0, -np.inf, -np.inf], [0, 0, 0]])
    assert list_checks.check_lists(found, items=5) == {"valid": 1.0, "short_lists": 0.5}


def test_repeats_are_shares_of_what_was_recommended():
    found = lists([[0, -1, -1], [3, 4, 1]], [[0, -np.inf, -np.inf], [0, 0, 0]], repeats=[[1, 0, 0], [0, 0, 1]])
    assert list_checks.repeat_shares(found) == {"repeats": 0.5, "target_repeats": 0.0}


def test_shares_of_certified_lists_are_counted_for_each_cutoff():
    found = lists([[0, 1, 2], [3, 4, 1]], [[0, -1, -2], [0, 0, 0]])  # nothing else is likelier than -1
    cfg = config.Evaluation(beams=3, cutoffs=(1, 3, 5))
    assert list_checks.certified_shares(found, cfg) == {"1": 1.0, "3": 0.5}


def lists(items, scores, repeats=None) -> Evaluation:
    items, users = np.array(items, np.int32), np.zeros(len(items))
    repeats = np.zeros_like(items) if repeats is None else repeats
    scores, repeats = np.array(scores, np.float32), np.array(repeats, bool)
    return Evaluation({}, [], users, users, items, scores, users - 1, repeats, users > 0)


def test_recommendations_for_users_and_for_given_items(finished):
    loaded = loaded_model.load(finished)
    sequences, catalogue = loaded.dataset.split("test"), loaded.dataset.catalogue
    requests = user_requests.sample_users(sequences, 2)
    known = [request.name for request in requests][::-1]
    again = user_requests.find_users(sequences, known)
    assert [request.name for request in again] == known
    given = user_requests.from_items(catalogue, catalogue.item_ids[5:8])
    answers = engine.recommend(loaded, [*requests, *again, given], Options(beams=10, top=4))
    assert [len(answer.items) for answer in answers] == [4] * 5
    np.testing.assert_array_equal(answers[0].items, answers[3].items)
    text = output.table(given, answers[4], catalogue)
    for item in (5, 6, 7, *answers[4].items):
        assert catalogue.titles[item][:40] in text


def test_unknown_users_and_items_are_named(finished):
    loaded = loaded_model.load(finished)
    with pytest.raises(DataError, match="no user 'nobody'"):
        user_requests.find_users(loaded.dataset.split("test"), ["nobody"])
    with pytest.raises(DataError, match="no item 'nothing'"):
        user_requests.from_items(loaded.dataset.catalogue, ["nothing"])
    with pytest.raises(DataError, match="nobody to recommend for"):
        user_requests.requests(loaded.dataset, "test", 0, [], None)
    with pytest.raises(DataError, match="no item 'nothing'"):
        user_requests.with_items(EVERYTHING, loaded.dataset.catalogue, ["nothing"], [])
    with pytest.raises(DataError, match="no item 'nothing'"):
        user_requests.with_items(EVERYTHING, loaded.dataset.catalogue, None, ["nothing"])
    requests = user_requests.sample_users(loaded.dataset.split("test"), 2)
    for text, message in [
        ("color=red", "no column 'color'"),
        ("duration_seconds>=long", "filter on 'duration_seconds'"),
    ]:
        with pytest.raises(DataError, match=message):
            engine.recommend(loaded, requests, Options(), Filter.parse([text]))


def test_a_filter_for_chosen_items_keeps_its_conditions(finished):
    catalogue = loaded_model.load(finished).dataset.catalogue
    conditions = Filter.parse(["media_type=music"])
    both = user_requests.with_items(conditions, catalogue, catalogue.item_ids[3:5], catalogue.item_ids[4:7])
    assert both == Filter(conditions.conditions, frozenset([3, 4]), frozenset([4, 5, 6]))
    assert user_requests.with_items(conditions, catalogue, None, []) == conditions


def test_filters_and_the_history_leave_the_rest_in_order(finished):
    """Against a search that finds everything but the history."""
    loaded = loaded_model.load(finished)
    catalogue = loaded.dataset.catalogue
    requests = user_requests.sample_users(loaded.dataset.split("test"), 3)
    media = catalogue.column("media_type").to_pylist()
    conditions = Filter.parse([f"media_type={media[0]}"])
    wanted = user_requests.with_items(conditions, catalogue, None, catalogue.item_ids[:9])
    options = Options(beams=128, top=len(catalogue), exclude_history=True)
    everything, found = (engine.recommend(loaded, requests, options, one) for one in (EVERYTHING, wanted))
    for request, answer, all_ in zip(requests, found, everything, strict=True):
        assert set(all_.items.tolist()) == set(range(len(catalogue))) - set(request.history.tolist())
        assert answer.items.tolist() == [item for item in all_.items.tolist() if item >= 9 and media[item] == media[0]]
        assert answer.certified == len(answer.items)


def test_drawn_and_diverse_lists_are_no_more_alike_than_told(finished):
    loaded = loaded_model.load(finished)
    catalogue, first_codes = loaded.dataset.catalogue, loaded.semantic_ids.codes[:, 0]
    requests = user_requests.sample_users(loaded.dataset.split("test"), 3)
    media = np.array(catalogue.column("media_type").to_pylist())
    for options, groups in [
        (Options(beams=8, top=4, max_share=0.25, temperature=1, top_p=0.9), first_codes),
        (Options(beams=4, top=4, max_share=0.5, share_of="media_type"), media),
    ]:
        for answer in engine.recommend(loaded, requests, options):
            most = int(options.max_share * options.top)
            assert len(answer.items) == options.top and answer.certified == 0
            assert max(collections.Counter(groups[answer.items].tolist()).values()) <= most
    with pytest.raises(DataError, match="no column 'color'"):
        engine.recommend(loaded, requests, Options(max_share=0.5, share_of="color"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"top": 0}, "top=0 and beams=50 must be at least 1"),
        ({"beams": 0}, "beams=0"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": 1, "top_p": 0}, "top_p=0: give a probability"),
        ({"temperature": 1, "top_p": 1.1}, "top_p=1.1"),
        ({"top_p": 0.9}, "give a temperature too"),
        ({"max_share": 0}, "max_share=0"),
        ({"max_share": 1.5}, "max_share=1.5"),
        ({"max_beams": 100, "temperature": 1}, "not for lists that are drawn"),
        ({"max_beams": 100, "max_share": 0.5}, "not for lists that are drawn or made diverse"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(config.ConfigError, match=message):
        Options(**options)


@pytest.mark.parametrize("target", [None, 7])
def test_recommendations_as_json(finished, target):
    catalogue = loaded_model.load(finished).dataset.catalogue
    request = user_requests.Request("ü", np.array([4, 2]), target)
    answer = engine.Recommendations(np.array([5, 1]), np.array([-1.123456, -2], np.float32), 1)
    line = output.shown(request, answer, catalogue, "json")
    assert "\n" not in line and "ü" in line
    ids, titles = catalogue.item_ids, catalogue.titles
    assert json.loads(line) == {
        "name": "ü",
        "history": [ids[4], ids[2]],
        "target": None if target is None else ids[7],
        "recommended": [
            {"item_id": ids[5], "title": titles[5], "score": -1.12346},
            {"item_id": ids[1], "title": titles[1], "score": -2.0},
        ],
        "certified": 1,
    }
    assert "the first 1 are certified" in output.shown(request, answer, catalogue, "table")
