"""A prompt bias in searches against the likelihoods of training, and against the exact tilt of items."""

import jax
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx
from random_transitions import ITEMS, SIZES, codes_of

from genrec import config, sharding
from genrec.data.dataset import Catalogue
from genrec.decoding.guidance import Guidance, NegativePrompts
from genrec.decoding.live_index import LiveIndex
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline import examples
from genrec.input_pipeline.context import RequestContext
from genrec.input_pipeline.examples import Segment, Tokenizer
from genrec.input_pipeline.mentions import MentionFinder
from genrec.input_pipeline.vocabulary import PromptTokenizer, Vocabulary
from genrec.models.prompt_bias import SHARPNESS, START, STEP
from genrec.models.recommender import Conditioning, Recommender

MOODS, GENRES = ("calm", "dark", "bold"), ("jazz", "indie rock", "rock")
PROMPTS = ("something calm", "", "no indie rock, dark please")


@pytest.fixture(scope="module")
def catalogue():
    random = np.random.default_rng(0)
    columns = {"mood": random.choice(MOODS, ITEMS), "genre": random.choice(GENRES, ITEMS)}
    return Catalogue(pa.table({"item_id": [str(item) for item in range(ITEMS)], **columns}), ())


@pytest.fixture(scope="module")
def tokenizer(catalogue):
    tokens = codes_of(0).astype(np.int32) + np.cumsum((0, *SIZES[:-1])).astype(np.int32)
    vocabulary = Vocabulary.train([*MOODS, *GENRES, *PROMPTS] * 20, 100)
    finder = MentionFinder([("mood", "mood"), ("genre", "about")], catalogue, vocabulary, tokens)
    prompts = PromptTokenizer(vocabulary, 16)
    return Tokenizer(tokens, sum(SIZES), user_tokens=3, prompt_tokenizer=prompts, mention_finder=finder)


@pytest.fixture(scope="module")
def model(tokenizer):
    cfg = config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=16, user_tokens=3)
    model = Recommender(cfg, SIZES, nnx.Rngs(0), Conditioning(pieces=len(tokenizer.vocabulary), mention_columns=2))
    bias = model.prompt_bias
    bias.from_encoder[...] = jax.random.normal(jax.random.key(1), (2, 16)) / 3
    for number, table in enumerate((bias.of_column, bias.before, bias.after)):
        table[...] = jax.random.normal(jax.random.key(number), table.shape) / STEP
    return nnx.split(model)


def encoded(tokenizer, prompts):
    contexts = [RequestContext(prompt=prompt) for prompt in prompts]
    items = [np.array([3, 4, 5 + place], np.int32) for place in range(len(prompts))]
    return examples.histories(["u"] * len(prompts), items, tokenizer, 10, contexts=contexts)


def likelihoods(model, histories, items):
    """float[rows, items] by the losses of training."""
    graphdef, params = model
    rows, last = len(histories.tokens), histories.positions.max(axis=1, keepdims=True)
    targets = np.broadcast_to(items, (rows, *items.shape))
    shape = targets.shape[:2]
    made = examples.Examples(histories, targets, np.ones(shape, np.int32), np.broadcast_to(last, shape))
    losses = jax.jit(lambda params: nnx.merge(graphdef, params).losses(made))(params)
    return -np.asarray(losses).sum(axis=-1)


def searched(model, tokenizer, histories, shards=1, budget=None, guidance=None, beams=ITEMS):
    graphdef, params = model
    mesh = sharding.make_mesh(config.Mesh(data=1, tensor=shards))
    live = LiveIndex(SortedTable.build(codes_of(0), SIZES), None, 0, mesh, shards > 1, budget)
    placed = jax.tree.map(lambda x: sharding.put(mesh, np.asarray(x)), params)
    found = Retriever(graphdef, live, beams=beams)(placed, histories, guidance=guidance).on_host()
    assert beams < ITEMS or (np.sort(found.items, axis=1) == np.arange(ITEMS)).all()
    return found


def with_number(model, number):
    """The model with a w of `number` by training for every mention, whatever the words around it."""
    bent = nnx.merge(*model)
    bias = bent.prompt_bias
    for table in (bias.from_encoder, bias.before, bias.after):
        table[...] *= 0
    bias.of_column[...] = np.full(2, (number - START) / STEP, np.float32)
    return bent


# boundary budget of the index; devices that hold a shard of it
@pytest.mark.parametrize("budget, shards", [(None, 1), (4, 1), (0, 1), (None, 2)])
def test_scores_are_the_likelihoods_of_training(model, tokenizer, budget, shards):
    histories = encoded(tokenizer, PROMPTS)
    found = searched(model, tokenizer, histories, shards, budget)
    expected = np.take_along_axis(likelihoods(model, histories, tokenizer.items), found.items, axis=1)
    np.testing.assert_allclose(
        found.scores, expected, atol=2e-4, rtol=5e-4
    )  # the least likely items are few units of integers


