"""The generator of a bundle: a `serving.engine.Generator` whose functions are the programs of the bundle."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from genrec import files
from genrec.data.dataset import Catalogue
from genrec.decoding.beam_search import RankedItems
from genrec.decoding.live_index import LiveIndex
from genrec.decoding.retrieval import take
from genrec.decoding.search_inputs import Inputs
from genrec.decoding.sorted_table import SortedTable
from genrec.input_pipeline import examples
from genrec.input_pipeline.context import SUMMARY, Context, RequestContext, UserFeatures
from genrec.input_pipeline.examples import Examples, Histories, Tokenizer
from genrec.input_pipeline.transitions import CodeShares, Transitions
from genrec.models.run_record import RunRecord
from genrec.ranking.features import unit
from genrec.ranking.item_knn import ItemKnn
from genrec.ranking.lists import KNN, POPULAR, SASREC, TRANSITIONS, Scorer
from genrec.ranking.popular import MostPopular
from genrec.ranking.transitions import Transitions as TransitionSource
from genrec.semantic_ids.codes import SemanticIds
from genrec.serving import bundle
from genrec.serving.bundle import Bundle, Programs
from genrec.serving.search_programs import CACHE_BYTES, EXCLUDED, EncodedSearcher, SearchKey
from genrec.serving.served_ranker import ServedRanker, ServedSequential


class ScoreShape(NamedTuple):
    """The shapes of a program that scores given items."""

    rows: int
    targets: int
    room: int  # for prompts, in pieces


def score_shapes(tokenizer: Tokenizer) -> list[ScoreShape]:
    """Returns the shapes of all programs that score items: one request, or many changed ones for an explanation."""
    return [ScoreShape(*shape, room) for room in tokenizer.prompt_rooms for shape in ((1, 64), (16, 16))]


def score_name(shape: ScoreShape) -> str:
    """Returns the name of the program that scores given items."""
    return f"score_room{shape.room}_rows{shape.rows}_targets{shape.targets}"


def encoder_name(batch: int, room: int) -> str:
    """Returns the name of an encoder's program."""
    return f"encode_room{room}_batch{batch}"


def with_capacity(targets: Examples, capacity: int) -> tuple[Examples, np.ndarray | None]:
    """Returns examples as the programs read them: with mentions, arrays of `capacity` items, and the items' tokens."""
    mentions = targets.histories.mentions
    if mentions is None:
        return targets, None
    assert mentions.catalogue is not None, "the mentions are those of a search"
    tokens, bits = mentions.catalogue.tokens, np.asarray(mentions.items)
    more = capacity - len(tokens)
    mentions = dataclasses.replace(mentions, items=np.pad(bits, ((0, 0), (0, 0), (0, more))), catalogue=None)
    histories = targets.histories._replace(mentions=mentions)
    return targets._replace(histories=histories), np.pad(tokens, ((0, more), (0, 0)), constant_values=-1)


@dataclasses.dataclass
class ServedDataset:
    """The catalogue of a bundle, with the items that were added since."""

    catalogue: Catalogue
    has_times: bool


@dataclasses.dataclass
class ServedCodes:
    """The semantic IDs of all items of the catalogue, also of those that were removed."""

    codes: np.ndarray  # uint16[items, levels]


class GrownModel(NamedTuple):
    """Parts of a model that depend on the catalogue, for another one with new items at its end."""

    catalogue: Catalogue
    codes: np.ndarray  # uint16[items, levels]
    item_vectors: np.ndarray | None  # float32[items, width], for summaries
    tokenizer: Tokenizer
    first_codes: np.ndarray  # int32[capacity]
    of_ranker: np.ndarray  # float32[new, width], vectors of new items, of length 1 if there is a ranker


def _scorers(of: Bundle, mixture: Transitions | None) -> dict[str, Scorer]:
    """Returns the baselines of a bundle by name."""
    found: dict[str, Scorer] = {}
    if bundle.ITEM_KNN in of:
        found[KNN] = ItemKnn.of_arrays(of.arrays(bundle.ITEM_KNN))
    if mixture is not None:
        found[TRANSITIONS] = TransitionSource(mixture)
    if bundle.POPULARITY in of:
        found[POPULAR] = MostPopular(of.arrays(bundle.POPULARITY)["counts"])
    return found


