import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from genrec import config, sharding
from genrec.input_pipeline.examples import Segment, Tokenizer, histories, pack
from genrec.models import attention
from genrec.models.layers import Dropout
from genrec.models.recommender import Recommender

SIZES = (5, 4, 3)
LEVELS = len(SIZES)
ITEMS = 12
TINY = {"width": 16, "encoder_layers": 2, "decoder_layers": 2, "heads": 2, "head_width": 8, "mlp": 24, "user_tokens": 7}


@pytest.fixture(scope="module")
def tokenizer():
    every = np.stack(np.meshgrid(*(range(size) for size in SIZES), indexing="ij"), axis=-1).reshape(-1, LEVELS)
    chosen = every[np.random.default_rng(0).permutation(len(every))[:ITEMS]]
    return Tokenizer((chosen + np.cumsum((0, *SIZES[:-1]))).astype(np.int32), sum(SIZES), TINY["user_tokens"])


VARIANTS = {
    "default": {},
    "gated": {"gated_mlp": True},
    "no cross bias": {"cross_position_bias": False},
    "repeat bias": {"repeat_bias": True},
    "scanned": {"scan_layers": True, "remat": True},
}


def make(**changes):
    """A model in which no parameter is zero: what starts as zeros would hide its faults."""
    model = Recommender(config.Model(**TINY, **changes), SIZES, nnx.Rngs(0))
    random = np.random.default_rng(0)
    for _, param in nnx.iter_graph(model):
        if isinstance(param, nnx.Param) and not param[...].any():
            param[...] = jnp.asarray(random.normal(size=param.shape), jnp.float32)
    return model


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return make(**VARIANTS[request.param])


def users(number, seed=0):
    """Users with histories of different lengths, with repeats."""
    random = np.random.default_rng(seed)
    return [(f"user{i}", random.integers(0, ITEMS, random.integers(2, 7)).astype(np.int32)) for i in range(number)]


# Once, so that equal shapes compile once.
compiled_losses, start = nnx.jit(Recommender.losses), nnx.jit(Recommender.start)
step = nnx.jit(Recommender.step, static_argnums=3)


def losses(model, rows, tokenizer):
    """Per target, float32[targets, levels], in the order of rows and places; a row has room for any three users."""
    examples = pack(rows, tokenizer, 3 * tokenizer.length(6), 21)
    return np.asarray(compiled_losses(model, examples))[examples.target_segments > 0]


def every_position(model, tokenizer, user_id, items):
    return losses(model, [[Segment(user_id, items, 0, True)]], tokenizer)


def test_scanned_layers_start_and_compute_as_separate_ones(tokenizer):
    rows = [[Segment(user_id, items, 0, True)] for user_id, items in users(3)]
    examples = pack(rows, tokenizer, tokenizer.length(6), 7)
    plain, scanned = (compiled_losses(make(scan_layers=scan), examples, jax.random.key(0)) for scan in (False, True))
    np.testing.assert_allclose(scanned, plain, rtol=1e-5, atol=1e-5)


def four_users(tokenizer):
    """Returns users, two rows of their examples, three of them in one, and which losses are of a target."""
    people = users(4)
    rows = [[Segment(*one, 0, True) for one in people[:3]], [Segment(*people[3], 0, True)]]
    examples = pack(rows, tokenizer, 3 * tokenizer.length(6), 21)
    return people, examples, (examples.target_segments > 0)[..., None]


@pytest.mark.parametrize("variant", ["default", "scanned"])
def test_the_forms_for_tpus_change_neither_losses_nor_gradients_nor_search(tokenizer, monkeypatch, variant):
    people, examples, is_target = four_users(tokenizer)
    history = histories([user for user, _ in people], [items for _, items in people], tokenizer, 6, causal=True)
    codes = [np.tile(np.arange(3, dtype=np.int32) % size, (4, 1)) for size in SIZES[:-1]]
    graphdef, params = nnx.split(make(**VARIANTS[variant]))

    def loss(params):
        found = nnx.merge(graphdef, params).losses(examples, jax.random.key(1))
        return jnp.where(is_target, found, 0).sum(), jnp.where(is_target, found, 0)

    def results(params):
        model = nnx.merge(graphdef, params)
        memory = model.start(history)
        logits, cache = model.step(memory, None, 0, None)
        cache = jax.tree.map(lambda x: jnp.repeat(x, 3, axis=1), cache)
        at_once = model.finish(memory, jnp.stack(codes, axis=-1), 1, cache)
        second, cache = model.step(memory, codes[0], 1, cache)
        third, _ = model.step(memory, codes[1], 2, cache)
        return jax.grad(loss, has_aux=True)(params), logits, second, third, at_once

    plain = jax.jit(results)(params)
    monkeypatch.setattr(sharding, "on_tpu", lambda: True)
    found = jax.jit(lambda params: results(params))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, plain)


