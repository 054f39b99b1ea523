"""Artifacts: the output folders of the stages, written atomically and identified by hashes of their inputs.

A stage writes into a temporary folder beside its target, adds the manifest `artifact.json`, and renames the folder. The
manifest holds

* `recipe`: a hash of the stage's config and of the fingerprints of its inputs: an artifact of the same recipe is kept;
* `fingerprint`: what later stages depend on: a hash of the content where the stage sets one, else the recipe;
* `files`: sizes and checksums, so that a damaged artifact is refused and, by launch/run.py, made again.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from etils import epath

from genrec import files, workdir_lock
from genrec.errors import ArtifactError
from genrec.files import MANIFEST, DamagedError

# Folders of a work directory with models that depend on the semantic IDs, and on the dataset.
GENERATOR = ("checkpoints",)
MODELS = (*GENERATOR, "sasrec/checkpoints")
HASHING_THREADS = 8
_verified: set[tuple[str, str]] = set()  # (path, content of the manifest) whose checksums were compared


@dataclasses.dataclass(frozen=True)
class Artifact:
    """Content of a manifest."""

    kind: str
    recipe: str
    fingerprint: str
    inputs: Mapping[str, str]  # name -> fingerprint
    config: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]  # relative name -> bytes, `hash_file`


class Verification:
    """Switch by which `read` compares checksums (--verify_artifacts)."""

    enabled = False


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
    """Returns the manifest of the artifact in `path`, whose files have the recorded sizes.

    Raises ArtifactError if there is none of this kind, and DamagedError, which is one, if a file is missing, or has
    another size or, if `Verification` is enabled, another checksum than recorded.
    """
    path = epath.Path(path)
    if not (path / MANIFEST).exists():
        raise ArtifactError(f"{path}: no {kind} here. Run the stage that makes it first (launch/run.py runs them all).")
    artifact = _read_manifest(path / MANIFEST)
    if artifact.kind != kind:
        raise ArtifactError(f"{path}: contains {artifact.kind}, not {kind}. Give another folder.")
    again = f"Delete the folder {path} and run the stage that makes it again (launch/run.py runs them all)."
    for name, (size, _) in artifact.files.items():
        try:
            found = (path / name).stat().length
        except (FileNotFoundError, NotADirectoryError):
            raise DamagedError(f"{path}: is damaged: {name} is missing. {again}") from None
        if found != size:
            raise DamagedError(f"{path}: is damaged: {name} has {found} bytes, not {size}. {again}")
    if Verification.enabled and (key := (str(path), files.to_json(dataclasses.asdict(artifact)))) not in _verified:
        for name, (size, checksum) in measure_files(path).items():
            if name in artifact.files and artifact.files[name] != (size, checksum):
                raise DamagedError(f"{path}: is damaged: {name} has the checksum {checksum}. {again}")
        _verified.add(key)
    return artifact


def _read_manifest(path: epath.Path) -> Artifact:
    fields = files.read_json(path)
    with files.reading(path, "the manifest of an artifact of this version of genrec"):
        fields["files"] = {name: (int(size), str(checksum)) for name, (size, checksum) in fields["files"].items()}
        return Artifact(**fields)


def measure_files(path: epath.Path) -> dict[str, tuple[int, str]]:
    """Returns bytes and `hash_file` of all files in a folder but its manifest, by relative name."""
    found = sorted(file for file in files.walk(path) if file != path / MANIFEST)
    with concurrent.futures.ThreadPoolExecutor(HASHING_THREADS) as threads:
        hashes = threads.map(hash_file, found)
        return {
            str(file.relative_to(path)): (file.stat().length, checksum)
            for file, checksum in zip(found, hashes, strict=True)
        }


def up_to_date(path: epath.PathLike, kind: str, recipe: str, models: Iterable[str] = ()) -> bool:
    """Returns whether `path` holds the undamaged artifact of this recipe.

    Args:
      path: Folder of the artifact.
      kind: Its kind.
      recipe: The recipe that it should have.
      models: Folders beside `path` with the checkpoints of models that are useless without it: MODELS or some of them.

    Raises:
      ArtifactError: if the artifact must not be replaced: the folder holds something else, or there are models that
        were trained on an artifact of another recipe.
    """
    path = epath.Path(path)
    if not (path / MANIFEST).exists():
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ArtifactError(
                f"{path}: is to hold {kind}, but has other files and no {MANIFEST}. Move them away, or choose another "
                "--workdir."
            )
        return False
    folders = [path.parent / name for name in models]
    trained = [model for model in folders if model.exists() and any(step.name.isdigit() for step in model.iterdir())]
    try:
        if read(path, kind).recipe == recipe:
            return True
    except DamagedError as problem:
        damaged = _read_recipe(path)
        if damaged is None and trained:
            raise
        if damaged in (recipe, None):
            logging.warning("making %s again, since this was found: %s", kind, problem)
            return False
    if trained:
        raise ArtifactError(
            f"{path}: the settings or inputs of {kind} have changed, and {trained[0]} was trained on what is there. "
            "Undo the change, choose another --workdir, or move the checkpoints away."
        )
    return False


def _read_recipe(path: epath.Path) -> str | None:
    """Returns the recipe of a damaged artifact; None if its manifest is damaged."""
    try:
        return _read_manifest(path / MANIFEST).recipe
    except DamagedError:
        return None


def check_apart(path: epath.PathLike, **inputs: epath.PathLike) -> None:
    """Raises ArtifactError if an input is the folder `path`, which is about to be replaced, or lies in it."""
    output = files.resolved(path)
    for name, given in inputs.items():
        if output in (files.resolved(given), *files.resolved(given).parents):
            raise ArtifactError(f"{name}: the output {path} would replace the input {given}. Give another folder.")


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
    with scratch(path) as temporary:
        draft = Draft(temporary)
        yield draft
        fingerprint = draft.fingerprint or recipe
        _check_remade(path, kind, recipe, fingerprint)
        made = measure_files(temporary)
        artifact = Artifact(kind, recipe, fingerprint, dict(inputs or {}), _plain(config), made)
        files.write_json(temporary / MANIFEST, dataclasses.asdict(artifact))
        workdir_lock.confirm(path.parent)
        replace(path, temporary)
    logging.info("wrote %s %s (%s)", kind, path, artifact.fingerprint)


def replace(path: epath.Path, new: epath.Path) -> None:
    """Renames the folder `new` to `path`, in place of what is there."""
    old = files.temporary_path(path)
    if path.exists():
        path.rename(old)  # in one step: a folder that is half removed would be taken for something else
    try:
        new.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    files.remove(old)


def _check_remade(path: epath.Path, kind: str, recipe: str, fingerprint: str) -> None:
    """Raises ArtifactError if the damaged artifact in `path` was made by the same recipe with another result."""
    if not (path / MANIFEST).exists():
        return
    if _read_recipe(path) is None:
        return
    replaced = _read_manifest(path / MANIFEST)
    if replaced.recipe == recipe and replaced.fingerprint != fingerprint:
        raise ArtifactError(
            f"{path}: is damaged, and these {kind}, made again, differ ({fingerprint}) from those that later stages "
            f"were made from ({replaced.fingerprint}). Restore the folder from a copy or, to continue with others, "
            "delete it and train again."
        )


def _plain(value: Any) -> Any:
    """Returns a dataclass as a dict, and other values as they are."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _fresh_temporary(path: epath.Path) -> epath.Path:
    """Makes a temporary folder beside `path`. Under the lock of the work directory, removes those of killed runs."""
    if workdir_lock.is_held(path.parent):
        for leftover in path.parent.glob(f".{path.name}.partial.*"):
            files.remove(leftover)
    temporary = files.temporary_path(path)
    temporary.mkdir(parents=True)
    return temporary


@contextlib.contextmanager
def scratch(path: epath.PathLike) -> Iterator[epath.Path]:
    """Yields a temporary folder beside `path`, and removes it at the end, with folders made for it that are empty."""
    path = epath.Path(path)
    made = [] if "://" in str(path) else [folder for folder in Path(path).parents if not folder.exists()]
    temporary = _fresh_temporary(path)
    try:
        yield temporary
    finally:
        files.remove(temporary)
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def require_input(path: epath.PathLike, kind: str, name: str, fingerprint: str) -> None:
    """Raises `ArtifactError` unless the artifact in `path` was made from the input `name` with this fingerprint."""
    found = read(path, kind).inputs.get(name)
    if found != fingerprint:
        raise ArtifactError(
            f"{path}: these {kind} were made for another {name} ({found}; the one here is {fingerprint}). Run the "
            "stages between them again (launch/run.py skips those that are up to date)."
        )
