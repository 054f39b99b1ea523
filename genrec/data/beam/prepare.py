"""Stage `prepare` on Apache Beam: passes over blocks of the log, then over partitions of the users.

    read -> check -> partition -> k-core, once per round -> cut times -> split -> write

Log and sequences are files in the folder that is being written. This process holds the catalogue, the users' attributes
and six numbers per user: first row in the log, hash of the id, length of the sequence as a whole and in each split.
"""

import functools
import itertools
import operator

import numpy as np
import pyarrow as pa
from etils import epath

from genrec import config as configs
from genrec import files as file_io
from genrec.data import (
    dataset,
    errors,
    filtering,
    logs,
    reading,
    sequence_files,
    splits,
    statistics,
    timestamps,
    user_index,
    validation,
)
from genrec.data import survey as surveys
from genrec.data.beam import log as beam_log
from genrec.data.beam import runner as beam_runner
from genrec.data.beam import users as beam_users
from genrec.data.beam.runner import BeamRunner
from genrec.data.sources import read as source_tables
from genrec.data.survey import Survey

PARTITION_ROWS = 1 << 20  # interactions per partition of the users, on average


def fill(config: configs.Data, path: epath.Path, runner: BeamRunner) -> dict:
    """Writes the dataset into `path`, an existing folder that all workers reach, and returns its statistics.

    Raises DataError as `prepare` does.
    """
    folder = path / "beam"
    folder.mkdir()
    blocks, log, items, users, fields = _read(config, runner, folder)
    problems = errors.Problems()
    checked = validation.check_catalogue(items, users, fields, config, problems)
    column, time = validation.check_log_columns(log, problems), timestamps.Times()
    if column and "item_id" in items.table.column_names:
        extent = timestamps.Extent.merge([block.extents[column] for block in blocks if column in block.extents])
        time = validation.check_times(log.name, column, extent, config, problems)
        _check(log, blocks, items, time, problems, runner, folder)
    problems.raise_if_any()
    has_times = time.column == "timestamp"
    filtering.check_columns("event_type" in log.table.column_names, "rating" in log.table.column_names, config)
    partitions = _partition(config, log.name, blocks, runner, folder)
    filtering.refuse_empty(filtering.merge([part.passed for part in partitions]), config)

    core, survey = _k_core(config, partitions, checked.items.num_rows, runner, folder)
    validation.refuse_1970(log.name, (survey.first, survey.last), time, config)
    catalogue, new_rows = filtering.catalogue(checked.items, survey.popularity, keep_all=config.k_core <= 1)
    splits.check_config(config, has_times)
    cuts = _cut_times(config, partitions, core, survey, runner, folder) if config.split == "temporal" else None
    beam_runner.save(folder / "new_rows", new_rows)
    finish = functools.partial(beam_users.finish, core=core, new_rows=str(folder / "new_rows"), cuts=cuts)
    finished = runner.map("split", finish, partitions, folder)
    counts = {name: sum(part.counts[name] for part in finished) for name in splits.NAMES}
    splits.refuse_empty(counts, config)

    numbers = [beam_runner.load(part.numbers) for part in finished]
    lengths, hashes = _order(finished, numbers)
    source = statistics.Source(
        interactions=sum(block.rows for block in blocks),
        items=checked.items.num_rows,
        text_fields=checked.text_fields,
        types=checked.types,
        repeated=(sum(part.repeats for part in partitions), config.repeated),
        recognized=source_tables.recognized([log, items, *([users] if users else [])], time),
    )
    figures = statistics.summarize(
        source,
        lengths=np.concatenate([part.lengths for part in numbers]),
        popularity=survey.popularity[catalogue["source_row"].to_numpy()],
        pairs=survey.pairs,
        ties=survey.ties,
        times=(survey.first, survey.last) if has_times else None,
        sequences=counts,
        catalogue=catalogue,
        users_with_attributes=_known_users(log.name, numbers, finished, users),
    )
    _write(path, finished, lengths, hashes, catalogue, checked.users, figures, runner)
    folder.rmtree()
    return figures


