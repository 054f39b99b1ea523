"""Searches by two compiled programs, the encoder and the search of encoded histories, for few batch sizes.

A batch is padded to one of these sizes. Encoded histories are cached by what the encoder reads: the tokens and vectors
of a user, history and context. The programs are those of a bundle or, with a model, jitted functions: the same
computations, so that both give the same lists, bit by bit.
"""

import collections
import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from genrec.decoding.beam_search import Diversity, RankedItems
from genrec.decoding.catalogue_index import CatalogueIndex
from genrec.decoding.guidance import Guidance, NegativePrompts
from genrec.decoding.live_index import LiveIndex, Restriction
from genrec.decoding.retrieval import Searcher, in_index_form, take
from genrec.decoding.sampling import Sampling
from genrec.decoding.search_inputs import Inputs
from genrec.input_pipeline import examples
from genrec.input_pipeline.examples import ANONYMOUS, NO_ITEMS, Histories, Tokenizer
from genrec.serving.queries import Program

if TYPE_CHECKING:
    from genrec.decoding.loaded_model import LoadedGenerator

BATCH_SIZES = (1, 2, 4, 8, 16, 64)
RARE_BATCH_SIZE = 4  # of forms that are rarely asked for: fewer programs are compiled
EXCLUDED = 256  # length to which lists of excluded items are padded
CACHE_BYTES = 256 * 2**20
ALL = 2.0  # a nucleus of all codes, whatever the rounding of their sum
MANY = 2**30  # a limit that no list reaches
KINDS = ("plain", "diverse", "sampled")


class SearchKey(NamedTuple):
    """The form and the shapes of a search program."""

    kind: str
    room: int  # for prompts, in pieces
    guidance: int  # see `queries.Program`
    batch: int
    width: int  # beams

    @property
    def name(self) -> str:
        return f"search_{self.kind}_room{self.room}_guidance{self.guidance}_batch{self.batch}_beams{self.width}"


def is_rare(program: Program, tokenizer: Tokenizer) -> bool:
    """Returns whether programs of this form are compiled for few batch sizes."""
    return program.kind != "plain" or program.room > tokenizer.longest_prompt


