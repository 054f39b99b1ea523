"""Attention to the prefix, absent inputs, and text losses, on a tiny model whose parameters are all non-zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx

from genrec import config
from genrec.input_pipeline.context import Context, Feature, RequestContext, UserFeatures, VectorFeature
from genrec.input_pipeline.examples import Segment, TextExamples, Tokenizer, histories, pack
from genrec.input_pipeline.vocabulary import PromptError, PromptTokenizer, Vocabulary
from genrec.models.recommender import Conditioning, Recommender

SIZES = (5, 4, 3)
ITEMS = 12
MODEL = config.Model(
    width=16, encoder_layers=2, decoder_layers=2, heads=2, head_width=8, mlp=24, user_tokens=7, repeat_bias=True
)
CONTEXT = Context(
    (Feature("country", values=("DE", "FR")), Feature("age", edges=(18.0, 30.0))),
    (VectorFeature("vector", 4, 2), VectorFeature("summary", 3, 1)),
)
PROMPT = "something calm and bold"
EVERYTHING = RequestContext({"country": "DE", "age": "20"}, prompt=PROMPT)


@pytest.fixture(scope="module")
def tokenizer():
    random = np.random.default_rng(0)
    every = np.stack(np.meshgrid(*(range(size) for size in SIZES), indexing="ij"), axis=-1).reshape(-1, len(SIZES))
    chosen = every[random.permutation(len(every))[:ITEMS]] + np.cumsum((0, *SIZES[:-1]))
    table = pa.table({"user_id": ["known"], "vector": [random.normal(size=4).tolist()]})
    users = UserFeatures(CONTEXT, table, random.normal(size=(ITEMS, 3)).astype(np.float32))
    words = Vocabulary.train([PROMPT, "music by night"] * 20, 40)
    return Tokenizer(chosen.astype(np.int32), sum(SIZES), MODEL.user_tokens, users, PromptTokenizer(words, 16))


@pytest.fixture(scope="module")
def model(tokenizer):
    made = Recommender(MODEL, SIZES, nnx.Rngs(0), Conditioning(CONTEXT, len(tokenizer.vocabulary), 3))
    random = np.random.default_rng(0)
    for _, param in nnx.iter_graph(made):
        if isinstance(param, nnx.Param) and not param[...].any():
            param[...] = jnp.asarray(random.normal(size=param.shape), jnp.float32)
    return made


encode, losses_of = nnx.jit(Recommender.encode), nnx.jit(Recommender.losses)


def losses(model, rows, tokenizer):
    examples = pack(rows, tokenizer, 3 * (tokenizer.length(6) + 32), 21)
    return np.asarray(losses_of(model, examples))[examples.target_segments > 0]


ITEMS_HEARD = np.array([3, 7, 1, 4, 9], np.int32)
EARLIER = np.array([2, 8], np.int32)


def segment(context=EVERYTHING, items=ITEMS_HEARD, user="known", earlier=EARLIER):
    return Segment(user, items, 0, True, context, earlier)


def test_kinds_of_tokens_have_separate_ranges(tokenizer):
    """Codes, users, features, soft tokens, pieces and kinds of texts follow each other."""
    made = pack([[segment()]], tokenizer, 80, 5).histories
    row = made.tokens[0][made.segments[0] > 0]
    prefix = row[made.positions[0][made.segments[0] > 0] == 0]
    soft, features = tokenizer.first_feature + CONTEXT.codes, tokenizer.first_feature
    expected = [soft, soft + 1, soft + 2]  # two for the vector, one for the summary
    expected += [features + 1, features + CONTEXT.features[0].size + 2]  # DE; 18 to 30
    expected += [tokenizer.first_piece + piece for piece in tokenizer.vocabulary.encode(PROMPT)]
    assert prefix.tolist() == [*expected, tokenizer.user("known")]
    assert row[len(prefix) :].tolist() == tokenizer.items[ITEMS_HEARD[:-1]].reshape(-1).tolist()
    assert tokenizer.first_feature == sum(SIZES) + MODEL.user_tokens
    assert tokenizer.first_piece == tokenizer.first_feature + CONTEXT.codes + CONTEXT.soft_tokens


def test_every_target_equals_one_at_a_time_with_a_prefix(model, tokenizer):
    together = losses(model, [[segment()]], tokenizer)
    alone = [
        losses(model, [[Segment("known", ITEMS_HEARD[: t + 1], t, True, EVERYTHING, EARLIER)]], tokenizer)[0]
        for t in range(len(ITEMS_HEARD))
    ]
    np.testing.assert_allclose(together, np.stack(alone), rtol=2e-5, atol=2e-5)


def test_the_prefix_attends_to_itself_and_items_to_the_prefix_and_the_past(model, tokenizer):
    def encoded(context, items):
        made = pack([[segment(context, np.append(items, np.int32(0)))]], tokenizer, 80, 6).histories
        present = made.segments[0] > 0
        return np.asarray(encode(model, made))[0][present], made.positions[0][present]

    before, positions = encoded(EVERYTHING, ITEMS_HEARD)
    other_items = ITEMS_HEARD.copy()
    other_items[2:] = (other_items[2:] + 1) % ITEMS
    after, _ = encoded(EVERYTHING, other_items)
    np.testing.assert_allclose(after[positions <= 2], before[positions <= 2], rtol=1e-5, atol=1e-5)
    assert all(not np.allclose(after[positions == p], before[positions == p], atol=1e-4) for p in (3, 4, 5))
    other_prompt = EVERYTHING._replace(overrides={"country": "FR", "age": "20"})
    after, _ = encoded(other_prompt, ITEMS_HEARD)
    assert all(not np.allclose(after[positions == p], before[positions == p], atol=1e-4) for p in range(6))


@pytest.mark.parametrize("absent", ["country", "age", "vector", "summary", "prompt", "history", "everything"])
def test_any_input_may_be_absent_and_makes_a_difference(model, tokenizer, absent):
    whole = losses(model, [[segment()]], tokenizer)
    context, user, items = EVERYTHING, "known", ITEMS_HEARD
    if absent == "prompt":
        context = context._replace(prompt="")
    elif absent == "history":
        items = items[-1:]
    elif absent == "everything":
        context, items = RequestContext(withheld=frozenset({"all"})), items[-1:]
    else:
        context = context._replace(withheld=frozenset({absent}))
    without = losses(model, [[segment(context, items, user)]], tokenizer)
    assert np.isfinite(without).all()
    assert not np.allclose(without[-1], whole[-1], atol=1e-5)


def test_neighbors_in_a_row_change_nothing(model, tokenizer):
    parts = [
        segment(),
        segment(RequestContext(prompt="music by night"), ITEMS_HEARD[:3], "stranger", EARLIER[:0]),
        segment(RequestContext({"country": "XX"}), ITEMS_HEARD[1:], "known", EARLIER[:1]),
    ]
    alone = np.concatenate([losses(model, [[part]], tokenizer) for part in parts])
    np.testing.assert_allclose(losses(model, [parts], tokenizer), alone, rtol=2e-5, atol=2e-5)


def test_soft_tokens_depend_on_their_vector(model, tokenizer):
    """The offset of a profile has the same effect as earlier items with that mean."""
    offset = np.array([0.5, -1.0, 2.0], np.float32)
    moved = losses(model, [[segment(EVERYTHING._replace(offset=offset))]], tokenizer)
    assert not np.allclose(moved, losses(model, [[segment()]], tokenizer), atol=1e-5)
    mean = tokenizer.user_features.item_vectors[EARLIER].mean(axis=0)
    shifted = tokenizer._replace(user_features=UserFeatures(CONTEXT, None, tokenizer.user_features.item_vectors))
    shifted.user_features.vectors, shifted.user_features._row = (
        tokenizer.user_features.vectors,
        tokenizer.user_features._row,
    )
    shifted.user_features.codes = tokenizer.user_features.codes
    shifted.user_features.item_vectors = np.where(
        np.isin(np.arange(ITEMS), EARLIER)[:, None], mean + offset, tokenizer.user_features.item_vectors
    )
    np.testing.assert_allclose(losses(model, [[segment()]], shifted), moved, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prompt", ["静かな音楽を 🎷", "что-нибудь", "x" * 40, "   "])
def test_prompts_may_be_in_any_language(model, tokenizer, prompt):
    made = histories(["known"], [ITEMS_HEARD], tokenizer, 6, contexts=[RequestContext(prompt=prompt)])
    assert np.isfinite(encode(model, made)[0][made.segments[0] > 0]).all()


def test_prompts_have_few_shapes_and_too_long_ones_are_errors(tokenizer):
    def width(prompt):
        return histories(
            ["a", "b"],
            [ITEMS_HEARD] * 2,
            tokenizer,
            6,
            contexts=[RequestContext(prompt=prompt), RequestContext()],
        ).tokens.shape[1]

    plain = tokenizer.length(6)
    assert [width(prompt) - plain for prompt in ("", "calm", "calm " * 10, "calm " * 40)] == [0, 16, 96, 96]
    with pytest.raises(PromptError, match=r"5,000 characters .* at most 96"):
        width("🎷" * 5000)
    assert len(tokenizer.prompt("🎷" * 5000, serving=False)) == 16  # training cuts
    with pytest.raises(PromptError, match="prompts.columns"):
        histories(
            ["a"],
            [ITEMS_HEARD],
            tokenizer._replace(prompt_tokenizer=None),
            6,
            contexts=[RequestContext(prompt="calm")],
        )


def test_pieces_that_do_not_occur_in_training_are_skipped(tokenizer):
    trained = np.zeros(len(tokenizer.vocabulary), bool)
    trained[tokenizer.vocabulary.encode("something calm")] = True
    filtering = tokenizer._replace(prompt_tokenizer=tokenizer.prompt_tokenizer._replace(trained=trained))
    assert filtering.prompt("🎷 something calm 音楽").tolist() == tokenizer.vocabulary.encode("something calm").tolist()
    assert len(filtering.prompt("音楽")) == 0 < len(tokenizer.prompt("音楽"))


def test_texts_are_predicted_from_the_history_and_the_pieces_before(model, tokenizer):
    read = histories(["", ""], [ITEMS_HEARD[:1], ITEMS_HEARD], tokenizer, 6)
    pieces = np.full((2, 8), -1, np.int32)
    for row, text in enumerate((PROMPT, "music")):
        encoded = tokenizer.vocabulary.encode(text)[:8]
        pieces[row, : len(encoded)] = encoded
    texts = TextExamples(read, pieces, np.array([0, 2], np.int32))
    text_losses = nnx.jit(Recommender.text_losses)
    together = np.asarray(text_losses(model, texts))
    assert (together[pieces < 0] == 0).all() and (together[pieces >= 0] > 0).all()
    # Later pieces change nothing before them; what is read, and which text it is, do.
    changed = pieces.copy()
    changed[0, 4:] = 5
    np.testing.assert_allclose(text_losses(model, texts._replace(pieces=changed))[0, :4], together[0, :4], rtol=1e-5)
    other_kind = text_losses(model, texts._replace(kinds=np.array([1, 1], np.int32)))
    swapped = text_losses(model, texts._replace(histories=jax.tree.map(lambda x: x[::-1], read)))
    for after in (other_kind, swapped):
        assert not np.allclose(after[0], together[0], atol=1e-4)
    logits = nnx.jit(Recommender.text_logits)(model, read, texts.kinds, np.maximum(pieces[:, :-1], 0))
    expected = -np.take_along_axis(jax.nn.log_softmax(logits), np.maximum(pieces, 0)[..., None], axis=2)[..., 0]
    np.testing.assert_allclose(together[pieces >= 0], expected[pieces >= 0], rtol=1e-4, atol=1e-5)
