"""The batch script, run by bash with fakes of `srun` and `scontrol` that log their calls."""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from genrec.cluster import job, slurm

COMMON = dict(name="beauty", command="python launch/run.py --config=configs/quickstart.py", workdir="/shared/beauty")
VARIANTS = {
    "CPUs": {},
    "GPUs": dict(nodes=4, gpus_per_node=8, cpus_per_task=12, time_limit="1-12:00:00", partition="gpu,long"),
    "all": dict(gpus_per_node=1, account="team-1", setup="module load cuda && nvidia-smi", restarts=0, grace=300),
}


def rendered(**settings) -> str:
    return slurm.render(slurm.SlurmJob(**{**COMMON, **settings}))


def options(script: str) -> dict[str, str]:
    return dict(re.fullmatch(r"#SBATCH --([a-z-]+)=?(.*)", line).groups() for line in leading(script))


def leading(script: str) -> list[str]:
    """Returns the options that Slurm reads: the lines before the first command."""
    first, *lines = script.splitlines()
    assert first == "#!/usr/bin/env bash"
    return [line for line in lines[: lines.index("set -euo pipefail")] if line.startswith("#SBATCH")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_script_passes_the_linters(variant, tmp_path, lint_shell):
    (tmp_path / "job.sh").write_text(rendered(**VARIANTS[variant]))
    lint_shell(tmp_path / "job.sh")


def test_options_are_those_of_the_settings():
    assert options(rendered(**VARIANTS["GPUs"])) == {
        "job-name": "beauty",
        "nodes": "4",
        "ntasks-per-node": "8",
        "gpus-per-node": "8",
        "cpus-per-task": "12",
        "time": "1-12:00:00",
        "partition": "gpu,long",
        "signal": "TERM@120",
        "open-mode": "append",
        "output": "beauty-%j.log",
        "requeue": "",
    }


def test_options_that_are_not_set_are_left_out():
    found = options(rendered())
    assert found["nodes"] == found["ntasks-per-node"] == "1"
    assert not {"gpus-per-node", "cpus-per-task", "time", "partition", "account"} & found.keys()


class Cluster:
    """A checkout, and a PATH with an `srun` that runs the command once and a `scontrol` that logs its calls."""

    def __init__(self, folder: Path, script: str):
        self.folder = folder
        self.bin = folder / "bin"
        self.checkout = folder / "checkout"
        (self.checkout / ".venv" / "bin").mkdir(parents=True)
        (self.checkout / ".venv" / "bin" / "activate").touch()
        self.bin.mkdir()
        self.executable("scontrol", 'echo "$@" >>"$NOTES/scontrol"')
        self.executable("srun", 'while [[ "$1" == --* ]]; do echo "$1" >>"$NOTES/srun"; shift; done; exec "$@"')
        self.script = folder / "job.sh"
        self.script.write_text(script)

    def executable(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)

    def start(self) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "NOTES": str(self.folder),
            "SLURM_SUBMIT_DIR": str(self.checkout),
            "SLURM_JOB_ID": "17",
        }
        return subprocess.Popen(["bash", self.script], env=environment, stderr=subprocess.PIPE, text=True)

    def run(self) -> tuple[int, str]:
        """Returns the exit code and stderr."""
        started = self.start()
        _, said = started.communicate(timeout=20)
        return started.returncode, said

    @property
    def requeued(self) -> list[str]:
        notes = self.folder / "scontrol"
        return notes.read_text().splitlines() if notes.exists() else []


def cluster(folder: Path, command: str, **settings) -> Cluster:
    return Cluster(folder, rendered(command=shlex.join(["bash", "-c", command]), **settings))


@pytest.mark.parametrize("code", [0, 1])
def test_a_finished_or_failed_command_is_not_requeued(code, tmp_path):
    made = cluster(tmp_path, f"exit {code}")
    assert made.run()[0] == code
    assert made.requeued == []


