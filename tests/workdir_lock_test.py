"""One run at a time writes into a work directory, and a dead one blocks nobody."""

import json
import os
import re
import socket
import subprocess
import sys
import threading

import pytest
from forked_scripts import Script

from genrec import workdir_lock
from genrec.workdir_lock import WorkdirLockError

HOLD = """
import sys, time
from genrec import workdir_lock
workdir_lock.HEARTBEAT_SECONDS = 0.05
workdir_lock.WATCH_SECONDS, workdir_lock.POLL_SECONDS, workdir_lock.SETTLE_SECONDS = 1.0, 0.05, 0.2
links = sys.argv[2] == "links"
if not links:
    def link(*_):
        raise PermissionError("no links here")
    workdir_lock.os.link = link
try:
    with workdir_lock.hold(sys.argv[1]):
        print("holds", flush=True)
        time.sleep(600)
except workdir_lock.WorkdirLockError as error:
    print(error, flush=True)
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds the lock of tmp_path / "work" until it is killed."""
    (tmp_path / "hold.py").write_text(HOLD)

    def start(links: str = "links") -> Script:
        work = str(tmp_path / "work")
        return Script(tmp_path / "logs", str(tmp_path / "hold.py"), work, links)

    started = []
    yield lambda *args, **kwargs: started.append(start(*args, **kwargs)) or started[-1]
    for script in started:
        if script.returncode is None:
            script.kill()


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in {"HEARTBEAT": 0.05, "WATCH": 0.6, "POLL": 0.05, "SETTLE": 0.05}.items():
        monkeypatch.setattr(workdir_lock, f"{name}_SECONDS", seconds)


def lock_of(workdir) -> dict:
    return json.loads((workdir / workdir_lock.FILE).read_text())


def write_lock(workdir, **changes) -> str:
    """The lock of this process in its folder, changed."""
    with workdir_lock.hold(workdir):
        content = {**lock_of(workdir), **changes}
    workdir.mkdir(exist_ok=True)
    (workdir / workdir_lock.FILE).write_text(json.dumps(content))
    return content["token"]


def test_a_lock_names_its_owner_and_is_gone_at_the_end(tmp_path):
    with workdir_lock.hold(tmp_path):
        owner = lock_of(tmp_path)
        assert owner["process"] == os.getpid() and owner["host"] and owner["heartbeat"]
        with workdir_lock.hold(tmp_path / ".." / tmp_path.name):  # nested, by another name
            assert workdir_lock.is_held(tmp_path)
        assert lock_of(tmp_path)["token"] == owner["token"]
    assert list(tmp_path.iterdir()) == [] and not workdir_lock.is_held(tmp_path)


def test_it_is_released_after_an_error_and_leaves_no_folder_that_it_made(tmp_path):
    with pytest.raises(RuntimeError), workdir_lock.hold(tmp_path / "new"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()
    with workdir_lock.hold(tmp_path / "new"):
        (tmp_path / "new" / "file").write_text("")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize("links", ["links", "no links"])
def test_a_second_writer_is_refused_and_told_by_whom(holder, tmp_path, quick, links):
    first = holder(links=links)
    first.wait_for("holds")
    refused = pytest.raises(WorkdirLockError, match=r"hold\.py.*since.*last heartbeat.*rm .*\.lock")
    with refused, workdir_lock.hold(tmp_path / "work"):
        pass
    assert first.returncode is None


def the_one_that_holds(scripts: list[Script]) -> Script:
    """Waits until all but one of the scripts have ended, and returns the one that holds the lock."""
    while sum(script.returncode is None for script in scripts) > 1:
        threading.Event().wait(0.05)
    (one,) = (script for script in scripts if script.returncode is None)
    one.wait_for("holds")
    return one


@pytest.mark.parametrize("links", ["links", "no links"])
def test_of_several_that_start_at_once_one_writes(holder, links):
    scripts = [holder(links=links) for _ in range(4)]
    one = the_one_that_holds(scripts)
    assert all("another run writes here" in script.output + script.errors for script in scripts if script is not one)


def test_a_killed_owner_is_replaced_at_once_by_one_of_several(holder, tmp_path):
    first = holder()
    first.wait_for("holds")
    first.kill()
    assert "which has ended" in the_one_that_holds([holder() for _ in range(3)]).errors
    assert [path.name for path in (tmp_path / "work").iterdir()] == [workdir_lock.FILE]


def test_a_reused_process_id_is_another_process(tmp_path, quick):
    write_lock(tmp_path, process_start="1")
    with workdir_lock.hold(tmp_path):
        assert lock_of(tmp_path)["process_start"] != "1"


@pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"system": "before the reboot"}])
def test_a_lock_of_another_machine_is_taken_over_when_it_has_no_heartbeat(tmp_path, quick, elsewhere, caplog):
    token = write_lock(tmp_path, **elsewhere)
    with workdir_lock.hold(tmp_path):
        assert lock_of(tmp_path)["token"] != token
    assert "no heartbeat" in caplog.text


