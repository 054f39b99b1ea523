"""A newcomer's path: a public dataset in a folder as it was downloaded, and one command."""

import json
import runpy

import numpy as np
import published
import pytest
from forked_scripts import ROOT, Script

from genrec.data.dataset import Dataset
from genrec.data.prepare import prepare
from genrec.semantic_ids import embed, tokenize
from genrec.semantic_ids.codes import SemanticIds

USERS, ITEMS = 24, 12
ITEMS_OF = [np.random.default_rng(user).permutation(ITEMS)[:6].tolist() for user in range(USERS)]
WORDS = "river lamp orchard engine violin harbor cellar meadow lantern quarry saddle beacon".split()


EVENTS = [(user, item, time) for user, items in enumerate(ITEMS_OF) for time, item in enumerate(items)]


def movielens(folder):
    films = "".join(f"{i}::Película {WORDS[i]} (19{70 + i})::{'Drama' if i % 2 else 'War'}\n" for i in range(ITEMS))
    ratings = "".join(f"{user}::{item}::{1 + item % 5}::{978300000 + time}\n" for user, item, time in EVENTS)
    published.put(folder, "ml-1m/ratings.dat", ratings)
    published.put(folder, "ml-1m/movies.dat", films, "latin-1")
    published.put(folder, "ml-1m/users.dat", "".join(f"{u}::F::25::1::48067\n" for u in range(USERS)))


def amazon_2023(folder):
    reviews = [
        {"rating": 5.0, "parent_asin": f"B{item}", "user_id": f"A{user}", "timestamp": 1588687728923 + time}
        for user, item, time in EVENTS
    ]
    meta = [{"parent_asin": f"B{i}", "title": f"A {WORDS[i]}", "features": [WORDS[i]]} for i in range(ITEMS)]
    published.put(folder, "All_Beauty.jsonl.gz", published.lines(reviews))
    published.put(folder, "meta_All_Beauty.jsonl.gz", published.lines(meta))


def lcrec(folder):
    published.lcrec(folder, USERS)
    published.put(folder, "Games/Games.inter.json", json.dumps(dict(enumerate(ITEMS_OF))))


def lightgcn(folder):
    published.put(
        folder, "train.txt", "".join(f"{u} {' '.join(map(str, items[:-1]))}\n" for u, items in enumerate(ITEMS_OF))
    )
    published.put(folder, "test.txt", "".join(f"{user} {items[-1]}\n" for user, items in enumerate(ITEMS_OF)))


WRITERS = {"movielens": movielens, "amazon_2023": amazon_2023, "lcrec": lcrec, "lightgcn": lightgcn}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_becomes_semantic_ids(tmp_path, name):
    WRITERS[name](tmp_path / "raw")
    experiment = runpy.run_path(str(ROOT / "configs/public_data.py"))["get_config"](name)
    experiment.data.folder = str(tmp_path / "raw")
    if name == "lcrec":
        experiment.embeddings.source = "vectors"
        experiment.embeddings.vectors = str(tmp_path / "raw/Games/Games.emb-llama-td.npy")
        experiment.semantic_ids.method = "given"
        experiment.semantic_ids.given = str(tmp_path / "raw/Games/Games.index.json")
    prepare(experiment.data, tmp_path / "dataset")
    embed.embed(experiment.embeddings, tmp_path / "dataset", tmp_path / "item_embeddings")
    tokenize.learn(experiment.semantic_ids, tmp_path / "item_embeddings", tmp_path / "semantic_ids")
    dataset = Dataset(tmp_path / "dataset")
    assert len(dataset.split("test")) == USERS and len(dataset.catalogue) == ITEMS
    ids = SemanticIds.load(tmp_path / "semantic_ids")
    assert ids.items == ITEMS and (name == "lcrec" or max(ids.sizes[:3]) == 4)  # without settings for so few items
    sequence = dataset.split("test").of_users(["A3" if name == "amazon_2023" else "3"])
    items = [dataset.catalogue.item_ids[item].removeprefix("B") for item in next(iter(sequence.values())).items]
    assert items == list(map(str, ITEMS_OF[3]))


def test_one_command_prepares_a_folder(tmp_path):
    movielens(tmp_path / "raw")
    flags = (f"--workdir={tmp_path / 'work'}", f"--config.data.folder={tmp_path / 'raw'}")
    run = Script(tmp_path / "out", "launch/prepare_data.py", "--config=configs/public_data.py:movielens,tiny", *flags)
    assert run.wait() == 0, run.errors
    assert "title, genres" in run.output
