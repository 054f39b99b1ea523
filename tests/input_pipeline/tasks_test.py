"""Batches of a training mixture with request context, prompts and texts."""

import jax
import numpy as np
import pyarrow as pa
import pytest

from genrec import config
from genrec.data.dataset import Catalogue, Sequence
from genrec.input_pipeline import context, tasks
from genrec.input_pipeline.context import Context, Feature, UserFeatures, VectorFeature
from genrec.input_pipeline.examples import Tokenizer
from genrec.input_pipeline.prompts import PromptSampler
from genrec.input_pipeline.tasks import Mixture
from genrec.input_pipeline.training_batches import MEMORY, TrainingBatches
from genrec.input_pipeline.vocabulary import PromptTokenizer, Vocabulary

ITEMS, USERS, LEVELS, MAX_HISTORY = 60, 120, 2, 5
LENGTHS = np.random.default_rng(0).geometric(0.15, USERS)
CONTEXT = Context(
    (
        Feature("country", values=("DE", "FR")),
        Feature("kind", values=("music", "podcast"), of="item"),
        Feature(context.TIME_OF_DAY, edges=context.HOURS, of="time"),
    ),
    (VectorFeature("vector", 3, 1), VectorFeature("summary", 4, 2)),
)


class InMemory:
    """User u chooses the items u, u + 1, ... at the hours u, u + 1, ..."""

    lengths = LENGTHS.astype(np.int32)

    def read(self, indices):
        return [
            Sequence(
                f"user{u}",
                ((u + np.arange(LENGTHS[u])) % ITEMS).astype(np.int32),
                3600 * (u + np.arange(LENGTHS[u])),
            )
            for u in indices
        ]


@pytest.fixture(scope="module")
def catalogue():
    table = {
        "item_id": [f"{n}" for n in range(ITEMS)],
        "title": [f"title {n}" for n in range(ITEMS)],
        "kind": ["music" if n % 2 else "podcast" for n in range(ITEMS)],
        "genre": [f"genre{n % 7}" for n in range(ITEMS)],
    }
    return Catalogue(pa.table(table), ("title",))


@pytest.fixture(scope="module")
def parts(catalogue):
    """Tokenizer and mixture; every item has a token of its own at every level, so that batches can be read back."""
    users = pa.table(
        {
            "user_id": [f"user{u}" for u in range(USERS)],
            "country": ["DE" if u % 2 else "FR" for u in range(USERS)],
            "vector": [[float(u), 1.0, 2.0] for u in range(USERS)],
        }
    )
    vectors = np.random.default_rng(1).normal(size=(ITEMS, 4)).astype(np.float32)
    words = Vocabulary.train([*catalogue.titles, "music podcasts genre about"] * 3, 60)
    items = (np.arange(ITEMS)[:, None] * LEVELS + np.arange(LEVELS)).astype(np.int32)
    tokenizer = Tokenizer(items, ITEMS * LEVELS, 50, UserFeatures(CONTEXT, users, vectors), PromptTokenizer(words, 12))
    prompts = config.Prompts(columns=("kind:kind", "genre:about"), longest=12, history=3, texts=True, longest_text=10)
    prompts.examples = 1.5
    settings = config.Context(("country",), ("kind",), True, dropout=0.3, drop_all=0.1, request_time_examples=0.5)
    item_codes = context.item_feature_codes(CONTEXT, catalogue)
    return tokenizer, Mixture(settings, PromptSampler(prompts, catalogue), item_codes)


def batches(parts, seed=0, **arguments):
    tokenizer, mixture = parts
    settings = config.Training(max_history=MAX_HISTORY, row_targets=8, batch_targets=64)
    return TrainingBatches(InMemory(), tokenizer, settings, seed, mixture=mixture, **arguments)


def equal(found, expected, rows=slice(None)):
    same = jax.tree.map(lambda a, b: np.array_equal(a, b[rows]), found, expected)
    return all(jax.tree.leaves(same))


def test_a_batch_depends_on_seed_and_step_alone(parts):
    first, again = batches(parts), batches(parts)
    steps = (2 * first.steps_per_epoch + 1, 0, 3)
    expected = {step: first.batch(step) for step in sorted(steps)}
    assert all(equal(again.batch(step), expected[step]) for step in steps)
    assert not equal(batches(parts, seed=1).batch(0), expected[0])
    assert not equal(first.batch(first.steps_per_epoch).texts, expected[0].texts)


@pytest.mark.parametrize("memory", [0, MEMORY])
@pytest.mark.parametrize("rows", [slice(1, 3), np.array([3, 0, 3])])
def test_rows_are_those_of_the_whole_batch(parts, rows, memory):
    data = batches(parts, rows_multiple=4, memory=memory)
    for step in (0, data.steps_per_epoch + 2):
        assert equal(data.batch(step, rows), data.batch(step), rows)


