"""Evaluating all checkpoints of a run, and watching it, on a tiny work directory with untrained models."""

import dataclasses
import json
import shutil

import pytest

from genrec import artifacts, config
from genrec.data.errors import DataError
from genrec.decoding import loaded_model
from genrec.decoding.retrieval import Retriever
from genrec.evaluation import evaluate, evaluate_all
from genrec.semantic_ids import codes

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=60)),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(max_history=4),
    evaluation=config.Evaluation(beams=10, batch=64, cutoffs=(1, 10)),
)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, untrained):
    """A work directory without checkpoints; those of a finished run, 7, 14 and 21, are in its folder `made`."""
    workdir = tmp_path_factory.mktemp("finished")
    untrained(workdir, EXPERIMENT, (7, 14, 21))
    (workdir / "checkpoints").rename(workdir / "made")
    return workdir


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Retrievers for all tests: their work directories are copies, and the models have one structure.

    Reports, of which drawing takes most of an evaluation, are not written: evaluate_test and report_test read them.
    """
    make, made = Retriever.of_table, {}

    def of_table(graphdef, table, *search):
        if search not in made:
            made[search] = make(graphdef, table, *search)
        return made[search]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Retriever, "of_table", staticmethod(of_table))
        patch.setattr(evaluate.report, "write", lambda workdir, split, folder: folder / f"{split}.html")
        yield


@pytest.fixture
def workdir(elsewhere, tmp_path):
    shutil.copytree(elsewhere, tmp_path / "work", ignore=shutil.ignore_patterns("made"))
    return tmp_path / "work"


def bring(elsewhere, workdir, step: int, without: str | None = None) -> None:
    """Copies a checkpoint as slow tools do: under its own name, and at first without some of its files."""
    ignore = None if without is None else shutil.ignore_patterns(without)
    target = workdir / "checkpoints" / str(step)
    shutil.copytree(elsewhere / "made" / str(step), target, ignore=ignore, dirs_exist_ok=True)


def results(workdir, split="test"):
    return sorted(int(path.parent.name[5:]) for path in (workdir / "evaluation").glob(f"step_*/{split}.json"))


def test_all_checkpoints_of_both_splits_and_a_second_call_does_nothing(elsewhere, workdir, capsys):
    for step in (7, 14):
        bring(elsewhere, workdir, step)
    evaluate_all.evaluate_all(EXPERIMENT, workdir, ["validation", "test"])
    assert results(workdir) == results(workdir, "validation") == [7, 14]
    rows = json.loads((workdir / "evaluation" / "test_steps.json").read_text())
    assert [row["identity"]["step"] for row in rows] == [7, 14]
    assert set(rows[0]["baselines"]) == {"most popular", "item-kNN"}
    for row in rows:
        own = json.loads((workdir / "evaluation" / f"step_{row['identity']['step']}" / "test.json").read_text())
        assert row["metrics"] == own["metrics"]
    assert "step 14" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in workdir.glob("evaluation/step_*/*")}
    bring(elsewhere, workdir, 21)
    evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"])
    assert results(workdir) == [7, 14, 21]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_beams_are_another_evaluation(elsewhere, workdir):
    bring(elsewhere, workdir, 7)
    evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"])
    EXPERIMENT.evaluation.beams = 12
    try:
        evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"])
    finally:
        EXPERIMENT.evaluation.beams = 10
    figures = json.loads((workdir / "evaluation" / "step_7" / "test.json").read_text())
    assert figures["identity"]["beams"] == 12


def test_steps_without_and_with_items_of_the_history_are_not_in_one_table(elsewhere, workdir, capsys):
    for step in (7, 14):
        bring(elsewhere, workdir, step)
    evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"])
    shutil.rmtree(workdir / "checkpoints" / "7")
    settings = dataclasses.replace(EXPERIMENT.evaluation, exclude_history=True)
    excluding = dataclasses.replace(EXPERIMENT, evaluation=settings)
    capsys.readouterr()
    evaluate_all.evaluate_all(excluding, workdir, ["test"])
    rows = json.loads((workdir / "evaluation" / "test_steps.json").read_text())
    assert [(row["identity"]["step"], row["identity"]["exclude_history"]) for row in rows] == [(14, True)]
    assert "test split; history items excluded" in capsys.readouterr().out
    evaluate_all.evaluate_all(excluding, workdir, ["test"], results_in=workdir / "other")
    assert (workdir / "other" / "evaluation" / "step_14" / "test.json").exists()


def test_variants_are_evaluated_beside_each_other_and_steps_of_others_are_not_in_their_table(elsewhere, workdir):
    for step in (7, 14):
        bring(elsewhere, workdir, step)
    evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"])
    before = {path: path.stat().st_mtime_ns for path in workdir.glob("evaluation/*/*")}
    variant = dataclasses.replace(EXPERIMENT.evaluation, history=0)
    evaluate_all.evaluate_all(dataclasses.replace(EXPERIMENT, evaluation=variant), workdir, ["test"])
    assert (workdir / "evaluation" / "history=0" / "step_14" / "test.json").exists()
    assert before == {path: path.stat().st_mtime_ns for path in before}
    shutil.rmtree(workdir / "checkpoints" / "7")
    wider = dataclasses.replace(EXPERIMENT.evaluation, beams=12)
    evaluate_all.evaluate_all(dataclasses.replace(EXPERIMENT, evaluation=wider), workdir, ["test"])
    rows = json.loads((workdir / "evaluation" / "test_steps.json").read_text())
    assert [(row["identity"]["step"], row["identity"]["beams"]) for row in rows] == [(14, 12)]


def test_watching_survives_half_written_checkpoints_and_ends_with_the_training(elsewhere, workdir):
    looks = []

    def sleep(seconds: float) -> None:
        """Changes the folder between two looks."""
        looks.append(results(workdir))
        match len(looks):
            case 1:  # Orbax is writing, and another tool copies
                (workdir / "checkpoints" / "7.orbax-checkpoint-tmp-1").mkdir(parents=True)
                bring(elsewhere, workdir, 7, without="ema")
            case 2:
                bring(elsewhere, workdir, 7, without="manifest.ocdbt")
            case 3:
                bring(elsewhere, workdir, 7)
                bring(elsewhere, workdir, 14, without="record")
            case 4:  # one is deleted before it was ever whole
                shutil.rmtree(workdir / "checkpoints" / "14")
                bring(elsewhere, workdir, 21)
            case _:
                raise AssertionError("watching did not end")

    evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"], watch=True, sleep=sleep)
    assert looks == [[], [], [], [7]] and results(workdir) == [7, 21]


def test_watching_survives_a_checkpoint_that_is_deleted_after_it_was_listed(elsewhere, workdir, monkeypatch):
    for step in (7, 14, 21):
        bring(elsewhere, workdir, step)
    (workdir / "checkpoints" / "5").mkdir()  # half deleted
    load = loaded_model.load

    def rotated(workdir, which, *others):
        if which == "7":
            shutil.rmtree(workdir / "checkpoints" / "7")
        return load(workdir, which, *others)

    monkeypatch.setattr(loaded_model, "load", rotated)
    evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"], watch=True, sleep=lambda seconds: None)
    assert results(workdir) == [14, 21]


def test_watching_ends_when_no_checkpoint_comes(elsewhere, workdir):
    bring(elsewhere, workdir, 7)
    slept = []
    evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"], True, 10.0, 30.0, sleep=slept.append)
    assert slept == [10.0] * 3 and results(workdir) == [7]


def test_unreadable_checkpoints_and_unknown_splits_are_an_error(elsewhere, workdir):
    with pytest.raises(artifacts.ArtifactError, match="checkpoints"):
        evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"])
    with pytest.raises(DataError, match="'train'"):
        evaluate_all.evaluate_all(EXPERIMENT, workdir, ["train"])
    bring(elsewhere, workdir, 7)
    layout = workdir / "semantic_ids" / codes.LAYOUT_FILE
    ids = codes.SemanticIds.load(workdir / "semantic_ids")
    layout.unlink()
    codes.SemanticIds(ids.codes[::-1], ids.sizes).save(workdir / "semantic_ids")
    with pytest.raises(artifacts.ArtifactError, match="semantic IDs"):
        evaluate_all.evaluate_all(EXPERIMENT, workdir, ["test"], watch=True)
