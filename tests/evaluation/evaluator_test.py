"""The evaluator against the model's own losses over all items, with histories of many lengths and a ragged batch."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh

from genrec import config, sharding
from genrec.data.dataset import Sequence
from genrec.data.errors import DataError
from genrec.data.timestamps import HOUR
from genrec.decoding import loaded_model
from genrec.decoding.new_item_quota import QuotaRetriever
from genrec.decoding.retrieval import Retriever
from genrec.decoding.sorted_table import SortedTable
from genrec.evaluation.evaluator import Evaluator, FoundLists, item_ranks
from genrec.input_pipeline.context import RequestContext
from genrec.input_pipeline.examples import Segment, Tokenizer, pack
from genrec.models.recommender import Recommender
from genrec.semantic_ids.codes import SemanticIds

SIZES = (4, 3, 2)
ITEMS = 20
MAX_HISTORY = 6
MODEL = config.Model(
    width=16,
    encoder_layers=1,
    decoder_layers=1,
    heads=2,
    head_width=8,
    mlp=32,
    position_buckets=8,
    repeat_bias=True,
    user_tokens=5,
)


class Split:
    """User i has the id "u<i>", and a history of i % 9 items: some longer than the model reads."""

    def __init__(self, users: int):
        random = np.random.default_rng(0)
        self.records = [
            Sequence(f"u{i}", random.integers(0, ITEMS, i % 9 + 1).astype(np.int32), np.arange(i % 9 + 1))
            for i in range(users)
        ]
        self.lengths = np.array([len(record.items) for record in self.records], np.int32)

    def __len__(self):
        return len(self.records)

    def read(self, indices):
        return [self.records[index] for index in indices]


class Dataset:
    path = "somewhere/dataset"

    def __init__(self, users: int):
        self.only = Split(users)

    def split(self, name):
        assert name == "test"
        return self.only


@functools.cache
def semantic_ids() -> SemanticIds:
    everything = np.array(list(itertools.product(*map(range, SIZES))), np.uint16)
    return SemanticIds(np.random.default_rng(0).permutation(everything)[:ITEMS], SIZES)


@functools.cache
def model(seed: int = 0) -> Recommender:
    made = Recommender(MODEL, SIZES, nnx.Rngs(seed))
    random = np.random.default_rng(seed)
    # These start as zeros, which would hide a search that reorders beams wrongly.
    for param in (made.repeat_bias.from_encoder, made.repeat_bias.from_decoder):
        param[...] = random.normal(size=param.shape).astype(np.float32)
    return made


@functools.cache
def retriever(beams: int, mesh: Mesh | None) -> Retriever:
    return Retriever.of_table(nnx.graphdef(model()), SortedTable.build(semantic_ids().codes, SIZES), beams, mesh)


def evaluator(
    users: int = 23, limit: int = 0, beams: int = ITEMS, causal: bool = True, batch: int = 4, mesh=None, **settings: int
) -> Evaluator:
    return Evaluator(
        retriever(beams, mesh),
        Dataset(users),
        "test",
        config.Evaluation(beams=beams, batch=batch, cutoffs=(1, 5, 10, 50), **settings),
        tokenizer(),
        MAX_HISTORY,
        causal,
        users=limit,
    )


def collect(checked: Evaluator, params: nnx.State) -> FoundLists:
    """Returns all lists, in the order of the split."""
    parts = list(checked.search(params))
    order = np.argsort(np.concatenate([part.places for part in parts]))
    columns = {
        field.name: np.concatenate([np.asarray(getattr(part, field.name)) for part in parts])[order]
        for field in dataclasses.fields(FoundLists)
    }
    return FoundLists(**{**columns, "user_ids": columns["user_ids"].tolist()})


def tokenizer() -> Tokenizer:
    return Tokenizer(semantic_ids().tokens(), sum(SIZES), MODEL.user_tokens)


@jax.jit
def losses(examples):
    return model().losses(examples)


def log_likelihoods(record: Sequence, causal: bool) -> np.ndarray:
    """Returns float[items] by the training loss, from one row per item."""
    history = record.items[:-1][-MAX_HISTORY:]
    rows = [
        [Segment(record.user_id, np.append(history, item).astype(np.int32), len(history), causal)]
        for item in range(ITEMS)
    ]
    examples = pack(rows, tokenizer(), tokenizer().length(MAX_HISTORY), 1)
    return -np.asarray(losses(examples).sum(axis=(1, 2)))


@pytest.mark.parametrize("causal", [True, False])
def test_recommendations_are_ordered_by_the_likelihood_of_the_training_loss(causal):
    records = Split(11).records
    found = collect(evaluator(users=11, causal=causal), nnx.state(model()))
    assert found.user_ids == [record.user_id for record in records]
    for user, record in enumerate(records):
        exact = log_likelihoods(record, causal)
        assert sorted(found.recommended[user].tolist()) == list(range(ITEMS))
        np.testing.assert_allclose(found.scores[user], exact[found.recommended[user]], rtol=1e-4, atol=1e-4)
        assert (np.diff(found.scores[user]) <= 0).all()
        assert found.targets[user] == record.items[-1]
        assert found.recommended[user, found.ranks[user] - 1] == record.items[-1]
        history = set(record.items[:-1].tolist())  # more of it than the model reads
        assert set(found.recommended[user][found.repeats[user]].tolist()) == history
        assert found.target_repeats[user] == (record.items[-1] in history)


def test_batching_and_buckets_change_nothing():
    params = nnx.state(model())
    together, alone = collect(evaluator(batch=64), params), collect(evaluator(batch=2), params)
    assert together.user_ids == alone.user_ids
    np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(together.ranks, alone.ranks)
    assert evaluator(batch=64).measure(params) == evaluator(batch=2).measure(params)


def test_every_mesh_gives_the_same_ranks():
    mesh = sharding.make_mesh(config.Mesh(2, 2, 2))
    params = nnx.state(model())
    alone = collect(evaluator(batch=8), params)
    together = collect(evaluator(batch=8, mesh=mesh), jax.device_put(params, sharding.named(mesh)))
    np.testing.assert_array_equal(together.ranks, alone.ranks)
    np.testing.assert_array_equal(together.recommended, alone.recommended)


def test_new_parameters_give_new_results_without_compiling_again(caplog):
    retriever.cache_clear()
    checked = evaluator(users=5)
    params, others = nnx.state(model()), nnx.state(model(seed=1))
    with jax.log_compiles():
        first = collect(checked, params)
        assert "search" in caplog.text
        caplog.clear()
        second = collect(checked, others)
        assert "search" not in caplog.text
    assert not np.allclose(first.scores, second.scores)


def test_a_limit_chooses_the_same_users_spread_over_the_split():
    first, second = (collect(evaluator(limit=9), nnx.state(model())) for _ in range(2))
    assert first.user_ids == second.user_ids and len(set(first.user_ids)) == 9
    assert first.user_ids != [f"u{i}" for i in range(9)]
    everyone = collect(evaluator(), nnx.state(model()))
    for user_id, rank in zip(first.user_ids, first.ranks, strict=True):
        assert rank == everyone.ranks[everyone.user_ids.index(user_id)]


def test_cutoffs_beyond_the_beams_are_left_out():
    found = evaluator(users=5, beams=5).measure(nnx.state(model()))
    assert "recall@5" in found and "recall@10" not in found


def test_wider_beams_certify_lists():
    """Certified items are the most likely ones by the training loss."""
    users, params = 11, nnx.state(model())
    narrow = collect(evaluator(users, beams=5, batch=16), params)
    wide = collect(evaluator(users, beams=5, batch=16, max_beams=ITEMS), params)
    assert (narrow.certified < 5).any() and (wide.certified == 5).all()
    records = Split(users).records
    for found in (narrow, wide):
        for user, sure in enumerate(found.certified):
            exact = np.sort(log_likelihoods(records[user], causal=True))[::-1]
            np.testing.assert_allclose(found.scores[user, :sure], exact[:sure], rtol=1e-4, atol=1e-4)


def test_excluded_histories_leave_full_lists_of_the_most_likely_other_items():
    """All items before the target are excluded, not only those that the model reads."""
    users, params = 23, nnx.state(model())
    records = Split(users).records
    exact = [log_likelihoods(record, causal=True) for record in records]
    everything = collect(evaluator(users, exclude_history=True), params)
    certified = collect(evaluator(users, beams=5, max_beams=ITEMS, certify=5, exclude_history=True), params)
    assert (certified.recommended >= 0).all() and (certified.certified == 5).all()
    for user, record in enumerate(records):
        history = record.items[:-1]
        order = [item for item in np.argsort(-exact[user]) if item not in history]
        np.testing.assert_allclose(certified.scores[user], exact[user][order[:5]], rtol=1e-4, atol=1e-4)
        for found in (everything, certified):
            assert not np.isin(found.recommended[user], history).any() and not found.repeats[user].any()
        assert sorted(everything.recommended[user][: len(order)]) == sorted(order)
        assert (everything.recommended[user][len(order) :] == -1).all()
        assert (everything.ranks[user] == 0) == (record.items[-1] in history) == everything.target_repeats[user]
    assert everything.target_repeats.any()


def test_a_quota_of_new_items_excludes_histories_too():
    cfg, is_new = config.Evaluation(beams=8, batch=4, cutoffs=(5,), exclude_history=True), np.arange(ITEMS) % 3 == 0
    with_quota = QuotaRetriever(
        nnx.graphdef(model()), SortedTable.build(semantic_ids().codes, SIZES), cfg.beams, is_new, 0.25
    )
    checked = Evaluator(with_quota, Dataset(9), "test", cfg, tokenizer(), MAX_HISTORY, causal=True)
    found = collect(checked, nnx.state(model()))
    assert (found.recommended >= 0).all() and (is_new[found.recommended].sum(axis=1) >= 2).all()
    assert not found.repeats.any()


@pytest.mark.parametrize("setting", [{"certify": 0}, {"max_beams": 4}])
def test_contradicting_search_settings_are_an_error(setting):
    with pytest.raises(config.ConfigError, match=f"evaluation.{next(iter(setting))}"):
        evaluator(users=3, beams=5, **setting)


def test_an_empty_split_is_an_error():
    with pytest.raises(DataError, match="test split"):
        evaluator(users=0)


def test_ranks_are_item_exact():
    recommended = np.array([[7, 2, 5], [7, 2, -1], [4, 3, 1]])
    assert item_ranks(recommended, np.array([2, 5, 4])).tolist() == [2, 0, 1]


def test_features_and_history_can_be_withheld(listener):
    """Against the same users' histories made by hand."""
    loaded = loaded_model.load(listener)
    table = SortedTable.build(loaded.semantic_ids.codes, loaded.semantic_ids.sizes)

    search = Retriever.of_table(loaded.graphdef, table, 20)

    def run(**settings) -> FoundLists:
        cfg = config.Evaluation(beams=20, batch=8, **settings)
        reading = loaded.tokenizer, loaded.max_history, loaded.record.causal
        return collect(Evaluator(search, loaded.dataset, "test", cfg, *reading, users=8), loaded.params)

    media_type = loaded.dataset.catalogue.column("media_type").to_pylist()
    found = {
        "all": run(),
        "history": run(history=2),
        "no history": run(history=0),
        "without": run(withheld_features=("country", "vector")),
        "silent": run(withheld_features=("all",)),
        "moment": run(request_time=True),
    }
    split = loaded.dataset.split("test")
    records = {record.user_id: record for record in split.read(range(len(split)))}
    records = [records[user_id] for user_id in found["all"].user_ids]
    items = [record.items[:-1] for record in records]
    hours = [str(record.timestamps[-1] // HOUR % 24) for record in records]
    asked = {
        "all": (items, [RequestContext()] * 8),
        "history": ([one[-2:] for one in items], [RequestContext()] * 8),
        "no history": ([one[:0] for one in items], [RequestContext()] * 8),
        "without": (items, [RequestContext(withheld=frozenset({"country", "vector"}))] * 8),
        "silent": (items, [RequestContext(withheld=frozenset({"all"}))] * 8),
        "moment": (
            items,
            [
                RequestContext({"media_type": media_type[record.items[-1]], "time_of_day": hour})
                for record, hour in zip(records, hours, strict=True)
            ],
        ),
    }
    names = [record.user_id for record in records]
    for name, (heard, told) in asked.items():
        expected = search(loaded.params, loaded.histories(names, heard, contexts=told))
        np.testing.assert_allclose(found[name].scores, expected.scores, rtol=1e-4, atol=1e-4)
        others = [other for other in found if other != name]
        assert all(not np.allclose(found[other].scores, found[name].scores, atol=1e-4) for other in others)
    with pytest.raises(DataError, match="shoe_size"):
        run(withheld_features=("shoe_size",))
