"""The reproduction card of results that are written by hand."""

import json
import re
import shutil

import numpy as np
import pytest

from genrec import config
from genrec.data.errors import DataError
from genrec.data.prepare import prepare
from genrec.evaluation import card, metrics, results
from genrec.evaluation.evaluator import Evaluation

CUTOFFS = (5, 10)
USERS = 40
SHORT = 15  # users u0, u1, ... with a history of 3 items before their target; the others have 6
NEW = 5  # of them, users whose target nobody else has


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The dataset behind the results of every seed."""
    folder = tmp_path_factory.mktemp("dataset")
    rows = ["user_id,item_id,timestamp"]
    for user in range(USERS):
        length = 3 if user < SHORT else 6
        rows += [f"u{user},i{place},{1_600_000_000 + place}" for place in range(length)]
        rows.append(f"u{user},{f'new{user}' if user < NEW else 'i0'},{1_600_000_100}")
    (folder / "log.csv").write_text("\n".join(rows))
    prepare(config.Data(source="table", interactions=str(folder / "log.csv"), k_core=0), folder / "dataset")
    return folder / "dataset"


@pytest.fixture
def seeds(dataset, tmp_path):
    """Three work directories, each with the dataset."""
    folders = [tmp_path / f"seed_{seed}" for seed in range(3)]
    for folder in folders:
        shutil.copytree(dataset, folder / "dataset")
    return folders


def evaluation(ranks: np.ndarray) -> Evaluation:
    return Evaluation(
        metrics=metrics.compute(ranks, CUTOFFS),
        user_ids=[f"u{n}" for n in range(USERS)],
        targets=np.zeros(USERS, np.int32),
        ranks=ranks,
        recommended=np.zeros((USERS, 1), np.int32),
    )


def write_seed(folder, seed: int, dataset: str = "d", exclude_history: bool = False) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    ranks = {name: random.integers(0, 12, USERS) for name in ("genrec", "SASRec")}
    ranks["hybrid"] = np.ones(USERS, int)
    details = {"identity": {"step": 3, "dataset": dataset, "semantic_ids": "s"}}
    inflated = {"semantic_id_metrics": metrics.compute(ranks["genrec"], CUTOFFS)}
    baseline = {"SASRec": ranks["SASRec"]}
    stages = {"stages": [{"stage": "final", "recall@10": 1.0, "lift": None}]}
    for name, of, others, more in (
        ("evaluation", evaluation(ranks["genrec"]), baseline, inflated),
        ("multi_stage", evaluation(ranks["hybrid"]), {}, stages),
    ):
        results.write(folder / name, "test", of, others, ["i"], details | more, exclude_history=exclude_history)
    return ranks


def test_means_deviations_and_differences_over_seeds(tmp_path, seeds):
    ranks = [write_seed(folder, seed) for seed, folder in enumerate(seeds)]
    text = card.write(tmp_path, seeds, config.Experiment(name="mine"), ["python it.py"])
    found = json.loads((tmp_path / "card.json").read_text())
    for model in ("genrec", "SASRec", "hybrid"):
        values = [metrics.compute(one[model], CUTOFFS)["ndcg@10"] for one in ranks]
        summary = found["metrics"][model]["ndcg@10"]
        assert summary["values"] == pytest.approx(values) and summary["mean"] == pytest.approx(np.mean(values))
        assert summary["deviation"] == pytest.approx(np.std(values, ddof=1))
    gain = found["comparisons"]["hybrid - genrec"]["recall@10"]
    assert gain["difference"] == pytest.approx(1 - found["metrics"]["genrec"]["recall@10"]["mean"])
    assert gain["low"] > 0 and gain["p"] < 0.01
    assert set(found["comparisons"]) == {"genrec - SASRec", "hybrid - genrec", "hybrid - SASRec"}
    assert found["settings"]["name"] == "mine" and found["machine"]["cores"] and "python it.py" in text
    assert (tmp_path / "card.md").read_text() == text and re.search(r"\| hybrid +\| +1\.0000 ± 0\.0000 \|", text)


def test_metrics_by_length_of_the_history_and_popularity_of_the_target(tmp_path, seeds):
    ranks = [write_seed(folder, seed) for seed, folder in enumerate(seeds)]
    text = card.write(tmp_path, seeds, config.Experiment(), [])
    found = json.loads((tmp_path / "card.json").read_text())["segments"]
    rows = {(name, row["segment"]): row for name, rows in found.items() for row in rows}
    # Files of ranks are in order of the ids, as strings: u0, u1, u10, ...
    users = np.array(sorted(range(USERS), key=str))
    for segment, members in (
        (("history length", "3-4"), users < SHORT),
        (("history length", "5-9"), users >= SHORT),
        (("item popularity", "0"), users < NEW),
    ):
        assert rows[segment]["users"] == members.sum()
        for model in ("genrec", "SASRec", "hybrid"):
            of_users = [of[model][np.argsort([f"u{n}" for n in range(USERS)])][members] for of in ranks]
            mean = np.mean([metrics.compute(of, CUTOFFS)["recall@10"] for of in of_users])
            assert rows[segment][model]["recall@10"] == pytest.approx(mean)
    assert re.search(rf"\| item popularity 0 +\| +{NEW} ", text)


def test_one_seed_has_no_deviation(tmp_path, seeds):
    write_seed(seeds[0], 0)
    text = card.write(tmp_path, seeds[:1], config.Experiment(), [])
    assert "One seed." in text and "±" not in text


def test_history_items_kept_and_excluded_have_tables_of_their_own(tmp_path, seeds):
    seeds = seeds[:2]
    kept = [write_seed(folder, seed) for seed, folder in enumerate(seeds)]
    others = [card.other_results(folder, True) for folder in seeds]
    excluded = [write_seed(folder, seed, exclude_history=True) for seed, folder in enumerate(others, start=2)]
    text = card.write(tmp_path, seeds, config.Experiment(), [], both_histories=True)
    assert text.index("history items kept") < text.index("history items excluded")
    assert len(re.findall(r"\| SASRec +\|", text)) == 2 and text.count("hybrid - SASRec") == 2
    assert text.count("item popularity 0") == 2
    found = json.loads((tmp_path / "card.json").read_text())
    assert (found["exclude_history"], found["other"]["exclude_history"]) == (False, True)
    for of, ranks in ((found, kept), (found["other"], excluded)):
        values = [metrics.compute(one["SASRec"], CUTOFFS)["recall@10"] for one in ranks]
        assert of["metrics"]["SASRec"]["recall@10"]["values"] == pytest.approx(values)
    assert "history items excluded" not in card.write(tmp_path, seeds, config.Experiment(), [])


def test_results_of_the_other_rule_are_not_taken_for_those_of_the_card(tmp_path):
    write_seed(tmp_path / "seed_0", 0, exclude_history=True)
    with pytest.raises(DataError, match="exclude_history=False"):
        card.write(tmp_path, [tmp_path / "seed_0"], config.Experiment(), [])


def test_seeds_that_are_unfinished_or_of_other_data_are_an_error(tmp_path, seeds):
    write_seed(seeds[0], 0)
    with pytest.raises(DataError, match="seed_1"):
        card.write(tmp_path, seeds[:2], config.Experiment(), [])
    write_seed(seeds[1], 1, "another")
    with pytest.raises(DataError, match="d, another"):
        card.write(tmp_path, seeds[:2], config.Experiment(), [])
