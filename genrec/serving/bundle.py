"""Bundle: a folder with all that a server needs of a trained model, read without the libraries of training.

    card.json              versions, fingerprints, sizes, metrics, and the SHA-256 of each file
    record.json            run record of the model: its settings, context, prompts and their vocabulary
    weights.safetensors    parameters
    sequential.json, sequential.safetensors   run record and parameters of SASRec, where the work directory has it
    ranker.json, ranker.safetensors   weights and statistics of the features of the ranker, where there is SASRec
    programs/*.stablehlo   compiled functions (jax.export) for CPU, CUDA and TPU, one for each form and batch size
    catalogue.parquet      the items
    arrays.safetensors     semantic IDs; of models and of new items, what they read beside texts
    users.parquet          features of users, where a model reads them
    transitions.safetensors    where a model reads them, and as a source of lists
    item_knn.safetensors, popularity.safetensors   further sources of lists
    recommender.json           weights and rules of the multi-stage recommender over the sources

`genrec.serving.bundle_export` writes bundles, `genrec.serving.served_engine` answers requests from them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath

import genrec
from genrec import artifacts, files
from genrec.decoding.index_arrays import Layout
from genrec.errors import GenrecError, cut
from genrec.ranking import lists

FORMAT = 4  # version of the bundle; raise it when another version of genrec could not read it
CARD, RECORD, WEIGHTS, CATALOGUE = "card.json", "record.json", "weights.safetensors", "catalogue.parquet"
ARRAYS, USERS, TRANSITIONS = "arrays.safetensors", "users.parquet", "transitions.safetensors"
ITEM_KNN, POPULARITY, MULTI_STAGE = "item_knn.safetensors", "popularity.safetensors", "recommender.json"
SEQUENTIAL, SEQUENTIAL_WEIGHTS = "sequential.json", "sequential.safetensors"
RANKER, RANKER_ARRAYS = "ranker.json", "ranker.safetensors"
# Files of the sources of lists beside the generator, by their names.
SOURCES = {
    lists.SASREC: RANKER,  # whose programs score all items
    lists.KNN: ITEM_KNN,
    lists.TRANSITIONS: TRANSITIONS,
    lists.POPULAR: POPULARITY,
    lists.MULTI_STAGE: MULTI_STAGE,
}
PROGRAMS = "programs"
TUPLES = ("sizes", "text_fields", "batch_sizes", "weights", "sequential_weights")  # fields of a card
PLATFORMS = ("cpu", "cuda", "tpu")


class BundleError(GenrecError):
    """A bundle that is missing, damaged or of another version, or that cannot be made. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class Card:
    """The description of a bundle, in its file card.json."""

    version: str  # of genrec
    fingerprint: str  # of all other fields, and so of all files
    dataset: str  # fingerprint
    semantic_ids: str  # fingerprint
    step: int  # of the training
    items: int
    item_capacity: int  # numbers of items, removed ones included
    parameters: int
    sizes: tuple[int, ...]  # codes per level
    text_fields: tuple[str, ...]  # columns of the catalogue that describe an item
    has_times: bool  # whether histories have times
    beams: int
    max_beams: int  # 0: searches do not widen
    batch_sizes: tuple[int, ...]
    layout: Mapping[str, Any]  # `Layout` of the index, as JSON
    embeddings: Mapping[str, Any]  # config.Embeddings of the items
    weights: tuple[str, ...]  # names of the parameters, in the order of the programs' arguments
    sequential_weights: tuple[str, ...]  # the same of the sequential model; empty without one
    metrics: Mapping[str, Any]  # evaluation/test.json of the work directory; empty if there is none
    jax: str  # version
    files: Mapping[str, tuple[int, str]]  # relative name -> bytes, SHA-256
    format: int = FORMAT

    @property
    def index_layout(self) -> Layout:
        """Returns the layout of the index, which the programs are compiled for."""
        sizes, windows, runs = (tuple(self.layout[name]) for name in ("sizes", "windows", "runs"))
        return Layout(sizes, self.layout["tables"], windows, runs, self.layout["capacity"])


def sha256(content: bytes) -> str:
    """Returns the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def fingerprint_of(fields: Mapping[str, Any]) -> str:
    """Returns the fingerprint of a bundle by the JSON fields of its card: the files' SHA-256, and all else."""
    return artifacts.hash_of({name: value for name, value in fields.items() if name != "fingerprint"})


