"""The script, run by bash with a fake of `gcloud` that keeps a slice in files and runs the hosts' commands here."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from genrec.cluster import job, tpu_vm

COMMON = dict(
    name="beauty",
    command="python launch/run.py --config=configs/quickstart.py",
    workdir="gs://my-bucket/runs/beauty",
    accelerator="v5e",
    topology="4x4",
    zone="us-central1-a",
)
VARIANTS = {
    "a slice": {},
    "one host": dict(accelerator="v6e", topology="2x4", spot=True),
    "all": dict(project="a-project", spot=True, service_account="a@b.iam", runtime_version="v2", mount=False),
}

# $CLOUD holds `request` (the state of the queued resource; absent when there is none), `slice` (the state of the TPU),
# `calls` (the requests) and a home for every host. "preempt-N" preempts the slice during the N-th run.
GCLOUD = r"""#!/usr/bin/env bash
set -euo pipefail
shift 2 # compute tpus
echo "$1 $2" >>"$CLOUD/calls"
case "$1 $2" in
  "queued-resources create")
    echo "$@" >>"$CLOUD/created"
    [ ! -f "$CLOUD/request" ]
    if [ -f "$CLOUD/no-capacity" ]; then echo FAILED >"$CLOUD/request"; exit; fi
    echo WAITING_FOR_RESOURCES >"$CLOUD/request"
    ;;
  "queued-resources describe")
    [ -f "$CLOUD/request" ] || { echo "NOT_FOUND" >&2; exit 1; }
    cat "$CLOUD/request"
    if [ "$(cat "$CLOUD/request")" = WAITING_FOR_RESOURCES ]; then # the next time it is there
      echo ACTIVE >"$CLOUD/request"
      echo READY >"$CLOUD/slice"
    fi
    ;;
  "queued-resources delete")
    [[ "$*" == *--force* && "$*" == *--quiet* ]]
    rm "$CLOUD/request"
    rm -rf "$CLOUD/slice" "$CLOUD"/host-*
    ;;
  "tpu-vm describe")
    [ -f "$CLOUD/slice" ] || exit 1
    cat "$CLOUD/slice"
    ;;
  "tpu-vm scp")
    [[ "$4" == *:genrec.tar.gz && "$*" == *--worker=all* ]]
    for host in $(seq "$HOSTS"); do mkdir -p "$CLOUD/host-$host"; cp "$3" "$CLOUD/host-$host/"; done
    ;;
  "tpu-vm ssh")
    [[ "$*" == *--worker=all* ]]
    for argument in "$@"; do [[ "$argument" != --command=* ]] || command="${argument#--command=}"; done
    if [[ "$command" == *"; install_here" ]]; then
      for host in $(seq "$HOSTS"); do
        mkdir -p "$CLOUD/host-$host/genrec/.venv/bin"
        tar -xzf "$CLOUD/host-$host/genrec.tar.gz" -C "$CLOUD/host-$host/genrec"
        touch "$CLOUD/host-$host/genrec/.venv/bin/activate"
      done
      exit
    fi
    echo x >>"$CLOUD/runs"
    runs="$(wc -l <"$CLOUD/runs" | tr -d ' ')"
    for host in $(seq "$HOSTS"); do
      HOST="$host" RUN="$runs" HOME="$CLOUD/host-$host" setsid bash -c "$command" &
    done
    wait
    if [ -f "$CLOUD/preempt-$runs" ]; then
      echo SUSPENDED >"$CLOUD/request"
      echo PREEMPTED >"$CLOUD/slice"
      exit 255
    fi
    ;;
  *) exit 2 ;;
