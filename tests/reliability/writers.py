"""Two scripts that write into one work directory at once."""

import os
import signal
import time

from reliability.scripts import CONFIG, STAGES, Ended, Folder, returncode

from genrec import workdir_lock

# Script -> what it finds in the work directory.
WRITERS: dict[str, tuple[str, ...]] = {
    "launch/prepare_data.py": (),
    "launch/embed_items.py": STAGES[:1],
    "launch/learn_semantic_ids.py": STAGES[:2],
    "launch/learn_transitions.py": STAGES[:2],
    "launch/train.py": STAGES,
    "launch/train_sasrec.py": STAGES,
    "launch/run.py": (),
    "launch/reproduce.py": (),
    "tools/assign_semantic_ids.py": STAGES[:1],
    "tools/hold_out_items.py": (),
}
LONG = ("launch/run.py", "launch/reproduce.py")  # run other stages: killed after the second writer


def second_writer(folder: Folder, script: str) -> tuple[bool, str]:
    """Starts a script twice; returns whether the second was refused and the first ended well, and what happened.

    The first is stopped as soon as it has the lock, and goes on after the end of the second.
    """
    parts = WRITERS[script]
    workdir = folder.copy(parts=parts) if parts else folder.new()
    command = [script, CONFIG, f"--workdir={workdir}"]
    if script.endswith("assign_semantic_ids.py"):
        command.append(f"--parent={folder.finished}")
    if script.endswith("hold_out_items.py"):
        command = [script, f"--workdir={folder.finished}", f"--output={workdir}"]
    if script.endswith("reproduce.py"):
        command.append("--seeds=1")
    first = folder.start(*command)
    while returncode(first) is None and not (workdir / workdir_lock.FILE).exists():
        time.sleep(0.001)
    _signal(first.pid, signal.SIGSTOP)
    second = folder.run(*command, seconds=60)
    if script in LONG:
        first.kill()
    else:
        _signal(first.pid, signal.SIGCONT)
    while (code := returncode(first)) is None:
        time.sleep(0.01)
    ended = Ended(tuple(command), code, first.output, first.errors)
    good = second.verdict == "refused" and ended.code == (-signal.SIGKILL if script in LONG else 0)
    return good, f"the second: {second}\n    the first: {ended}"


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return  # it has ended
