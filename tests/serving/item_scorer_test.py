import json

import numpy as np
import pytest
from tiny_training import MULTI_STAGE

from genrec.data.dataset import Dataset
from genrec.data.errors import DataError
from genrec.ranking import assembly
from genrec.ranking.popular import popularity
from genrec.serving.item_scorer import ItemScorer


def test_new_events_change_the_next_scores_without_training(multi_stage_workdir):
    dataset = Dataset(multi_stage_workdir / "dataset")
    ranker = assembly.load_ranker(MULTI_STAGE, multi_stage_workdir, dataset, popularity(dataset))
    scorer = ItemScorer(ranker, dataset.catalogue)
    ids = dataset.catalogue.item_ids
    wanted = ids[3:8]
    nothing = scorer.score("u", wanted)
    assert sorted(nothing) == sorted(wanted) and list(nothing.values()) == sorted(nothing.values(), reverse=True)
    assert scorer.answer(json.dumps({"user": "u", "events": ids[:2]})) is None
    answer = json.loads(scorer.answer(json.dumps({"user": "u", "events": [ids[20]], "score": wanted})))
    assert answer["user"] == "u" and answer["scores"] != nothing
    direct = ranker.score(["u"], [np.array([0, 1, 20])], np.arange(3, 8)[None])[0]
    for item_id, score in zip(wanted, direct, strict=True):
        assert answer["scores"][item_id] == pytest.approx(float(score), rel=1e-5)
    assert scorer.score("another", wanted) == nothing
    for line, message in (
        ("{}", "no request"),
        ("[1]", "no request"),
        ("[" * 100_000, "no request"),
        ('{"user": 1, "events": []}', "no request"),
        ('{"user": "u", "events": 5}', "no request"),
        ('{"user": "u", "score": [["x"]]}', "no request"),
        ('{"user": "u", "events": ["x"]}', "'x'"),
        ('{"user": "u", "score": []}', "no items"),
    ):
        with pytest.raises(DataError, match=message):
            scorer.answer(line)
