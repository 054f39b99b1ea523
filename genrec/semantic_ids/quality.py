"""Quality report of learned codes: metrics, a table, a figure, and limits that stop a run.

It covers the learned levels only: the last level, which separates collisions, would hide their defects.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from genrec import charts, tables
from genrec import config as config_lib
from genrec.errors import GenrecError
from genrec.semantic_ids.codes import running_numbers
from genrec.semantic_ids.neighbors import nearest
from genrec.semantic_ids.residual_kmeans import Quantizer

NEIGHBORS = 10  # nearest neighbors of each probed item
PROBES = 1000  # items whose nearest neighbors are compared
BLOCK_ROWS = 1 << 16  # items whose vectors are in memory at a time
RANDOM_PAIRS = 100_000


class QualityError(GenrecError):
    """Learned codes beyond a quality limit. The message names the metric, the limit and what to change."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Quality metrics of learned codes. Lists have one entry per level; in agreements, entry n covers n + 1 codes."""

    items: int
    sizes: list[int]
    used: list[int]  # codes that at least one item has
    usage: list[float]  # the same as a share of the codes that can be used: at most one per different embedding
    perplexity: list[float]  # exp of the entropy of the codes: the equivalent number of equally frequent codes
    reconstruction_error: list[float]  # squared error of the levels so far; 1 is that of the mean embedding
    collision_rate: float  # share of items whose learned codes another item has too
    largest_group: int  # items with equal learned codes
    neighbor_agreement: list[float]  # share of nearest neighbors with equal first codes
    random_agreement: list[float]  # the same for random pairs of items


def measure(embeddings: np.ndarray, codes: np.ndarray, quantizer: Quantizer, seed: int = 0) -> Report:
    """Measures the quality of the learned codes int[items, levels] of float32[items, width], also memory-mapped."""
    items = len(codes)
    sizes = [len(book) for book in quantizer.codebooks]
    counts = [np.bincount(codes[:, level], minlength=size) for level, size in enumerate(sizes)]
    used = [int((count > 0).sum()) for count in counts]
    different = _different_rows(embeddings, max(sizes))
    errors = _errors(embeddings, codes, quantizer)
    groups = group_sizes(codes)
    generator = np.random.default_rng(seed)
    probes = generator.choice(items, min(PROBES, items), replace=False)
    neighbors, _ = nearest(embeddings[probes], embeddings, min(NEIGHBORS, items - 1), own=probes)
    random_pairs = generator.integers(0, items, (2, RANDOM_PAIRS))
    random_pairs = random_pairs[:, random_pairs[0] != random_pairs[1]]
    return Report(
        items=items,
        sizes=sizes,
        used=used,
        usage=[use / min(size, different) for use, size in zip(used, sizes, strict=True)],
        perplexity=[_perplexity(count) for count in counts],
        reconstruction_error=errors,
        collision_rate=float(groups[groups > 1].sum() / items),
        largest_group=int(groups.max()),
        neighbor_agreement=_agreement(codes, np.repeat(probes, neighbors.shape[1]), neighbors.ravel()),
        random_agreement=_agreement(codes, *random_pairs),
    )


def check(report: Report, config: config_lib.SemanticIdLearning) -> None:
    """Raises QualityError that lists every metric beyond its limit in `config`, and what to change."""
    faults = []
    for level, usage in enumerate(report.usage):
        if usage < config.min_usage:
            faults.append(
                f"level {level + 1} uses {report.used[level]} of {report.sizes[level]} codes ({usage:.0%}; "
                f"semantic_ids.min_usage is {config.min_usage:.0%}): the codes have collapsed, or there are more of "
                "them than this catalogue can use. Set fewer codes for this level, or method=residual_kmeans; "
                "check that item embeddings differ."
            )
    if report.collision_rate > config.max_collision_rate:
        faults.append(
            f"{report.collision_rate:.1%} of items share their learned codes with another "
            f"(semantic_ids.max_collision_rate is {config.max_collision_rate:.1%}). Set more codes or one more level "
            "(semantic_ids.codes), or describe the items better (data.text_fields, embeddings.source)."
        )
    if report.largest_group > config.max_group:
        faults.append(
            f"{report.largest_group} items have the same learned codes (semantic_ids.max_group is {config.max_group}). "
            "Look for items with equal or empty texts, or set more codes or one more level (semantic_ids.codes)."
        )
    # A comparison with NaN is False.
    if not report.reconstruction_error[-1] <= config.max_reconstruction_error:
        faults.append(
            f"all levels together leave {report.reconstruction_error[-1]:.1%} of the variance of the embeddings "
            f"(semantic_ids.max_reconstruction_error is {config.max_reconstruction_error:.1%}; their mean alone leaves "
            "100%). Set more codes or more levels (semantic_ids.codes); for an RQ-VAE more epochs, another "
            "learning_rate, or method=residual_kmeans."
        )
    if faults:
        raise QualityError("The semantic IDs failed their health gate.\n  - " + "\n  - ".join(faults))


