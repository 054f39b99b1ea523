"""TF-IDF of parts of the texts equals that of scikit-learn on all texts at once."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from genrec.semantic_ids import tfidf

WORDS = "piano sonata Drum machine folk guitar café cafe string quartet deep house choral mass".split()


def random_texts(seed=0, n=60):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in range(n)]


@pytest.mark.parametrize("limit", [100_000, 40])
@pytest.mark.parametrize("parts", [1, 4])
def test_tfidf_of_parts_equals_scikit_learn_on_the_whole(monkeypatch, limit, parts):
    monkeypatch.setattr(tfidf, "MAX_TERMS", limit)
    texts = random_texts()
    counts = [tfidf.count(part.tolist()) for part in np.array_split(np.array(texts, object), parts)]
    known = tfidf.vocabulary(tfidf.merge(*map(tfidf.frequencies, counts)))
    made = scipy.sparse.vstack([tfidf.weigh(part, known) for part in counts])
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), max_features=limit, strip_accents="unicode", dtype=np.float32
    )
    expected = vectorizer.fit_transform(texts)
    assert known.terms.to_pylist() == vectorizer.get_feature_names_out().tolist()
    np.testing.assert_allclose(made.toarray(), expected.toarray(), rtol=1e-6)
    assert made.dtype == np.float32


def test_texts_without_words_have_no_terms():
    counts = tfidf.count(["", "- -"])
    known = tfidf.vocabulary(tfidf.frequencies(counts))
    assert tfidf.weigh(counts, known).shape == (2, 0)
    some = tfidf.count(["a piano", ""])
    both = tfidf.vocabulary(tfidf.merge(tfidf.frequencies(counts), tfidf.frequencies(some)))
    assert tfidf.weigh(counts, both).toarray().tolist() == [[0.0], [0.0]]


def test_blocks_of_texts_change_nothing(monkeypatch):
    known, whole = tfidf.of_texts(random_texts())
    monkeypatch.setattr(tfidf, "BLOCK_TEXTS", 7)
    again, blocks = tfidf.of_texts(random_texts())
    assert known.terms == again.terms and (known.idf == again.idf).all()
    assert (whole != blocks).nnz == 0 and whole.has_sorted_indices == blocks.has_sorted_indices
