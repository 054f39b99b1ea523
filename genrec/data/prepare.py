"""Stage `prepare`: raw files -> `dataset/`. Reads, validates, filters, splits, checks for leaks, writes."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from absl import logging
from etils import epath

from genrec import artifacts
from genrec import config as configs
from genrec.data import dataset, filtering, mcauley, reading, s3rec, splits, statistics, synthetic, validation
from genrec.data.errors import DataError
from genrec.data.interactions import Interactions

FORMAT = 1  # of the folder; raise it when the same source gives another data set than before


def prepare(config: configs.Data, path: epath.PathLike) -> None:
    """Writes the data set that `config` describes to `path`, unless it is there already.

    Raises:
      DataError: when the data cannot be used; the message names everything to repair, and `path` stays as it was.
    """
    path = epath.Path(path)
    inputs = {name: _hash_input(file) for name, file in _input_files(config).items()}
    recipe = artifacts.hash_of(FORMAT, _recipe_config(config), inputs)
    if artifacts.up_to_date(path, dataset.KIND, recipe):
        logging.info("%s is up to date", path)
        return
    checked = validation.check(_read(config), config.text_fields)
    log = filtering.by_config(checked.interactions, config)
    catalogue, log = _catalogue(checked.items, log, keep_all=config.k_core <= 1)
    sequences = splits.by_user(log)
    ends = _split(config, sequences, checked.has_times)
    records = {name: _records(log.user_ids, sequences, lengths) for name, lengths in ends.items()}
    splits.check_no_leak(*(((r.user_id, r.items) for r in records[name].read()) for name in splits.NAMES))
    lengths = sequences.lengths
    vectors = catalogue["vector"].drop_null() if "vector" in catalogue.column_names else []
    figures = statistics.summarize(
        lengths=lengths[lengths > 0],
        popularity=np.bincount(sequences.items, minlength=catalogue.num_rows),
        timestamps=sequences.timestamps if checked.has_times else None,
        records={name: len(split.lengths) for name, split in records.items()},
        before_filtering=len(checked.interactions),
        text_fields=checked.text_fields,
        vector_width=len(vectors[0]) if len(vectors) else 0,
    )
    with artifacts.writing(path, dataset.KIND, recipe, config=config, inputs=inputs) as draft:
        dataset.write(draft.path, records, catalogue, checked.users, figures)
    print(f"Prepared {path}\n{statistics.table(figures)}")


def _input_files(config: configs.Data) -> dict[str, epath.Path]:
    """What the source is read from, by a name that does not depend on where it lies."""
    if config.source == "files":
        if not (config.interactions and config.items):
            raise DataError("data.source is 'files': set data.interactions and data.items to the paths of your files.")
        roles = {"interactions": config.interactions, "items": config.items, "users": config.users}
        return {role: epath.Path(file) for role, file in roles.items() if file}
    if config.source in ("s3rec", "mcauley") and not config.folder:
        raise DataError(f"data.source is {config.source!r}: set data.folder to the folder that holds its files.")
    if config.source == "s3rec":
        return {name: epath.Path(config.folder) / name for name in s3rec.FILES}
    if config.source == "mcauley":
        return {file.name: file for file in mcauley.files(config.folder).values()}
    if config.source == "synthetic":
        return {}
    raise DataError(f"data.source={config.source!r} is unknown. Choose files, synthetic, s3rec or mcauley.")


def _hash_input(file: epath.Path) -> str:
    if not file.exists():
        raise DataError(f"{file}: no such file. Check the paths of the config (data.interactions, data.items, ...).")
    return artifacts.hash_file(file)


def _recipe_config(config: configs.Data) -> configs.Data:
    """What of the config decides the result: not where the inputs lie, for their content is hashed."""
    config = dataclasses.replace(config, interactions="", items="", users="", folder="")
    if config.source != "synthetic":
        config = dataclasses.replace(config, synthetic=configs.SyntheticCatalogue())
    return config


def _read(config: configs.Data) -> reading.Tables:
    if config.source == "s3rec":
        return s3rec.read(config.folder)
    if config.source == "mcauley":
        return mcauley.read(config.folder)
    if config.source == "synthetic":
        return synthetic.generate(config.synthetic).tables
    return reading.Tables(
        reading.read_table(config.interactions),
        reading.read_table(config.items),
        reading.read_table(config.users) if config.users else None,
    )


def _catalogue(items: pa.Table, log: Interactions, keep_all: bool) -> tuple[pa.Table, Interactions]:
    """The items that stay, in the order of their file, and the log with rows of that table.

    k-core drops items that too few users chose; without it also items that nobody chose yet can be recommended.
    """
    kept = np.ones(items.num_rows, bool) if keep_all else np.bincount(log.items, minlength=items.num_rows) > 0
    rows = np.flatnonzero(kept)
    if "source_row" in items.column_names:
        raise DataError("The items have a column source_row, a name that genrec uses. Rename the column.")
    table = items.take(pa.array(rows)).add_column(1, "source_row", pa.array(rows.astype(np.int32)))
    new_row = np.cumsum(kept) - 1
    return table, dataclasses.replace(log, items=new_row[log.items])


def _split(config: configs.Data, sequences: splits.UserSequences, has_times: bool) -> dict[str, np.ndarray]:
    if config.split == "leave_one_out":
        ends = splits.leave_one_out(sequences)
        remedy = "Leave-one-out needs users with at least 3 interactions; add data or lower the filters."
    elif config.split == "temporal":
        if not has_times:
            raise DataError("data.split is 'temporal', but the interactions have no timestamp. Use leave_one_out.")
        ends = splits.temporal(sequences, config.validation_fraction, config.test_fraction)
        remedy = "Add data, or raise data.validation_fraction and data.test_fraction."
    else:
        raise DataError(f"data.split={config.split!r} is unknown. Choose leave_one_out or temporal.")
    for name, lengths in ends.items():
        if not lengths.any():
            raise DataError(f"The {name} split is empty: no user has interactions for it. {remedy}")
    return ends


def _records(user_ids: np.ndarray, sequences: splits.UserSequences, lengths: np.ndarray) -> dataset.Records:
    """A split's records: the first `lengths[u]` items of each user who has any."""
    users = np.flatnonzero(lengths)

    def read() -> Iterator[dataset.Sequence]:
        for user in users:
            start = sequences.offsets[user]
            part = slice(start, start + lengths[user])
            yield dataset.Sequence(user_ids[user], sequences.items[part], sequences.timestamps[part])

    return dataset.Records(lengths[users], read)
