"""TF-IDF in three steps that parts of the texts can take on their own: count terms, choose a vocabulary, weigh.

Together they give exactly what scikit-learn's TfidfVectorizer gives for all texts at once.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

MAX_TERMS = 100_000  # the most frequent words and pairs of words are kept


@dataclasses.dataclass(frozen=True)
class Counts:
    """How often each term stands in each text."""

    terms: pa.Array  # string[terms], words and pairs of words, sorted
    matrix: scipy.sparse.csr_matrix  # float32[texts, terms]


@dataclasses.dataclass(frozen=True)
class Frequencies:
    """How often each term stands in all texts, and in how many of them."""

    texts: int
    table: pa.Table  # term string, occurrences int64, documents int64; in any order


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The terms that count, and their rarity."""

    terms: pa.Array  # string[terms], sorted
    idf: np.ndarray  # float32[terms]


def count(texts: Sequence[str]) -> Counts:
    """Counts lower-case words of at least two characters, without accents, and pairs of neighbors."""
    vectorizer = CountVectorizer(ngram_range=(1, 2), strip_accents="unicode", dtype=np.float32)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return Counts(pa.array([], pa.string()), scipy.sparse.csr_matrix((len(texts), 0), dtype=np.float32))
    return Counts(pa.array(vectorizer.get_feature_names_out().tolist(), pa.string()), matrix)


def frequencies(counts: Counts) -> Frequencies:
    """Sums over the texts."""
    matrix = counts.matrix
    columns = {
        "term": counts.terms,
        "occurrences": np.bincount(matrix.indices, weights=matrix.data, minlength=matrix.shape[1]).astype(np.int64),
        "documents": np.bincount(matrix.indices, minlength=matrix.shape[1]),
    }
    return Frequencies(matrix.shape[0], pa.table(columns))


def merge(one: Frequencies, other: Frequencies) -> Frequencies:
    """The frequencies in the texts of both."""
    joined = pa.concat_tables([one.table, other.table])
    sums = joined.group_by("term").aggregate([("occurrences", "sum"), ("documents", "sum")])
    return Frequencies(one.texts + other.texts, sums.rename_columns(joined.column_names))


def vocabulary(found: Frequencies) -> Vocabulary:
    """The `MAX_TERMS` most frequent terms, with their smoothed inverse document frequency."""
    table = found.table.sort_by("term")
    if len(table) > MAX_TERMS:
        # As scikit-learn does it, so that among equally frequent terms the same are taken.
        occurrences = table["occurrences"].to_numpy().astype(np.float32)
        table = table.take(pa.array(np.sort((-occurrences).argsort()[:MAX_TERMS])))
    documents = table["documents"].to_numpy().astype(np.float32)
    idf = np.log(np.full_like(documents, found.texts + 1) / (documents + 1)) + np.float32(1)
    return Vocabulary(table["term"].combine_chunks(), idf)


def weigh(counts: Counts, known: Vocabulary) -> scipy.sparse.csr_matrix:
    """float32[texts, terms of the vocabulary], rows of length 1 (or 0): (1 + log count) * idf."""
    if not len(known.terms):
        return counts.matrix
    columns = pc.index_in(counts.terms, known.terms)
    used = columns.is_valid().to_numpy(zero_copy_only=False)
    chosen = counts.matrix[:, np.flatnonzero(used)]
    matrix = scipy.sparse.csr_matrix(
        (chosen.data, columns.drop_null().to_numpy()[chosen.indices], chosen.indptr),
        (len(counts.matrix.indptr) - 1, len(known.terms)),
    )
    transformer = TfidfTransformer(sublinear_tf=True)
    transformer.idf_ = known.idf
    return transformer.transform(matrix)
