"""New items in a catalogue that a model was trained on: semantic IDs under frozen codebooks, so that it can go on.

What items had stays as it is: the model knows it by heart. New items take the codes of the nearest centers, as if they
had been there when the codebooks were learned, and a free code of the last level. The sizes of the levels stay too, so
that checkpoints of the parent fit.
"""

import dataclasses
import json

import numpy as np
from absl import logging
from etils import epath

from genrec import artifacts, files
from genrec import config as config_lib
from genrec.data.dataset import Catalogue, Dataset
from genrec.semantic_ids import codes, embed, encoders, residual_kmeans, tfidf, tokenize
from genrec.semantic_ids.codes import SemanticIdError, SemanticIds

NEIGHBORS = 10  # whose co-occurrence part stands for that of a new item


@dataclasses.dataclass(frozen=True)
class Drift:
    """How far new items lie from the codebooks. Errors are squared distances to what the codes stand for."""

    old_items: int
    new_items: int
    old_error: float  # mean over the parent's items
    new_error: float  # mean over the new ones
    beyond: float  # share of the new items that lie farther than 95% of the parent's; 0.05 is no drift
    known_codes: float  # share of the new items whose learned codes some item of the parent has
    moved: int  # new items that took the next nearest center, because the nearest one's group was full

    @property
    def advice(self) -> str:
        if not self.new_items:
            return "There is no new item."
        if self.beyond > 0.25:
            return (
                f"{self.beyond:.0%} of the new items lie farther from the codebooks than 95% of the old ones: they are "
                "of kinds that the codebooks do not know. Learn semantic IDs anew (launch/learn_semantic_ids.py) and "
                "train again soon."
            )
        return "The new items lie where the codebooks know their way about."


def assign(config: config_lib.Embeddings, workdir: epath.PathLike, parent: epath.PathLike) -> None:
    """Writes `item_embeddings/` and `semantic_ids/` of `workdir`, whose dataset has grown from that of `parent`.

    Args:
      config: of the embeddings, as for `parent`; only `vectors` may name another file, with rows for the new items.
      workdir: with its `dataset/`, where items of the parent may be missing.
      parent: a work directory with `dataset/`, `item_embeddings/` and `semantic_ids/`.

    Raises:
      ArtifactError: for stages of the parent that are missing or do not belong together, or settings that differ.
      SemanticIdError: where no code is free for a new item.
    """
    workdir, parent = epath.Path(workdir), epath.Path(parent)
    after, before = Dataset(workdir / "dataset"), Dataset(parent / "dataset")
    artifacts.require_input(parent / "item_embeddings", embed.KIND, "dataset", before.fingerprint)
    artifacts.require_input(parent / "semantic_ids", codes.KIND, "dataset", before.fingerprint)
    _check_settings(config, artifacts.read(parent / "item_embeddings", embed.KIND).config, parent)
    known = SemanticIds.load(parent / "semantic_ids")
    recipe = artifacts.hash_of("grown", config, after.fingerprint, known.fingerprint)
    if artifacts.up_to_date(workdir / "semantic_ids", codes.KIND, recipe):
        logging.info("%s is up to date", workdir / "semantic_ids")
        return
    quantizer = tokenize.load_quantizer(parent / "semantic_ids")
    old_vectors = embed.load(parent / "item_embeddings")
    # int[items]: each item's row in the parent, -1 for new ones.
    rows = np.array([before.catalogue.index.get(item_id, -1) for item_id in after.catalogue.item_ids])
    new = np.flatnonzero(rows < 0)
    vectors = np.empty((len(rows), old_vectors.shape[1]), np.float32)
    vectors[rows >= 0] = old_vectors[rows[rows >= 0]]
    if len(new):
        vectors[new] = embed_new(config, before.catalogue, old_vectors, after.catalogue.take(new))
    found = np.empty((len(rows), known.levels), np.uint16)
    found[rows >= 0] = known.codes[rows[rows >= 0]]
    in_order = new[np.argsort(np.array(after.catalogue.item_ids)[new], kind="stable")]
    found[in_order], moved = place(vectors[in_order], quantizer, known)
    ids = SemanticIds(found, known.sizes)
    drift = measure(quantizer, known, old_vectors, vectors[new], found[new], moved)
    logging.info("\n%s", table(drift))

    embedded = artifacts.hash_of("grown", embed.KIND, config, after.fingerprint, known.fingerprint)
    inputs = {"dataset": after.fingerprint, "parent": known.fingerprint}
    with artifacts.writing(workdir / "item_embeddings", embed.KIND, embedded, config=config, inputs=inputs) as draft:
        files.save_array(draft.path / embed.FILE, vectors)
    inputs = {"dataset": after.fingerprint, "item_embeddings": embedded, "parent": known.fingerprint}
    settings = artifacts.read(parent / "semantic_ids", codes.KIND).config
    ancestors = codes.ancestors(parent / "semantic_ids")
    earlier = codes.generations(parent / "semantic_ids", known.items)
    generations = np.where(rows >= 0, earlier[rows], len(ancestors) + 1).astype(np.int32)
    with artifacts.writing(workdir / "semantic_ids", codes.KIND, recipe, config=settings, inputs=inputs) as draft:
        ids.save(draft.path, [codes.Ancestor(known.fingerprint, before.fingerprint), *ancestors])
        files.save_array(draft.path / codes.GENERATIONS_FILE, generations)
        tokenize.copy_quantizer(parent / "semantic_ids", draft.path)
        (draft.path / "drift.json").write_text(json.dumps(dataclasses.asdict(drift), indent=2))
        (draft.path / "drift.txt").write_text(table(drift) + "\n")
        draft.fingerprint = ids.fingerprint


