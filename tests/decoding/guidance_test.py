"""Guidance against combinations of the model's logits, and through the serving engine."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from genrec.decoding import loaded_model
from genrec.decoding.guidance import Guidance, NegativePrompts
from genrec.decoding.retrieval import Retriever
from genrec.input_pipeline.context import RequestContext
from genrec.input_pipeline.examples import Examples
from genrec.serving.engine import Engine, Options
from genrec.serving.requests import Request

BEAMS = 200  # more than there are items: searches are exhaustive
PROMPT = "dark music"


@pytest.fixture(scope="module")
def loaded(listener):
    return loaded_model.load(listener)


@pytest.fixture(scope="module")
def retriever(loaded):
    return Retriever.of_table(loaded.graphdef, loaded.table, BEAMS)


@pytest.fixture(scope="module")
def both(loaded):
    """The same users with a prompt, without one, and with a negative prompt."""
    names = [record.user_id for record in loaded.dataset.split("test").read([0, 1, 2])]
    items = [record.items[:-1] for record in loaded.dataset.split("test").read([0, 1, 2])]
    return [
        loaded.histories(names, items, contexts=[RequestContext(prompt=prompt)] * 3) for prompt in (PROMPT, "", "jazz")
    ]


def found(retriever, loaded, histories, unconditional=None, strength=1.0, negative=None):
    guidance = None
    if unconditional is not None:
        guidance = Guidance(unconditional, np.full(3, strength, np.float32), negative)
    return jax.tree.map(np.asarray, retriever(loaded.params, histories, guidance=guidance))


def test_strength_0_is_no_prompt_and_1_is_plain_conditioning(retriever, loaded, both):
    prompted, silent, _ = both
    for strength, histories in ((0.0, silent), (1.0, prompted)):
        guided, plain = found(retriever, loaded, prompted, silent, strength), found(retriever, loaded, histories)
        np.testing.assert_array_equal(guided.items, plain.items)
        np.testing.assert_allclose(guided.scores, plain.scores, rtol=1e-5, atol=1e-5)
    assert (found(retriever, loaded, prompted).items != found(retriever, loaded, silent).items).any()


@pytest.mark.parametrize("against", [0.0, 1.5])
def test_guided_scores_are_those_of_the_combined_logits(retriever, loaded, both, against):
    """Level by level, from the model's own logits, for every item."""
    prompted, silent, refused = both
    negative = NegativePrompts(refused, np.full(3, against, np.float32)) if against else None
    guided = found(retriever, loaded, prompted, silent, 2.5, negative)
    start = jax.jit(lambda histories: nnx.merge(loaded.graphdef, loaded.params).start(histories))
    step = jax.jit(
        lambda memory, codes, level, cache: nnx.merge(loaded.graphdef, loaded.params).step(memory, codes, level, cache),
        static_argnums=2,
    )
    codes = loaded.semantic_ids.codes.astype(np.int32)
    scores = np.zeros((3, len(codes)))
    caches, memories = [None] * 3, [start(histories) for histories in both]
    for level in range(codes.shape[1]):
        logits = []
        for side in range(3):
            if level == 0:
                of_side, cache = step(memories[side], None, 0, None)
                of_side = np.repeat(of_side, len(codes), axis=1)
                cache = jax.tree.map(lambda x: np.repeat(x, len(codes), axis=1), cache)
            else:
                before = np.tile(codes[:, level - 1], (3, 1))
                of_side, cache = step(memories[side], before, level, caches[side])
            logits.append(np.asarray(of_side, np.float64))
            caches[side] = cache
        combined = logits[1] + 2.5 * (logits[0] - logits[1]) - against * (logits[2] - logits[1])
        combined -= np.log(np.exp(combined).sum(axis=-1, keepdims=True))
        scores += np.take_along_axis(combined, np.tile(codes[:, level], (3, 1))[..., None], axis=2)[..., 0]
    for row in range(3):
        items = guided.items[row][guided.items[row] >= 0]
        assert sorted(items) == list(range(len(codes)))
        np.testing.assert_allclose(guided.scores[row][: len(items)], scores[row, items], rtol=1e-4, atol=1e-4)
        assert (np.diff(guided.scores[row][: len(items)]) <= 0).all()