def batch_sizes(program: Program, tokenizer: Tokenizer, sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns the batch sizes of a form, of those of a bundle."""
    if not is_rare(program, tokenizer):
        return tuple(sizes)
    return (max((size for size in sizes if size <= RARE_BATCH_SIZE), default=min(sizes)),)


def search_keys(tokenizer: Tokenizer, sizes: Sequence[int], widths: Sequence[int]) -> list[SearchKey]:
    """Returns the keys of all search programs; widths after the first are for plain searches that widen."""
    keys = []
    for kind in KINDS:
        for room in tokenizer.prompt_rooms:
            for guidance in (0, 1, 2) if room else (0,):
                of_form = batch_sizes(Program(kind, "", room, guidance), tokenizer, sizes)
                of_kind = widths if kind == "plain" else widths[:1]
                keys += [SearchKey(kind, room, guidance, batch, width) for width in of_kind for batch in of_form]
    return keys


def example_inputs(key: SearchKey, live: LiveIndex, tokenizer: Tokenizer, longest: int, causal: bool) -> Inputs:
    """Returns inputs of the shapes of a search program, in the form of the index."""
    batch = key.batch

    def histories(room: int) -> Histories:
        nothing = [NO_ITEMS] * batch
        return examples.histories([ANONYMOUS] * batch, nothing, tokenizer, longest, causal, room=room)

    ones, numbers = np.ones(batch, np.float32), np.ones(batch, np.int32)
    guidance = sampling = diversity = None
    if key.guidance:
        negative = NegativePrompts(histories(key.room), ones) if key.guidance == 2 else None
        guidance = Guidance(histories(0), ones, negative)
    if key.kind == "sampled":
        sampling = Sampling(ones, ones, numbers)
    if key.kind != "plain":
        diversity = Diversity(numbers, numbers, None)
    constraints = live.constraints([Restriction()] * batch)
    inputs = Inputs(histories(key.room), constraints, sampling, diversity, guidance)
    return without_encoder_inputs(in_index_form(inputs, live))


def without_encoder_inputs(inputs: Inputs) -> Inputs:
    """Returns the inputs without what the encoder alone reads."""

    def stripped(histories: Histories) -> Histories:
        return histories._replace(soft=())

    guidance = inputs.guidance
    if guidance is not None:
        guidance = guidance._replace(unconditional=stripped(guidance.unconditional))
        if guidance.negative is not None:
            negative = guidance.negative._replace(histories=stripped(guidance.negative.histories))
            guidance = guidance._replace(negative=negative)
    return inputs._replace(histories=stripped(inputs.histories), guidance=guidance)


class EncodedHistories:
    """Cache of encoder outputs, least recently used first, limited by bytes, for any number of threads."""

    def __init__(self, most_bytes: int = CACHE_BYTES):
        self._rows: collections.OrderedDict[bytes, np.ndarray] = collections.OrderedDict()
        self._most, self.bytes, self.hits, self.misses = most_bytes, 0, 0, 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> np.ndarray | None:
        """Returns the encoder output of a key, or None."""
        with self._lock:
            found = self._rows.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
                self._rows.move_to_end(key)
            return found

    def put(self, key: bytes, row: np.ndarray) -> None:
        """Adds an encoder output, in place of those that were not used for the longest time."""
        with self._lock:
            if key not in self._rows:
                self._rows[key] = row = row.copy()  # not a part of its batch, which would stay in memory
                self.bytes += row.nbytes
            while self.bytes > self._most and self._rows:
                self.bytes -= self._rows.popitem(last=False)[1].nbytes


def cache_keys(histories: Histories) -> list[bytes]:
    """Returns a key for each row: a hash of all that the encoder reads."""
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(histories)]
    shape = str([leaf.shape[1:] for leaf in leaves]).encode()
    rows = range(len(histories.tokens))
    return [hashlib.blake2b(b"".join([shape, *(leaf[row].tobytes() for leaf in leaves)])).digest() for row in rows]


# (params, histories) -> [batch, tokens, width]
Encode = Callable[[Any, Histories], Any]
# (params, key, index, groups, inputs, encoded) -> RankedItems
Search = Callable[[Any, SearchKey, Any, np.ndarray | None, Inputs, tuple[np.ndarray, ...]], RankedItems[Any]]


class EncodedSearcher(Searcher):
    """Searches by an encoder and a search of encoded histories, in batches of few sizes."""

    def __init__(
        self,
        live: LiveIndex,
        tokenizer: Tokenizer,
        longest: int,
        encode: Encode,
        search: Search,
        beams: int,
        top: int,
        first_codes: np.ndarray,
        sizes: Sequence[int] = BATCH_SIZES,
        cache_bytes: int = CACHE_BYTES,
    ):
        """`sizes` are the batch sizes, ascending; `live` pads lists of excluded items to EXCLUDED.

        Histories have at most `longest` items; `top` is the length of lists.

        `first_codes` int32[n] are the first codes of all items, and of numbers that later items get.
        """
        super().__init__(live, beams, top)
        self.tokenizer, self._longest, self._sizes = tokenizer, longest, tuple(sizes)
        self._encode, self._compiled = encode, search
        self.first_codes, self.cache = first_codes, EncodedHistories(cache_bytes)

    @staticmethod
    def of_model(
        loaded: "LoadedGenerator", requests: int, beams: int, top: int, sizes: Sequence[int] = BATCH_SIZES
    ) -> "EncodedSearcher":
        """Returns the searcher of a model for batches of at most `requests`, with the programs that a bundle has."""
        from genrec.decoding import search as searching  # here, as serving does without Flax

        mesh = loaded.mesh
        live = LiveIndex(loaded.table, loaded.dataset.catalogue, filters=requests + 1, mesh=mesh, excluded=EXCLUDED)
        encoder = searching.encode_function(loaded.graphdef, mesh)
        search = searching.encoded_search_function(loaded.graphdef, mesh, top)

        def run(params: Any, key: SearchKey, index: Any, groups: Any, inputs: Inputs, encoded: tuple) -> Any:
            return search(params, index, groups, inputs, encoded, key.width)

        first_codes = loaded.semantic_ids.codes[:, 0].astype(np.int32)
        return EncodedSearcher(live, loaded.tokenizer, loaded.max_history, encoder, run, beams, top, first_codes, sizes)

    def _run(
        self,
        params: Any,
        inputs: Inputs[np.ndarray],
        groups: np.ndarray | None,
        width: int,
        index: CatalogueIndex,
    ) -> RankedItems[np.ndarray]:
        rows, kind, guidance = len(inputs.histories.tokens), "plain", 0
        if inputs.sampling is not None or inputs.diversity is not None:
            kind = "sampled" if inputs.sampling is not None else "diverse"
            inputs, groups = self._in_full_form(inputs, groups, width)
        if inputs.guidance is not None:
            guidance = 1 if inputs.guidance.negative is None else 2
        room = inputs.histories.tokens.shape[1] - self.tokenizer.length(self._longest)
        sizes = batch_sizes(Program(kind, "", room, guidance), self.tokenizer, self._sizes)
        found = []
        for start in range(0, rows, sizes[-1]):
            part = np.arange(start, min(start + sizes[-1], rows))
            size = next(one for one in sizes if one >= len(part))
            key = SearchKey(kind, room, guidance, size, width)
            padded = inputs if size == rows else take(inputs, np.resize(part, size))
            encoded = tuple(self._encoded(params, one) for one in padded.encoder)
            converted = without_encoder_inputs(in_index_form(padded, self.live))
            with jax.set_mesh(self.live.mesh):
                listed = self._compiled(params, key, index, groups, converted, encoded)
            of_part = slice(0, len(part))
            found.append(RankedItems(*(np.array(x)[of_part] for x in (listed.items, listed.scores, listed.bound))))
        return found[0] if len(found) == 1 else jax.tree.map(lambda *parts: np.concatenate(parts), *found)

    def _encoded(self, params: Any, histories: Histories) -> np.ndarray:
        """Returns the encoder outputs [batch, tokens, width] of histories, computed where they are not cached."""
        histories = histories._replace(transitions=None, mentions=None)
        keys = cache_keys(histories)
        found = {key: row for key in dict.fromkeys(keys) if (row := self.cache.get(key)) is not None}
        missing = [row for row, key in enumerate(keys) if key not in found and keys.index(key) == row]
        for start in range(0, len(missing), self._sizes[-1]):
            part = missing[start : start + self._sizes[-1]]
            size = next(one for one in self._sizes if one >= len(part))
            rows = histories if len(part) == size == len(keys) else take(histories, np.resize(part, size))
            with jax.set_mesh(self.live.mesh):
                encoded = np.asarray(self._encode(params, rows))
            for place, output in zip(part, encoded, strict=False):
                found[keys[place]] = output
                self.cache.put(keys[place], output)
            if rows is histories:
                return encoded
        return np.stack([found[key] for key in keys])

    def _in_full_form(
        self, inputs: Inputs[np.ndarray], groups: np.ndarray | None, width: int
    ) -> tuple[Inputs[np.ndarray], np.ndarray]:
        """Returns inputs and groups of a sampled or diverse search with all arrays: fewer programs are compiled.

        Without limits these are as large as the lists; without groups an item's is its first code.
        """
        rows, sampling, diversity = len(inputs.histories.tokens), inputs.sampling, inputs.diversity
        if sampling is not None and sampling.top_p is None:
            sampling = sampling._replace(top_p=np.full(rows, ALL, np.float32))
        most = np.full(rows, MANY, np.int32)
        if diversity is None:
            diversity = Diversity(most, most, None)
        elif diversity.max_beams is None:
            diversity = diversity._replace(max_beams=most)
        full = self.first_codes.copy()
        if groups is not None:
            full[: len(groups)] = groups
        return inputs._replace(sampling=sampling, diversity=diversity), full
