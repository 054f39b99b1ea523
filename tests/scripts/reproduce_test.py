"""launch/reproduce.py with stand-ins for the scripts that it runs. With the real ones: end_to_end_test."""

import json
import os
import shutil
from pathlib import Path

import pytest
from forked_scripts import ROOT, Script

from genrec import exit_codes

NOTE = """
import json, os, pathlib, sys, time
workdir = next(flag for flag in sys.argv if flag.startswith("--workdir=")).split("=", 1)[1]
pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
with open("{notes}", "a") as notes:
    notes.write(json.dumps([pathlib.Path(sys.argv[0]).name, os.getcwd(), *sys.argv[1:]]) + "\\n")
"""
WAIT = "from genrec import signals\nprint('waiting', flush=True)\ntime.sleep(60)\n"


@pytest.fixture
def start(tmp_path):
    """Starts it with these sources of launch/train_sasrec.py and launch/run.py; all commands go to tmp_path/notes."""
    for folder in ("launch", "tools"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "launch" / "reproduce.py", tmp_path / "launch")

    def with_sources(sasrec: str, run: str, *flags: str) -> Script:
        note = NOTE.format(notes=tmp_path / "notes")
        sources = {"launch/prepare_data": "", "launch/train_sasrec": sasrec, "launch/run": run}
        for name in (*sources, "tools/evaluate_checkpoint", "tools/evaluate_multi_stage"):
            (tmp_path / f"{name}.py").write_text(note + sources.get(name, ""))
        return Script(tmp_path / "logs", str(tmp_path / "launch" / "reproduce.py"), *flags)

    return with_sources


def notes(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


@pytest.mark.parametrize("code", [exit_codes.FAILED, exit_codes.CRASHED, exit_codes.RESTART])
def test_a_script_that_fails_gives_its_exit_code(start, tmp_path, code):
    workdir = os.path.relpath(tmp_path / "card", ROOT)
    flags = "--config", "configs/quickstart.py:tiny", "--config.training.steps", "7", "--config.mesh.data=2"
    more = "--noconfig.model.scan_layers", "--config.evaluation.cutoffs=(1, 10)", "--workdir", workdir
    script = start("", f"sys.exit({code})", *flags, *more)
    assert script.wait() == code, script.errors
    found = notes(tmp_path)
    assert [command[0] for command in found] == ["prepare_data.py", "train_sasrec.py", "run.py"]
    for _, folder, *arguments in found:
        assert Path(folder) == ROOT
        assert set(arguments) == {
            "--config=configs/quickstart.py:tiny",
            "--config.training.steps=7",
            "--config.mesh.data=2",
            "--config.model.scan_layers=False",
            "--config.evaluation.cutoffs=(1, 10)",
            f"--workdir={workdir}/seed_0",
            "--config.seed=0",
            "--config.semantic_ids.seed=0",
        }
        assert arguments.index("--config=configs/quickstart.py:tiny") < arguments.index("--config.training.steps=7")
    # What is done is not run again.
    assert start("", f"sys.exit({code})", *flags, *more).wait() == code
    assert [command[0] for command in notes(tmp_path)[3:]] == ["run.py"]


def test_the_same_models_are_evaluated_with_the_other_history(start, tmp_path):
    card = tmp_path / "card"
    script = start("", "", "--config=configs/quickstart.py:tiny", f"--workdir={card}", "--seeds=1", "--both_histories")
    assert script.wait() == exit_codes.FAILED and "not finished" in script.errors, script.errors
    found = [(command[0], set(command[2:])) for command in notes(tmp_path)]
    own = {f"--workdir={card}/seed_0", "--config.seed=0", "--config.semantic_ids.seed=0"}
    own.add("--config=configs/quickstart.py:tiny")
    again = own | {"--config.evaluation.exclude_history=True", f"--results_in={card}/seed_0/history_items_excluded"}
    scripts = "prepare_data.py", "train_sasrec.py", "run.py", "evaluate_multi_stage.py"
    assert found[:4] == [(script, own) for script in scripts]
    assert found[4:] == [("evaluate_checkpoint.py", again), ("evaluate_multi_stage.py", again)]


@pytest.mark.parametrize("stop", [Script.terminate, Script.interrupt])
def test_a_signal_ends_the_script_that_runs(start, tmp_path, stop):
    script = start(WAIT, "", "--config=configs/quickstart.py:tiny", f"--workdir={tmp_path / 'card'}")
    script.wait_for("waiting")
    stop(script)
    assert script.wait() == exit_codes.RESTART
    assert script.errors.count("stopped by") == 1 and "Traceback" not in script.errors
