"""Scripts hold flags and one call, explain themselves, and end on our errors with a message and no traceback."""

import ast
import stat
from pathlib import Path

import pytest
from forked_scripts import Script

from genrec import exit_codes

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
    assert shown.returncode in (0, 1), shown.errors  # absl ends --help with 1
    assert f"python {script.as_posix()}" in shown.output, shown.errors
    # Benchmarks make their own data.
    assert "--workdir" in shown.output or script.name.startswith("benchmark_")


def test_an_error_of_ours_is_one_message_without_traceback(run, tmp_path):
    ended = run("launch/train.py", "--config=configs/quickstart.py", f"--workdir={tmp_path}")
    assert ended.returncode == 1
    assert ended.errors.startswith(f"train.py: {tmp_path}/dataset: no dataset here.")
    assert "Traceback" not in ended.errors and len(ended.errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.model.widht=64", "widht"),
        ("--config.model.width=wide", "wide"),
        ("--config.training.optimzer=adamw", "optimzer"),
        ("width=64", "Unexpected argument 'width=64'"),
    ],
)
def test_misspelled_settings_fail_before_any_work(run, tmp_path, flag, message):
    ended = run("launch/train.py", "--config=configs/quickstart.py", f"--workdir={tmp_path / 'new'}", flag)
    assert ended.returncode != 0 and message in ended.errors
    assert not (tmp_path / "new").exists()


def test_a_bug_keeps_its_traceback(run, tmp_path):
    (tmp_path / "script.py").write_text(
        "from genrec import command\n\n\ndef main():\n    int('nine')\n\n\ncommand.run(main)\n"
    )
    ended = run(str(tmp_path / "script.py"))
    assert ended.returncode == exit_codes.CRASHED and "Traceback" in ended.errors and "nine" in ended.errors


@pytest.mark.parametrize("script", ["launch/quickstart.sh", "launch/test.sh", ".ci/run"])
def test_shell_scripts_can_be_run_and_stop_at_errors(script):
    path = ROOT / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -e" in path.read_text()


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_pass_the_linters(path, lint_shell):
    lint_shell(path)
