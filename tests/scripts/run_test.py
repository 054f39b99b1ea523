"""Scripts that write into a work directory: one at a time, and nothing is replaced that a model was trained on."""

import copy
import re
import shutil

import jax
import pytest
from forked_scripts import Script
from tiny_training import EXPERIMENT

from genrec import config, workdir_lock
from genrec.data.prepare import prepare
from genrec.models import checkpoints, load
from genrec.semantic_ids import embed, tokenize
from genrec.training import run_setup

WRITERS = {
    "launch/prepare_data.py": (),
    "launch/embed_items.py": (),
    "launch/learn_semantic_ids.py": (),
    "launch/train.py": (),
    "launch/train_sasrec.py": (),
    "launch/run.py": (),
    "launch/reproduce.py": (),
    "tools/assign_semantic_ids.py": ("--parent=elsewhere",),
    "tools/hold_out_items.py": ("--output={workdir}",),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A work directory of all stages, with a checkpoint of the start as that of a finished training; its config."""
    folder = tmp_path_factory.mktemp("finished")
    experiment = copy.deepcopy(EXPERIMENT)
    experiment.embeddings.width = 16
    experiment.semantic_ids = config.SemanticIdLearning(codes=(8, 8), max_collision_rate=1.0, min_usage=0.0)
    source = f"from genrec.config import *\ninf = float('inf')\ndef get_config():\n    return {experiment!r}\n"
    (folder / "config.py").write_text(source)
    workdir = folder / "work"
    prepare(experiment.data, workdir / "dataset")
    embed.embed(experiment.embeddings, workdir / "dataset", workdir / "item_embeddings")
    tokenize.learn(experiment.semantic_ids, workdir / "item_embeddings", workdir / "semantic_ids")
    setup = run_setup.generator(experiment, workdir)
    params = jax.jit(load.model_of(setup.record).initialize)()
    setup.record.finished = True
    store = checkpoints.Checkpoints(workdir)
    store.save(7, {"ema": params, "params": params}, {}, setup.record, 0.1)
    store.close()
    return workdir, f"--config={folder / 'config.py'}"


def snapshot(workdir) -> dict:
    return {path.relative_to(workdir): path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}


@pytest.mark.parametrize("script", WRITERS)
def test_a_second_writer_is_refused(finished, tmp_path, script):
    workdir, flag = finished
    config_flag = () if script == "tools/hold_out_items.py" else (flag,)
    more = (word.format(workdir=workdir) for word in WRITERS[script])
    with workdir_lock.hold(workdir):
        before = snapshot(workdir)
        second = Script(tmp_path / "logs", script, *config_flag, f"--workdir={workdir}", *more)
        assert second.wait() == 1
        assert "another run writes here: process" in second.errors and "Traceback" not in second.errors
        before.pop(next(path for path in before if path.name == workdir_lock.FILE))
        assert before.items() <= snapshot(workdir).items()


def test_a_reader_is_not_blocked(finished, tmp_path):
    workdir, _ = finished
    with workdir_lock.hold(workdir):
        reader = Script(tmp_path / "logs", "tools/inspect_semantic_ids.py", f"--workdir={workdir}")
        assert reader.wait() == 0, reader.errors


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.k_core=2", "dataset.*trained"),
        ("data.synthetic.users=70", "dataset.*trained"),
        ("embeddings.width=8", "item_embeddings.*trained"),
        ("semantic_ids.codes=8,8,8", "semantic_ids.*trained"),
        ("model.width=32", "model.width was 16, is 32"),
        ("training.best_metric=none", "best_metric"),
    ],
)
def test_run_replaces_nothing_before_it_refuses(finished, tmp_path, setting, words):
    whole, flag = finished
    workdir = shutil.copytree(whole, tmp_path / "work")
    if "width=32" in setting or "metric" in setting:
        (workdir / "dataset" / "statistics.json").unlink()  # which the first stage would make again
    before = snapshot(workdir)
    run = Script(tmp_path / "logs", "launch/run.py", flag, f"--workdir={workdir}", f"--config.{setting}")
    assert run.wait() == 1
    assert "Traceback" not in run.errors and re.search(words, run.errors), run.errors
    assert snapshot(workdir) == before