def embed_new(config: config_lib.Embeddings, before: Catalogue, old_vectors: np.ndarray, new: Catalogue) -> np.ndarray:
    """float32[new items, width]: vectors in the space of `old_vectors`, those of the catalogue `before`.

    TF-IDF counts with the vocabulary and the main directions of the old texts. Which users chose a new item is not
    known: that part of its vector is the mean of those of the NEIGHBOURS old items whose content is most similar,
    weighted by the cosine, and as long as theirs are on average.
    """
    if config.source == "tfidf":
        counts = tfidf.count(before.texts)
        known = tfidf.vocabulary(tfidf.frequencies(counts))
        terms = tfidf.weigh(tfidf.count(new.texts), known)
        content = encoders.projection(tfidf.weigh(counts, known), config.width).transform(terms)
    else:
        content = encoders.encode(config, new)
    content = encoders.normalized(content, new.item_ids)
    width = content.shape[1]
    if not config.cooccurrence_weight:
        return content
    together = old_vectors[:, width:]
    nearest, cosines = _nearest(old_vectors[:, :width], content, min(NEIGHBORS, len(before)))
    weights = np.maximum(cosines, 1e-6)[..., None]
    mean = (weights * together[nearest]).sum(axis=1) / weights.sum(axis=1)
    lengths = np.linalg.norm(together[nearest], axis=2).mean(axis=1, keepdims=True)
    mean *= lengths / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return np.concatenate([content, mean], axis=1).astype(np.float32)


