"""Stage `embed` on Apache Beam: terms and embeddings in blocks of items, pairs of items in blocks of sequences.

The decompositions (truncated SVD of terms and of pairs) need their whole matrix and run in this process, which holds
the catalogue too. Given vectors and pairs equal those without Beam bit by bit; sentence encoders and, if there are
several blocks of items, the decomposition of terms sum in another order and differ by rounding.
"""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse
from etils import epath

from genrec import config as config_lib
from genrec.data.beam import runner as beam_runner
from genrec.data.beam.runner import BeamRunner
from genrec.data.dataset import Catalogue, Dataset
from genrec.semantic_ids import cooccurrence, encoders, tfidf

BLOCK_ITEMS = 1 << 14  # catalogue rows of a block
STRIPE_ITEMS = 1 << 14  # rows of the matrix of pairs that one worker sums

Pairs = tuple[tuple[int, int], scipy.sparse.csr_matrix]  # (block of sequences, distance), some rows of the matrix


def content_and_pairs(
    config: config_lib.Embeddings, dataset: Dataset, path: epath.Path, runner: BeamRunner
) -> tuple[Iterator[np.ndarray], scipy.sparse.csr_matrix | None]:
    """Returns the results of `encoders.content` and, if the config asks for it, of `cooccurrence.count_pairs`.

    All workers must be able to read the dataset and to write `path`, which is for temporary files: they are removed
    after the last block of the content. For errors see `embed.embed`.
    """
    folder = path / "beam"
    folder.mkdir()
    made = content(config, dataset.catalogue, folder, runner)
    pairs = count_pairs(dataset, folder, runner) if encoders.cooccurrence_weight(config) else None

    def blocks() -> Iterator[np.ndarray]:
        yield from made
        folder.rmtree()

    return blocks(), pairs


def content(
    config: config_lib.Embeddings, catalogue: Catalogue, folder: epath.Path, runner: BeamRunner
) -> Iterator[np.ndarray]:
    """Returns the result of `encoders.content`, whose blocks are read from the folder."""
    encoders.check_source(config, catalogue)
    if config.source == "cooccurrence":
        return encoders.content(config, catalogue)
    blocks: list[str] = []
    for start in range(0, len(catalogue), BLOCK_ITEMS):
        blocks.append(str(folder / f"items-{len(blocks):06d}"))
        rows = np.arange(start, min(start + BLOCK_ITEMS, len(catalogue)))
        beam_runner.save(blocks[-1], catalogue.take(rows))
    if config.source == "tfidf":
        found = runner.combine("count_terms", _count, tfidf.merge, blocks, folder)
        beam_runner.save(folder / "vocabulary", tfidf.vocabulary(found))
        weigh = functools.partial(_weigh, vocabulary=str(folder / "vocabulary"))
        weighed = runner.map("weigh_terms", weigh, blocks, folder)
        terms = scipy.sparse.vstack([beam_runner.load(block) for block in weighed], format="csr")
        return encoders.normalized(encoders.project(terms, config.width), catalogue)
    encoded = runner.map("encode", functools.partial(_encode, config=config), blocks, folder)
    return encoders.normalized(map(beam_runner.load, encoded), catalogue)


def count_pairs(dataset: Dataset, folder: epath.Path, runner: BeamRunner) -> scipy.sparse.csr_matrix:
    """Returns the result of `cooccurrence.count_pairs` for the training split."""
    items = len(dataset.catalogue)
    stripes = runner.group(
        "count_pairs",
        functools.partial(_pairs, dataset=str(dataset.path), items=items, stripe=STRIPE_ITEMS),
        functools.partial(_add, folder=str(folder)),
        list(enumerate(cooccurrence.blocks(len(dataset.split("train"))))),
        folder,
    )
    return cooccurrence.symmetric(scipy.sparse.vstack([beam_runner.load(stripe) for stripe in stripes], format="csr"))


def _count(block: str) -> tfidf.Frequencies:
    counts = tfidf.count(beam_runner.load(block).texts)
    beam_runner.save(f"{block}.counts", counts)
    return tfidf.frequencies(counts)


def _weigh(block: str, vocabulary: str) -> str:
    path = f"{block}.weighed"
    beam_runner.save(path, tfidf.weigh(beam_runner.load(f"{block}.counts"), beam_runner.load(vocabulary)))
    return path


def _encode(block: str, config: config_lib.Embeddings) -> str:
    path = f"{block}.encoded"
    beam_runner.save(path, np.asarray(encoders.encode(config, beam_runner.load(block)), np.float32))
    return path


def _pairs(block: tuple[int, range], dataset: str, items: int, stripe: int) -> Iterator[tuple[int, Pairs]]:
    """Yields (stripe, its rows of the matrix) for each distance and stripe of a block of sequences."""
    number, rows = block
    sequences = Dataset(dataset).split("train").read(list(rows))
    for distance, matrix in enumerate(cooccurrence.pairs_by_distance(sequences, items)):
        for start in range(0, items, stripe):
            yield start, ((number, distance), matrix[start : start + stripe])


def _add(start: int, pairs: Iterable[Pairs], folder: str) -> str:
    """Sums in the order of the sequences, on which floating-point results depend; returns the path of the sum."""
    ordered = [matrix for _, matrix in sorted(pairs, key=lambda pair: pair[0])]
    path = f"{folder}/pairs-{start:012d}"
    beam_runner.save(path, sum(ordered[1:], start=ordered[0]))
    return path