def of_float32(product):
    """Returns the product with factors and sums in float32: CPUs lack some of bfloat16 with float32 results."""

    barrier = jax.lax.optimization_barrier  # XLA would multiply in bfloat16 again

    def computed(*arguments, preferred_element_type=None, **options):
        arrays = [x for x in arguments if isinstance(x, jax.Array)]
        wide = (barrier(x.astype(jnp.float32)) if isinstance(x, jax.Array) else x for x in arguments)
        return product(*wide, **options).astype(preferred_element_type or jnp.result_type(*arrays))

    return computed


@pytest.mark.parametrize("variant", ["default", "gated"])
def test_forms_for_tpu_v5e_are_no_less_precise(tokenizer, monkeypatch, variant):
    """In bfloat16, losses and gradients are as near to those in float32 as with the forms for all TPUs."""
    _, examples, is_target = four_users(tokenizer)

    def results(compute):
        graphdef, params = nnx.split(make(**VARIANTS[variant], compute=compute))

        def loss(params):
            return jnp.where(is_target, nnx.merge(graphdef, params).losses(examples, jax.random.key(1)), 0).sum()

        strict = {"xla_allow_excess_precision": False}  # otherwise CPUs leave out most of the rounding
        return jax.tree.leaves(jax.jit(jax.value_and_grad(loss), compiler_options=strict)(params))

    exact = results("float32")
    for name in ("matmul", "tensordot", "einsum"):
        monkeypatch.setattr(jnp, name, of_float32(getattr(jnp, name)))
    monkeypatch.setattr(attention, "_product", functools.partial(jnp.einsum, preferred_element_type=jnp.float32))
    monkeypatch.setattr(sharding, "on_tpu", lambda: True)
    rough = results("bfloat16")
    monkeypatch.setattr(sharding, "on_v5e", lambda: True)
    found = results("bfloat16")
    errors = [
        [jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in zip(x, exact, strict=True)] for x in (found, rough)
    ]
    assert np.mean(errors[0]) <= 1.1 * np.mean(errors[1])
    assert np.max(errors[0]) <= 0.1
    assert any((a != b).any() for a, b in zip(found, rough, strict=True))


def test_every_position_equals_one_target_at_a_time(model, tokenizer):
    """One pass over a user gives what a separate pass per target gives, which has nothing but the items before it."""
    for user_id, items in users(3):
        together = every_position(model, tokenizer, user_id, items)
        alone = [losses(model, [[Segment(user_id, items[: t + 1], t, True)]], tokenizer)[0] for t in range(len(items))]
        np.testing.assert_allclose(together, np.stack(alone), rtol=2e-5, atol=2e-5)