def _nearest(old: np.ndarray, new: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` old vectors nearest to each new one, by cosine: int[new, count], and the cosines."""
    unit = old / np.maximum(np.linalg.norm(old, axis=1, keepdims=True), 1e-12)
    places, values = [], []
    for start in range(0, len(new), 1024):
        cosines = new[start : start + 1024] @ unit.T
        chosen = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        places.append(chosen)
        values.append(np.take_along_axis(cosines, chosen, axis=1))
    return np.concatenate(places), np.concatenate(values)


def place(vectors: np.ndarray, quantizer: residual_kmeans.Quantizer, known: SemanticIds) -> tuple[np.ndarray, int]:
    """Codes uint16[new items, levels] of new items, and how many were moved to another center.

    In the order given, each takes the lowest free code of the last level under its learned codes; where none is free,
    under the next nearest center of the last learned level. Raises SemanticIdError where all are taken.
    """
    taken: dict[tuple[int, ...], set[int]] = {}
    for row in known.codes.tolist():
        taken.setdefault(tuple(row[:-1]), set()).add(row[-1])
    learned = quantizer.encode(vectors) if len(vectors) else np.zeros((0, known.levels - 1), int)
    found, moved = np.empty((len(vectors), known.levels), np.uint16), 0
    for item, (first, nearest) in enumerate(zip(learned[:, :-1].tolist(), learned[:, -1].tolist(), strict=True)):
        order = None
        for attempt in range(known.sizes[-2]):
            if attempt == 1:  # rarely needed: others in the order of their distance
                order = _by_distance(vectors[item], quantizer, learned[item])
                order = [nearest, *(code for code in order.tolist() if code != nearest)]
                moved += 1
            prefix = (*first, nearest if order is None else order[attempt])
            used = taken.setdefault(prefix, set())
            free = next((code for code in range(known.sizes[-1]) if code not in used), None)
            if free is not None:
                used.add(free)
                found[item] = (*prefix, free)
                break
        else:
            raise SemanticIdError(
                f"no semantic ID is free under the first codes {first}: the last level has {known.sizes[-1]} codes. "
                "Learn semantic IDs anew, with more codes (semantic_ids.codes)."
            )
    return found, moved


def _by_distance(vector: np.ndarray, quantizer: residual_kmeans.Quantizer, learned: np.ndarray) -> np.ndarray:
    """int[codes]: the codes of the last learned level, those that reconstruct the vector best first."""
    candidates = np.repeat(learned[None], len(quantizer.codebooks[-1]), axis=0)
    candidates[:, -1] = np.arange(len(candidates))
    return np.argsort(((quantizer.reconstruct(candidates) - vector) ** 2).sum(axis=1), kind="stable")


def measure(
    quantizer: residual_kmeans.Quantizer,
    known: SemanticIds,
    old_vectors: np.ndarray,
    new_vectors: np.ndarray,
    new_codes: np.ndarray,
    moved: int,
) -> Drift:
    """How the new items float32[new, width], with codes [new, levels], lie to the codebooks of the old ones."""

    def errors(vectors: np.ndarray, of_items: np.ndarray) -> np.ndarray:
        learned = of_items[:, :-1].astype(np.int64)
        return ((quantizer.reconstruct(learned) - vectors) ** 2).sum(axis=1) if len(vectors) else np.zeros(1)

    old, new = errors(old_vectors, known.codes), errors(new_vectors, new_codes)
    groups = {tuple(row) for row in known.codes[:, :-1].tolist()}
    in_use = [tuple(row) in groups for row in new_codes[:, :-1].tolist()]
    return Drift(
        old_items=len(old_vectors),
        new_items=len(new_vectors),
        old_error=float(old.mean()),
        new_error=float(new.mean()),
        beyond=float((new > np.quantile(old, 0.95)).mean()) if len(new_vectors) else 0.0,
        known_codes=float(np.mean(in_use)) if in_use else 0.0,
        moved=moved,
    )


def table(drift: Drift) -> str:
    """The report, to read."""
    return "\n".join(
        [
            f"{drift.new_items:,} new items beside {drift.old_items:,} old ones",
            f"  squared distance to the codes      {drift.new_error:10.4f}   (old items {drift.old_error:.4f})",
            f"  farther than 95% of the old items  {drift.beyond:10.1%}",
            f"  under learned codes that were known {drift.known_codes:10.1%}",
            f"  moved, as a group was full         {drift.moved:10,}",
            drift.advice,
        ]
    )


def _check_settings(config: config_lib.Embeddings, used: dict, parent: epath.Path) -> None:
    """Raises ArtifactError where the parent's embeddings were made with other settings."""
    own = dataclasses.asdict(config)
    differing = [name for name in own if name != "vectors" and used.get(name) != own[name]]
    if differing:
        raise artifacts.ArtifactError(
            f"{parent / 'item_embeddings'}: made with other settings: "
            + ", ".join(f"embeddings.{name} was {used.get(name)}, is {own[name]}" for name in differing)
            + ". Give the parent's config."
        )
