"""Searches with a transition bias against the likelihoods of training."""

import jax
import numpy as np
import pytest
from flax import nnx
from random_transitions import ITEMS, SIZES, codes_of, random_mixture

from genrec import config, sharding
from genrec.data.filters import Filter
from genrec.decoding import index_arrays
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline import examples
from genrec.input_pipeline.examples import Segment, Tokenizer
from genrec.input_pipeline.transitions import CodeShares
from genrec.models.recommender import Recommender

HISTORIES = ([3, 4], [], [7, 1, 29, 3, 3, 8, 2, 14])


@pytest.fixture(scope="module")
def tokenizer():
    codes = codes_of(0)
    tokens = codes.astype(np.int32) + np.cumsum((0, *SIZES[:-1])).astype(np.int32)
    shares = CodeShares.of(random_mixture(0), codes, SIZES)
    return Tokenizer(tokens, first_user=sum(SIZES), user_tokens=3, code_shares=shares)


@pytest.fixture(scope="module")
def model():
    """A model that trusts the transitions more or less, depending on the decoder."""
    cfg = config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=16, user_tokens=3)
    cfg.transition_bias = True
    model = Recommender(cfg, SIZES, nnx.Rngs(0))
    model.transition_bias.weight[...] = np.array([1.5, 0.7, 1.2], np.float32)
    model.transition_bias.from_decoder[...] = jax.random.normal(jax.random.key(1), (len(SIZES), 16)) / 16
    return nnx.split(model)


@pytest.fixture(scope="module")
def likelihoods(model, tokenizer):
    """float[histories, items] by the losses of training, without a left-out part."""
    graphdef, params = model
    rows = [
        [Segment("u", np.array([*history, item], np.int32), len(history), True)]
        for history in HISTORIES
        for item in range(ITEMS)
    ]
    packed = examples.pack(rows, tokenizer, tokenizer.length(10), 1)
    losses = jax.jit(lambda params: nnx.merge(graphdef, params).losses(packed))(params)
    return -np.asarray(losses).sum(axis=(1, 2)).reshape(len(HISTORIES), ITEMS)


# boundary budget of the index; devices that hold a shard of it; whether levels without a table have runs
@pytest.mark.parametrize(
    "budget, shards, runs",
    [(None, 1, False), (4, 1, False), (0, 1, False), (None, 2, False), (4, 4, False), (0, 1, True), (4, 4, True)],
)
def test_scores_are_the_likelihoods_of_training(model, tokenizer, likelihoods, budget, shards, runs, monkeypatch):
    if runs:
        monkeypatch.setattr(index_arrays, "WIDE_RANGE", 1)
        monkeypatch.setattr(index_arrays, "ROWS_PER_CHILD", 1.0)
    graphdef, params = model
    mesh = sharding.make_mesh(config.Mesh(data=1, tensor=shards))
    table = SortedTable.build(tokenizer.code_shares.codes, SIZES)
    live = LiveIndex(table, filters=1, mesh=mesh, sharded=shards > 1, boundary_budget=budget)
    assert set(live.index.layout.runs) <= {runs}
    retriever = Retriever(graphdef, live, beams=ITEMS)
    histories = examples.histories(["u"] * 3, [np.array(one, np.int32) for one in HISTORIES], tokenizer, 10)
    placed = jax.tree.map(lambda x: sharding.put(mesh, np.asarray(x)), params)
    restrictions = [Restriction(), *[Restriction(Filter(allow=frozenset(range(1, ITEMS, 2))))] * 2]
    found = retriever(placed, histories, live.constraints(restrictions)).on_host()
    for row, (items, scores) in enumerate(zip(found.items, found.scores, strict=True)):
        eligible = np.arange(ITEMS) if row == 0 else np.arange(1, ITEMS, 2)
        assert (np.sort(items[items >= 0]) == eligible).all()
        np.testing.assert_allclose(scores[: len(eligible)], likelihoods[row, items[: len(eligible)]], atol=2e-4)
        assert (scores <= 0).all()


def test_likelihoods_of_items_sum_to_less_than_1_and_nearly_all_of_it(likelihoods):
    """The transitions know which codes lead to no item."""
    total = np.exp(likelihoods).sum(axis=1)
    assert (total < 1).all() and (total > 0.95).all()


def test_items_that_the_mixture_does_not_know_can_be_found(model, tokenizer):
    graphdef, params = model
    shares = CodeShares.of(random_mixture(5, items=ITEMS - 4), tokenizer.code_shares.codes, SIZES)
    known = tokenizer._replace(code_shares=shares)
    live = LiveIndex(SortedTable.build(shares.codes, SIZES), filters=0)
    histories = examples.histories(["u"], [np.array([2, ITEMS - 1], np.int32)], known, 10)
    found = Retriever(graphdef, live, beams=ITEMS)(params, histories).on_host()
    assert set(found.items[0].tolist()) == set(range(ITEMS)) and np.isfinite(found.scores).all()