def test_without_a_prompt_nothing_is_computed_or_changed(model, tokenizer):
    """Rows without a prompt have the same scores beside rows with one, where mentions are read."""
    beside, alone = encoded(tokenizer, PROMPTS), encoded(tokenizer, ["", "", ""])
    assert alone.mentions is None and beside.mentions is not None
    plain = likelihoods(model, alone, tokenizer.items)
    np.testing.assert_allclose(likelihoods(model, beside, tokenizer.items)[1], plain[1], rtol=1e-5)
    without = nnx.split(nnx.merge(*model))
    np.testing.assert_allclose(likelihoods(without, alone._replace(mentions=None), tokenizer.items), plain, rtol=1e-6)


def test_what_is_named_rises_and_what_is_refused_falls(model, tokenizer, catalogue):
    """By the sign of the number that is learned, here the same for all words."""
    histories, of_mood = encoded(tokenizer, ["dark"] * 3), np.array(catalogue.column("mood").to_pylist()) == "dark"
    shares = []
    for number in (5.0, 0.0, -5.0):
        chances = np.exp(likelihoods(nnx.split(with_number(model, number)), histories, tokenizer.items))
        shares.append(chances[:, of_mood].sum() / chances.sum())
    assert shares[0] > 0.9 > shares[1] > 0.1 > shares[2]


def test_guidance_and_negative_prompts_tilt_too(model, tokenizer):
    """At strength 1 against a prompt for it, what a negative prompt names loses its own tilt."""
    prompted, silent, refused = (encoded(tokenizer, [text]) for text in ("calm", "", "jazz"))
    strength = np.ones(1, np.float32)
    plain = searched(model, tokenizer, prompted)
    at_1 = searched(model, tokenizer, prompted, guidance=Guidance(silent, strength))
    np.testing.assert_allclose(at_1.scores, plain.scores, atol=1e-4)
    at_0 = searched(model, tokenizer, prompted, guidance=Guidance(silent, 0 * strength))
    np.testing.assert_allclose(at_0.scores, searched(model, tokenizer, silent).scores, atol=1e-4)
    # u + 1 (c - u) - 1 (c - u) = u
    itself = Guidance(silent, strength, NegativePrompts(prompted, strength))
    undone = searched(model, tokenizer, prompted, guidance=itself)
    np.testing.assert_allclose(undone.scores, at_0.scores, atol=1e-4)
    other = Guidance(silent, strength, NegativePrompts(refused, strength))
    assert (searched(model, tokenizer, prompted, guidance=other).items != plain.items).any()


def test_what_is_asked_for_and_not_refused_is_found_by_few_beams(model, tokenizer, catalogue):
    """Codes lead to items of both kinds: tilts count for each item before codes take means."""
    prompted, silent, refused = (encoded(tokenizer, [text]) for text in ("calm", "", "jazz"))
    mood, genre = (np.array(catalogue.column(name).to_pylist()) for name in ("mood", "genre"))
    fitting = np.flatnonzero((mood == "calm") & (genre != "jazz"))
    strength, few = np.ones(1, np.float32), 4
    assert len(fitting) > few
    found = searched(
        nnx.split(with_number(model, START)),
        tokenizer,
        prompted,
        beams=few,
        guidance=Guidance(silent, strength, NegativePrompts(refused, strength)),
    )
    assert set(found.items[0]) <= set(fitting.tolist())


def test_searches_take_what_is_said_as_meant(model, tokenizer, catalogue):
    """A w that is small by training is one that is clear in a search, of the same sign."""
    histories, of_mood = encoded(tokenizer, ["dark"]), np.array(catalogue.column("mood").to_pylist()) == "dark"
    for number in (1.0, -1.0):
        bent = with_number(model, number)
        memory = bent.encode(histories)
        trained, meant = (
            np.asarray(bent.prompt_bias.log_tilts(memory, histories.mentions, sharp=sharp))[0, 0]
            for sharp in (False, True)
        )
        np.testing.assert_allclose(trained, np.where(of_mood, number, 0), atol=1e-5)
        np.testing.assert_allclose(meant, np.where(of_mood, number * SHARPNESS, 0), atol=1e-5)


def test_packed_prompts_are_read_as_in_decoding(model, tokenizer):
    """Several users in a row, with prompts of their own, have the likelihoods that each has alone."""
    graphdef, params = model
    alone = likelihoods(model, encoded(tokenizer, PROMPTS), tokenizer.items)
    segments = [
        Segment("u", np.array([3, 4, 5 + place, 9], np.int32), 3, True, RequestContext(prompt=prompt))
        for place, prompt in enumerate(PROMPTS)
    ]
    packed = examples.pack([segments], tokenizer, 3 * (tokenizer.length(3) + 16), 5)
    losses = jax.jit(lambda params: nnx.merge(graphdef, params).losses(packed))(params)
    np.testing.assert_allclose(-np.asarray(losses).sum(axis=-1)[0, :3], alone[:, 9], atol=1e-4)
    assert np.isfinite(np.asarray(losses)).all()
