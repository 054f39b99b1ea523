"""Stage `prepare`: raw files -> `dataset/`. Reads, validates, filters, splits, checks for leaks, writes."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging
from etils import epath

from genrec import artifacts, printing, settings_check
from genrec import config as configs
from genrec.data import dataset, filtering, logs, splits, statistics, streaming, validation
from genrec.data.beam import prepare as beam_prepare
from genrec.data.beam.runner import BeamRunner
from genrec.data.errors import DataError
from genrec.data.sources import read


def prepare(config: configs.Data, path: epath.PathLike, runner: BeamRunner | None = None) -> None:
    """Writes the dataset that `config` describes to `path`, unless it is up to date.

    Args:
      config: The stage's settings.
      path: A folder of a file system, which may be a mounted bucket.
      runner: Apache Beam runner to prepare on, with the same result; None prepares in this process.

    Raises:
      ConfigError: for invalid settings.
      DataError: if the data has problems; the message lists all of them, and `path` stays as it was.
    """
    settings_check.check(config, "data")
    path = epath.Path(path)
    if "://" in str(path):
        raise DataError(
            f"{path}: sequences are stored as ArrayRecord, which reads and writes file systems only. Mount the bucket "
            "(docs/clusters.md), and give --workdir=MOUNTED/FOLDER."
        )
    artifacts.check_apart(path, **read.paths(config))
    inputs = _hash_inputs(config, path, runner)
    recipe = artifacts.hash_of(dataset.FORMAT, _recipe_config(config), inputs)
    if artifacts.up_to_date(path, dataset.KIND, recipe, models=artifacts.MODELS):
        logging.info("%s is up to date", path)
        return
    with artifacts.writing(path, dataset.KIND, recipe, config=config, inputs=inputs) as draft:
        if runner:
            figures: Mapping[str, object] = beam_prepare.fill(config, draft.path, runner)
        elif config.source == "files":
            figures = streaming.fill(config, draft.path)
        else:
            contents = in_memory(config)
            dataset.write(draft.path, contents)
            figures = contents.statistics
    printing.show(f"Prepared {path}\n{statistics.table(figures)}")


def _hash_inputs(config: configs.Data, path: epath.Path, runner: BeamRunner | None) -> dict[str, str]:
    """Returns the hashes of the source's files by name, with a log of several files hashed by the Beam workers."""
    if not (runner and logs.is_pattern(config.interactions)):  # a single file is read by a single worker anyway
        return read.hash_inputs(config)
    with artifacts.scratch(path) as folder:
        return read.hash_inputs(
            config, lambda files: runner.map("hash", artifacts.hash_file, [str(file) for file in files], folder)
        )


def _recipe_config(config: configs.Data) -> dict:
    """Returns the settings that determine the dataset: without the paths of the inputs, whose content is hashed."""
    config = dataclasses.replace(config, interactions="", items="", users="", folder="")
    if config.source != "synthetic":
        config = dataclasses.replace(config, synthetic=configs.SyntheticCatalogue())
    settings = dataclasses.asdict(config)
    del settings["memory_gb"]
    return settings


def in_memory(config: configs.Data) -> dataset.Contents:
    """Returns the dataset of a source that is read as tables."""
    tables = read.read(config)
    read.check_renamed(config, tables.all)
    checked = validation.check(tables, config)
    items, users, has_times = checked.catalogue.items, checked.catalogue.users, checked.time.column == "timestamp"
    log = filtering.by_config(checked.interactions, config)
    times = (int(log.timestamps.min()), int(log.timestamps.max()))
    validation.refuse_1970(tables.interactions.name, times, checked.time, config)
    popularity = np.bincount(log.items, minlength=items.num_rows)
    catalogue, new_rows = filtering.catalogue(items, popularity, keep_all=config.k_core <= 1)
    sequences = splits.by_user(dataclasses.replace(log, items=new_rows[log.items]))
    known = None
    if tables.users is not None:
        user_ids = log.user_ids[sequences.lengths > 0]
        known = pc.sum(
            pc.is_in(pa.array(user_ids, pa.string()), tables.users.table["user_id"].combine_chunks())
        ).as_py()
        validation.refuse_unknown_users(known, tables.interactions.name, user_ids[0], tables.users)
    ends = splits.by_config(sequences, config, has_times)
    source = statistics.Source(
        interactions=len(tables.interactions),
        items=items.num_rows,
        text_fields=checked.catalogue.text_fields,
        types=checked.catalogue.types,
        repeated=(checked.repeated, config.repeated),
        recognized=read.recognized(tables.all, checked.time),
    )
    figures = statistics.summarize(
        source,
        lengths=sequences.lengths[sequences.lengths > 0],
        popularity=popularity[catalogue["source_row"].to_numpy()],
        pairs=sequences.pairs,
        ties=sequences.ties,
        times=times if has_times else None,
        sequences=splits.counts(ends),
        catalogue=catalogue,
        users_with_attributes=known,
    )
    return dataset.Contents([(log.user_ids, sequences)], ends, catalogue, users, figures)
