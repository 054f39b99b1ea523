"""Stage `evaluate` on a tiny work directory with an untrained checkpoint."""

import contextlib
import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pyarrow.parquet
import pytest
import sequence_blocks

from genrec import artifacts, config, files
from genrec.data import dataset as datasets
from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.evaluation import evaluate, identity, list_checks
from genrec.evaluation.evaluator import FoundLists
from genrec.semantic_ids import codes

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


@pytest.fixture(scope="module")
def evaluated(finished, tmp_path_factory):
    """A work directory after its evaluation, and what that printed; not to be changed."""
    workdir = shutil.copytree(finished, tmp_path_factory.mktemp("evaluated") / "work")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluate.evaluate(EXPERIMENT, workdir, "test", "latest")
    return workdir, printed.getvalue()


def test_results_cover_every_user_and_are_all_valid(evaluated):
    workdir, printed = evaluated
    figures = json.loads((workdir / "evaluation" / "test.json").read_text())
    dataset = datasets.Dataset(workdir / "dataset")
    assert figures["identity"]["step"] == 7 and figures["users"] == len(dataset.split("test"))
    assert figures["returned_items"] == 10 * figures["users"] and figures["short_lists"] == 0
    assert f"returned items: {figures['returned_items']:,}" in printed
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
    of = figures["identity"]
    assert (of["beams"], of["max_beams"], figures["certified"]) == (128, 128, {"1": 1.0, "10": 1.0})
    users = pyarrow.parquet.read_table(workdir / "evaluation" / "test_users.parquet")
    assert set(users["certified"].to_pylist()) == {len(datasets.Dataset(workdir / "dataset").catalogue)}


def test_baselines_segments_and_beyond_accuracy_are_written_with_the_metrics(evaluated):
    workdir, printed = evaluated
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
    assert "media_type, recall@10" in printed


def test_a_variant_is_written_beside_the_plain_evaluation_and_says_what_it_is(evaluated, tmp_path, capsys):
    """Without histories, item-kNN knows nothing either."""
    workdir = shutil.copytree(evaluated[0], tmp_path / "work")
    plain = {path: path.read_bytes() for path in (workdir / "evaluation").iterdir()}
    assert "history withheld" not in evaluated[1]
    settings = dataclasses.replace(EXPERIMENT.evaluation, history=0)
    evaluate.evaluate(dataclasses.replace(EXPERIMENT, evaluation=settings), workdir)
    assert "history items kept; history withheld" in capsys.readouterr().out
    folder = workdir / "evaluation" / "history=0"
    assert plain == {path: path.read_bytes() for path in (workdir / "evaluation").iterdir() if path != folder}
    figures = json.loads((folder / "test.json").read_text())
    assert figures["variant"] and figures["identity"]["history"] == 0
    assert "history withheld" in (folder / "test.html").read_text()
    assert set(figures["baselines"]["item-kNN"].values()) == {0.0}
    read = json.loads((workdir / "evaluation" / "test.json").read_text())
    assert read["variant"] == [] and read["baselines"]["item-kNN"]["recall@10"] > 0
    assert read["baselines"]["most popular"] == figures["baselines"]["most popular"]


def test_no_model_of_a_table_has_items_of_the_history_if_they_are_excluded(workdir, tmp_path, capsys):
    settings = dataclasses.replace(EXPERIMENT.evaluation, exclude_history=True)
    evaluate.evaluate(dataclasses.replace(EXPERIMENT, evaluation=settings), workdir, results_in=tmp_path / "other")
    assert "users; history items excluded" in capsys.readouterr().out and not (workdir / "evaluation").exists()
    folder = tmp_path / "other" / "evaluation"
    figures = json.loads((folder / "test.json").read_text())
    assert figures["exclude_history"] and figures["identity"]["exclude_history"]
    assert (figures["repeats"], figures["short_lists"]) == (0, 0)
    report = (folder / "test.html").read_text()
    assert "excluded from all lists" in report and ", history items excluded: " in report
    dataset = datasets.Dataset(workdir / "dataset")
    split = dataset.split("test")
    records = split.read(np.arange(len(split)))
    repeated = {one.user_id for one in records if one.items[-1] in one.items[:-1]}
    histories = {one.user_id: {dataset.catalogue.item_ids[item] for item in one.items[:-1]} for one in records}
    assert repeated
    for user in pyarrow.parquet.read_table(folder / "test_users.parquet").to_pylist():
        assert not histories[user["user_id"]] & set(user["recommended"])
    for name in ("test_users", "test_users_most_popular", "test_users_item-knn"):
        ranks = pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()
        assert {row["rank"] for row in ranks if row["user_id"] in repeated} == {0}


CHANGES = [
    {"exclude_history": True},
    {"beams": 11}, {"max_beams": 20}, {"certify": 3}, {"cutoffs": (1, 5)}, {"segments": ("genre",)}, {"history": 3},
    {"withheld_features": ("all",)}, {"request_time": True}, {"new_items_share": 0.1},
]  # fmt: skip


