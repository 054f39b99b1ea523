"""Stage `prepare`: raw files -> `dataset/`. Reads, validates, filters, splits, checks for leaks, writes."""

import dataclasses

import numpy as np
import pyarrow as pa
from absl import logging
from etils import epath

from genrec import artifacts, printing, settings_check
from genrec import config as configs
from genrec.data import dataset, filtering, logs, splits, statistics, validation
from genrec.data.beam import prepare as beam_prepare
from genrec.data.beam.runner import BeamRunner
from genrec.data.errors import DataError
from genrec.data.sources import read

FORMAT = 1  # version of the dataset; raise it when the same source no longer gives the same dataset


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
    recipe = artifacts.hash_of(FORMAT, _recipe_config(config), inputs)
    if artifacts.up_to_date(path, dataset.KIND, recipe, models=artifacts.MODELS):
        logging.info("%s is up to date", path)
        return
    if runner:
        with artifacts.writing(path, dataset.KIND, recipe, config=config, inputs=inputs) as draft:
            figures = beam_prepare.fill(config, draft.path, runner)
    else:
        parts, catalogue, users, figures = _contents(config)
        with artifacts.writing(path, dataset.KIND, recipe, config=config, inputs=inputs) as draft:
            dataset.write(draft.path, parts, catalogue, users, figures)
    printing.show(f"Prepared {path}\n{statistics.table(figures)}")


def _hash_inputs(config: configs.Data, path: epath.Path, runner: BeamRunner | None) -> dict[str, str]:
    """Returns the hashes of the source's files by name, with a log of several files hashed by the Beam workers."""
    if not (runner and logs.is_pattern(config.interactions)):  # a single file is read by a single worker anyway
        return read.hash_inputs(config)
    with artifacts.scratch(path) as folder:
        return read.hash_inputs(
            config, lambda files: runner.map("hash", artifacts.hash_file, [str(file) for file in files], folder)
        )


def _recipe_config(config: configs.Data) -> configs.Data:
    """Returns the settings that determine the dataset: without the paths of the inputs, whose content is hashed."""
    config = dataclasses.replace(config, interactions="", items="", users="", folder="")
    if config.source != "synthetic":
        config = dataclasses.replace(config, synthetic=configs.SyntheticCatalogue())
    return config


def _contents(config: configs.Data) -> tuple[dict[str, dataset.Split], pa.Table, pa.Table | None, dict]:
    """Returns the arguments of `dataset.write`: splits, catalogue, users, statistics."""
    checked = validation.check(read.read(config), config.text_fields)
    log = filtering.by_config(checked.interactions, config)
    popularity = np.bincount(log.items, minlength=checked.items.num_rows)
    catalogue, new_rows = filtering.catalogue(checked.items, popularity, keep_all=config.k_core <= 1)
    sequences = splits.by_user(dataclasses.replace(log, items=new_rows[log.items]))
    ends = splits.by_config(sequences, config, checked.has_times)
    parts = {name: dataset.prefixes(log.user_ids, sequences, lengths) for name, lengths in ends.items()}
    dataset.check_no_leak(parts)
    lengths, times = sequences.lengths, sequences.timestamps
    figures = statistics.summarize(
        lengths=lengths[lengths > 0],
        popularity=popularity[catalogue["source_row"].to_numpy()],
        times=(times.min(), times.max()) if checked.has_times else None,
        sequences={name: len(split.lengths) for name, split in parts.items()},
        before_filtering=len(checked.interactions),
        text_fields=checked.text_fields,
        catalogue=catalogue,
        source_items=checked.items.num_rows,
    )
    return parts, catalogue, checked.users, figures