def test_a_preempted_command_is_requeued_any_number_of_times(tmp_path):
    made = cluster(tmp_path, "exit 75", restarts=0)
    for _ in range(3):
        assert made.run()[0] == 0
    assert made.requeued == ["requeue 17"] * 3


def test_crashes_are_requeued_up_to_the_limit(tmp_path):
    made = cluster(tmp_path, "exit 134", restarts=2)
    assert [made.run()[0] for _ in range(2)] == [0, 0]
    code, said = made.run()
    assert code == 134 and "crash number 3" in said and "--restarts=2" in said
    assert made.requeued == ["requeue 17"] * 2
    assert list(made.checkout.glob("*.crashes")) == []


def test_preemptions_in_between_do_not_count_as_crashes(tmp_path):
    codes = tmp_path / "codes"
    codes.write_text("134\n75\n75\n134\n0\n")
    # Takes the first code off the file and leaves with it.
    made = cluster(tmp_path, f"code=$(head -1 {codes}); sed -i 1d {codes}; exit $code", restarts=2)
    assert [made.run()[0] for _ in range(5)] == [0] * 5
    assert made.requeued == ["requeue 17"] * 4


def test_a_canceled_job_is_not_requeued(tmp_path):
    # As scancel does, both the script and the processes get the signal; those save, and leave with 75.
    made = cluster(tmp_path, f"trap 'exit 75' TERM; touch {tmp_path}/running; while true; do sleep 0.05; done")
    made.executable("srun", 'shift; "$@" & child=$!; echo $child >"$NOTES/child"; wait $child; exit $?')
    started = made.start()
    deadline = time.monotonic() + 10
    child = tmp_path / "child"
    while not ((tmp_path / "running").exists() and child.exists() and child.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGTERM)
    os.kill(int(child.read_text()), signal.SIGTERM)
    started.communicate(timeout=20)
    assert started.returncode == 75 and made.requeued == []


def test_arguments_arrive_unchanged(tmp_path):
    words = ["a b", "it's", '"q"', "$HOME", "`id`", "*", ""]
    write = f'printf "%s\\0" "$@" >{tmp_path}/arguments'
    made = Cluster(tmp_path, rendered(command=shlex.join(["bash", "-c", write, "bash", *words])))
    assert made.run()[0] == 0
    arguments = (tmp_path / "arguments").read_text().split("\0")[:-1]
    assert arguments == [*words, "--workdir=/shared/beauty"]


def test_the_exit_of_one_process_does_not_kill_the_others(tmp_path):
    made = cluster(tmp_path, "exit 0")
    made.run()
    assert "--kill-on-bad-exit=0" in (tmp_path / "srun").read_text()


def test_the_setup_runs_first(tmp_path):
    made = cluster(tmp_path, 'test "$GREETING" = hello', setup="export GREETING=hello")
    assert made.run()[0] == 0


def test_a_checkout_without_environment_says_what_to_do(tmp_path):
    made = cluster(tmp_path, "exit 0")
    (made.checkout / ".venv" / "bin" / "activate").unlink()
    code, said = made.run()
    assert code == 1 and "environment cuda" in said and made.requeued == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(nodes=0), "--nodes.*at least 1.*0"),
        (dict(gpus_per_node=-1), "--gpus_per_node.*-1"),
        (dict(cpus_per_task=0), "--cpus_per_task.*0"),
        (dict(time_limit="1 day"), "--time_limit=1 day.*hours:minutes:seconds"),
        (dict(partition="a b"), "--partition=a b.*sinfo"),
        (dict(setup="a\nb"), "--setup"),
        (dict(nodes=2, workdir="/tmp/run"), "--workdir=/tmp/run.*2 nodes"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(job.ClusterError, match=message):
        rendered(**settings)


def test_one_node_can_use_a_local_folder():
    assert "--workdir=/tmp/run" in rendered(workdir="/tmp/run")
