"""The whole path through the real scripts, as a user starts them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from forked_scripts import Script

from genrec.data.dataset import Dataset

ROOT = Path(__file__).parents[2]
STAGES = ("dataset", "item_embeddings", "semantic_ids", "evaluation")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a script on one device, as on a laptop, to its end; returns it."""
    folder = tmp_path_factory.mktemp("logs")

    def to_the_end(*command: str, typed: str = "") -> Script:
        script = Script(folder, *command, typed=typed)
        assert script.wait() == 0, script.errors[-3000:]
        return script

    return to_the_end


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """A work directory after launch/run.py was stopped in the middle of training and started again."""
    workdir = tmp_path_factory.mktemp("quickstart")
    flags = ("--config=configs/quickstart.py:tiny", f"--workdir={workdir}")
    # The first one as a user starts it, in a process that has imported nothing yet.
    command = [sys.executable, "launch/run.py", *flags, "--config.training.stop_after=13"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment)
    second = run("launch/run.py", *flags)
    assert "resuming from step 10" in second.errors
    return workdir, second


def test_run_leaves_everything_that_it_promises(finished):
    workdir, second = finished
    assert "most popular" in second.output and "lists cut short: 0.0%" in second.output
    for name in (
        "dataset/statistics.json",
        "semantic_ids/quality.json",
        "semantic_ids/quality.png",
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
        "evaluation/test.json",
        "evaluation/test.txt",
        "evaluation/test.html",
        "evaluation/test_users.parquet",
    ):
        assert (workdir / name).exists(), name
    # Nothing half-written stays behind.
    assert not [path for path in workdir.rglob("*") if "partial" in path.name or "incomplete" in path.name]


def test_metrics_are_those_of_the_ranks_that_were_saved(finished):
    workdir, _ = finished
    figures = json.loads((workdir / "evaluation" / "test.json").read_text())
    users = pyarrow.parquet.read_table(workdir / "evaluation" / "test_users.parquet").to_pylist()
    assert len(users) == figures["users"] == len({user["user_id"] for user in users})
    hits = 0
    for user in users:
        place = user["recommended"].index(user["target"]) + 1 if user["target"] in user["recommended"] else 0
        assert user["rank"] == place
        hits += 0 < place <= 10
    np.testing.assert_allclose(figures["metrics"]["recall@10"], hits / len(users))


def test_no_two_items_share_a_semantic_id(finished):
    workdir, _ = finished
    codes = np.load(workdir / "semantic_ids" / "codes.npy")
    items = json.loads((workdir / "dataset" / "statistics.json").read_text())["items"]
    assert len(np.unique(codes, axis=0)) == len(codes) == items


def test_stages_that_are_up_to_date_are_skipped(run, finished):
    workdir, _ = finished
    manifests = [workdir / stage / "artifact.json" for stage in STAGES if (workdir / stage / "artifact.json").exists()]
    before = {path: path.stat().st_mtime_ns for path in manifests}
    again = run("launch/run.py", "--config=configs/quickstart.py:tiny", f"--workdir={workdir}")
    assert before and before == {path: path.stat().st_mtime_ns for path in manifests}
    assert "training is already finished" in again.errors


def test_tools_read_the_work_directory(run, finished):
    workdir, _ = finished
    shown = run("tools/recommend.py", f"--workdir={workdir}", "--users=2", "--top=5").output
    assert shown.count("target:") == 2
    assert len(re.findall(r"-\d+\.\d\d  \S", shown)) == 10
    chosen = "--users=2", "--exclude_history", "--filter=media_type=music", "--filter=explicit=false", "--max_beams=100"
    answers = run("tools/recommend.py", f"--workdir={workdir}", *chosen, "--output=json").output.splitlines()
    catalogue = Dataset(workdir / "dataset").catalogue
    media_type = dict(zip(catalogue.item_ids, catalogue.column("media_type").to_pylist(), strict=True))
    for answer in map(json.loads, answers):
        items = [one["item_id"] for one in answer["recommended"]]
        assert len(items) == 10 and not set(items) & set(answer["history"])
        assert {media_type[item] for item in items} == {"music"}
    assert len(answers) == 2
    config = "--config=configs/quickstart.py:tiny"
    evaluated = run("tools/evaluate_checkpoint.py", config, f"--workdir={workdir}", "--split=validation")
    assert "validation split" in evaluated.output
    measured = run("tools/benchmark_input.py", config, f"--workdir={workdir}", "--steps=2", "--shares=2").output
    assert re.search(r"iterate: \d+ segments/s, \d+ targets/s", measured)
    compared = run("tools/compare_runs.py", f"--workdir={workdir}", f"--other={workdir}", "--output=json").output
    assert json.loads(compared)["recall@10"]["difference"] == 0
    small = "--batch=2", "--beams=4", "--seconds=0.1"
    measured = run("tools/benchmark_decoding.py", f"--workdir={workdir}", *small).output
    assert re.search(r"beams +users/s\n +4 +\d+\.\d\n", measured) and "reorder" in measured
    assert "items" in run("tools/inspect_semantic_ids.py", f"--workdir={workdir}").output