class ServedModel:
    """The model of a bundle. Its catalogue grows by `grown` and `use`."""

    def __init__(self, of: Bundle, cache_bytes: int = CACHE_BYTES):
        self.card, self.programs = of.card, Programs(of)
        self.record = RunRecord(**of.json(bundle.RECORD))
        table = files.parse_parquet(of.read(bundle.CATALOGUE))
        arrays, weights = of.arrays(bundle.ARRAYS), of.arrays(bundle.WEIGHTS)
        self.params = [jnp.asarray(weights[name]) for name in of.card.weights]
        self.dataset = ServedDataset(Catalogue(table, of.card.text_fields), of.card.has_times)
        self.semantic_ids = ServedCodes(arrays["codes"])
        self.new_items = {name[10:]: array for name, array in arrays.items() if name.startswith("new_items.")}
        self._transitions = None
        if bundle.TRANSITIONS in of:
            self._transitions = Transitions.of_arrays(of.arrays(bundle.TRANSITIONS))
        users = files.parse_parquet(of.read(bundle.USERS)) if bundle.USERS in of else None
        item_vectors, sequential = arrays.get("item_vectors"), None
        if bundle.SEQUENTIAL in of:
            sequential = ServedSequential(of, self.programs)
        self.tokenizer = self._tokenizer(users, item_vectors, sequential)
        self.ranker, self.scorers = None, _scorers(of, self._transitions)
        if sequential is not None and bundle.RANKER in of:
            catalogue, transitions = self.dataset.catalogue, self._transitions
            self.ranker = ServedRanker(of, sequential, catalogue, users, item_vectors, transitions)
            self.scorers[SASREC] = sequential
        live = LiveIndex(
            SortedTable.build(arrays["codes"], of.card.sizes),
            self.dataset.catalogue,
            filters=of.card.batch_sizes[-1] + 1,
            layout=of.card.index_layout,
            excluded=EXCLUDED,
        )
        self.search = EncodedSearcher(
            live,
            self.tokenizer,
            self.max_history,
            self._encode,
            self._search,
            of.card.beams,
            of.card.beams,
            self._first_codes(arrays["codes"]),
            of.card.batch_sizes,
            cache_bytes,
        )

    def _tokenizer(
        self, users: pa.Table | None, item_vectors: np.ndarray | None, sequential: ServedSequential | None
    ) -> Tokenizer:
        context = Context.from_json(self.record.context)
        summary = item_vectors if SUMMARY in context.names else None
        features = UserFeatures(context, users, summary, None if sequential is None else sequential.vectors)
        ids = SemanticIds(self.semantic_ids.codes, self.card.sizes)
        shares = self._code_shares(self.semantic_ids.codes)
        return self.record.tokenizer(ids, features, shares, self.dataset.catalogue)

    def _code_shares(self, codes: np.ndarray) -> CodeShares | None:
        if self._transitions is None or not self.record.transitions:
            return None
        return CodeShares.of(self._transitions, codes, self.card.sizes)

    def _first_codes(self, codes: np.ndarray) -> np.ndarray:
        first = np.zeros(self.card.item_capacity, np.int32)
        first[: len(codes)] = codes[:, 0]
        return first

    def grown(self, catalogue: Catalogue, new_codes: np.ndarray, new_vectors: np.ndarray) -> "GrownModel":
        """Returns what `use` takes for a catalogue whose last items are new.

        `new_codes` are uint16[new, levels], `new_vectors` float32[new, width].
        """
        codes, tokenizer, sizes = self.semantic_ids.codes, self.tokenizer, self.card.sizes
        item_vectors = tokenizer.user_features.item_vectors
        if len(new_codes):
            codes = np.concatenate([codes, new_codes])
            if item_vectors is not None:
                item_vectors = np.concatenate([item_vectors, new_vectors])
        if tokenizer.mention_finder is not None:  # which knows the values of all items
            ids, shares = SemanticIds(codes, sizes), self._code_shares(codes)
            tokenizer = self.record.tokenizer(ids, tokenizer.user_features, shares, catalogue)
        elif len(new_codes):
            first = np.cumsum((0, *sizes[:-1])).astype(np.int32)
            tokens = np.concatenate([tokenizer.items, new_codes.astype(np.int32) + first])
            tokenizer = tokenizer._replace(items=tokens, code_shares=self._code_shares(codes))
        of_ranker = new_vectors if self.ranker is None else unit(new_vectors)
        return GrownModel(catalogue, codes, item_vectors, tokenizer, self._first_codes(codes), of_ranker)

    def use(self, grown: "GrownModel") -> None:
        """Takes another catalogue. It does not fail: what can has been done by `grown`."""
        self.dataset.catalogue, self.semantic_ids.codes = grown.catalogue, grown.codes
        if self.ranker is not None:
            self.ranker.use(grown.catalogue, grown.of_ranker)
        self.tokenizer = self.search.tokenizer = grown.tokenizer
        self.tokenizer.user_features.item_vectors = grown.item_vectors
        self.search.first_codes = grown.first_codes

    @property
    def prompts(self) -> Mapping[str, Any]:
        """config.Prompts; empty for a model without prompts."""
        return self.record.prompts

    @property
    def max_history(self) -> int:
        """Items of a history that the model reads."""
        return self.record.max_history

    def histories(
        self,
        names: Sequence[str],
        items: Sequence[np.ndarray],
        longest: int | None = None,
        contexts: Sequence[RequestContext] | None = None,
        room: int = 0,
    ) -> Histories:
        """Returns the encoder inputs of users; see `LoadedModel.histories`."""
        longest = longest or self.max_history
        return examples.histories(names, items, self.tokenizer, longest, self.record.causal, contexts, room)

    def searcher(self, requests: int, beams: int, top: int) -> EncodedSearcher:
        """Returns the search by the programs of the bundle, whatever the batch."""
        return self.search

    def _encode(self, params: Any, histories: Histories) -> jax.Array:
        batch, tokens = histories.tokens.shape
        room = tokens - self.tokenizer.length(self.max_history)
        return self.programs(encoder_name(batch, room), params, histories)[0]

    def _search(
        self,
        params: Any,
        key: SearchKey,
        index: Any,
        groups: np.ndarray | None,
        inputs: Inputs,
        encoded: tuple[np.ndarray, ...],
    ) -> RankedItems[jax.Array]:
        return RankedItems(*self.programs(key.name, params, index, groups, inputs, encoded))

    def log_probabilities(self, targets: Examples) -> np.ndarray:
        """Returns float32[rows, targets]: the log-probability of each target, before guidance."""
        rows, count = targets.targets.shape[:2]
        room = targets.histories.tokens.shape[1] - self.tokenizer.length(self.max_history)
        shape = ScoreShape(1, 64, room) if rows == 1 else ScoreShape(16, 16, room)
        found = np.empty((rows, count), np.float32)
        for row, target in itertools.product(range(0, rows, shape.rows), range(0, count, shape.targets)):
            some = np.arange(row, min(row + shape.rows, rows))
            of_some = np.arange(target, min(target + shape.targets, count))
            block = self._block(targets, np.resize(some, shape.rows), np.resize(of_some, shape.targets))
            (scores,) = self.programs(score_name(shape), self.params, *with_capacity(block, self.card.item_capacity))
            found[np.ix_(some, of_some)] = np.asarray(scores)[: len(some), : len(of_some)]
        return found

    def _block(self, given: Examples, rows: np.ndarray, targets: np.ndarray) -> Examples:
        """Returns some rows and targets of examples."""
        at = np.ix_(rows, targets)
        shares = None if given.log_shares is None else tuple(np.asarray(one)[at] for one in given.log_shares)
        tokens, segments, positions = (
            np.asarray(x)[at] for x in (given.targets, given.target_segments, given.target_positions)
        )
        return Examples(take(given.histories, rows), tokens, segments, positions, log_shares=shares)
