"""Stage `embed`: catalogue -> `item_embeddings/`, one vector per item.

The content part comes from given vectors or from the items' texts. An optional second part is the items' co-occurrence
in users' sequences, of the training split only, so that no test interaction influences a semantic ID.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from genrec import artifacts, files, settings_check
from genrec import config as config_lib
from genrec.data.beam.runner import BeamRunner
from genrec.data.dataset import Dataset
from genrec.semantic_ids import cooccurrence, embed_on_beam
from genrec.semantic_ids.encoders import EmbeddingError, content, cooccurrence_weight

KIND = "item_embeddings"
FILE = "embeddings.npy"


def embed(
    config: config_lib.Embeddings,
    dataset_path: epath.PathLike,
    path: epath.PathLike,
    runner: BeamRunner | None = None,
) -> None:
    """Writes float32[items, width] of the dataset's catalogue into `path`, unless it is up to date.

    With a `runner`, Apache Beam counts and encodes; the result is equal up to rounding. Raises ConfigError for invalid
    settings, EmbeddingError for vectors that do not fit the catalogue, texts without words or a missing package, and
    ArtifactError without a dataset.
    """
    settings_check.check(config, "embeddings")
    given = hash_files(config)
    artifacts.check_apart(path, dataset=dataset_path, **({"embeddings.vectors": config.vectors} if given else {}))
    dataset = Dataset(dataset_path)
    inputs = {"dataset": dataset.fingerprint, **given}
    recipe = artifacts.hash_of(KIND, settings_in_use(config), inputs)
    if artifacts.up_to_date(path, KIND, recipe, models=artifacts.GENERATOR):
        logging.info("%s is up to date", path)
        return
    with artifacts.writing(path, KIND, recipe, config=config, inputs=inputs) as draft:
        if runner:
            blocks, pairs = embed_on_beam.content_and_pairs(config, dataset, draft.path, runner)
        else:
            blocks, pairs = content(config, dataset.catalogue), None
            if cooccurrence_weight(config):
                pairs = cooccurrence.count_pairs(dataset.split("train"), len(dataset.catalogue))
        if pairs is not None:
            behavior = cooccurrence.embeddings(pairs, config.cooccurrence_width)
            blocks = _with_behavior(blocks, np.float32(cooccurrence_weight(config)) * behavior)
            if config.source == "cooccurrence":
                logging.warning(
                    "embeddings.source=cooccurrence: %d of %d items are in no training sequence with another item, and "
                    "all get the same codes; items that come later get none until semantic IDs are learned again",
                    np.count_nonzero(~behavior.any(axis=1)),
                    len(behavior),
                )
        files.save_rows(draft.path / FILE, blocks, len(dataset.catalogue))
        shape = files.array_shape(draft.path / FILE)
        logging.info("embedded %d items in %d dimensions (%s)", *shape, config.source)


def _with_behavior(blocks: Iterable[np.ndarray], behavior: np.ndarray) -> Iterator[np.ndarray]:
    start = 0
    for block in blocks:
        yield np.concatenate([block, behavior[start : start + len(block)]], axis=1)
        start += len(block)


def hash_files(config: config_lib.Embeddings) -> dict[str, str]:
    """Returns the hashes of the files that the settings name, by name; raises EmbeddingError if one is missing."""
    if config.source == "sentence_transformers" and epath.Path(config.sentence_model).is_dir():
        return {"sentence_model": artifacts.hash_of(artifacts.measure_files(epath.Path(config.sentence_model)))}
    check_files(config)
    if config.source != "vectors" or not config.vectors:
        return {}
    return {"vectors": artifacts.hash_file(config.vectors)}


def check_files(config: config_lib.Embeddings) -> None:
    """Raises EmbeddingError if the file of given vectors is missing."""
    if config.source != "vectors" or not config.vectors:
        return
    if not epath.Path(config.vectors).exists() or epath.Path(config.vectors).is_dir():
        raise EmbeddingError(f"embeddings.vectors: there is no file {config.vectors}. Give the path of a .npy file.")


def settings_in_use(config: config_lib.Embeddings) -> dict[str, Any]:
    """Returns the settings that determine the embeddings: without those of other sources, and without paths."""
    used: dict[str, Any] = {"source": config.source, "cooccurrence_weight": cooccurrence_weight(config)}
    if cooccurrence_weight(config):
        used["cooccurrence_width"] = config.cooccurrence_width
    if config.source == "tfidf":
        used["width"] = config.width
    if config.source == "sentence_transformers" and not epath.Path(config.sentence_model).is_dir():
        used["sentence_model"] = config.sentence_model
    return used


def load(path: epath.PathLike) -> np.ndarray:
    """Returns float32[items, width] of the artifact in `path`, not to be written to, as `files.map_array` does.

    Raises ArtifactError if there is none.
    """
    artifacts.read(path, KIND)
    return files.map_array(epath.Path(path) / FILE)
