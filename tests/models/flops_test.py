"""The count of operations, against what XLA counts in the compiled forward pass."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from genrec import config
from genrec.input_pipeline.examples import Examples, Histories
from genrec.models import flops, load, run_record

SIZES = (128, 128, 16)
ROWS, TOKENS, TARGETS = 4, 61, 21
PLAIN = config.Model(
    width=64, encoder_layers=2, decoder_layers=3, heads=4, head_width=32, mlp=256, dropout=0.0, user_tokens=10
)


@pytest.mark.parametrize("cfg", [PLAIN, dataclasses.replace(PLAIN, gated_mlp=True, encoder_layers=1)])
def test_it_counts_the_matrix_products_that_xla_counts(cfg):
    record = run_record.RunRecord.of(config.Experiment(model=cfg), SIZES, "semantic IDs", "dataset")
    structure = load.model_of(record)
    ones = np.ones((ROWS, TOKENS), np.int32)
    targets = np.ones((ROWS, TARGETS), np.int32)
    examples = Examples(Histories(ones, ones, ones), np.zeros((ROWS, TARGETS, 3), np.int32), targets, targets)
    forward = jax.jit(lambda params: nnx.merge(structure.graphdef, params).losses(examples))
    counted = forward.lower(structure.abstract).compile().cost_analysis()["flops"]
    ours = flops.training_step(cfg, SIZES, ROWS * TOKENS, ROWS * TARGETS, TOKENS) / 3
    assert 0.85 < ours / counted < 1.02  # XLA also counts softmax, norms and losses


def test_it_grows_with_what_is_trained():
    def count(encoder_tokens: int, targets: int) -> float:
        return flops.training_step(PLAIN, SIZES, encoder_tokens, targets, TOKENS)

    assert count(200, 40) == 2 * count(100, 20)
    assert count(0, 0) == 0 < count(0, 1) < count(0, 2)