def _write(
    path: epath.Path,
    finished: list[beam_users.Finished],
    lengths: dict[str, np.ndarray],
    hashes: dict[str, np.ndarray],
    catalogue: pa.Table,
    users: pa.Table | None,
    figures: dict,
    runner: BeamRunner,
) -> None:
    """Writes the dataset into `path`; its arguments are those of `dataset.write_tables`."""
    sequence_files.write_on_beam(
        path,
        {name: runner.flat_map(functools.partial(beam_users.examples, split=name), finished) for name in splits.NAMES},
        beam_runner=runner.name,
        beam_options=runner.pipeline_options(),
    )
    dataset.write_tables(path, lengths, hashes, catalogue, users, figures)


def _known_users(
    log_name: str,
    numbers: list[beam_users.Numbers],
    finished: list[beam_users.Finished],
    users: reading.SourceTable | None,
) -> int | None:
    """Returns how many users of the log have attributes; raises DataError if none has, None without a users file."""
    if users is None:
        return None
    known = user_index.hashes_of(users.table["user_id"].to_pylist())
    count = sum(int(np.isin(part.hashes, known).sum()) for part in numbers)
    if not count:
        first = int(np.argmin([part.first_rows.min(initial=np.iinfo(np.int64).max) for part in numbers]))
        user_ids = beam_log.Users.read(finished[first].path).user_ids
        validation.refuse_unknown_users(0, log_name, user_ids[np.argmin(numbers[first].first_rows)], users)
    return count


def _read(
    config: configs.Data, runner: BeamRunner, folder: epath.Path
) -> tuple[list[beam_log.Block], reading.SourceTable, reading.SourceTable, reading.SourceTable | None, tuple[str, ...]]:
    """Returns the blocks of the log that have rows, an empty table with its columns, items, users and text fields."""
    if config.source == "files":
        name = config.interactions
        read = functools.partial(
            beam_log.read_file,
            folder=str(folder),
            pattern=name if logs.is_pattern(name) else "",
            block_bytes=reading.BLOCK_BYTES,
            config=config,
        )
        files = [str(file) for file in logs.files(name)]
        blocks = [block for part in runner.map("read", read, list(enumerate(files)), folder) for block in part]
    else:
        tables = source_tables.read(config)
        name = tables.interactions.name
        blocks = beam_log.write_blocks(tables.interactions, f"{folder}/block", reading.BLOCK_ROWS, config)
    schema = logs.unify([block.schema for block in blocks], name)
    blocks = [block for block in blocks if block.rows]
    if not blocks:
        raise reading.no_rows(name)
    marks, renamed = (
        tuple(dict.fromkeys(one for block in blocks for one in found(block)))
        for found in (operator.attrgetter("marks"), operator.attrgetter("renamed"))
    )
    log = reading.SourceTable(schema.empty_table(), name, marks=marks, renamed=renamed)
    if config.source == "files":
        items, users = source_tables.read_items_and_users(config)
        fields = reading.text_fields(config)
    else:
        items, users, fields = tables.items, tables.users, reading.text_fields(config, tables.text_fields)
    source_tables.check_renamed(config, [log, items, *([users] if users else [])])
    return blocks, log, items, users, fields


def _check(
    log: reading.SourceTable,
    blocks: list[beam_log.Block],
    items: reading.SourceTable,
    time: timestamps.Times,
    problems: errors.Problems,
    runner: BeamRunner,
    folder: epath.Path,
) -> None:
    """Validates the blocks; adds to `problems`."""
    item_ids = folder / "items.parquet"
    file_io.write_parquet(items.table.select(["item_id"]), item_ids)
    check = functools.partial(
        beam_log.check_block,
        columns=tuple(log.table.column_names),
        items_name=items.name,
        item_ids=str(item_ids),
        time=time,
    )
    problems.kinds.extend(errors.merge(runner.map("check", check, blocks, folder)).kinds)