class Bundle:
    """A bundle, opened for reading. Each file is compared with its SHA-256 when it is read."""

    def __init__(self, folder: epath.PathLike):
        """Reads the card; raises BundleError if the folder has none, or one of another version."""
        try:
            self.folder = epath.Path(folder)
            path = self.folder / CARD
            is_there = path.exists()
        except Exception as problem:  # each kind of bucket has its own
            reason = cut(str(problem))
            raise BundleError(f"{cut(str(folder))}: no bundle can be read here ({reason}). Give a folder.") from problem
        if not is_there:
            raise BundleError(
                f"{cut(str(folder))}: no bundle here, {CARD} is missing. tools/export_bundle.py makes one."
            )
        fields = files.read_json(path)
        version = fields.get("format")
        if version != FORMAT or fields.get("version") != genrec.__version__:
            raise BundleError(
                f"{self.folder}: the bundle has format {version} of genrec {fields.get('version')}; this is format "
                f"{FORMAT} of genrec {genrec.__version__}. Export it again: tools/export_bundle.py."
            )
        try:
            self.card = _card(fields)
        except (TypeError, KeyError, ValueError, AttributeError) as problem:
            raise self._changed(CARD) from problem
        if self.card.fingerprint != fingerprint_of(fields):
            raise self._changed(CARD)
        for name, (size, _) in self.card.files.items():
            file = self.folder / name
            if not file.exists():
                raise BundleError(f"{self.folder}: {name} is missing. Export the bundle again: tools/export_bundle.py.")
            if file.stat().length != size:
                raise self._changed(name)

    def _changed(self, name: str) -> BundleError:
        return BundleError(
            f"{self.folder}: {name} is not what was exported. Export the bundle again: tools/export_bundle.py."
        )

    def __contains__(self, name: str) -> bool:
        return name in self.card.files

    def read(self, name: str) -> bytes:
        """Returns the content of a file; raises BundleError if it has changed or is no part of the bundle."""
        if name not in self:
            raise BundleError(f"{self.folder}: the bundle has no {name}. Export it again: tools/export_bundle.py.")
        try:
            content = (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise BundleError(f"{self.folder}: {name} is missing. Export it again: tools/export_bundle.py.") from None
        if sha256(content) != self.card.files[name][1]:
            raise self._changed(name)
        return content

    def check(self) -> None:
        """Compares all files with their SHA-256; raises BundleError, which names the first that has changed."""
        for name in self.card.files:
            self.read(name)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Returns the arrays of a safetensors file."""
        return safetensors.numpy.load(self.read(name))

    def json(self, name: str) -> dict[str, Any]:
        """Returns the object of a JSON file."""
        return json.loads(self.read(name))


def _card(fields: Mapping[str, Any]) -> Card:
    """Returns the card of its JSON fields."""
    tuples = {name: tuple(fields[name]) for name in TUPLES}
    measured = {name: (int(size), str(digest)) for name, (size, digest) in fields["files"].items()}
    return Card(**{**fields, **tuples, "files": measured})


class Programs:
    """The compiled functions of a bundle, compiled for the devices of this process when they are first used."""

    def __init__(self, bundle: Bundle):
        self._bundle, self._compiled = bundle, dict[str, Any]()
        prefix, suffix = f"{PROGRAMS}/", ".stablehlo"
        self.names = [name[len(prefix) : -len(suffix)] for name in bundle.card.files if name.startswith(prefix)]

    @property
    def compilations(self) -> int:
        """Returns how many programs were compiled so far."""
        return len(self._compiled)

    def compile(self, name: str) -> Any:
        """Returns a program as a function of the leaves of its arguments, compiled unless it was before."""
        found = self._compiled.get(name)
        if found is None:
            exported = jax.export.deserialize(bytearray(self._bundle.read(f"{PROGRAMS}/{name}.stablehlo")))
            shapes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in exported.in_avals]
            found = self._compiled[name] = jax.jit(exported.call).lower(*shapes).compile()
        return found

    def __call__(self, name: str, *arguments: Any) -> Sequence[jax.Array]:
        """Returns the leaves of a program's result."""
        return self.compile(name)(*jax.tree.leaves(arguments))
