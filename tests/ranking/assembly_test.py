"""Sources and ranker of a work directory with an untrained generator and a SASRec of few steps."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_training import MULTI_STAGE

from genrec import artifacts, config
from genrec.data.dataset import Dataset
from genrec.data.prepare import prepare
from genrec.decoding import loaded_model
from genrec.ranking import assembly
from genrec.ranking.model_sources import SasRec


@pytest.fixture(scope="module")
def dataset(multi_stage_workdir):
    return Dataset(multi_stage_workdir / "dataset")


def changed(**settings) -> config.Experiment:
    return dataclasses.replace(MULTI_STAGE, multi_stage=dataclasses.replace(MULTI_STAGE.multi_stage, **settings))


def test_baselines_are_those_that_were_learned(multi_stage_workdir, dataset, tmp_path):
    popularity = np.ones(len(dataset.catalogue))
    found = assembly.load_baselines(MULTI_STAGE, multi_stage_workdir, dataset, popularity)
    assert list(found) == ["most popular", "item-kNN", "transitions", "SASRec"]
    found = assembly.load_baselines(MULTI_STAGE, tmp_path, dataset, popularity)
    assert list(found) == ["most popular", "item-kNN"]


def test_with_a_frequency_filter_the_sequential_baseline_has_another_name(multi_stage_workdir):
    loaded = loaded_model.load_sasrec(multi_stage_workdir)
    filtered = dataclasses.replace(loaded.record, model=loaded.record.model | {"frequency_filter": 0.7})
    titles = [SasRec(one, 5, 2).title for one in (loaded, dataclasses.replace(loaded, record=filtered))]
    assert titles == ["SASRec", "BSARec"]


def test_sources_are_those_of_the_config_in_its_order(multi_stage_workdir, dataset):
    popularity = np.ones(len(dataset.catalogue))
    names = ("SASRec", "most popular", "generator", "item-kNN", "transitions")
    found = assembly.load_sources(changed(sources=names), multi_stage_workdir, dataset, popularity, "best")
    assert tuple(found) == names
    for source in found.values():
        lists = source.recommend(["u", "v"], [np.array([3, 4]), np.array([5])], 10)
        assert lists.items.shape == lists.scores.shape == (2, 10) and lists.items.max() < len(dataset.catalogue)


def test_every_source_excludes_items_before_it_cuts_its_lists(multi_stage_workdir, dataset):
    names, popularity = (
        ("SASRec", "most popular", "generator", "item-kNN", "transitions"),
        np.arange(len(dataset.catalogue)),
    )
    found = assembly.load_sources(changed(sources=names), multi_stage_workdir, dataset, popularity, "best")
    sequences = dataset.split("train").read(np.arange(6))
    users, histories = [one.user_id for one in sequences], [one.items[-4:] for one in sequences]
    for name, source in found.items():
        kept = source.recommend(users, histories, 10).items
        exclude = [np.concatenate([row[[0, 2, 2]], one.items]) for row, one in zip(kept, sequences, strict=True)]
        lists = source.recommend(users, histories, 10, exclude)
        assert (lists.items >= 0).all() and np.isfinite(lists.scores).all(), name
        for row, before, excluded in zip(lists.items, kept, exclude, strict=True):
            remaining = before[~np.isin(before, excluded)]
            assert not np.isin(row, excluded).any() and len(remaining) < 10, name
            if name != "generator":  # whose search, narrower than the catalogue, takes other beams
                assert row[: len(remaining)].tolist() == remaining.tolist(), name


@pytest.mark.parametrize(
    ("names", "message"), [(("generater",), "'generater'.* item-kNN"), ((), "multi_stage.sources")]
)
def test_unknown_sources_and_none_are_an_error(names, message, multi_stage_workdir, dataset):
    with pytest.raises(config.ConfigError, match=message):
        assembly.load_sources(changed(sources=names), multi_stage_workdir, dataset, np.ones(120), "best")


def test_source_and_ranker_need_sasrec(tmp_path):
    prepare(MULTI_STAGE.data, tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    popularity = np.ones(len(dataset.catalogue))
    with pytest.raises(artifacts.ArtifactError, match="launch/train_sasrec.py"):
        assembly.load_ranker(MULTI_STAGE, tmp_path, dataset, popularity)
    with pytest.raises(artifacts.ArtifactError, match="launch/train_sasrec.py"):
        assembly.load_sources(changed(sources=("SASRec",)), tmp_path, dataset, popularity, "best")


def test_the_ranker_has_the_weights_of_the_work_directory(multi_stage_workdir, dataset, tmp_path):
    for folder in ("dataset", "sasrec"):
        (tmp_path / folder).symlink_to(multi_stage_workdir / folder)
    popularity = np.ones(len(dataset.catalogue))
    assert assembly.load_ranker(MULTI_STAGE, tmp_path, dataset, popularity).weights == {"SASRec": 1.0}
    (tmp_path / assembly.FOLDER).mkdir()
    (tmp_path / assembly.FOLDER / assembly.WEIGHTS).write_text(json.dumps({"ranker": {"popularity": 0.5}}))
    assert assembly.load_ranker(MULTI_STAGE, tmp_path, dataset, popularity).weights == {"popularity": 0.5}
    with_columns = {"SASRec": 1.0, "same media_type": 0.5, "country and media_type": 0.2}
    (tmp_path / assembly.FOLDER / assembly.WEIGHTS).write_text(json.dumps({"ranker": with_columns}))
    features, weights = assembly.fitted_features(tmp_path, dataset)
    assert weights == with_columns and features.names == ["popularity", "repeat", *list(with_columns)[1:]]
    (tmp_path / assembly.FOLDER / assembly.WEIGHTS).write_text(json.dumps({"ranker": {"same color": 1.0}}))
    with pytest.raises(artifacts.ArtifactError, match="same color"):
        assembly.fitted_features(tmp_path, dataset)
