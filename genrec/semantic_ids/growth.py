"""Growth of a catalogue: semantic IDs of new items under frozen codebooks, so that trained models stay usable.

Old items keep their codes, which the model has learned. New items get the codes that the frozen quantizer gives them,
and a free code of the last level. The sizes of the levels stay too, so that checkpoints of the parent fit.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow.compute as pc
from absl import logging
from etils import epath

from genrec import artifacts, files, settings_check, tables
from genrec import config as config_lib
from genrec.data.dataset import Catalogue, Dataset
from genrec.semantic_ids import codes, embed, encoders, neighbors, residual_kmeans, tfidf, tokenize
from genrec.semantic_ids.codes import SemanticIds

BLOCK_ROWS = 1 << 16  # items whose vectors are in memory at a time
NEIGHBORS = 10  # old items whose mean co-occurrence embedding replaces that of a new item


@dataclasses.dataclass(frozen=True)
class Drift:
    """Quantization errors of new items against those of old ones; errors are squared distances."""

    old_items: int
    new_items: int
    old_error: float  # mean over the parent's items
    new_error: float  # mean over the new ones
    beyond: float  # share of the new items with a larger error than 95% of the parent's; 0.05 is no drift
    known_codes: float  # share of the new items whose learned codes an item of the parent has too
    moved: int  # new items that took a farther center, because the last level has no free code under the nearest one

    @property
    def advice(self) -> str:
        if not self.new_items:
            return "There are no new items."
        if self.beyond > 0.25:
            return (
                f"{self.beyond:.0%} of the new items lie farther from the codebooks than 95% of the old ones: the "
                "codebooks do not cover them. Learn semantic IDs again (launch/learn_semantic_ids.py) and train again "
                "soon."
            )
        return "The codebooks cover the new items."


def assign(config: config_lib.Embeddings, workdir: epath.PathLike, parent: epath.PathLike) -> None:
    """Writes `item_embeddings/` and `semantic_ids/` of `workdir`, whose dataset has grown from that of `parent`.

    The new dataset may lack items of the parent. `config` must be that of the parent's embeddings; only `vectors` may
    name another file, with all items. Raises:
      ArtifactError: if stages of the parent are missing or were not made from each other, or if settings differ.
      SemanticIdError: if no code is free for a new item.
    """
    settings_check.check(config, "embeddings")
    workdir, parent = epath.Path(workdir), epath.Path(parent)
    artifacts.check_apart(workdir / "semantic_ids", parent=parent / "semantic_ids")
    after, before = Dataset(workdir / "dataset"), Dataset(parent / "dataset")
    artifacts.require_input(parent / "item_embeddings", embed.KIND, "dataset", before.fingerprint)
    artifacts.require_input(parent / "semantic_ids", codes.KIND, "dataset", before.fingerprint)
    given = embed.hash_files(config)
    _check_settings(config, given, artifacts.read(parent / "item_embeddings", embed.KIND), parent)
    known = SemanticIds.load(parent / "semantic_ids")
    settings = (embed.settings_in_use(config), given, after.fingerprint, known.fingerprint)
    recipe = artifacts.hash_of("grown", *settings)
    embedded = artifacts.hash_of("grown", embed.KIND, *settings)
    outputs = (("semantic_ids", codes.KIND, recipe), ("item_embeddings", embed.KIND, embedded))
    if all(artifacts.up_to_date(workdir / name, kind, wanted, artifacts.GENERATOR) for name, kind, wanted in outputs):
        logging.info("%s is up to date", workdir / "semantic_ids")
        return
    quantizer = tokenize.load_quantizer(parent / "semantic_ids")
    old_vectors = embed.load(parent / "item_embeddings")
    # int[items]: the row of each item in the parent, -1 for new items.
    ids_before, ids_after = (dataset.catalogue.table["item_id"] for dataset in (before, after))
    rows = pc.index_in(ids_after, ids_before).fill_null(-1).to_numpy()
    new = np.flatnonzero(rows < 0)
    new_items = after.catalogue.take(new)
    new_vectors = np.empty((0, old_vectors.shape[1]), np.float32)
    if len(new):
        new_vectors = embed_new(config, before.catalogue, old_vectors, new_items)
    in_order = np.argsort(np.array(new_items.item_ids), kind="stable")
    new_codes = np.empty((len(new), known.levels), np.uint16)
    new_codes[in_order], moved = assign_codes(new_vectors[in_order], quantizer, known)
    found = np.empty((len(rows), known.levels), np.uint16)
    found[rows >= 0], found[new] = known.codes[rows[rows >= 0]], new_codes
    ids = SemanticIds(found, known.sizes)
    drift = measure_drift(quantizer, known, old_vectors, new_vectors, new_codes, moved)
    logging.info("\n%s", table(drift))

    inputs = {"dataset": after.fingerprint, "parent": known.fingerprint, **given}
    with artifacts.writing(workdir / "item_embeddings", embed.KIND, embedded, config=config, inputs=inputs) as draft:
        files.save_rows(draft.path / embed.FILE, _merged(rows, old_vectors, new_vectors), len(rows))
    inputs = {"dataset": after.fingerprint, "item_embeddings": embedded, "parent": known.fingerprint}
    learning = artifacts.read(parent / "semantic_ids", codes.KIND).config
    ancestors = codes.ancestors(parent / "semantic_ids")
    earlier = codes.generations(parent / "semantic_ids", known.items)
    generations = np.where(rows >= 0, earlier[rows], len(ancestors) + 1).astype(np.int32)
    with artifacts.writing(workdir / "semantic_ids", codes.KIND, recipe, config=learning, inputs=inputs) as draft:
        ids.save(draft.path, [codes.Ancestor(known.fingerprint, before.fingerprint), *ancestors])
        files.save_array(draft.path / codes.GENERATIONS_FILE, generations)
        tokenize.copy_quantizer(parent / "semantic_ids", draft.path)
        files.write_json(draft.path / "drift.json", dataclasses.asdict(drift))
        (draft.path / "drift.txt").write_text(table(drift) + "\n")
        draft.fingerprint = ids.fingerprint


def _merged(rows: np.ndarray, old: np.ndarray, new: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the vectors of all items in blocks: the old one in its row of `rows`, the next new one for -1."""
    for start in range(0, len(rows), BLOCK_ROWS):
        of_block = rows[start : start + BLOCK_ROWS]
        block, is_new = old[of_block], of_block < 0
        block[is_new], new = new[: is_new.sum()], new[is_new.sum() :]
        yield block


