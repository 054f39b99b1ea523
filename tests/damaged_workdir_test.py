"""Every file of every artifact, damaged in every way, is named in an error or made again; nothing else is raised."""

import itertools
import re
import shutil

import numpy as np
import pytest
import tiny_training

from genrec import artifacts
from genrec.data.dataset import Dataset
from genrec.data.prepare import prepare
from genrec.decoding import sorted_table
from genrec.errors import ArtifactError
from genrec.semantic_ids import codes, embed, tokenize

EXPERIMENT = tiny_training.EXPERIMENT
DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)),
}


def make(workdir) -> None:
    """The stages before the training, as launch/run.py calls them."""
    ids = tiny_training.config.SemanticIdLearning(codes=(8, 8), max_collision_rate=1.0, min_usage=0.0)
    prepare(EXPERIMENT.data, workdir / "dataset")
    embed.embed(EXPERIMENT.embeddings, workdir / "dataset", workdir / "item_embeddings")
    tokenize.learn(ids, workdir / "item_embeddings", workdir / "semantic_ids")
    sorted_table.save(workdir, codes.SemanticIds.load(workdir / "semantic_ids"))


def read(workdir) -> None:
    """Reads everything, as training, evaluation and serving do."""
    dataset = Dataset(workdir / "dataset")
    assert len(dataset.catalogue.texts) == len(dataset.catalogue.titles) and dataset.users is not None
    for name in ("train", "validation", "test"):
        split = dataset.split(name)
        sequences = split.read(range(len(split)))
        assert len(split.of_users([sequences[0].user_id, "nobody"])) <= 1
    artifacts.require_input(workdir / "semantic_ids", codes.KIND, "dataset", dataset.fingerprint)
    ids = codes.SemanticIds.load(workdir / "semantic_ids")
    assert codes.ancestors(workdir / "semantic_ids") == []
    tokenize.load_quantizer(workdir / "semantic_ids")
    embed.load(workdir / "item_embeddings")
    sorted_table.load(workdir, ids)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "work"
    make(workdir)
    read(workdir)
    return workdir


def content(workdir) -> dict:
    """The files whose content is always the same, by relative name."""
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in workdir.rglob("*")
        if path.suffix in (".npy", ".npz", ".parquet")
    }


def files_of(workdir) -> list:
    return sorted(path.relative_to(workdir) for path in workdir.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", DAMAGES)
def test_readers_name_damaged_files(whole, tmp_path, damage):
    assert len(files_of(whole)) > 20
    for number, file in enumerate(files_of(whole)):
        workdir = shutil.copytree(whole, tmp_path / str(number))
        DAMAGES[damage](workdir / file)
        folder = workdir / file.parts[0]
        try:
            read(workdir)
        except ArtifactError as error:
            assert str(folder) in str(error) and re.search("elete the folder|no .* here|other files", str(error)), error
        else:  # content that no reader reads, or that could be right, or the index, which is built in memory
            assert damage in ("zeros", "garbage") or folder.name == sorted_table.FOLDER, file


@pytest.mark.parametrize("kind", ["dataset", "item_embeddings", "semantic_ids", sorted_table.FOLDER])
def test_damaged_artifacts_are_made_again(whole, tmp_path, kind, monkeypatch):
    """Each file once, by the next of the damages."""
    monkeypatch.setattr(artifacts.Verification, "enabled", True)
    workdir = shutil.copytree(whole, tmp_path / "work")
    damages = itertools.cycle(DAMAGES)
    for file in files_of(whole / kind):
        damage = next(damages)
        monkeypatch.setattr(artifacts, "_verified", set())  # of this process, which found the files whole
        DAMAGES[damage](workdir / kind / file)
        if (damage, file.name) == ("deleted", artifacts.MANIFEST):
            with pytest.raises(ArtifactError, match=f"{kind}.*other files"):
                make(workdir)
            shutil.rmtree(workdir / kind)
        make(workdir)
        read(workdir)
        assert content(workdir) == content(whole), file
