"""Stages that are killed at random instants, and started again."""

import json
import random
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from reliability.scripts import CONFIG, STAGES, Folder, returncode

from genrec.models import checkpoints

ROUNDS, KILLS = 3, 3  # kills of one round follow each other in one work directory; then the stage runs to its end


class Stage(NamedTuple):
    name: str
    script: str
    inputs: tuple[str, ...]  # folders of the work directory that it reads
    output: str


ALL = (
    Stage("prepare", "launch/prepare_data.py", (), STAGES[0]),
    Stage("embed", "launch/embed_items.py", STAGES[:1], STAGES[1]),
    Stage("tokenize", "launch/learn_semantic_ids.py", STAGES[:2], STAGES[2]),
    Stage("transitions", "launch/learn_transitions.py", STAGES[:2], STAGES[3]),
    Stage("train", "launch/train.py", STAGES, checkpoints.FOLDER),
    Stage("evaluate", "tools/evaluate_checkpoint.py", (*STAGES, checkpoints.FOLDER), "evaluation"),
)


class Survived(NamedTuple):
    """The kills of a stage, how many of them its results survived, and descriptions of those that they did not."""

    kills: int
    survived: int
    faults: list[str]


def results(workdir: Path, stage: Stage) -> object:
    """Returns what identifies the results of a stage: fingerprint, checksums of all arrays, or all metrics."""
    folder = workdir / stage.output
    if stage.name == "train":
        latest = checkpoints.steps(workdir)[-1]
        return latest, (folder / str(latest) / checkpoints.SUMS / "metadata").read_bytes()
    if stage.name == "evaluate":
        return (folder / "test_users.parquet").read_bytes(), json.loads((folder / "test.json").read_text())["metrics"]
    return json.loads((folder / "artifact.json").read_text())["fingerprint"]


def try_stage(folder: Folder, stage: Stage) -> Survived:
    command = (stage.script, CONFIG, "--config.training.checkpoint_every=2")
    chance, kills, survived, faults = random.Random(stage.name), 0, 0, []
    wanted = results(folder.finished, stage)
    untouched = folder.copy(parts=stage.inputs) if stage.inputs else folder.new()
    start = time.monotonic()
    folder.run(*command, f"--workdir={untouched}")
    duration = time.monotonic() - start
    for _ in range(ROUNDS):
        workdir = folder.copy(parts=stage.inputs) if stage.inputs else folder.new()
        killed = 0
        while killed < KILLS:
            script = folder.start(*command, f"--workdir={workdir}")
            time.sleep(chance.uniform(0, duration))
            if returncode(script) is None:
                script.kill()
                killed += 1
            else:
                shutil.rmtree(workdir / stage.output)  # quicker than the killer: once more
        ended = folder.run(*command, f"--workdir={workdir}")
        kills += killed
        if ended.code == 0 and results(workdir, stage) == wanted:
            survived += killed
        else:
            faults.append(
                f"after {killed} kills: {ended}" if ended.code else f"{stage.name}: other results after kills"
            )
    return Survived(kills, survived, faults)
