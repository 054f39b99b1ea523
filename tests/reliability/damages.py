"""Damaged files of work directories."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reliability import kills
from reliability.scripts import CONFIG, STAGES, Ended, Folder

from genrec.models import checkpoints

READ = ("tools/recommend.py", "--users=3", "--output=json", "--verify_artifacts")
KINDS = ("deleted", "truncated", "garbage")


class Damage(NamedTuple):
    kind: str
    file: str  # relative to the work directory


class Outcome(NamedTuple):
    """What happened: "named", "healed", or a fault; and a description."""

    verdict: str
    description: str


def damages(workdir: Path, part: str) -> Iterator[Damage]:
    """Yields each kind of damage of every file in a folder of a work directory."""
    for path in sorted((workdir / part).rglob("*")):
        if path.is_file():
            for kind in KINDS if path.stat().st_size else KINDS[:1]:
                yield Damage(kind, str(path.relative_to(workdir)))


def of_artifacts(folder: Folder) -> list[Damage]:
    return [damage for stage in STAGES for damage in damages(folder.finished, stage)]


def of_checkpoints(folder: Folder) -> list[Damage]:
    """Returns the damages of the latest checkpoint of the interrupted training."""
    return list(damages(folder.interrupted, f"{checkpoints.FOLDER}/{checkpoints.steps(folder.interrupted)[-1]}"))


def inflict(workdir: Path, damage: Damage) -> bytes | None:
    """Damages a file; returns its new content."""
    path = workdir / damage.file
    content = path.read_bytes()
    path.unlink()
    if damage.kind == "deleted":
        return None
    content = content[: len(content) // 2] if damage.kind == "truncated" else os.urandom(len(content))
    path.write_bytes(content)
    return content


def damage_artifact(folder: Folder, damage: Damage) -> Outcome:
    """Damages a finished work directory: launch/run.py must heal the file or name it.

    tools/recommend.py must name it, or recommend what it does without damage, as it does not read everything.
    """
    workdir = folder.copy()
    damaged = inflict(workdir, damage)
    read = folder.run(*READ, f"--workdir={workdir}")
    run = folder.run("launch/run.py", CONFIG, f"--workdir={workdir}", "--verify_artifacts")
    path = workdir / damage.file
    content = path.read_bytes() if path.exists() else None
    description = f"{damage}\n    {read}\n    {run}"
    if not _named(read, damage) and (read.code, read.output) != (0, folder.recommendations):
        return Outcome("other recommendations" if read.code == 0 else read.verdict, description)
    if run.code == 0 and content != damaged:
        return Outcome("healed", description)
    return Outcome("named" if _named(run, damage) else run.verdict, description)


def damage_checkpoint(folder: Folder, damage: Damage) -> Outcome:
    """Damages the latest checkpoint of an interrupted training, which must end as it does without damage."""
    workdir = folder.copy(folder.interrupted)
    inflict(workdir, damage)
    ended = folder.run("launch/train.py", CONFIG, f"--workdir={workdir}")
    if ended.code == 0:
        train = next(stage for stage in kills.ALL if stage.name == "train")
        same = kills.results(workdir, train) == kills.results(folder.finished, train)
        return Outcome("healed" if same else "other results", f"{damage}\n    {ended}")
    return Outcome("named" if _named(ended, damage) else ended.verdict, f"{damage}\n    {ended}")


def _named(ended: Ended, damage: Damage) -> bool:
    """Tells whether a script was refused by a message that names the file, or the folder to delete."""
    parts = Path(damage.file).parts
    names = (parts[-1], "/".join(parts[:2]) if parts[0] == checkpoints.FOLDER else parts[0])
    return ended.verdict == "refused" and any(name in ended.message for name in names)
