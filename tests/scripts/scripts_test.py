"""Scripts hold flags and one call, explain themselves, and end on our errors with a message and no traceback."""

import ast
import re
import stat
from pathlib import Path

import numpy as np
import pytest
import script_settings
from forked_scripts import Script

from genrec import config, exit_codes, settings_check
from genrec.evaluation import results
from genrec.evaluation.evaluator import Evaluation

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.relative_to(ROOT) for folder in ("launch", "tools") for path in (ROOT / folder).rglob("*.py"))
SHELL_SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]


@pytest.fixture
def run(tmp_path):
    """Runs a script to its end; returns it."""

    def to_the_end(*command: str) -> Script:
        script = Script(tmp_path / "logs", *command)
        script.wait()
        return script

    return to_the_end


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_is_short_and_gives_its_command(script):
    source = (ROOT / script).read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60
    assert f"python {script.as_posix()} --" in ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_help_shows_the_docstring_and_the_flags(run, script):
    shown = run(str(script), "--help")
    assert shown.returncode == 0 and not shown.errors, shown.errors
    assert f"python {script.as_posix()}" in shown.output, shown.errors
    # Benchmarks make their own data, plans need none, servers a bundle.
    assert "--workdir" in shown.output or script.name.startswith(("benchmark_", "plan_", "serve"))
    source = (ROOT / script).read_text(encoding="utf-8")
    defined = set(re.findall(r"(?i:define)\w*\(\s*\"(\w+)\"", source))
    if "define_config(" in source:
        defined |= {"config", *(f"config.{name}" for name, _, _ in settings_check.flat_fields(config.Experiment))}
        assert "a whole number from 1 to" in shown.output  # of config.training.steps, for one
    defined |= script_settings.of_dataclasses(source)
    if script.name != "local_processes.py":
        defined.add("distributed")
    assert {name for name in defined if not re.search(rf"--(\[no\])?{re.escape(name)}:", shown.output)} == set()


def test_an_error_of_ours_is_one_message_without_traceback(run, tmp_path):
    ended = run("launch/train.py", "--config=configs/quickstart.py", f"--workdir={tmp_path}")
    assert ended.returncode == 1
    assert ended.errors.startswith(f"train.py: {tmp_path}/dataset: no dataset here.")
    assert "Traceback" not in ended.errors and len(ended.errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "flags", "words"),
    [
        ("launch/train.py", ["--config.model.widht=64"], ["widht", "config.model.width"]),
        ("launch/train.py", ["--config.trainng.steps=64"], ["trainng", "config.training.steps"]),
        ("launch/train.py", ["--config.model.width=wide"], ["config.model.width=wide", "a whole number from 1 to"]),
        ("launch/train.py", ["width=64"], ["unexpected argument 'width=64'"]),
        ("launch/train.py", ["--workdir="], ["--workdir", "path"]),
        ("launch/train.py", ["--config=configs/quickstart.py:tyni"], ["tyni", "tiny"]),
        ("launch/train.py", ["--config=configs/quikstart.py"], ["quikstart", "configs/quickstart.py"]),
        ("launch/run.py", ["--config.training.log_every=0"], ["config.training.log_every=0", "from 1 to"]),
        ("launch/run.py", ["--config.evaluation.cutoffs=60,70"], ["evaluation.cutoffs", "beams=50"]),
        ("launch/run.py", ["--config.training.best_metric=ndcg@7"], ["training.best_metric", "ndcg@10"]),
        ("launch/run.py", ["--config.semantic_ids.method=rqvea"], ["semantic_ids.method", "Did you mean rqvae"]),
        ("launch/prepare_data.py", ["--config.model.dropout=1.5"], ["config.model.dropout=1.5", "below 1"]),
        ("launch/reproduce.py", ["--config.sasrec.training.best_metric=mrr@7"], ["sasrec.training.best_metric"]),
        ("tools/recommend.py", ["--top=0"], ["--top=0", "from 1 to"]),
        ("tools/hold_out_items.py", ["--share=nan", "--output=x"], ["--share=nan", "above 0"]),
        ("tools/compare_runs.py", ["--cutoffs=5,ten", "--other=x"], ["--cutoffs", "from 1 to"]),
    ],
)
def test_invalid_settings_end_in_one_line_before_any_work(run, tmp_path, script, flags, words):
    source, workdir = (ROOT / script).read_text(encoding="utf-8"), tmp_path / "new"
    given = [f"--workdir={workdir}", *(["--config=configs/quickstart.py"] if "define_config" in source else ())]
    ended = run(script, *given, *flags)
    assert ended.returncode == exit_codes.FAILED and all(word in ended.errors for word in words), ended.errors
    assert ended.errors.startswith(f"{Path(script).name}: ") and len(ended.errors.splitlines()) == 1
    assert not workdir.exists()