def test_all_that_changes_figures_is_another_evaluation(workdir, tmp_path):
    loaded = loaded_model.load(workdir)
    plain = identity.of(loaded, EXPERIMENT, workdir)
    files.write_text(workdir / "evaluation" / "test.json", json.dumps({"identity": plain}))
    others = [
        identity.of(loaded, dataclasses.replace(EXPERIMENT, evaluation=settings), workdir)
        for settings in (dataclasses.replace(EXPERIMENT.evaluation, **change) for change in CHANGES)
    ]
    others.append(identity.of(loaded, dataclasses.replace(EXPERIMENT, item_knn=config.ItemKnn(decay=0.9)), workdir))
    retrained = jax.tree.map(lambda x: x * 2, loaded.params)
    others.append(identity.of(dataclasses.replace(loaded, params=retrained), EXPERIMENT, workdir))
    shutil.copytree(workdir / "checkpoints", workdir / "sasrec" / "checkpoints")
    others.append(identity.of(loaded, EXPERIMENT, workdir))
    shutil.rmtree(workdir / "sasrec")
    assert identity.is_done(workdir / "evaluation", "test", plain)
    assert not [other for other in others if identity.is_done(workdir / "evaluation", "test", other)]
    results = (workdir / "evaluation" / "test.json").read_text()
    (tmp_path / "test.json").write_text(results[: len(results) // 2])
    assert not identity.is_done(tmp_path, "test", plain)
    same = dataclasses.replace(EXPERIMENT.evaluation, batch=3, sharded_table=True)
    assert identity.of(loaded, dataclasses.replace(EXPERIMENT, evaluation=same), workdir) == plain


def test_ranks_by_learned_codes_count_any_item_of_the_group(workdir):
    ids = codes.SemanticIds.load(workdir / "semantic_ids")
    first, second = ids.items_with_prefix(next(c[:2] for c in ids.codes if len(ids.items_with_prefix(c[:2])) == 2))
    other = next(item for item in range(ids.items) if item not in (first, second))
    found = lists([[second, first], [other, first], [first, -1]], np.zeros((3, 2)), targets=[first, second, other])
    assert list_checks.semantic_id_ranks(found, list_checks.code_groups(ids)).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("split", "records", "message"),
    [
        ("test", [("u", [1, 2, 3]), ("u", [1, 2, 3])], "'u'.*test"),
        ("train", [("u", [1, 2, 3])], "validation target"),
        ("validation", [("u", [1, 3])], "test target"),
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

        def blocks(self):
            return iter([sequence_blocks.block([(record.user_id, record.items) for record in self.records])])

    monkeypatch.setattr(datasets, "Sequences", Split)
    with pytest.raises(DataError, match=message):
        evaluate.evaluate(EXPERIMENT, workdir)


def test_an_unknown_segment_column_is_refused_before_the_search(workdir):
    settings = dataclasses.replace(EXPERIMENT.evaluation, segments=("color",))
    with pytest.raises(DataError, match="no column 'color'"):
        evaluate.evaluate(dataclasses.replace(EXPERIMENT, evaluation=settings), workdir)


def test_inputs_that_do_not_belong_together_are_refused(workdir, tokenized):
    tokenized(workdir, EXPERIMENT, seed=1)
    with pytest.raises(artifacts.ArtifactError, match="semantic IDs"):
        evaluate.evaluate(EXPERIMENT, workdir)
    tokenized(workdir, EXPERIMENT, made_for="another")
    with pytest.raises(artifacts.ArtifactError, match="dataset"):
        evaluate.evaluate(EXPERIMENT, workdir)


def test_missing_inputs_are_named(workdir):
    with pytest.raises(DataError, match="'train'"):
        evaluate.evaluate(EXPERIMENT, workdir, "train")
    with pytest.raises(artifacts.ArtifactError, match="checkpoint 9"):
        evaluate.evaluate(EXPERIMENT, workdir, checkpoint="9")
    shutil.rmtree(workdir / "checkpoints")
    with pytest.raises(artifacts.ArtifactError, match="launch/train.py"):
        evaluate.evaluate(EXPERIMENT, workdir)


@pytest.mark.parametrize(
    "items, scores, message",
    [
        ([[0, 1, 0]], [[0, 0, 0]], "1 .*twice"),
        ([[0, 1, 5]], [[0, 0, 0]], "1 .*catalogue"),
        ([[0, 1, 2]], [[0, 0, -np.inf]], "1 .*finite"),
        ([[-1, -1, -1]], [[-np.inf] * 3], "checkpoint"),
    ],
)
def test_invalid_lists_are_an_error(items, scores, message):
    with pytest.raises(list_checks.EvaluationError, match=message):
        checked(lists(items, scores))


def test_short_lists_and_repeats_are_counted_whatever_the_division():
    found = lists([[0, -1, -1], [3, 4, 1]], [[0, -np.inf, -np.inf], [0, 0, 0]], repeats=[[1, 0, 0], [0, 0, 1]])
    expected = {"returned_items": 4, "short_lists": 0.5, "repeats": 0.5, "target_repeats": 0.0}
    assert checked(found) == expected
    parts = (
        lists([[0, -1, -1]], [[0, -np.inf, -np.inf]], repeats=[[1, 0, 0]]),
        lists([[3, 4, 1]], [[0, 0, 0]], repeats=[[0, 0, 1]]),
    )
    assert checked(*parts) == expected


def test_shares_of_certified_lists_are_counted_for_each_cutoff():
    found = lists([[0, 1, 2], [3, 4, 1]], [[0, -1, -2], [0, 0, 0]])  # nothing else is likelier than -1
    cfg = config.Evaluation(beams=3, cutoffs=(1, 3, 5))
    assert list_checks.certified_shares(found.certified, cfg) == {"1": 1.0, "3": 0.5}


def checked(*parts: FoundLists) -> dict[str, float]:
    checks = list_checks.ListChecks(items=5)
    for part in parts:
        checks.add(part)
    return checks.figures()


def lists(items, scores, repeats=None, targets=None) -> FoundLists:
    items, users = np.array(items, np.int32), np.zeros(len(items), np.int32)
    repeats = np.zeros_like(items) if repeats is None else repeats
    return FoundLists(
        places=np.arange(len(items)),
        user_ids=["u"] * len(items),
        targets=users if targets is None else np.array(targets),
        recommended=items,
        scores=np.array(scores, np.float32),
        bounds=users - np.float32(1),
        repeats=np.array(repeats, bool),
        target_repeats=users > 0,
    )
