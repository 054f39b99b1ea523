"""Export of a trained model as a bundle (`genrec.serving.bundle`): its programs are traced, not compiled."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from flax import nnx

import genrec
from genrec import artifacts, files
from genrec.decoding import search as searching
from genrec.decoding.index_arrays import Layout
from genrec.decoding.live_index import LiveIndex
from genrec.decoding.loaded_model import LoadedGenerator
from genrec.input_pipeline import examples
from genrec.input_pipeline.context import SUMMARY, VECTOR
from genrec.input_pipeline.examples import ANONYMOUS, NO_ITEMS, Examples, Histories
from genrec.input_pipeline.mentions import ItemTokens
from genrec.input_pipeline.transitions import Transitions
from genrec.models import user_context
from genrec.progress import progress
from genrec.semantic_ids.codes import FrozenCodebooks
from genrec.serving import bundle, ranker_export, search_programs, sources_export
from genrec.serving.bundle import BundleError, Card
from genrec.serving.bundle_writer import BundleWriter
from genrec.serving.ranker_export import Ranker
from genrec.serving.search_programs import EXCLUDED, example_inputs, search_keys
from genrec.serving.served_model import ScoreShape, encoder_name, score_name, score_shapes, with_capacity
from genrec.settings import setting

MORE_NUMBERS = 4  # items, removed ones included, that a bundle can number, in multiples of those of its index


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Searches that a bundle is made for. Raises ConfigError for invalid values."""

    beams: int = setting(50, "Beam width of searches, and the most items of a list.", at_least=1, at_most=2**16)
    max_beams: int = setting(
        0, "Double the beam width up to this until lists are certified; 0 never does.", at_least=0, at_most=2**16
    )
    batch_sizes: tuple[int, ...] = setting(
        search_programs.BATCH_SIZES, "Batch sizes of the programs, ascending.", at_least=1, at_most=2**16, fewest=1
    )
    sources: tuple[str, ...] = setting(
        sources_export.CHOICES,
        "Sources of lists beside the generator and SASRec, of those that the work directory has.",
        choices=sources_export.CHOICES,
    )
    room: float = setting(0.5, "Room for items that are added later, as a share of the items.", at_least=0, at_most=100)


def export(
    loaded: LoadedGenerator,
    workdir: epath.PathLike,
    output: epath.PathLike,
    options: ExportOptions,
    codebooks: FrozenCodebooks | None,
) -> Card:
    """Writes the bundle of a model into the folder `output`, in place of an earlier bundle, and returns its card.

    Without `codebooks`, items cannot be added to it. Raises BundleError if `output` is a folder of something else.
    """
    output = epath.Path(output)
    if output.exists() and not (output / bundle.CARD).exists():
        raise BundleError(f"--output={output}: there is something else than a bundle. Give another folder.")
    temporary = files.temporary_path(output)
    writer = BundleWriter(temporary)
    try:
        card = _write(writer, loaded, epath.Path(workdir), options, codebooks)
        artifacts.replace(output, temporary)
    except BaseException:
        files.remove(temporary)
        raise
    logging.info("wrote bundle %s (%s)", output, card.fingerprint)
    return card


def _write(
    writer: BundleWriter,
    loaded: LoadedGenerator,
    workdir: epath.Path,
    options: ExportOptions,
    codebooks: FrozenCodebooks | None,
) -> Card:
    table = loaded.table
    live = LiveIndex(
        table,
        filters=max(options.batch_sizes) + 1,
        layout=Layout.fitting([table], growth=options.room),
        excluded=EXCLUDED,
    )
    capacity = MORE_NUMBERS * live.index.layout.capacity
    named = writer.parameters(bundle.WEIGHTS, loaded.params)
    writer.json(bundle.RECORD, dataclasses.asdict(loaded.record))
    writer.table(bundle.CATALOGUE, loaded.dataset.catalogue.table)
    sequential_weights, ranker = _write_ranker(writer, loaded, workdir, options)
    mixture = sources_export.load_transitions(options.sources, workdir, loaded.dataset)
    features = _write_features(writer, loaded, workdir, ranker, mixture)
    sources_export.write(writer, options.sources, workdir, loaded.dataset, options.beams)
    arrays = {"codes": np.asarray(loaded.semantic_ids.codes), **features}
    if codebooks is not None:
        arrays |= {f"new_items.{name}": array for name, array in codebooks.arrays.items()}
        writer.program("quantize", codebooks.quantize, np.zeros((1, codebooks.width), np.float32))
    writer.arrays(bundle.ARRAYS, arrays)
    _write_programs(writer, loaded, live, options, capacity)
    test = workdir / "evaluation" / "test.json"
    statistics = loaded.dataset.statistics
    card = Card(
        version=genrec.__version__,
        fingerprint="",
        dataset=loaded.dataset.fingerprint,
        semantic_ids=loaded.semantic_ids.fingerprint,
        step=loaded.step,
        items=len(loaded.dataset.catalogue),
        item_capacity=capacity,
        parameters=sum(array.size for array in named.values()),
        sizes=loaded.semantic_ids.sizes,
        text_fields=tuple(statistics["text_fields"]),
        has_times=loaded.dataset.has_times,
        beams=options.beams,
        max_beams=options.max_beams,
        batch_sizes=tuple(options.batch_sizes),
        layout=dataclasses.asdict(live.index.layout),
        embeddings={} if codebooks is None else dict(codebooks.settings),
        weights=tuple(named),
        sequential_weights=sequential_weights,
        metrics=files.read_json(test) if test.exists() else {},
        jax=jax.__version__,
        files=writer.measured,
    )
    fields = json.loads(files.to_json(dataclasses.asdict(card)))
    card = dataclasses.replace(card, fingerprint=bundle.fingerprint_of(fields))
    files.write_json(writer.folder / bundle.CARD, {**fields, "fingerprint": card.fingerprint})
    return card


