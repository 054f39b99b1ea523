"""Artifacts: the output folders of the stages, written atomically and identified by hashes of their inputs.

A stage writes into a temporary folder beside its target, adds the manifest `artifact.json`, and renames the folder. The
manifest holds

* `recipe`: a hash of the stage's config and of the fingerprints of its inputs: an artifact of the same recipe is kept;
* `fingerprint`: what later stages depend on: a hash of the content where the stage sets one, else the recipe.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging
from etils import epath

from genrec.errors import GenrecError

MANIFEST = "artifact.json"


class ArtifactError(GenrecError):
    """Error for an artifact that is missing, or was made from other inputs. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    """Content of a manifest."""

    kind: str
    recipe: str
    fingerprint: str
    inputs: Mapping[str, str]  # name -> fingerprint
    config: Mapping[str, Any]


def hash_of(*parts: Any) -> str:
    """Returns 16 hex digits that depend on the parts (JSON-like values, dataclasses, bytes) alone."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else json.dumps(_plain(part), sort_keys=True).encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:16]


def hash_file(path: epath.PathLike) -> str:
    """Returns 16 hex digits that depend on a file's content alone."""
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def read(path: epath.PathLike, kind: str) -> Artifact:
    """Returns the manifest of the artifact in `path`; raises `ArtifactError` if there is none of this kind."""
    manifest = epath.Path(path) / MANIFEST
    if not manifest.exists():
        raise ArtifactError(f"{path}: no {kind} here. Run the stage that makes it first (launch/run.py runs them all).")
    artifact = Artifact(**json.loads(manifest.read_text()))
    if artifact.kind != kind:
        raise ArtifactError(f"{path}: contains {artifact.kind}, not {kind}. Give another folder.")
    return artifact


def up_to_date(path: epath.PathLike, kind: str, recipe: str) -> bool:
    """Returns whether `path` holds the artifact of this recipe; raises `ArtifactError` if it holds another kind."""
    return (epath.Path(path) / MANIFEST).exists() and read(path, kind).recipe == recipe


@dataclasses.dataclass
class Draft:
    """Artifact being written: the stage fills the folder `path`, and may set `fingerprint` to a hash of the content."""

    path: epath.Path
    fingerprint: str | None = None


@contextlib.contextmanager
def writing(
    path: epath.PathLike, kind: str, recipe: str, *, config: Any, inputs: Mapping[str, str] | None = None
) -> Iterator[Draft]:
    """Yields a draft whose folder replaces `path` if and only if the block ends without an exception."""
    path = epath.Path(path)
    temporary = _fresh_temporary(path)
    draft = Draft(temporary)
    try:
        yield draft
    except BaseException:
        temporary.rmtree()
        raise
    artifact = Artifact(kind, recipe, draft.fingerprint or recipe, dict(inputs or {}), _plain(config))
    (temporary / MANIFEST).write_text(json.dumps(dataclasses.asdict(artifact), indent=2))
    if path.exists():
        path.rmtree()
    temporary.rename(path)
    logging.info("wrote %s %s (%s)", kind, path, artifact.fingerprint)


def _plain(value: Any) -> Any:
    """Returns a dataclass as a dict, and other values as they are."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _fresh_temporary(path: epath.Path) -> epath.Path:
    """Makes the temporary folder beside `path`, and removes one that a killed run left."""
    temporary = path.parent / f".{path.name}.partial"
    if temporary.exists():
        temporary.rmtree()
    temporary.mkdir(parents=True)
    return temporary


@contextlib.contextmanager
def scratch(path: epath.PathLike) -> Iterator[epath.Path]:
    """Yields a temporary folder, that of `writing`, for work before `path` is written."""
    temporary = _fresh_temporary(epath.Path(path))
    try:
        yield temporary
    finally:
        temporary.rmtree()


def require_input(path: epath.PathLike, kind: str, name: str, fingerprint: str) -> None:
    """Raises `ArtifactError` unless the artifact in `path` was made from the input `name` with this fingerprint."""
    found = read(path, kind).inputs.get(name)
    if found != fingerprint:
        raise ArtifactError(
            f"{path}: these {kind} were made for another {name} ({found}; the one here is {fingerprint}). Run the "
            "stages between them again (launch/run.py skips those that are up to date)."
        )