def segments_of(batch, row):
    """Tokens and positions of each segment of a row, with its targets."""
    made = batch.histories
    for number in range(1, made.segments[row].max(initial=0) + 1):
        mine, targets = made.segments[row] == number, batch.target_segments[row] == number
        yield made.tokens[row][mine], made.positions[row][mine], batch.targets[row][targets][:, 0] // LEVELS


def test_an_epoch_holds_the_log_once_and_the_planned_number_of_other_segments(parts, catalogue):
    tokenizer, mixture = parts
    data = batches(parts)
    counts = np.bincount(data.segments.task, minlength=6)
    log = counts[tasks.LOG]
    assert counts[tasks.REQUEST_TIME] == round(0.5 * log)
    cfg = mixture.prompts.cfg
    weights = np.array([cfg.next_item, cfg.any_item, cfg.attributes])
    for task, weight in zip((tasks.NEXT_ITEM, tasks.ANY_ITEM, tasks.ATTRIBUTES), weights, strict=True):
        assert counts[task] == round(1.5 * log * weight / (weights.sum() + cfg.title))
    prompted = in_context = features = 0
    for step in range(data.steps_per_epoch):
        batch = data.batch(step)
        for row in range(len(batch.targets)):
            for ids, positions, targets in segments_of(batch, row):
                prefix = ids[positions == 0]
                pieces = prefix[prefix >= tokenizer.first_piece] - tokenizer.first_piece
                codes = prefix[(prefix >= tokenizer.first_feature) & (prefix < tokenizer.first_feature + CONTEXT.codes)]
                features += len(codes)
                if len(pieces):
                    prompted += 1
                    text = tokenizer.vocabulary.decode(pieces)
                    assert len(targets) == 1
                    if text.startswith("title"):  # its own
                        assert text == catalogue.titles[targets[0]]
                request_time = codes - tokenizer.first_feature - CONTEXT.features[0].size
                if (request_time >= 0).any():
                    in_context += 1
                    assert len(targets) == 1
                    kind = [code for code in request_time if 0 <= code < CONTEXT.features[1].size]
                    if kind:  # the target's
                        assert CONTEXT.features[1].values[kind[0] - 1] == ("music" if targets[0] % 2 else "podcast")
    planned = data.rows * data.steps_per_epoch / data.packing.rows
    with_prompt = counts[list(tasks.WITH_PROMPT)].sum()
    assert 0.85 * planned * with_prompt <= prompted <= with_prompt
    assert 0.5 * counts[tasks.REQUEST_TIME] < in_context < counts[tasks.REQUEST_TIME] and features > in_context


def test_soft_tokens_are_those_of_the_segment(parts):
    tokenizer, _ = parts
    batch = batches(parts).batch(0)
    vector, summary = batch.histories.soft
    first = tokenizer.first_feature + CONTEXT.codes
    seen = 0
    for row, places in enumerate(vector.places):
        for slot, place in enumerate(places):
            if place < batch.histories.tokens.shape[1]:
                assert batch.histories.tokens[row, place] == first
                number = batch.histories.segments[row, place]
                of_segment = batch.histories.tokens[row][batch.histories.segments[row] == number]
                user = int(vector.vectors[row, slot, 0])
                assert tokenizer.user(f"user{user}") in of_segment
                seen += 1
    assert seen
    for row, places in enumerate(summary.places):
        for place in places[places < batch.histories.tokens.shape[1]]:
            assert batch.histories.tokens[row, place : place + 2].tolist() == [first + 1, first + 2]


def test_target_texts_describe_the_encoded_items(parts, catalogue):
    tokenizer, mixture = parts
    kinds = set()
    for step in range(6):
        texts = batches(parts).batch(step).texts
        for row, kind in enumerate(texts.kinds):
            kinds.add(int(kind))
            codes = texts.histories.tokens[row][texts.histories.positions[row] > 0]
            items = codes.reshape(-1, LEVELS)[:, 0] // LEVELS
            pieces = texts.pieces[row][texts.pieces[row] >= 0]
            expected = {
                tasks.ITEM_TITLE: lambda items=items: catalogue.titles[items[0]],
                tasks.ITEM_ATTRIBUTES: lambda items=items: mixture.prompts.description(items[0]),
                tasks.TASTE: lambda items=items: mixture.prompts.taste(items),
            }[int(kind)]()
            wanted = np.append(tokenizer.vocabulary.encode(expected), tokenizer.vocabulary.end)[:10]
            assert pieces.tolist() == wanted.tolist()
            assert kind == tasks.TASTE or len(items) == 1
    assert kinds == {0, 1, 2}


def test_a_mixture_of_the_log_only_plans_no_other_segments():
    log = tasks.Segments.of(**dict.fromkeys(("sequence", "start", "stop", "first_target", "task"), np.arange(3)))
    assert tasks.plan(np.array([4, 4, 4]), log, tasks.LOG_ONLY, 5, 0) is log
