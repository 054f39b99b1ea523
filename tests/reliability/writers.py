"""Two scripts that write into one work directory at once."""

import os
import signal
import time
from pathlib import Path

from reliability.scripts import CONFIG, STAGES, Ended, Folder

from genrec.models import checkpoints

# Script -> what it finds in the work directory.
WRITERS: dict[str, tuple[str, ...]] = {
    "launch/prepare_data.py": (),
    "launch/embed_items.py": STAGES[:1],
    "launch/learn_semantic_ids.py": STAGES[:2],
    "launch/train.py": STAGES,
    "launch/train_sasrec.py": STAGES,
    "launch/run.py": (),
    "launch/reproduce.py": (),
    "tools/evaluate_checkpoint.py": (*STAGES, checkpoints.FOLDER),
    "tools/evaluate_multi_stage.py": (*STAGES, checkpoints.FOLDER, checkpoints.SASREC),
    "tools/assign_semantic_ids.py": STAGES[:1],
    "tools/hold_out_items.py": (),
}


def _files(workdir: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in workdir.rglob("*")} if workdir.exists() else set()


def second_writer(folder: Folder, script: str) -> tuple[bool, str]:
    """Starts a script twice; returns whether the second was refused and the first ended well, and what happened.

    The first is stopped as soon as it has written anything, and goes on after the end of the second.
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
    before = _files(workdir)
    first = folder.start(*command)
    while first.returncode is None and _files(workdir) == before:
        time.sleep(0.001)
    _signal(first.pid, signal.SIGSTOP)
    second = folder.run(*command, seconds=60)
    _signal(first.pid, signal.SIGCONT)
    ended = Ended(tuple(command), first.wait(), first.output, first.errors)
    good = second.verdict == "refused" and ended.code == 0
    return good, f"the second: {second}\n    the first: {ended}"


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return  # it has ended