def _write_ranker(
    writer: BundleWriter, loaded: LoadedGenerator, workdir: epath.Path, options: ExportOptions
) -> tuple[tuple[str, ...], Ranker | None]:
    """Writes sequential model and ranker, where the work directory has them; see `ranker_export.write_sequential`."""
    sequential, ranker = ranker_export.load_sequential(loaded, workdir), None
    if sequential is None:
        return (), None
    if ranker_export.can_rank(sequential, loaded.dataset):
        ranker = Ranker.load(workdir, loaded.dataset)
        ranker.write(writer)
    is_read = ranker_export.reads_sequential(loaded)
    sizes = options.batch_sizes if ranker is not None else ()
    return ranker_export.write_sequential(writer, sequential, sizes, is_read), ranker


def _write_features(
    writer: BundleWriter,
    loaded: LoadedGenerator,
    workdir: epath.Path,
    ranker: Ranker | None,
    mixture: Transitions | None,
) -> dict[str, np.ndarray]:
    """Writes the users that generator and ranker read, and the transitions; returns the item vectors, if they are read.

    `mixture` are the transitions as a source of lists, if they are one; where a model reads them, they are the same.
    """
    context, users, shares = loaded.tokenizer.context, loaded.dataset.users, loaded.tokenizer.code_shares
    vectors = [vector.name for vector in context.vectors]
    wanted = [feature.name for feature in context.features if feature.of == "user"]
    wanted += [VECTOR] if VECTOR in vectors else []
    wanted += [] if ranker is None else ranker.features.contexts
    if users is not None and (columns := [name for name in wanted if name in users.column_names]):
        writer.table(bundle.USERS, users.select(list(dict.fromkeys(["user_id", *columns]))))
    if mixture is None and ranker is not None:
        mixture = ranker.features.transitions
    if shares is not None:
        mixture = shares.transitions
    if mixture is not None:
        writer.arrays(bundle.TRANSITIONS, mixture.arrays())
    if SUMMARY in vectors or (ranker is not None and ranker.features.content is not None):
        return {"item_vectors": files.load_array(user_context.embeddings_file(workdir))}
    return {}


def _write_programs(
    writer: BundleWriter, loaded: LoadedGenerator, live: LiveIndex, options: ExportOptions, capacity: int
) -> None:
    params, tokenizer, graphdef, mesh = loaded.params, loaded.tokenizer, loaded.graphdef, loaded.mesh
    longest, causal = loaded.max_history, loaded.record.causal
    encode = searching.encode_function(graphdef, mesh)
    widths = widening_widths(options.beams, options.max_beams)
    for room in tokenizer.prompt_rooms:
        for batch in options.batch_sizes:
            histories = _nothing(loaded, batch, room)
            writer.program(encoder_name(batch, room), encode, params, for_encoder(histories))
    search = searching.encoded_search_function(graphdef, mesh, options.beams)
    keys = search_keys(tokenizer, options.batch_sizes, widths)
    for key in progress(keys, "exporting searches", len(keys)):
        inputs = example_inputs(key, live, tokenizer, longest, causal)
        encoded = tuple(
            jax.eval_shape(encode, params, for_encoder(_nothing(loaded, key.batch, room)))
            for room in (key.room, 0, key.room)[: 1 + key.guidance]
        )
        groups = None if key.kind == "plain" else np.zeros(capacity, np.int32)

        def of_width(*arguments: Any, width: int = key.width) -> Any:
            return search(*arguments, width)

        writer.program(key.name, of_width, params, live.index, groups, inputs, encoded)

    def score(params: nnx.State, targets: Examples, tokens: jax.Array | None) -> jax.Array:
        if tokens is not None:  # an argument, so that items can be added
            assert targets.histories.mentions is not None  # tokens are given with prompts alone
            mentions = dataclasses.replace(targets.histories.mentions, catalogue=ItemTokens(tokens))
            targets = targets._replace(histories=targets.histories._replace(mentions=mentions))
        return searching.log_probabilities(nnx.merge(graphdef, params), targets)

    for shape in score_shapes(tokenizer):
        writer.program(score_name(shape), score, params, *with_capacity(_targets(loaded, shape), capacity))


def widening_widths(beams: int, max_beams: int) -> list[int]:
    """Returns the widths of searches: the first, and those to which it widens."""
    widths = [beams]
    while widths[-1] < max_beams:
        widths.append(min(2 * widths[-1], max_beams))
    return widths


def _nothing(loaded: LoadedGenerator, batch: int, room: int) -> Histories:
    """Returns encoder inputs of users without a history."""
    empty = [NO_ITEMS] * batch
    longest, causal = loaded.max_history, loaded.record.causal
    return examples.histories([ANONYMOUS] * batch, empty, loaded.tokenizer, longest, causal, room=room)


def for_encoder(histories: Histories) -> Histories:
    """Returns what the encoder reads of its inputs."""
    return histories._replace(transitions=None, mentions=None)


def _targets(loaded: LoadedGenerator, shape: ScoreShape) -> Examples:
    histories = _nothing(loaded, shape.rows, shape.room)
    targets, places = (shape.rows, shape.targets), np.ones((shape.rows, shape.targets), np.int32)
    shares = None
    if histories.transitions is not None:
        histories = histories._replace(transitions=None)
        shares = tuple(np.zeros((*targets, size), np.float32) for size in loaded.semantic_ids.sizes)
    tokens = np.zeros((*targets, loaded.tokenizer.levels), np.int32)
    return Examples(histories, tokens, places, places, log_shares=shares)