def embed_new(config: config_lib.Embeddings, before: Catalogue, old_vectors: np.ndarray, new: Catalogue) -> np.ndarray:
    """Returns float32[new items, width] in the space of `old_vectors`, the embeddings of the catalogue `before`.

    TF-IDF uses the vocabulary and the projection of the old texts. A new item has no co-occurrences: that part of its
    embedding is the mean over the `NEIGHBORS` old items of most similar content, weighted by the cosine and scaled to
    their average length.
    """
    if config.source == "cooccurrence":
        raise encoders.EmbeddingError(
            "embeddings.source=cooccurrence embeds items by what users chose with them, which is unknown of "
            f"{len(new):,} new items. Learn semantic IDs and train again, or describe items by texts or vectors."
        )
    if config.source == "tfidf":
        known, terms = tfidf.of_texts(before.texts)
        content = encoders.projection(terms, config.width).transform(tfidf.weigh(tfidf.count(new.texts), known))
    else:
        encoders.check_source(config, new)
        content = encoders.encode(config, new)
    content = np.concatenate(list(encoders.normalized([content], new)))
    width = content.shape[1]
    behavior_width = min(config.cooccurrence_width, len(before)) if config.cooccurrence_weight else 0
    if config.source != "tfidf" and width + behavior_width != old_vectors.shape[1]:
        raise encoders.EmbeddingError(
            f"the vectors of the new items have {width} dimensions, those of the parent "
            f"{old_vectors.shape[1] - behavior_width}. Make them with the encoder of the parent's."
        )
    if not config.cooccurrence_weight:
        return content
    behavior = old_vectors[:, width:]
    nearest, cosines = neighbors.nearest(content, old_vectors[:, :width], min(NEIGHBORS, len(before)))
    weights = np.maximum(cosines, 1e-6)[..., None]
    mean = (weights * behavior[nearest]).sum(axis=1) / weights.sum(axis=1)
    lengths = np.linalg.norm(behavior[nearest], axis=2).mean(axis=1, keepdims=True)
    mean *= lengths / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return np.concatenate([content, mean], axis=1).astype(np.float32)


