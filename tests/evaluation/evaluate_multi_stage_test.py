"""The multi-stage recommender of a tiny work directory: an untrained generator, a SASRec that learned a little."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet
import pytest
from etils import epath

from genrec import artifacts, config
from genrec.data import dataset as datasets
from genrec.data.prepare import prepare
from genrec.evaluation import evaluate_multi_stage, metrics, significance
from genrec.input_pipeline import learn_transitions
from genrec.serving import bundle, bundle_writer, sources_export
from genrec.training import train

EXPERIMENT = config.Experiment(
    data=config.Data(source="synthetic", synthetic=config.SyntheticCatalogue(items=120, users=80)),
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5),
    training=config.Training(max_history=4),
    evaluation=config.Evaluation(beams=10, batch=32, cutoffs=(1, 10)),
    sasrec=config.SasRec(
        model=config.SasRecModel(width=16, encoder_layers=1, heads=2, head_width=8, mlp=32),
        training=config.Training(
            max_history=4, row_targets=12, batch_targets=96, steps=60, warmup_steps=5, learning_rate=1e-2,
            validate_every=60, log_every=30,
        ),
    ),
    multi_stage=config.MultiStage(candidates=10, item_columns=("media_type",), user_columns=("country",)),
)  # fmt: skip


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, untrained):
    workdir = tmp_path_factory.mktemp("multi_stage")
    untrained(workdir, EXPERIMENT)
    learn_transitions.learn(EXPERIMENT.transitions, workdir)
    train.train_sasrec(EXPERIMENT, workdir)
    return workdir


def test_all_stages_are_evaluated_and_the_final_lists_can_be_compared_and_served(workdir, capsys, tmp_path):
    evaluate_multi_stage.evaluate(EXPERIMENT, workdir)
    assert "lift" in capsys.readouterr().out
    figures = json.loads((workdir / "multi_stage" / "test.json").read_text())
    rows = {row["stage"]: row for row in figures["stages"]}
    sources = [f"source: {name}" for name in ("generator", "SASRec", "item-kNN", "transitions")]
    assert list(rows) == [*sources, "candidates", "ranker", "final"]
    assert figures["metrics"]["recall@10"] == rows["final"]["recall@10"]
    assert figures["baselines"]["SASRec"]["recall@10"] == rows["source: SASRec"]["recall@10"]
    assert rows["candidates"]["recall of all"] >= max(row["recall of all"] for row in rows.values())
    # The untrained generator gets less weight than the models that were trained.
    weights = figures["weights"]["final"]
    assert weights["generator"] < weights["ranker"] + weights["SASRec"] + weights["item-kNN"]
    compared = figures["validation_ndcg"]
    better = "trees" if compared["trees"] > compared["weighted sum"] else "weighted sum"
    assert figures["final"] == better
    users = pyarrow.parquet.read_table(workdir / "multi_stage" / "test_users.parquet").to_pylist()
    assert np.mean([0 < user["rank"] <= 10 for user in users]) == pytest.approx(figures["metrics"]["recall@10"])
    other = workdir / "multi_stage" / "test_users_item-knn.parquet"
    ranks = significance.ranks_of_same_users(workdir / "multi_stage" / "test_users.parquet", other)
    assert len(ranks[0]) == len(users)
    writer = bundle_writer.BundleWriter(epath.Path(tmp_path / "bundle"))
    writer.measured |= {file: (0, "") for name, file in bundle.SOURCES.items() if name != "multi-stage"}
    sources_export.write(writer, ("multi-stage",), epath.Path(workdir), datasets.Dataset(workdir / "dataset"), 10)
    served = json.loads((writer.folder / bundle.MULTI_STAGE).read_text())
    assert served["sources"] == {name: name for name in EXPERIMENT.multi_stage.sources}
    assert (served["trees"] is not None) == (better == "trees") and served["weights"] == weights


def test_no_stage_has_items_of_the_history_if_they_are_excluded(workdir, tmp_path, capsys):
    settings = dataclasses.replace(EXPERIMENT.evaluation, exclude_history=True)
    before = {path: path.read_bytes() for path in workdir.glob("multi_stage/*")}
    evaluate_multi_stage.evaluate(dataclasses.replace(EXPERIMENT, evaluation=settings), workdir, results_in=tmp_path)
    assert "history items excluded" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in workdir.glob("multi_stage/*")}
    assert json.loads((tmp_path / "multi_stage" / "test.json").read_text())["exclude_history"]
    dataset = datasets.Dataset(workdir / "dataset")
    split, ids = dataset.split("test"), dataset.catalogue.item_ids
    records = {one.user_id: one.items for one in split.read(np.arange(len(split)))}
    for user in pyarrow.parquet.read_table(tmp_path / "multi_stage" / "test_users.parquet").to_pylist():
        history = {ids[item] for item in records[user["user_id"]][:-1]}
        assert len(user["recommended"]) == 10 and not history & set(user["recommended"])
    for name in ("generator", "sasrec", "item-knn"):
        found = pyarrow.parquet.read_table(tmp_path / "multi_stage" / f"test_users_{name}.parquet").to_pylist()
        ranks = [row["rank"] for row in found if records[row["user_id"]][-1] in records[row["user_id"]][:-1]]
        assert ranks and set(ranks) == {0}


def test_given_weights_sources_and_rules(workdir):
    chosen = config.MultiStage(
        sources=("item-kNN", "most popular"),
        ranker=False,
        candidates=10,
        weights=("item-kNN=1",),
        scoring=config.FinalScoring(filter=("media_type=music",)),
    )
    evaluate_multi_stage.evaluate(dataclasses.replace(EXPERIMENT, multi_stage=chosen), workdir)
    figures = json.loads((workdir / "multi_stage" / "test.json").read_text())
    assert figures["weights"] == {"final": {"item-kNN": 1.0}, "ranker": None}
    assert figures["final"] == "weighted sum" and figures["validation_ndcg"] is None
    catalogue = datasets.Dataset(workdir / "dataset").catalogue
    kinds = dict(zip(catalogue.item_ids, catalogue.column("media_type").to_pylist(), strict=True))
    users = pyarrow.parquet.read_table(workdir / "multi_stage" / "test_users.parquet").to_pylist()
    assert {kinds[item] for user in users for item in user["recommended"]} == {"music"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sources": ("generater",)}, "'generater'"),
        ({"sources": ()}, "multi_stage.sources"),
        ({"weights": ("generator",)}, "'generator'"),
        ({"weights": ("popular=1",)}, "'popular'"),
    ],
)
def test_unknown_sources_and_weights_are_an_error(workdir, setting, message):
    changed = dataclasses.replace(EXPERIMENT.multi_stage, **setting)
    with pytest.raises(config.ConfigError, match=message):
        evaluate_multi_stage.evaluate(dataclasses.replace(EXPERIMENT, multi_stage=changed), workdir)


def test_cutoffs_beyond_the_lists_of_the_sources_are_left_out_or_refused(workdir):
    settings = dataclasses.replace(EXPERIMENT.evaluation, cutoffs=(5, 10))
    short = config.MultiStage(sources=("item-kNN",), ranker=False, candidates=7, weights=("item-kNN=1",))
    evaluate_multi_stage.evaluate(dataclasses.replace(EXPERIMENT, evaluation=settings, multi_stage=short), workdir)
    figures = json.loads((workdir / "multi_stage" / "test.json").read_text())
    assert metrics.cutoffs_of(figures["metrics"]) == (5,)
    short.candidates = 4
    with pytest.raises(config.ConfigError, match="candidates"):
        evaluate_multi_stage.evaluate(dataclasses.replace(EXPERIMENT, evaluation=settings, multi_stage=short), workdir)


@pytest.mark.parametrize("setting", [{"history": 2}, {"withheld_features": ("all",)}, {"new_items_share": 0.5}])
def test_variants_of_the_evaluation_of_the_model_are_refused(tmp_path, setting):
    settings = dataclasses.replace(EXPERIMENT.evaluation, **setting)
    with pytest.raises(config.ConfigError, match="variant"):
        evaluate_multi_stage.evaluate(dataclasses.replace(EXPERIMENT, evaluation=settings), tmp_path)


def test_a_missing_model_is_named(tmp_path):
    prepare(EXPERIMENT.data, tmp_path / "dataset")
    with pytest.raises(artifacts.ArtifactError, match="SASRec"):
        evaluate_multi_stage.evaluate(EXPERIMENT, tmp_path)