def test_no_target_sees_itself_or_the_future(model, tokenizer):
    user_id, items = users(1)[0]
    before = every_position(model, tokenizer, user_id, items)
    for t in range(len(items)):
        changed = items.copy()
        changed[t:] = (changed[t:] + 1) % ITEMS
        after = every_position(model, tokenizer, user_id, changed)
        np.testing.assert_allclose(after[:t], before[:t], rtol=1e-5, atol=1e-5)
        # The first code of target t is predicted from what did not change; only its label may differ.
        if tokenizer.items[changed[t], 0] == tokenizer.items[items[t], 0]:
            np.testing.assert_allclose(after[t, 0], before[t, 0], rtol=1e-5, atol=1e-5)
        assert t == len(items) - 1 or not np.allclose(after[t + 1 :], before[t + 1 :], atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_packing_changes_no_loss(model, tokenizer, causal):
    people = users(5)
    parts = [Segment(user_id, items, 0 if causal else len(items) - 1, causal) for user_id, items in people]
    alone = np.concatenate([losses(model, [[part]], tokenizer) for part in parts])
    packed = losses(model, [parts[:3], parts[3:]], tokenizer)
    np.testing.assert_allclose(packed, alone, rtol=2e-5, atol=2e-5)


def test_likelihoods_of_all_code_sequences_sum_to_one(model, tokenizer):
    every = np.stack(np.meshgrid(*(range(size) for size in SIZES), indexing="ij"), axis=-1).reshape(-1, LEVELS)
    all_tokens = Tokenizer((every + np.cumsum((0, *SIZES[:-1]))).astype(np.int32), sum(SIZES), TINY["user_tokens"])
    rows = [[Segment("user", np.array([3, 20, item], np.int32), 2, True)] for item in range(len(every))]
    nll = losses(model, rows, all_tokens).sum(axis=1)
    np.testing.assert_allclose(np.exp(-nll).sum(), 1, rtol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_decoding_step_by_step_gives_the_likelihoods_of_training(model, tokenizer, causal):
    people = users(4)
    history = histories([user for user, _ in people], [items[:-1] for _, items in people], tokenizer, 6, causal=causal)
    memory = start(model, history)
    target = tokenizer.items[[items[-1] for _, items in people]] - np.cumsum((0, *SIZES[:-1]))
    cache, codes, nll = None, None, []
    for level in range(LEVELS):
        logits, cache = step(model, memory, codes, level, cache)
        codes = jnp.asarray(target[:, level : level + 1])
        log_probabilities = jax.nn.log_softmax(logits[:, 0])
        nll.append(-np.take_along_axis(np.asarray(log_probabilities), target[:, level : level + 1], axis=1)[:, 0])
    rows = [[Segment(user, items, len(items) - 1, causal)] for user, items in people]
    expected = losses(model, rows, tokenizer)
    np.testing.assert_allclose(np.stack(nll, axis=1), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("variant", ["repeat bias", "scanned"])
def test_scoring_the_last_levels_at_once_equals_stepping(tokenizer, variant):
    people, random = users(2), np.random.default_rng(0)
    history = histories([user for user, _ in people], [items for _, items in people], tokenizer, 6, causal=True)
    codes = np.stack([random.integers(0, size, (2, 3)) for size in SIZES[:-1]], axis=-1).astype(np.int32)

    @nnx.jit
    def compare(model):
        memory = model.start(history)
        _, cache = model.step(memory, None, 0, None)
        # Three beams, of which the cache of level 0 has one.
        cache = jax.tree.map(lambda x: jnp.repeat(x, 3, axis=1), cache)
        at_once, stepped = [], []
        for level in range(1, LEVELS):
            at_once.append(model.finish(memory, codes[..., level - 1 :], level, cache))
            logits, cache = model.step(memory, codes[..., level - 1], level, cache)
            stepped.append(logits)
        return at_once, stepped

    at_once, stepped = compare(make(**VARIANTS[variant]))
    assert [len(logits) for logits in at_once] == [2, 1]
    for logits in at_once:
        for one, other in zip(logits, stepped[-len(logits) :], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_causal_decoder_knows_which_item_is_the_latest(tokenizer):
    model = Recommender(config.Model(**TINY), SIZES, nnx.Rngs(0))
    order, reverse = (
        every_position(model, tokenizer, "u", np.array(items, np.int32)) for items in ([1, 2, 5], [2, 1, 5])
    )
    assert not np.allclose(order[2], reverse[2], atol=1e-6)


def test_bfloat16_compute_keeps_float32_parameters_and_losses(tokenizer):
    model = Recommender(config.Model(**TINY, compute="bfloat16"), SIZES, nnx.Rngs(0))
    exact = Recommender(config.Model(**TINY), SIZES, nnx.Rngs(0))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model)))
    user_id, items = users(1)[0]
    rough = every_position(model, tokenizer, user_id, items)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, every_position(exact, tokenizer, user_id, items), atol=0.2)


def test_dropout_keeps_the_mean_and_depends_on_the_key():
    x = jnp.ones((64, 4096))
    dropped = Dropout(0.3, jax.random.key(0))(x)
    assert abs(float((dropped == 0).mean()) - 0.3) < 0.005
    np.testing.assert_allclose(dropped[dropped != 0], 1 / 0.7, rtol=1e-6)
    # Neither rows nor columns repeat one another, nor do two calls or two keys.
    zeros = np.asarray(dropped == 0)
    agreement = (zeros[:-1] == zeros[1:]).mean(axis=1)
    assert np.abs(agreement - (0.3**2 + 0.7**2)).max() < 0.05
    twice = Dropout(0.3, jax.random.key(0))
    assert (twice(x) == dropped).all() and (twice(x) != dropped).any()
    assert (Dropout(0.3, jax.random.key(1))(x) != dropped).any()
    assert (Dropout(0.3, None)(x) == x).all()
