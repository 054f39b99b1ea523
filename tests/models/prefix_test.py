"""The model's prefix: who sees what, what is absent, and texts. On a tiny model whose parameters are all non-zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx

from genrec import config
from genrec.input_pipeline.context import Context, Feature, RequestContext, Soft, Users
from genrec.input_pipeline.examples import PromptError, Segment, Texts, Tokenizer, histories, pack
from genrec.input_pipeline.vocabulary import Vocabulary
from genrec.models.recommender import Conditioning, Recommender

SIZES = (5, 4, 3)
ITEMS = 12
MODEL = config.Model(
    width=16, encoder_layers=2, decoder_layers=2, heads=2, head_width=8, mlp=24, user_tokens=7, repeat_bias=True
)
CONTEXT = Context(
    (Feature("country", values=("DE", "FR")), Feature("age", edges=(18.0, 30.0))),
    (Soft("vector", 4, 2), Soft("summary", 3, 1)),
)
PROMPT = "something calm and bold"
EVERYTHING = RequestContext({"country": "DE", "age": "20"}, prompt=PROMPT)


@pytest.fixture(scope="module")
def tokenizer():
    random = np.random.default_rng(0)
    every = np.stack(np.meshgrid(*(range(size) for size in SIZES), indexing="ij"), axis=-1).reshape(-1, len(SIZES))
    chosen = every[random.permutation(len(every))[:ITEMS]] + np.cumsum((0, *SIZES[:-1]))
    table = pa.table({"user_id": ["known"], "vector": [random.normal(size=4).tolist()]})
    users = Users(CONTEXT, table, random.normal(size=(ITEMS, 3)).astype(np.float32))
    words = Vocabulary.train([PROMPT, "music by night"] * 20, 40)
    return Tokenizer(chosen.astype(np.int32), sum(SIZES), MODEL.user_tokens, users, words, longest_prompt=16)


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


def test_no_two_meanings_share_a_token(tokenizer):
    """Codes, users, features, soft tokens, pieces and kinds of texts are ranges one after the other."""
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


def test_the_prefix_sees_itself_alone_and_items_see_the_prefix_and_no_future(model, tokenizer):
    def encoded(told, items):
        made = pack([[segment(told, np.append(items, np.int32(0)))]], tokenizer, 80, 6).histories
        there = made.segments[0] > 0
        return np.asarray(encode(model, made))[0][there], made.positions[0][there]

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
    told, user, items = EVERYTHING, "known", ITEMS_HEARD
    if absent == "prompt":
        told = told._replace(prompt="")
    elif absent == "history":
        items = items[-1:]
    elif absent == "everything":
        told, items = RequestContext(withheld=frozenset({"all"})), items[-1:]
    else:
        told = told._replace(withheld=frozenset({absent}))
    without = losses(model, [[segment(told, items, user)]], tokenizer)
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


def test_soft_tokens_carry_their_vector(model, tokenizer):
    """A profile's offset moves the summary: the same as if the earlier items had that mean."""
    offset = np.array([0.5, -1.0, 2.0], np.float32)
    moved = losses(model, [[segment(EVERYTHING._replace(offset=offset))]], tokenizer)
    assert not np.allclose(moved, losses(model, [[segment()]], tokenizer), atol=1e-5)
    mean = tokenizer.known.item_vectors[EARLIER].mean(axis=0)
    shifted = tokenizer._replace(known=Users(CONTEXT, None, tokenizer.known.item_vectors))
    shifted.known.vectors, shifted.known._row = tokenizer.known.vectors, tokenizer.known._row
    shifted.known.codes = tokenizer.known.codes
    shifted.known.item_vectors = np.where(
        np.isin(np.arange(ITEMS), EARLIER)[:, None], mean + offset, tokenizer.known.item_vectors
    )
    np.testing.assert_allclose(losses(model, [[segment()]], shifted), moved, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prompt", ["静かな音楽を 🎷", "что-нибудь", "x" * 40, "   "])
def test_any_language_can_be_prompted_in(model, tokenizer, prompt):
    made = histories(["known"], [ITEMS_HEARD], tokenizer, 6, contexts=[RequestContext(prompt=prompt)])
    assert np.isfinite(encode(model, made)[0][made.segments[0] > 0]).all()


def test_prompts_have_few_shapes_and_too_long_ones_are_refused(tokenizer):
    def width(prompt):
        return histories(
            ["a", "b"],
            [ITEMS_HEARD] * 2,
            tokenizer,
            6,
            contexts=[RequestContext(prompt=prompt), RequestContext()],
        ).tokens.shape[1]

    plain = tokenizer.length(6)
    assert [width(prompt) - plain for prompt in ("", "calm", "calm " * 10, "calm " * 40)] == [0, 16, 32, 96]
    with pytest.raises(PromptError, match=r"5,000 characters is .* at most 96 .*Shorten"):
        width("🎷" * 5000)
    assert len(tokenizer.prompt("🎷" * 5000, serving=False)) == 16  # training cuts
    with pytest.raises(PromptError, match="knows no words"):
        histories(
            ["a"],
            [ITEMS_HEARD],
            tokenizer._replace(vocabulary=None),
            6,
            contexts=[RequestContext(prompt="calm")],
        )


def test_words_that_training_never_had_are_not_read(tokenizer):
    loaded = np.zeros(len(tokenizer.vocabulary), bool)
    loaded[tokenizer.vocabulary.encode("something calm")] = True
    knowing = tokenizer._replace(trained_pieces=loaded)
    assert knowing.prompt("🎷 something calm 音楽").tolist() == tokenizer.vocabulary.encode("something calm").tolist()
    assert len(knowing.prompt("音楽")) == 0 < len(tokenizer.prompt("音楽"))


def test_texts_are_predicted_from_what_was_read_and_the_pieces_before(model, tokenizer):
    read = histories(["", ""], [ITEMS_HEARD[:1], ITEMS_HEARD], tokenizer, 6)
    pieces = np.full((2, 8), -1, np.int32)
    for row, text in enumerate((PROMPT, "music")):
        said = tokenizer.vocabulary.encode(text)[:8]
        pieces[row, : len(said)] = said
    texts = Texts(read, pieces, np.array([0, 2], np.int32))
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
