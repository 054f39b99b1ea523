"""Stage `prepare`: raw files -> `dataset/`. Reads, validates, filters, splits, checks for leaks, writes."""

import dataclasses

import numpy as np
import pyarrow as pa
from absl import logging
from etils import epath

from genrec import artifacts
from genrec import config as configs
from genrec.data import dataset, filtering, logs, splits, statistics, validation
from genrec.data.beam import prepare as beam_prepare
from genrec.data.beam.runner import BeamRunner
from genrec.data.errors import DataError
from genrec.data.sources import read

FORMAT = 1  # of the folder; raise it when the same source gives another dataset than before


def prepare(config: configs.Data, path: epath.PathLike, runner: BeamRunner | None = None) -> None:
    """Writes the dataset that `config` describes to `path`, unless it is there already.

    Args:
      config: Of the stage.
      path: A folder of a file system, which may be a mounted bucket.
      runner: Prepares on Apache Beam; the result is the same.

    Raises:
      DataError: when the data cannot be used; the message names everything to repair, and `path` stays as it was.
    """
    path = epath.Path(path)
    if "://" in str(path):
        raise DataError(
            f"{path}: ArrayRecord, in which sequences are stored, knows file systems only. Mount the bucket "
            "(docs/clusters.md), and give --workdir=MOUNTED/FOLDER."
        )
    inputs = _hash_inputs(config, path, runner)
    recipe = artifacts.hash_of(FORMAT, _recipe_config(config), inputs)
    if artifacts.up_to_date(path, dataset.KIND, recipe):
        logging.info("%s is up to date", path)
        return
    if runner:
        with artifacts.writing(path, dataset.KIND, recipe, config=config, inputs=inputs) as draft:
            figures = beam_prepare.fill(config, draft.path, runner)
    else:
        records, catalogue, users, figures = _contents(config)
        with artifacts.writing(path, dataset.KIND, recipe, config=config, inputs=inputs) as draft:
            dataset.write(draft.path, records, catalogue, users, figures)
    print(f"Prepared {path}\n{statistics.table(figures)}")


def _hash_inputs(config: configs.Data, path: epath.Path, runner: BeamRunner | None) -> dict[str, str]:
    if not (runner and logs.is_pattern(config.interactions)):  # a single file is read by a single worker anyway
        return read.hash_inputs(config)
    with artifacts.scratch(path) as folder:
        return read.hash_inputs(
            config, lambda files: runner.map("hash", artifacts.hash_file, [str(file) for file in files], folder)
        )


def _recipe_config(config: configs.Data) -> configs.Data:
    """What of the config decides the result: not where the inputs lie, for their content is hashed."""
    config = dataclasses.replace(config, interactions="", items="", users="", folder="")
    if config.source != "synthetic":
        config = dataclasses.replace(config, synthetic=configs.SyntheticCatalogue())
    return config


def _contents(config: configs.Data) -> tuple[dict[str, dataset.Records], pa.Table, pa.Table | None, dict]:
    """What `dataset.write` takes: splits, catalogue, users, statistics."""
    checked = validation.check(read.read(config), config.text_fields)
    log = filtering.by_config(checked.interactions, config)
    popularity = np.bincount(log.items, minlength=checked.items.num_rows)
    catalogue, new_rows = filtering.catalogue(checked.items, popularity, keep_all=config.k_core <= 1)
    sequences = splits.by_user(dataclasses.replace(log, items=new_rows[log.items]))
    ends = splits.by_config(sequences, config, checked.has_times)
    records = {name: dataset.records(log.user_ids, sequences, lengths) for name, lengths in ends.items()}
    dataset.check_no_leak(records)
    lengths, times = sequences.lengths, sequences.timestamps
    figures = statistics.summarize(
        lengths=lengths[lengths > 0],
        popularity=popularity[catalogue["source_row"].to_numpy()],
        times=(times.min(), times.max()) if checked.has_times else None,
        records={name: len(split.lengths) for name, split in records.items()},
        before_filtering=len(checked.interactions),
        text_fields=checked.text_fields,
        catalogue=catalogue,
    )
    return records, catalogue, checked.users, figures