def assign_codes(
    vectors: np.ndarray, quantizer: residual_kmeans.Quantizer, known: SemanticIds
) -> tuple[np.ndarray, int]:
    """Returns codes uint16[new items, levels] of new items, and how many of them took a farther center.

    In the order given, each item takes the lowest free code of the last level under its learned codes or, if none is
    free, under the next nearest center of the last learned level. Raises SemanticIdError if no code is free there.
    """
    learned = quantizer.encode(vectors) if len(vectors) else np.zeros((0, known.levels - 1), int)
    found, moved, free = np.empty((len(vectors), known.levels), np.uint16), 0, codes.FreeCodes(known.codes, known.sizes)
    for item, of_item in enumerate(learned):

        def others(item: int = item) -> list[int]:  # rarely needed
            return _by_distance(vectors[item], quantizer, learned[item]).tolist()

        found[item], was_moved = free.take(of_item.tolist(), others)
        moved += was_moved
    return found, moved


def _by_distance(vector: np.ndarray, quantizer: residual_kmeans.Quantizer, learned: np.ndarray) -> np.ndarray:
    """Returns int[codes]: the codes of the last learned level by their reconstruction error, smallest first."""
    candidates = np.repeat(learned[None], len(quantizer.codebooks[-1]), axis=0)
    candidates[:, -1] = np.arange(len(candidates))
    return np.argsort(((quantizer.reconstruct(candidates) - vector) ** 2).sum(axis=1), kind="stable")


def measure_drift(
    quantizer: residual_kmeans.Quantizer,
    known: SemanticIds,
    old_vectors: np.ndarray,
    new_vectors: np.ndarray,
    new_codes: np.ndarray,
    moved: int,
) -> Drift:
    """Compares new items, float32[new, width] with codes [new, levels], to those of the parent."""

    def errors(vectors: np.ndarray, of_items: np.ndarray) -> np.ndarray:
        found = np.zeros(max(len(vectors), 1), np.float32)
        for start in range(0, len(vectors), BLOCK_ROWS):
            some = slice(start, start + BLOCK_ROWS)
            restored = quantizer.reconstruct(of_items[some, :-1].astype(np.int64))
            found[some] = ((restored - vectors[some]) ** 2).sum(axis=1)
        return found

    old, new = errors(old_vectors, known.codes), errors(new_vectors, new_codes)
    learned = np.concatenate([known.codes[:, :-1], new_codes[:, :-1]])
    numbers = codes.row_numbers(learned, known.sizes[:-1])
    in_use = np.isin(numbers[known.items :], numbers[: known.items])
    return Drift(
        old_items=len(old_vectors),
        new_items=len(new_vectors),
        old_error=float(old.mean()),
        new_error=float(new.mean()),
        beyond=float((new > np.quantile(old, 0.95)).mean()) if len(new_vectors) else 0.0,
        known_codes=float(in_use.mean()) if len(in_use) else 0.0,
        moved=moved,
    )


def table(drift: Drift) -> str:
    """Returns the report as text."""
    rows: list[list[object]] = [
        ["squared distance to the codes", drift.new_error, f"(old items {drift.old_error:.4f})"],
        ["farther than 95% of the old items", f"{drift.beyond:.1%}"],
        ["under learned codes that were known", f"{drift.known_codes:.1%}"],
        ["moved, as a group was full", drift.moved],
    ]
    header = f"{drift.new_items:,} new items beside {drift.old_items:,} old ones"
    return f"{header}\n{tables.text(rows, align='lrl')}\n{drift.advice}"


def _check_settings(
    config: config_lib.Embeddings, given: Mapping[str, str], made: artifacts.Artifact, parent: epath.Path
) -> None:
    """Raises ArtifactError if the parent's embeddings were made with other settings, or by another local encoder."""
    own, used = embed.settings_in_use(config), dict(made.config)
    if "sentence_model" in given:
        own["sentence_model"], used["sentence_model"] = given["sentence_model"], made.inputs.get("sentence_model")
    differing = [name for name in own if used.get(name) != own[name]]
    if differing:
        raise artifacts.ArtifactError(
            f"{parent / 'item_embeddings'} was made with other settings: "
            + ", ".join(f"embeddings.{name} was {used.get(name)}, is {own[name]}" for name in differing)
            + ". Use the config of the parent."
        )
