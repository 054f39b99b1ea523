"""TF-IDF in three steps: count terms, choose a vocabulary, weight terms.

Parts of the texts can be counted and weighted apart. The results equal those of scikit-learn's TfidfVectorizer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

BLOCK_TEXTS = (
    1 << 16
)  # texts whose terms are counted at a time: all terms of many texts need gigabytes as Python strings
MAX_TERMS = 100_000  # size of the vocabulary: the most frequent words and pairs of words


class Counts(NamedTuple):
    """Term counts of each text."""

    terms: pa.Array  # string[terms], words and pairs of words, sorted
    matrix: scipy.sparse.csr_matrix  # float32[texts, terms]


class Frequencies(NamedTuple):
    """Occurrences and document frequencies of terms in all texts."""

    texts: int
    table: pa.Table  # columns: term string, occurrences int64, documents int64; in any order


class Vocabulary(NamedTuple):
    """The terms of the model, and their inverse document frequencies."""

    terms: pa.Array  # string[terms], sorted
    idf: np.ndarray  # float32[terms]


def of_texts(texts: Sequence[str]) -> tuple[Vocabulary, scipy.sparse.csr_matrix]:
    """Returns the vocabulary of texts, and their weighted terms float32[texts, terms of the vocabulary]."""
    counts = [count(texts[start : start + BLOCK_TEXTS]) for start in range(0, len(texts), BLOCK_TEXTS)]
    known = vocabulary(merge(*map(frequencies, counts)))
    return known, scipy.sparse.vstack([weigh(part, known) for part in counts], format="csr")


def count(texts: Sequence[str]) -> Counts:
    """Counts words of at least two characters and bigrams, in lower case and without accents."""
    vectorizer = CountVectorizer(ngram_range=(1, 2), strip_accents="unicode", dtype=np.float32)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return Counts(pa.array([], pa.string()), scipy.sparse.csr_matrix((len(texts), 0), dtype=np.float32))
    return Counts(pa.array(vectorizer.get_feature_names_out().tolist(), pa.string()), matrix)


def frequencies(counts: Counts) -> Frequencies:
    """Sums the counts over the texts."""
    matrix = counts.matrix
    columns = {
        "term": counts.terms,
        "occurrences": np.bincount(matrix.indices, weights=matrix.data, minlength=matrix.shape[1]).astype(np.int64),
        "documents": np.bincount(matrix.indices, minlength=matrix.shape[1]),
    }
    return Frequencies(matrix.shape[0], pa.table(columns))


def merge(*parts: Frequencies) -> Frequencies:
    """Returns the frequencies in the texts of all parts."""
    joined = pa.concat_tables([part.table for part in parts])
    sums = joined.group_by("term").aggregate([("occurrences", "sum"), ("documents", "sum")])
    return Frequencies(sum(part.texts for part in parts), sums.rename_columns(joined.column_names))


def vocabulary(found: Frequencies) -> Vocabulary:
    """Returns the `MAX_TERMS` most frequent terms, with their smoothed inverse document frequencies."""
    table = found.table.sort_by("term")
    if len(table) > MAX_TERMS:
        # The expression of scikit-learn, so that the same of equally frequent terms are chosen.
        occurrences = table["occurrences"].to_numpy().astype(np.float32)
        table = table.take(pa.array(np.sort((-occurrences).argsort()[:MAX_TERMS])))
    documents = table["documents"].to_numpy().astype(np.float32)
    idf = np.log(np.full_like(documents, found.texts + 1) / (documents + 1)) + np.float32(1)
    return Vocabulary(table["term"].combine_chunks(), idf)


def weigh(counts: Counts, known: Vocabulary) -> scipy.sparse.csr_matrix:
    """Returns float32[texts, terms of the vocabulary]: (1 + log count) * idf, normalized to unit length if not zero."""
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