esac
"""


def rendered(**settings) -> str:
    return tpu_vm.render(tpu_vm.TpuVmJob(**{**COMMON, **settings}))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_script_passes_the_linters(variant, tmp_path, lint_shell):
    (tmp_path / "job.sh").write_text(rendered(**VARIANTS[variant]))
    lint_shell(tmp_path / "job.sh")


class Cloud:
    """A checkout, a fake of `gcloud` on the PATH, and their state."""

    def __init__(self, folder: Path, command: str, **settings):
        self.folder = folder
        self.script = folder / "job.sh"
        self.script.write_text(rendered(command=shlex.join(["bash", "-c", command]), **settings))
        self.hosts = 1 if settings.get("topology") == "2x4" else 4
        gcloud = folder / "bin" / "gcloud"
        gcloud.parent.mkdir()
        gcloud.write_text(GCLOUD)
        gcloud.chmod(0o755)
        self.checkout = folder / "checkout"
        (self.checkout / "launch").mkdir(parents=True)
        for name in ("setup.py", "launch/environment.sh", "not known to git.txt"):
            (self.checkout / name).touch()
        subprocess.run(["git", "init", "--quiet"], cwd=self.checkout, check=True)

    def start(self) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "CLOUD": str(self.folder),
            "HOSTS": str(self.hosts),
            "GENREC_POLL_SECONDS": "0.05",
        }
        options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        return subprocess.Popen(["bash", self.script], cwd=self.checkout, env=environment, **options)

    def run(self) -> tuple[int, str]:
        """Returns the exit code and the whole output."""
        started = self.start()
        output, said = started.communicate(timeout=30)
        return started.returncode, output + said

    def count(self, call: str) -> int:
        return (self.folder / "calls").read_text().splitlines().count(call)

    @property
    def gone(self) -> bool:
        """True if no resource is left that costs money."""
        return not (self.folder / "request").exists()

    @property
    def runs(self) -> int:
        return len((self.folder / "runs").read_text().splitlines())


def test_a_slice_is_requested_used_and_deleted(tmp_path):
    cloud = Cloud(tmp_path, "echo training", spot=True, service_account="a@b.iam", project="p")
    code, said = cloud.run()
    assert code == 0 and said.count("training\n") == 4 and "finished" in said
    assert cloud.count("queued-resources create") == 1 and cloud.gone
    created = (tmp_path / "created").read_text().split()
    assert {
        "--node-id=beauty",
        "--zone=us-central1-a",
        "--project=p",
        "--accelerator-type=v5litepod-16",
        "--runtime-version=v2-alpha-tpuv5-lite",
        "--spot",
        "--service-account=a@b.iam",
    } <= set(created)


def test_a_preempted_slice_is_replaced_and_the_command_restarted(tmp_path):
    # The first preemption comes without a warning, the second with one.
    command = "case $RUN in 1) kill -KILL $PPID ;; 2) exit 75 ;; 3) test -f launch/environment.sh ;; esac"
    cloud = Cloud(tmp_path, command, restarts=0)
    (tmp_path / "preempt-1").touch()
    (tmp_path / "preempt-2").touch()
    code, said = cloud.run()
    assert code == 0 and said.count("slice was preempted") == 2
    assert cloud.count("queued-resources create") == cloud.count("tpu-vm scp") == 3
    assert cloud.runs == 3 and cloud.gone


def test_a_command_that_saved_and_exited_is_restarted_on_the_same_slice(tmp_path):
    cloud = Cloud(tmp_path, "if [ $RUN -lt 3 ]; then exit 75; fi", restarts=0)
    assert cloud.run()[0] == 0
    assert cloud.runs == 3
    assert cloud.count("queued-resources create") == cloud.count("tpu-vm scp") == 1


def test_an_error_ends_the_script_and_the_slice_is_deleted(tmp_path):
    cloud = Cloud(tmp_path, "exit 1")
    code, said = cloud.run()
    assert code == 1 and cloud.runs == 1 and cloud.gone and "failed" in said


def test_crashes_are_restarted_up_to_the_limit(tmp_path):
    # When one process crashes, the others end because they lost it.
    cloud = Cloud(tmp_path, "if [ $HOST = 1 ]; then exit 137; fi; exit 134", restarts=2)
    code, said = cloud.run()
    assert code == 1 and cloud.runs == 3 and cloud.gone
    assert "--restarts=2" in said and "137" in said


def test_an_existing_slice_is_used(tmp_path):
    (tmp_path / "request").write_text("ACTIVE\n")
    (tmp_path / "slice").write_text("READY\n")
    cloud = Cloud(tmp_path, "exit 0")
    assert cloud.run()[0] == 0
    assert cloud.count("queued-resources create") == 0 and cloud.gone


def test_a_failed_request_ends_the_script(tmp_path):
    cloud = Cloud(tmp_path, "exit 0")
    (tmp_path / "no-capacity").touch()
    code, said = cloud.run()
    assert code == 1 and "Quota and capacity" in said and cloud.gone


def test_a_command_that_still_runs_is_stopped_first(tmp_path):
    cloud = Cloud(tmp_path, "exit 0", accelerator="v6e", topology="2x4")
    left = subprocess.Popen(["sleep", "60"])
    (tmp_path / "request").write_text("ACTIVE\n")
    (tmp_path / "slice").write_text("READY\n")
    (tmp_path / "host-1").mkdir()
    (tmp_path / "host-1" / "genrec.pid").write_text(f"{left.pid}\n")
    started = cloud.start()
    assert left.wait(timeout=20) == -signal.SIGTERM
    started.communicate(timeout=20)
    assert started.returncode == 0


def test_an_interrupted_script_lets_the_command_save_and_deletes_the_slice(tmp_path):
    saves = f"trap 'touch {tmp_path}/saved-$HOST; exit 75' TERM"
    cloud = Cloud(tmp_path, f"{saves}; touch {tmp_path}/on-$HOST; while true; do sleep 0.05; done")
    started = cloud.start()
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("on-*"))) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGTERM)  # reaches the script and the connections, as Ctrl-C does, but not the hosts
    _, said = started.communicate(timeout=20)
    assert started.returncode == 75 and cloud.gone and "stopping" in said
    assert len(list(tmp_path.glob("saved-*"))) == 4


def test_the_hosts_get_the_checkout_with_uncommitted_files(tmp_path):
    cloud = Cloud(tmp_path, "test -f 'not known to git.txt' && test -f setup.py && test ! -e .git")
    assert cloud.run()[0] == 0


def test_outside_a_checkout_nothing_is_requested(tmp_path):
    cloud = Cloud(tmp_path, "exit 0")
    (cloud.checkout / "setup.py").unlink()
    code, said = cloud.run()
    assert code == 1 and "checkout" in said and not (tmp_path / "calls").exists()


@pytest.mark.parametrize(("variant", "added"), [("a slice", ["--distributed=on"]), ("one host", [])])
def test_several_hosts_are_started_as_one_run(variant, added, tmp_path):
    words = ["a b", "it's", '"q"', "$HOME", "`id`", "*", ""]
    cloud = Cloud(tmp_path, "exit 0", **VARIANTS[variant])
    script = f'printf "%s\\0" "$@" >{tmp_path}/arguments-$HOST'
    cloud.script.write_text(rendered(command=shlex.join(["bash", "-c", script, "bash", *words]), **VARIANTS[variant]))
    assert cloud.run()[0] == 0
    for host in range(1, cloud.hosts + 1):
        arguments = (tmp_path / f"arguments-{host}").read_text().split("\0")[:-1]
        assert arguments == [*words, "--workdir=/bucket/runs/beauty", *added]


def test_the_path_of_a_bucket_is_passed_if_it_is_not_mounted():
    assert "--workdir=gs://my-bucket/runs/beauty" in rendered(mount=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(zone="us-central1"), "--zone=us-central1:.*v5e"),
        (dict(accelerator="nvidia-l4"), "--accelerator=nvidia-l4"),
        (dict(topology="9x9"), "--topology=9x9.*v5e"),
        (dict(workdir="/home/me/run"), "--workdir=/home/me/run.*gs://BUCKET/FOLDER"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(job.ClusterError, match=message):
        rendered(**settings)