def test_files_of_ones_own_take_the_same_path(run, tmp_path):
    """The example of docs/bring_your_own_data.md."""
    shown = run(
        "launch/run.py",
        "--config=configs/quickstart.py:tiny",
        f"--workdir={tmp_path}",
        "--config.data.source=files",
        "--config.data.interactions=examples/tiny/interactions.csv",
        "--config.data.items=examples/tiny/items.csv",
        "--config.data.users=examples/tiny/users.csv",
        "--config.data.k_core=2",
        "--config.semantic_ids.codes=8,8",
    ).output
    assert "lists cut short: 0.0%" in shown


def test_a_model_that_reads_everything_takes_the_same_path(run, tmp_path):
    """The commands of docs/steering.md."""
    config, workdir = "--config=configs/streaming.py:tiny", f"--workdir={tmp_path}"
    assert "lists cut short: 0.0%" in run("launch/run.py", config, workdir).output
    asked = run("tools/recommend.py", workdir, "--users=1", "--prompt=something calm, no podcasts", "--explain").output
    assert "prompt: something calm, no podcasts" in asked and "played 1 ago: " in asked
    assert "understood: not: podcasts; taste: calm" in asked
    assert "the taste in the model's words: " in asked
    stranger = "--items=", "--context=country=DE", "--context=time_of_day=21", "--prompt=more music", "--output=json"
    answer = json.loads(run("tools/recommend.py", workdir, *stranger, "--guidance=2", "--explain").output)
    catalogue = Dataset(tmp_path / "dataset").catalogue
    media_type = dict(zip(catalogue.item_ids, catalogue.column("media_type").to_pylist(), strict=True))
    assert {media_type[one["item_id"]] for one in answer["recommended"]} == {"music"} and answer["history"] == []
    reasons = dict(answer["recommended"][0]["reasons"])
    assert reasons.keys() == {"country: DE", "time_of_day: 21 and more", "prompt: more music"}
    user = Dataset(tmp_path / "dataset").split("test").read([0])[0].user_id
    profile = f"--profile={tmp_path / 'taste.json'}"
    edits = "--add=blocked:media_type=music", "--add=more_of:mood=calm"
    shown = run("tools/taste_profile.py", workdir, profile, f"--user={user}", *edits).output
    assert "never returned" in shown
    answer = json.loads(run("tools/recommend.py", workdir, profile, f"--user={user}", "--output=json").output)
    assert "music" not in {media_type[one["item_id"]] for one in answer["recommended"]}
    talk = "more podcasts\n:why 1\n:dislikes mood=dark\n:quit\n"
    said = run("tools/recommend.py", workdir, profile, f"--user={user}", "--interactive", "--top=3", typed=talk).output
    assert "only podcasts" in said and "why the first:" in said
    assert "mood=dark" in (tmp_path / "taste.json").read_text()
    silent = "--config.evaluation.withheld_features=('all',)", "--config.evaluation.history=2"
    run("tools/evaluate_checkpoint.py", config, workdir, *silent)
    figures = json.loads((tmp_path / "evaluation" / "history=2,without=all" / "test.json").read_text())
    assert (figures["identity"]["withheld_features"], figures["identity"]["history"]) == (["all"], 2)


def test_a_card_of_a_seed_with_baselines_and_the_multi_stage_recommender_is_made_once(run, tmp_path):
    flags = "--config=configs/quickstart.py:tiny", f"--workdir={tmp_path}", "--seeds=1"
    card = run("launch/reproduce.py", *flags).output
    for model in ("genrec", "most popular", "item-kNN", "SASRec", "hybrid"):
        assert re.search(rf"\| {model} +\| +0\.\d{{4}} ", card)
    assert re.search("(?i)history items kept", card) and (tmp_path / "seed_0" / "multi_stage" / "test.json").exists()
    assert "source: generator" in card and f"--workdir={tmp_path}/seed_0" in card
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed_0/**/*.json")}
    assert run("launch/reproduce.py", *flags).output == card[card.index("# quickstart") :]
    assert made == {path: path.stat().st_mtime_ns for path in made}
