"""Folders that stages leave for each other: written whole or not at all, and named by what they were made from.

A stage writes into a temporary folder beside its target, adds `artifact.json`, and renames. The file holds

* `recipe`: a hash of the stage's config and of the fingerprints of its inputs; equal recipe, nothing to do;
* `fingerprint`: what later stages depend on, a hash of the content where a stage gives one, the recipe otherwise.
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
    """A stage's output is missing, or was made for something else. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    kind: str
    recipe: str
    fingerprint: str
    inputs: Mapping[str, str]  # name -> fingerprint
    config: Mapping[str, Any]


def hash_of(*parts: Any) -> str:
    """16 hex digits that depend on the parts (JSON-like values, dataclasses, bytes) and on nothing else."""
    digest = hashlib.sha256()
    for part in parts:
        if dataclasses.is_dataclass(part):
            part = dataclasses.asdict(part)
        encoded = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:16]


def hash_file(path: epath.PathLike) -> str:
    """16 hex digits of a file's content."""
    digest = hashlib.sha256()
    with epath.Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def read(path: epath.PathLike, kind: str) -> Artifact:
    """The manifest of the artifact in `path`; raises `ArtifactError` when there is none of this kind."""
    manifest = epath.Path(path) / MANIFEST
    if not manifest.exists():
        raise ArtifactError(f"{path}: no {kind} here. Run the stage that makes it first (launch/run.py runs them all).")
    artifact = Artifact(**json.loads(manifest.read_text()))
    if artifact.kind != kind:
        raise ArtifactError(f"{path}: holds {artifact.kind}, not {kind}. Give another folder.")
    return artifact


def up_to_date(path: epath.PathLike, kind: str, recipe: str) -> bool:
    """Whether `path` already holds what this recipe makes."""
    if not (epath.Path(path) / MANIFEST).exists():
        return False
    return read(path, kind).recipe == recipe


@dataclasses.dataclass
class Draft:
    """An artifact being written: fill `path`; set `fingerprint` when the content has one of its own."""

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
    config = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config)
    artifact = Artifact(kind, recipe, draft.fingerprint or recipe, dict(inputs or {}), config)
    (temporary / MANIFEST).write_text(json.dumps(dataclasses.asdict(artifact), indent=2))
    if path.exists():
        path.rmtree()
    temporary.rename(path)
    logging.info("wrote %s %s (%s)", kind, path, artifact.fingerprint)


def _fresh_temporary(path: epath.Path) -> epath.Path:
    """The folder beside `path` that becomes it; what a killed run left there is removed."""
    temporary = path.parent / f".{path.name}.partial"
    if temporary.exists():
        temporary.rmtree()
    temporary.mkdir(parents=True)
    return temporary


@contextlib.contextmanager
def scratch(path: epath.PathLike) -> Iterator[epath.Path]:
    """Yields a temporary folder, that of `writing`, for what is found out before `path` is written."""
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
            "stages between them again (launch/run.py skips what is up to date)."
        )