def test_a_lock_of_another_machine_with_a_heartbeat_is_respected(tmp_path, quick):
    write_lock(tmp_path, host="another")
    timer = threading.Timer(0.2, write_lock_again, (tmp_path,))
    timer.start()
    with pytest.raises(WorkdirLockError, match="another"), workdir_lock.hold(tmp_path):
        pass
    timer.join()


def write_lock_again(workdir) -> None:
    (workdir / workdir_lock.FILE).write_text(json.dumps({**lock_of(workdir), "heartbeat": "later"}))


def test_a_damaged_lock_is_watched_as_well(tmp_path, quick):
    (tmp_path / workdir_lock.FILE).write_bytes(b"\x00{")
    with workdir_lock.hold(tmp_path):
        assert lock_of(tmp_path)["process"] == os.getpid()


def test_a_run_whose_lock_was_taken_ends(holder, tmp_path):
    first = holder()
    first.wait_for("holds")
    path = tmp_path / "work" / workdir_lock.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "token": "of another", "host": "another"}))
    assert first.wait() == 1 and "another" in first.errors
    assert lock_of(tmp_path / "work")["token"] == "of another"


def test_a_removed_lock_of_a_living_run_is_made_again(tmp_path, quick):
    with workdir_lock.hold(tmp_path):
        token = lock_of(tmp_path)["token"]
        (tmp_path / workdir_lock.FILE).unlink()
        for _ in range(200):
            if (tmp_path / workdir_lock.FILE).exists():
                break
            threading.Event().wait(0.05)
        assert lock_of(tmp_path)["token"] == token


def test_what_killed_runs_left_is_removed_and_what_others_write_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with workdir_lock.hold(tmp_path):
        host = lock_of(tmp_path)["host"]
    (tmp_path / "evaluation").mkdir()
    left = [
        tmp_path / f".dataset.partial.{host}-{ended.pid}-0",
        tmp_path / "evaluation" / f".t.partial.{host}-{ended.pid}-1",
    ]
    kept = [tmp_path / "evaluation" / f".t.partial.{host}-{os.getpid()}-2", tmp_path / ".t.partial.another-1-3"]
    for path in (*left, *kept):
        path.mkdir()
        (path / "content").write_text("")
    with workdir_lock.hold(tmp_path):
        assert not any(path.exists() for path in left) and all(path.exists() for path in kept)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(WorkdirLockError, match=re.escape(str(tmp_path / "file")))
    with refused, workdir_lock.hold(tmp_path / "file" / "work"):
        pass


def test_all_processes_of_a_run_learn_that_it_is_refused(tmp_path):
    """Also those that do not take the lock."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free.getsockname()[1]}", "JAX_NUM_PROCESSES": "2"}
    command = "launch/train.py", "--config=configs/quickstart.py:tiny", f"--workdir={tmp_path}"
    with workdir_lock.hold(tmp_path):
        both = [
            Script(tmp_path / f"logs_{number}", *command, environment=job | {"JAX_PROCESS_ID": str(number)})
            for number in range(2)
        ]
        assert [process.wait() for process in both] == [1, 1]
    assert "another run writes here" in both[0].errors and "process 0 cannot lock it" in both[1].errors