def _partition(
    config: configs.Data, name: str, blocks: list[beam_log.Block], runner: BeamRunner, folder: epath.Path
) -> list[beam_log.Partition]:
    """Groups the interactions by partition of the users; raises `DataError` if one of them repeats another.

    Repetitions are an error unless `data.repeated` drops or keeps them.
    """
    starts = np.concatenate([[0], np.cumsum([block.rows for block in blocks])])  # rows of the log
    partitions = runner.group(
        "partition",
        functools.partial(beam_log.pieces_of_block, partitions=-(-int(starts[-1]) // PARTITION_ROWS)),
        functools.partial(beam_log.gather_partition, folder=str(folder), config=config),
        list(zip(blocks, starts[:-1].tolist(), strict=True)),
        folder,
    )
    if config.repeated != "refuse":
        return partitions
    problems = errors.Problems()
    examples = []
    for row in sorted(row for part in partitions for row in part.repeated)[: errors.EXAMPLES]:
        block = int(np.searchsorted(starts, row, side="right")) - 1
        source = beam_runner.load(blocks[block].path)
        examples.append(validation.example(source, "item_id", row - int(starts[block])))
    validation.report_repeats(name, sum(part.repeats for part in partitions), examples, problems)
    problems.raise_if_any()
    return partitions


def _k_core(
    config: configs.Data, partitions: list[beam_log.Partition], items: int, runner: BeamRunner, folder: epath.Path
) -> tuple[beam_users.Core, Survey]:
    """Returns the k-core, as `filtering.k_core` but with users counted by the workers, and its statistics.

    A round disallows the items that too few of the remaining users chose, so that one flag per item is all that goes
    from round to round. Where many rounds change something, and a process can hold what is left, it finds the rest:
    rounds may be as many as users, as in a chain of them.
    """
    allowed = np.ones(items, bool)
    for number in itertools.count(1):
        core = beam_users.Core(str(folder / f"allowed-{number}"), config.k_core)
        beam_runner.save(core.allowed, allowed)
        count = functools.partial(beam_users.survey, core=core, items=items)
        survey = runner.combine(f"k_core-{number}", count, Survey.merge, partitions, folder)
        still = allowed & (survey.popularity >= config.k_core)
        if config.k_core <= 1 or np.array_equal(still, allowed):
            break
        if number >= filtering.ROUNDS and survey.popularity.sum() <= PARTITION_ROWS:
            parts = runner.map("k_core", functools.partial(beam_users.pairs, core=core), partitions, folder)
            still = beam_users.items_of_core(parts, config.k_core, items)
        allowed = still
    filtering.refuse_empty_core(survey.popularity.sum(), config)
    return core, survey


def _cut_times(
    config: configs.Data,
    partitions: list[beam_log.Partition],
    core: beam_users.Core,
    survey: Survey,
    runner: BeamRunner,
    folder: epath.Path,
) -> tuple[int, int]:
    """Returns the cut times of the k-core."""
    numbers = itertools.count(1)

    def count(ranges: surveys.Ranges) -> np.ndarray:
        own = functools.partial(beam_users.histograms, core=core, ranges=ranges)
        return runner.combine(f"cut_times-{next(numbers)}", own, np.add, partitions, folder)

    return surveys.cut_times(survey, config, count, beam_users.BINS)


def _order(
    finished: list[beam_users.Finished], numbers: list[beam_users.Numbers]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Orders the sequences by their users' first appearance in the log, and writes their indices for the workers.

    Returns:
      For each split int64[sequences], the lengths in that order, and uint64[sequences], the hashes of the user ids.
    """
    order = np.argsort(np.concatenate([part.first_rows for part in numbers]))
    borders = np.cumsum([len(part.first_rows) for part in numbers])[:-1]
    hashes_in_order = np.concatenate([part.hashes for part in numbers])[order]
    lengths, hashes, indices = {}, {}, {}
    for name in splits.NAMES:
        in_order = np.concatenate([part.ends[name] for part in numbers])[order]
        lengths[name], hashes[name] = in_order[in_order > 0], hashes_in_order[in_order > 0]
        of_user = np.empty(len(order), np.int64)
        of_user[order] = np.cumsum(in_order > 0) - 1
        indices[name] = np.split(of_user, borders)
    for place, part in enumerate(finished):
        beam_runner.save(part.indices, {name: indices[name][place] for name in splits.NAMES})
    return lengths, hashes
