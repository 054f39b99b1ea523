"""Preparation of the source `files` in bounded memory, with the same result as in memory.

    read, encode -> sort by user and time -> repeats, filters -> k-core, in rounds -> cut times -> splits

Rows are numbers from the first step on: codes of users, rows of items, microseconds. Beside a part of them, this
process holds the items, the ids of users, and some numbers of each.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from genrec import config as configs
from genrec.data import (
    dataset,
    filtering,
    reading,
    spilled_sequences,
    splits,
    statistics,
    timestamps,
    validation,
)
from genrec.data import survey as surveys
from genrec.data.encoded_log import EncodedLog, Form, Limits
from genrec.data.errors import EXAMPLES, DataError, Problems
from genrec.data.interactions import Interactions
from genrec.data.reading import SourceTable
from genrec.data.sources import read
from genrec.data.spilled_sequences import SpilledSequences
from genrec.data.survey import Survey

PEELED_BYTES = 400  # per interaction of a k-core that is found node by node


def fill(config: configs.Data, path: epath.Path) -> Mapping[str, object]:
    """Writes the dataset into `path`, an existing folder, and returns its statistics.

    Raises DataError as `prepare` does.
    """
    folder = path / "spilled"
    folder.mkdir()
    found = contents(config, folder)
    dataset.write(path, found)
    folder.rmtree()
    return found.statistics


def contents(config: configs.Data, folder: epath.Path) -> dataset.Contents:
    """Returns the dataset, whose sequences are in `folder`."""
    memory = int(config.memory_gb * 1e9)
    limits = Limits.of(memory)
    items, users = _items_and_users(config, limits)
    log, whole, checked, repeated, time = _read(config, items, users, limits, folder)
    count = checked.items.num_rows
    most = memory // 2 // PEELED_BYTES
    core = spilled_sequences.k_core(whole, folder / "core", count, config.k_core, limits.rows, most)
    filtering.refuse_empty_core(int(core.offsets[-1]), config)
    survey = spilled_sequences.survey(core, count)
    has_times = time.column == "timestamp"
    validation.refuse_1970(log.table.name, (survey.first, survey.last), time, config)
    catalogue, new_rows = filtering.catalogue(checked.items, survey.popularity, keep_all=config.k_core <= 1)
    some = core.lengths > 0
    known = _known_users(log, some, users)
    ends = _ends(core, survey, config, has_times)
    source = statistics.Source(
        interactions=log.rows,
        items=count,
        text_fields=checked.text_fields,
        types=checked.types,
        repeated=(repeated, config.repeated),
        recognized=read.recognized([log.table, items, *([users] if users else [])], time),
    )
    figures = statistics.summarize(
        source,
        lengths=core.lengths[some],
        popularity=survey.popularity[catalogue["source_row"].to_numpy()],
        pairs=survey.pairs,
        ties=survey.ties,
        times=(survey.first, survey.last) if has_times else None,
        sequences=splits.counts(ends),
        catalogue=catalogue,
        users_with_attributes=known,
    )
    parts = _parts(core, log.users.texts, new_rows)
    return dataset.Contents(parts, ends, catalogue, checked.users, figures)


def _items_and_users(config: configs.Data, limits: Limits) -> tuple[SourceTable, SourceTable | None]:
    """Returns the tables of items and users, unless the log cannot be read: its errors come first."""
    try:
        return read.read_items_and_users(config)
    except DataError:
        log = EncodedLog(config, None, limits)
        log.read()
        raise


def _read(
    config: configs.Data, items: SourceTable, users: SourceTable | None, limits: Limits, folder: epath.Path
) -> tuple[EncodedLog, SpilledSequences, validation.CheckedCatalogue, int, timestamps.Times]:
    """Returns the log, its filtered sequences, the catalogue, the number of repeated rows, and how times are written.

    Raises DataError with all problems of all tables.
    """
    form: Form | None = None
    while True:
        log = EncodedLog(config, items, limits, form)
        batches = log.sorted(folder / "sort")
        first = next(batches, None)  # now the log has been read
        read.check_renamed(config, [log.table, items, *([users] if users else [])])
        problems = Problems()
        checked = validation.check_catalogue(items, users, reading.text_fields(config), config, problems)
        needed = log.needed_form(problems)
        if needed is None or not log.has_items or (log.is_encoded and log.form == needed):
            break
        assert needed != form  # else reading it in this form would never end
        form = needed
        batches.close()
    problems.kinds.extend(log.problems.kinds)
    if first is None or log.problems.found or needed is None:
        batches.close()
        problems.raise_if_any()
    assert first is not None and needed is not None  # else problems were raised
    rows = _Filter(config, log, SpilledSequences(folder / "whole", limits.rows))
    if not problems.found or config.repeated == "refuse":
        rows.add(first)
        for batch in batches:
            rows.add(batch)
        rows.finish()
    if config.repeated == "refuse":
        examples = log.examples(rows.repeated_rows) if rows.repeated else []
        validation.report_repeats(log.table.name, rows.repeated, examples, problems)
    problems.raise_if_any()
    names = log.table.table.column_names
    filtering.check_columns("event_type" in names, "rating" in names, config)
    filtering.refuse_empty(filtering.merge(rows.passed), config)
    return log, rows.sequences, checked, rows.repeated, needed.time


class _Filter:
    """Rows ordered by user and time, from which repetitions and what the filters of a row exclude are removed."""

    def __init__(self, config: configs.Data, log: EncodedLog, sequences: SpilledSequences):
        self.sequences = sequences  # of what is left
        self.repeated = 0
        self.repeated_rows: list[int] = []  # rows of the log that hold the first of them
        self.passed: list[filtering.Passed] = []
        columns = log.table.table.column_names
        self._repeated_setting = config.repeated
        # What filters a column that is missing is an error, but not the first to report.
        self._filters = dataclasses.replace(
            config,
            event_types=config.event_types if "event_type" in columns else (),
            min_rating=config.min_rating if "rating" in columns else -math.inf,
        )
        self._event_types = log.event_types.texts.to_numpy(zero_copy_only=False)
        self._pending: list[pa.RecordBatch] = []  # rows of a user whose other rows are to come

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes the next rows."""
        users = batch["user"].to_numpy()
        complete = int(np.searchsorted(users, users[-1]))  # the last user may have more
        if complete:
            self._take(pa.Table.from_batches([*self._pending, batch.slice(0, complete)]))
            self._pending = []
        elif self._pending and self._pending[-1]["user"][-1].as_py() != users[-1]:
            self._take(pa.Table.from_batches(self._pending))
            self._pending = []
        self._pending.append(batch.slice(complete))

    def finish(self) -> None:
        """Takes what is pending."""
        self._take(pa.Table.from_batches(self._pending))
        self._pending = []

    def _take(self, table: pa.Table) -> None:
        columns = {name: table[name].to_numpy() for name in table.column_names}
        first_user = int(columns["user"][0])
        log = Interactions(
            user_ids=np.empty(int(columns["user"][-1]) - first_user + 1, object),
            users=columns["user"] - first_user,
            items=columns["item"],
            timestamps=columns["time"],
            event_types=self._event_types[columns["event"]] if "event" in columns else None,
            ratings=columns.get("rating"),
        )
        repeats = _repeats(log)
        self.repeated += len(repeats)
        self.repeated_rows = sorted([*self.repeated_rows, *np.sort(columns["row"][repeats])[:EXAMPLES].tolist()])
        del self.repeated_rows[EXAMPLES:]
        if self._repeated_setting == "drop":
            kept = np.ones(len(log), bool)
            kept[repeats] = False
            log = log.select(kept)
        log, passed = filtering.by_event(log, self._filters)
        self.passed.append(passed)
        counts = np.bincount(log.users, minlength=len(log.user_ids))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        self.sequences.append(splits.UserSequences(offsets, log.items, log.timestamps))


