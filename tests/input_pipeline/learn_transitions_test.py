"""Learning a mixture of transitions: it predicts, leaves out parts, and its weights maximize the likelihood."""

import dataclasses

import numpy as np
import pytest
from random_transitions import ITEMS

from genrec import config
from genrec.input_pipeline import learn_transitions
from genrec.input_pipeline.transitions import Transitions


def test_learned_transitions_predict_and_a_part_does_not_know_its_own_sequences(given_dataset):
    """Users go in steps of 1 through the items; one alone goes from 5 to 20, which its own part must not know."""
    random = np.random.default_rng(0)
    starts = random.integers(0, ITEMS - 6, 200)
    walks = [list(range(start, start + 5)) for start in starts]
    walks[8] = [5, 20]
    dataset = given_dataset(ITEMS, train=walks, validation=[[*walk, walk[-1] + 1] for walk in walks])
    cfg = config.Transitions(neighbors=10, parts=4)
    found = learn_transitions.fit(
        cfg, dataset.split("train"), dataset.split("validation"), random.normal(size=(ITEMS, 8))
    )
    walked = range(ITEMS - 4)  # the others only follow
    assert (found.dense([np.array([item]) for item in walked]).argmax(axis=1) == np.array(walked) + 1).all()
    probability = {
        part: found.sparse(np.array([5]), np.array([0]), np.array([1]), np.array([part])).toarray()[0, 20]
        for part in range(5)
    }
    assert probability[8 % 4] < 0.5 * min(probability[part] for part in (1, 2, 3, 4))
    np.testing.assert_allclose(found.dense([np.array([], int), np.array([3])]).sum(axis=1), [0.5, 1], atol=0.5)


def test_vectors_that_were_learned_from_the_sequences_say_nothing(tokenized, tmp_path):
    experiment = config.Experiment(
        data=config.Data(source="synthetic", k_core=0, synthetic=config.SyntheticCatalogue(items=120, users=60)),
        embeddings=config.Embeddings(source="cooccurrence"),
    )
    found = []
    for seed in range(2):
        tokenized(tmp_path / str(seed), experiment, seed)  # other vectors of the same dataset
        learn_transitions.learn(experiment.transitions, tmp_path / str(seed))
        found.append(Transitions.load(tmp_path / str(seed) / "transitions"))
    histories = [np.array([item]) for item in range(found[0].items)]
    np.testing.assert_array_equal(found[0].dense(histories), found[1].dense(histories))


def test_few_sequences_are_no_problem(given_dataset):
    dataset = given_dataset(3, train=[[0], [1], [2]], validation=[[0, 1]])
    found = learn_transitions.fit(config.Transitions(), dataset.split("train"), dataset.split("validation"), np.eye(3))
    assert np.isfinite(found.dense([np.array([0]), np.array([], int)])).all()


@pytest.mark.parametrize("repeats", (0.0, 0.5, 1.0))
def test_the_weight_of_repeats_maximizes_the_likelihood(given_dataset, repeats):
    random = np.random.default_rng(1)
    walks = [random.permutation(ITEMS)[:6].tolist() for _ in range(300)]
    others = [np.setdiff1d(np.arange(ITEMS), walk) for walk in walks]
    nexts = [random.choice(w if random.random() < repeats else o) for w, o in zip(walks, others, strict=True)]
    dataset = given_dataset(ITEMS, train=walks, validation=[[*w, one] for w, one in zip(walks, nexts, strict=True)])
    cfg = config.Transitions(neighbors=10)
    found = learn_transitions.fit(
        cfg, dataset.split("train"), dataset.split("validation"), random.normal(size=(ITEMS, 8))
    )

    def loss(repeat: float) -> float:
        probabilities = dataclasses.replace(found, repeat=repeat).dense([np.array(walk) for walk in walks])
        return -np.log(probabilities[np.arange(len(walks)), nexts]).mean()

    assert loss(found.repeat) <= min(loss(found.repeat * 0.9), loss(found.repeat * 1.1)) or found.repeat in (1e-3, 1e3)
    assert found.repeat < 0.5 if not repeats else found.repeat > 1
