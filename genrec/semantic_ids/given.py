"""Semantic IDs that were learned elsewhere: the `.index.json` of LC-Rec, LETTER and MiniOneRec.

    {"0": ["<a_12>", "<b_7>", "<c_0>", "<d_3>"], "1": [...], ...}

maps item ids to one code a level, a number or a token that ends in one.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from genrec import config as config_lib
from genrec.errors import cut, shown
from genrec.files import read_json
from genrec.semantic_ids.codes import MAX_SIZE, SemanticIdError
from genrec.semantic_ids.residual_kmeans import ResidualCodebooks

_CODE = re.compile(r"<?[A-Za-z]*_?(\d{1,5})>?")
UNUSED = 1e4  # coordinates of the center of a code that no item has: no residual of unit vectors is near it


def check_file(config: config_lib.SemanticIdLearning) -> None:
    """Raises SemanticIdError if semantic IDs are to be read from a file, and it is missing."""
    if config.method != "given":
        return
    if not config.given or not epath.Path(config.given).exists() or epath.Path(config.given).is_dir():
        raise SemanticIdError(
            f"semantic_ids.method=given: there is no file {shown(config.given)}. Set semantic_ids.given to the path of "
            "a .index.json file."
        )


def load(path: epath.PathLike, item_ids: Sequence[str]) -> np.ndarray:
    """Returns int32[items, levels], the codes of the file for these items; raises SemanticIdError if it lacks some."""
    content = read_json(epath.Path(path))
    missing = [item for item in item_ids if item not in content]
    if missing:
        raise SemanticIdError(
            f"{path}: has no codes of {len(missing):,} of {len(item_ids):,} items, such as {shown(missing[0])}; it has "
            f"{cut(', '.join(list(content)[:3])) or 'none'}. Give the file that was made for this catalogue."
        )
    levels = len(content[item_ids[0]]) if isinstance(content[item_ids[0]], list) else 0
    return np.array([_codes(content[item], item, levels, path) for item in item_ids], np.int32)


def _codes(tokens: Any, item: str, levels: int, path: epath.PathLike) -> list[int]:
    if isinstance(tokens, list) and len(tokens) == levels > 0:
        matches = [_CODE.fullmatch(str(token)) for token in tokens]
        found = [int(match[1]) for match in matches if match]
        if len(found) == levels and max(found) < MAX_SIZE:
            return found
    raise SemanticIdError(
        f"{path}, item {shown(item)}: {cut(str(tokens))} is not a list of {levels or 'some'} codes below {MAX_SIZE}, "
        "such as <a_12>, one of each level."
    )


def quantizer(vectors: np.ndarray, codes: np.ndarray) -> ResidualCodebooks:
    """Returns the quantizer that codes int[items, levels] imply, for their quality and for new items.

    The center of a code is the mean, over its items, of what the levels before leave of the vectors, float32[items,
    width].
    """
    residual, codebooks = np.asarray(vectors, np.float32).copy(), []
    for level in codes.T:
        counts = np.bincount(level)
        sums = np.zeros((len(counts), residual.shape[1]), np.float64)
        np.add.at(sums, level, residual)
        means = sums / np.maximum(counts, 1)[:, None]
        book = np.where(counts[:, None] > 0, means, UNUSED).astype(np.float32)
        codebooks.append(book)
        residual -= book[level]
    return ResidualCodebooks(codebooks)
