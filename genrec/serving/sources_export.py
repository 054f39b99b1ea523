"""Export of the sources of lists beside the generator: item-kNN, transitions, most popular, and multi-stage.

Their settings are those of the evaluations that the work directory has: they say what the config has.
"""

from collections.abc import Collection, Sequence
from typing import Any

from absl import logging
from etils import epath

from genrec import artifacts, config, files
from genrec.data import dataset as datasets
from genrec.data.dataset import Dataset
from genrec.input_pipeline import transitions
from genrec.input_pipeline.transitions import Transitions
from genrec.ranking import assembly
from genrec.ranking.item_knn import ItemKnn
from genrec.ranking.lists import GENERATOR, KNN, MULTI_STAGE, POPULAR, TRANSITIONS
from genrec.ranking.popular import popularity
from genrec.serving import bundle
from genrec.serving.bundle_writer import BundleWriter

TEST = "test.json"
CHOICES = (KNN, TRANSITIONS, POPULAR, MULTI_STAGE)


def write(writer: BundleWriter, names: Sequence[str], workdir: epath.Path, dataset: Dataset, beams: int) -> None:
    """Writes those of the sources `names` that the work directory has, but for transitions; says which are missing.

    All else of the bundle that they read has been written; `beams` is the length of the generator's lists.
    """
    if KNN in names:
        if (settings := item_knn_settings(workdir, dataset)) is not None:
            writer.arrays(bundle.ITEM_KNN, ItemKnn.learn(dataset, settings).arrays())
        else:
            logging.warning("no %s in the bundle: evaluate the work directory (tools/evaluate_checkpoint.py)", KNN)
    if POPULAR in names or MULTI_STAGE in names:
        writer.arrays(bundle.POPULARITY, {"counts": popularity(dataset)})
    if MULTI_STAGE in names:
        try:
            writer.json(bundle.MULTI_STAGE, _multi_stage(workdir, dataset, writer.measured, beams))
        except _MissingError as reason:
            logging.warning("no %s in the bundle: %s", MULTI_STAGE, reason)


def item_knn_settings(workdir: epath.Path, dataset: Dataset) -> config.ItemKnn | None:
    """Returns the settings of item-kNN in an evaluation of a work directory; None if there is none of its dataset.

    Those of the multi-stage recommender go before those of the baseline.
    """
    evaluated = [
        _read(workdir / assembly.FOLDER / TEST, dataset),
        _read(workdir / "evaluation" / TEST, dataset).get("identity", {}),
    ]
    return next((config.ItemKnn(**one["item_knn"]) for one in evaluated if "item_knn" in one), None)


def load_transitions(names: Sequence[str], workdir: epath.Path, dataset: Dataset) -> Transitions | None:
    """Returns the transitions of a work directory if they are among the sources `names`, and of its dataset."""
    folder = workdir / transitions.FOLDER
    if TRANSITIONS not in names or not (folder / artifacts.MANIFEST).exists():
        return None
    if artifacts.read(folder, transitions.KIND).inputs.get(datasets.KIND) != dataset.fingerprint:
        logging.warning("%s was learned from another dataset: it is no source of lists", folder)
        return None
    return Transitions.load(folder)


class _MissingError(Exception):
    """Reason why the multi-stage recommender of a work directory cannot be served."""


def _multi_stage(workdir: epath.Path, dataset: Dataset, written: Collection[str], beams: int) -> dict[str, Any]:
    """Returns the multi-stage recommender that a work directory was evaluated with, as JSON.

    `written` are the files of the bundle. Raises _MissingError if it cannot be served.
    """
    folder = workdir / assembly.FOLDER
    found = _read(folder / TEST, dataset)
    if not found:
        raise _MissingError("evaluate it on this dataset (tools/evaluate_multi_stage.py)")
    settings, trees = found["settings"], files.read_json(folder / assembly.TREES)["trees"]
    weights = files.read_json(folder / assembly.WEIGHTS)
    if artifacts.hash_of(trees) != found["trees"] or weights != found["weights"]:
        raise _MissingError(f"the files in {folder} are of different evaluations: evaluate it again")
    missing = [name for name in settings["sources"] if name != GENERATOR and bundle.SOURCES[name] not in written]
    if missing or (settings["ranker"] and bundle.RANKER not in written):
        raise _MissingError(f"there is no {missing[0] if missing else 'ranker'} in it")
    if GENERATOR in settings["sources"] and beams < settings["candidates"]:
        raise _MissingError(f"it takes {settings['candidates']} candidates of the generator: give as many --beams")
    return {
        "sources": found["sources"],
        **{name: settings[name] for name in ("candidates", "ranker", "scoring")},
        "weights": weights["final"],
        "trees": trees,
    }


def _read(path: epath.Path, dataset: Dataset) -> dict[str, Any]:
    """Returns the results of an evaluation; empty if there are none of this dataset."""
    found = files.read_json(path) if path.exists() else {}
    of = found.get("dataset", found.get("identity", {}).get("dataset"))
    return found if of == dataset.fingerprint else {}