def table(report: Report) -> str:
    """Returns the report as text, one line per level."""
    codes = report.sizes, report.used, report.usage, report.perplexity, report.reconstruction_error
    agreements = report.neighbor_agreement, report.random_agreement
    levels = tables.text(
        zip(range(1, len(report.sizes) + 1), *codes, *agreements, strict=True),
        ["level", "codes", "used", "usage", "perplexity", "error left", "neighbors share", "random pairs share"],
        floats=["", "", "", ".0%", ".1f", ".1%", ".1%", ".2%"],
        align="r",
    )
    return (
        f"Semantic IDs of {report.items:,} items, before collisions are separated\n{levels}\n"
        f"items that share their codes with another: {report.collision_rate:.1%}; largest group: {report.largest_group}"
    )


@charts.style()
def picture(report: Report, codes: np.ndarray) -> bytes:
    """Returns a PNG of four panels: code usage, reconstruction error, collision groups, agreement of neighbors."""
    figure, (usage, error, groups, agreement) = charts.panels(2, 2)
    levels = np.arange(1, len(report.sizes) + 1)

    for level, size in enumerate(report.sizes):
        counts = np.sort(np.bincount(codes[:, level], minlength=size))[::-1]
        label = f"level {level + 1}: {report.used[level]:,} of {size:,} used"
        usage.plot(np.arange(size) / size, counts, label=label)
    usage.set(title="Items per code, most used first", xlabel="share of the level's codes", ylabel="items")
    usage.set_ylim(bottom=0)
    usage.legend()

    bars = error.bar(levels, report.reconstruction_error, width=0.6)
    error.bar_label(bars, [f"{value:.0%}" for value in report.reconstruction_error], padding=2)
    error.set(title="Reconstruction error left", xlabel="levels used", ylabel="share of the variance", xticks=levels)

    sizes, times = np.unique(group_sizes(codes), return_counts=True)
    groups.bar(sizes, sizes * times / report.items, color=charts.SERIES[1])
    groups.set(
        title=f"Collisions: {report.collision_rate:.1%} of items, largest group {report.largest_group}",
        xlabel="items with the same learned codes",
        ylabel="share of items",
    )
    groups.locator_params(axis="x", integer=True)

    agreement.bar(
        levels - 0.19, report.neighbor_agreement, width=0.36, color=charts.SERIES[2], label="nearest neighbors"
    )
    agreement.bar(levels + 0.19, report.random_agreement, width=0.36, color=charts.SOFT, label="random pairs")
    agreement.set(title="Pairs that share their first codes", xlabel="codes shared", ylabel="pairs", xticks=levels)
    agreement.legend()
    for axes in (error, groups, agreement):
        axes.grid(visible=False, axis="x")
    return charts.png(figure)


def group_sizes(codes: np.ndarray) -> np.ndarray:
    """Returns int[groups]: the number of items of each different row of integers[items, levels]."""
    # A group of n items has one item with each running number below n.
    at_least = np.bincount(running_numbers(codes))
    exactly = at_least - np.append(at_least[1:], 0)
    return np.repeat(np.arange(1, len(exactly) + 1), exactly)


def _blocks(embeddings: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields the embeddings in blocks of rows, each with its place."""
    for start in range(0, len(embeddings), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(embeddings)))
        yield rows, embeddings[rows]


def _errors(embeddings: np.ndarray, codes: np.ndarray, quantizer: Quantizer) -> list[float]:
    """Returns the squared error of the first levels, for each number of levels; 1 is that of the mean embedding."""
    # Summed in float64: numpy adds the rows one by one, and float32 drifts over millions of them.
    mean = sum(block.sum(axis=0, dtype=np.float64) for _, block in _blocks(embeddings)) / len(embeddings)
    of_mean, errors = 0.0, np.zeros(codes.shape[1])
    for rows, block in _blocks(embeddings):
        of_mean += float(((block - mean.astype(embeddings.dtype)) ** 2).sum(dtype=np.float64))
        for level in range(codes.shape[1]):
            errors[level] += ((block - quantizer.reconstruct(codes[rows], level + 1)) ** 2).sum(dtype=np.float64)
    return (errors / max(of_mean, float(np.finfo(np.float32).tiny))).tolist()


def _different_rows(embeddings: np.ndarray, limit: int) -> int:
    """Returns the number of different rows, at most `limit`."""
    found = embeddings[:0]
    for _, block in _blocks(embeddings):
        rows = np.ascontiguousarray(np.concatenate([found, block]))
        found = np.unique(rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))))
        found = found.view(rows.dtype).reshape(-1, rows.shape[1])
        if len(found) >= limit:
            return limit
    return len(found)


def _perplexity(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _agreement(codes: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[float]:
    if not len(first):
        return [0.0] * codes.shape[1]
    return np.cumprod(codes[first] == codes[second], axis=1).mean(axis=0).tolist()