def _repeats(log: Interactions) -> np.ndarray:
    """Returns the rows of `validation.repeats` of a log that is ordered by user and time."""
    same = (np.diff(log.users) == 0) & (np.diff(log.timestamps) == 0)
    tied = np.append(same, False) | np.insert(same, 0, False)
    rows = np.flatnonzero(tied)
    return rows[validation.repeats(log.select(tied))]


def _known_users(log: EncodedLog, some: np.ndarray, users: SourceTable | None) -> int | None:
    """Returns how many users with interactions have attributes; raises DataError if none has, None without users."""
    if users is None:
        return None
    user_ids = log.users.texts.filter(pa.array(some))
    known = pc.sum(pc.is_in(user_ids, users.table["user_id"].cast(pa.large_string()))).as_py()
    validation.refuse_unknown_users(known, log.table.name, user_ids[0].as_py(), users)
    return known


def _ends(core: SpilledSequences, survey: Survey, config: configs.Data, has_times: bool) -> dict[str, np.ndarray]:
    """Returns the split of the config, as `splits.by_config`."""
    splits.check_config(config, has_times)
    if config.split == "leave_one_out":
        nothing = np.zeros(0, np.int64)
        ends = splits.leave_one_out(splits.UserSequences(core.offsets, nothing, nothing))
    else:

        def count(ranges: surveys.Ranges) -> np.ndarray:
            return np.sum([surveys.histograms(part.timestamps, ranges) for _, part in core.parts()], axis=0)

        cuts = surveys.cut_times(survey, config, count)
        parts = [splits.windows(part, *cuts) for _, part in core.parts()]
        ends = {name: np.concatenate([part[name] for part in parts]) for name in splits.NAMES}
    splits.refuse_empty(splits.counts(ends), config)
    return ends


def _parts(
    core: SpilledSequences, user_ids: pa.Array, new_rows: np.ndarray
) -> Iterator[tuple[list[str], splits.UserSequences]]:
    """Yields ids and sequences of all users, with items as rows of the catalogue."""
    for first, part in core.parts():
        own = user_ids[first : first + len(part.offsets) - 1]
        yield own.to_pylist(), dataclasses.replace(part, items=new_rows[part.items])
