"""The experiment of the tests that train, on the work directory that the fixture `tiny_inputs` makes.

On one device, which compiles in half the time: tests of meshes ask for one.
"""

import copy
import dataclasses
import json
from pathlib import Path

from genrec import config

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=80)),
    mesh=config.Mesh(1, 1, 1),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(
        max_history=6,
        row_targets=12,
        batch_targets=96,
        steps=12,
        warmup_steps=2,
        learning_rate=1e-2,
        validate_every=4,
        validation_users=32,
        log_every=2,
    ),
    evaluation=config.Evaluation(beams=10, batch=16, cutoffs=(10,)),
)


MULTI_STAGE = dataclasses.replace(
    EXPERIMENT,
    sasrec=config.SasRec(
        config.SasRecModel(width=16, encoder_layers=1, heads=2, head_width=8, mlp=32),
        dataclasses.replace(EXPERIMENT.training, max_history=4, validate_every=12),
    ),
    multi_stage=config.MultiStage(candidates=10, item_columns=("media_type",), user_columns=("country",)),
)


def changed(**training) -> config.Experiment:
    """EXPERIMENT with other settings of training."""
    experiment = copy.deepcopy(EXPERIMENT)
    for name, value in training.items():
        setattr(experiment.training, name, value)
    return experiment


def lines(workdir: Path, group: str) -> dict[int, dict]:
    """Step -> numbers of metrics.jsonl."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in rows if f"{group}/loss" in row or f"{group}/ndcg@10" in row}
