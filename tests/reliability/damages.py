"""Damaged files of a finished work directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reliability.scripts import CONFIG, STAGES, Ended, Folder

from genrec.models import checkpoints

READ = ("tools/recommend.py", "--users=3", "--output=json")
KINDS = ("deleted", "truncated", "garbage")


class Damage(NamedTuple):
    kind: str
    file: str  # relative to the work directory


class Outcome(NamedTuple):
    """What happened: "named", "healed", "not read", or a fault; and a description."""

    verdict: str
    description: str


def damages(workdir: Path) -> Iterator[Damage]:
    """Yields each kind of damage of every file of all artifacts and of the latest checkpoint."""
    latest = f"{checkpoints.FOLDER}/{checkpoints.steps(workdir)[-1]}"
    for part in (*STAGES, latest):
        for path in sorted((workdir / part).rglob("*")):
            if path.is_file():
                for kind in KINDS if path.stat().st_size else KINDS[:1]:
                    yield Damage(kind, str(path.relative_to(workdir)))


def inflict(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "deleted":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(bytes(255 - byte for byte in content))


def try_damage(folder: Folder, damage: Damage, expected: str) -> Outcome:
    """Reads the damaged work directory, which must name the file or not need it, and lets run.py heal it or name it.

    `expected` is the output of the reading script without damage.
    """
    workdir = folder.copy()
    path = workdir / damage.file
    inflict(path, damage.kind)
    damaged = path.read_bytes() if path.exists() else None
    read = folder.run(*READ, f"--workdir={workdir}", "--verify_artifacts")
    reads = _named(read, damage) or (read.code == 0 and read.output == expected)
    run = folder.run("launch/run.py", CONFIG, f"--workdir={workdir}", "--verify_artifacts")
    content = path.read_bytes() if path.exists() else None
    description = f"{damage.file} {damage.kind}\n    {read}\n    {run}"
    if not reads:
        return Outcome("traceback" if read.code else "other recommendations", description)
    if run.code == 0 and content != damaged:
        return Outcome("healed", description)
    if _named(run, damage):
        return Outcome("named", description)
    if run.code:
        return Outcome("traceback", description)
    return Outcome("named" if read.code else "not read", description)


def _named(ended: Ended, damage: Damage) -> bool:
    """Tells whether a script was refused by a message that names the file, or its folder."""
    parts = Path(damage.file).parts
    names = (parts[-1], "/".join(parts[:2]) if parts[0] == checkpoints.FOLDER else parts[0])
    return ended.verdict == "refused" and any(name in ended.message for name in names)