def test_a_work_directory_at_home_is_found_there(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    ended = run("launch/train.py", "--config=configs/quickstart.py", "--workdir=~/runs")
    assert f"{tmp_path}/runs/dataset" in ended.errors


def test_a_bug_keeps_its_traceback(run, tmp_path):
    (tmp_path / "script.py").write_text(
        "from genrec import command\n\n\ndef main():\n    int('nine')\n\n\ncommand.run(main)\n"
    )
    ended = run(str(tmp_path / "script.py"))
    assert ended.returncode == exit_codes.CRASHED and "Traceback" in ended.errors and "nine" in ended.errors


@pytest.mark.parametrize("error", ["GenrecError", "RuntimeError"])
def test_errors_and_logs_obey_no_terminal_and_errors_of_ours_have_no_long_lines(run, tmp_path, error):
    (tmp_path / "script.py").write_text(
        "from absl import logging\n\nfrom genrec import command\nfrom genrec.errors import GenrecError\n\n\n"
        "def main():\n    logging.warning('read %s', '\\x1b[2Jlogged')\n"
        f"    raise {error}('\\x1b[2J' + 'x' * 100_000)\n\n\ncommand.run(main)\n"
    )
    ended = run(str(tmp_path / "script.py"))
    assert "\x1b" not in ended.errors and "�[2Jlogged" in ended.errors and "�[2Jxxx" in ended.errors
    if error == "GenrecError":
        assert ended.returncode == exit_codes.FAILED and len(ended.errors) < 2000


def test_an_argument_that_is_no_text_is_refused(run):
    ended = run("tools/inspect_semantic_ids.py", "--workdir=caf\udce9")
    assert ended.returncode == exit_codes.FAILED and "UTF-8" in ended.errors and "Traceback" not in ended.errors


STAGE = """
import time
from genrec import artifacts, command

def main():
    with artifacts.writing("{folder}/made", "test", "recipe", config={{}}):
        print("ready", flush=True)
        time.sleep(60)

command.run(main)
"""


@pytest.mark.parametrize("stop", [Script.terminate, Script.interrupt])
def test_a_stage_that_is_stopped_ends_with_one_line_and_removes_its_temporary_folder(tmp_path, stop):
    (tmp_path / "script.py").write_text(STAGE.format(folder=tmp_path / "work"))
    script = Script(tmp_path / "logs", str(tmp_path / "script.py"))
    script.wait_for("ready")
    stop(script)
    assert script.wait() == exit_codes.RESTART
    assert len(script.errors.splitlines()) == 1 and "same command" in script.errors
    assert not (tmp_path / "work").exists()  # which the stage had made


MAIN = """
from pathlib import Path

from absl import logging
from genrec import command

def main():
    {line}

command.run(main)
"""


def test_a_full_disk_is_one_message_without_traceback(run, tmp_path):
    (tmp_path / "script.py").write_text(MAIN.format(line="Path('/dev/full').write_text('x')"))
    ended = run(str(tmp_path / "script.py"))
    assert ended.returncode == exit_codes.FAILED and len(ended.errors.splitlines()) == 1 and "space" in ended.errors


def test_log_lines_have_no_thread_ids(run, tmp_path):
    (tmp_path / "script.py").write_text(MAIN.format(line="logging.warning('told')"))
    assert re.search(r"^\d\d-\d\d \d\d:\d\d:\d\d W told$", run(str(tmp_path / "script.py")).errors, re.M)


@pytest.mark.parametrize("script", ["launch/quickstart.sh", "launch/test.sh", ".ci/run"])
def test_shell_scripts_can_be_run_and_stop_at_errors(script):
    path = ROOT / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -e" in path.read_text()


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_pass_the_linters(path, lint_shell):
    lint_shell(path)


def test_a_comparison_of_lists_with_and_without_the_history_says_so(run, tmp_path):
    users = Evaluation({"recall@1": 0.5}, ["a", "b"], np.zeros(2, int), np.array([1, 0]), np.zeros((2, 1), np.int32))
    folders = [tmp_path / name for name in ("kept", "excluded", "again")]
    for folder, rule in zip(folders, (False, True, True), strict=True):
        results.write(folder, "test", users, {}, ["i"], {}, exclude_history=rule)
    kept, excluded, again = folders
    mixed = run("tools/compare_runs.py", f"--workdir={kept}", f"--other={excluded}")
    assert f"{kept} (history items kept)" in mixed.output and f"{excluded} (history items excluded)" in mixed.output
    assert "history items excluded" in mixed.errors and mixed.returncode == 0
    assert "history items" not in run("tools/compare_runs.py", f"--workdir={excluded}", f"--other={again}").errors