def test_every_kind_of_search_can_be_guided(loaded):
    """Widening, diverse and sampling searches at strength 0 equal those without a prompt."""
    record = loaded.dataset.split("test").read([4])[0]
    request = Request(record.user_id, record.items[:-1], prompt=PROMPT)
    silent = Request(record.user_id, record.items[:-1])
    for settings in ({"max_beams": 64}, {"max_share": 0.3, "share_of": "genre"}, {"temperature": 1.0}):
        options = {"top": 5, "beams": 20, **settings}
        at_0 = Engine(loaded, Options(guidance=0.0, **options), 8, rules=False).recommend([request])[0]
        plain = Engine(loaded, Options(**options), 8, rules=False).recommend([silent])[0]
        np.testing.assert_array_equal(at_0.items, plain.items)
        assert at_0.certified == plain.certified


def test_negative_prompts_are_guidance_or_a_rule(loaded):
    record = loaded.dataset.split("test").read([4])[0]
    names, history = [record.user_id], [record.items[:-1]]
    one, other = sorted(set(loaded.dataset.catalogue.column("genre").to_pylist()))[:2]
    request = Request(record.user_id, history[0], prompt=f"something dark, no {one} or {other}")
    prompted, silent, refused = (
        loaded.histories(names, history, contexts=[RequestContext(prompt=prompt)])
        for prompt in ("something dark", "", f"{one}, {other}")  # the model reads what is refused there alone
    )
    retriever = Retriever.of_table(loaded.graphdef, loaded.table, 20)
    for strength in (1.0, 2.0):
        listed = Engine(loaded, Options(top=5, beams=20, guidance=strength)).recommend([request])[0]
        strengths = np.full(1, strength, np.float32)
        guidance = Guidance(silent, strengths, NegativePrompts(refused, strengths))
        expected = retriever(loaded.params, prompted, guidance=guidance)
        np.testing.assert_array_equal(listed.items, np.asarray(expected.items)[0, :5])
        np.testing.assert_allclose(listed.scores, np.asarray(expected.scores)[0, :5], rtol=1e-5)
    plain = Engine(loaded, Options(top=5, beams=20, guidance=0.0)).recommend
    np.testing.assert_array_equal(plain([request])[0].items, plain([dataclasses.replace(request, prompt="")])[0].items)
    # A medium is a rule to this model: nothing is guided, and none comes.
    ruled = Engine(loaded, Options(top=5, beams=20)).recommend([dataclasses.replace(request, prompt="no music")])[0]
    media_type = loaded.dataset.catalogue.column("media_type").to_pylist()
    assert ruled.certified and "music" not in {media_type[item] for item in ruled.items}


def test_a_negative_prompt_does_not_change_other_rows(loaded):
    recommend = Engine(loaded, Options(top=5, beams=20), 2).recommend
    records = loaded.dataset.split("test").read([2, 4])
    genre = loaded.dataset.catalogue.column("genre")[0].as_py()
    requests = [
        Request(record.user_id, record.items[:-1], prompt=prompt)
        for record, prompt in zip(records, (PROMPT, f"no {genre}"), strict=True)
    ]
    together = recommend(requests)[0]
    alone = recommend([requests[0], dataclasses.replace(requests[1], prompt=genre)])[0]
    np.testing.assert_array_equal(together.items, alone.items)
    np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-5)


def test_prompts_in_other_languages_are_served(loaded):
    engine = Engine(loaded, Options(top=3, guidance=2.0))
    for prompt in ("静かな音楽", "🎷🎷", "ничего тёмного"):
        assert len(engine.recommend([Request("u", np.array([1, 2]), prompt=prompt)])[0].items) == 3


def test_scores_equal_the_losses_of_training(loaded, both):
    """Prompts are encoded in serving as in training."""
    record = loaded.dataset.split("test").read([0])[0]
    request = Request(record.user_id, record.items[:-1], prompt=PROMPT)
    listed = Engine(loaded, Options(top=4), rules=False).recommend([request])[0]
    histories = jax.tree.map(lambda x: x[:1], both[0])
    last = histories.positions.max(axis=1, keepdims=True)
    targets = loaded.tokenizer.items[listed.items][None]
    places = np.ones((1, 4), np.int32)
    examples = Examples(histories, targets, places, np.repeat(last, 4, axis=1).astype(np.int32))
    losses = jax.jit(lambda: nnx.merge(loaded.graphdef, loaded.params).losses(examples))().sum(axis=-1)[0]
    np.testing.assert_allclose(listed.scores, -losses, rtol=1e-4, atol=1e-4)
