"""Checkpoints: retention, resuming on other meshes, refusal of other runs, and damage."""

import dataclasses
import errno
import json
import shutil

import jax
import numpy as np
import pytest

from genrec import artifacts, config, disk_space, sharding
from genrec.models import checkpoints as checkpointing
from genrec.models import load, run_record
from genrec.training import optimizer
from genrec.training import step as training_step

EXPERIMENT = config.Experiment(
    model=config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5)
)
RECORD = run_record.RunRecord.of(EXPERIMENT, (8, 8, 2), "semantic IDs", "dataset")


def run_on(*sizes: int) -> training_step.Run:
    return training_step.describe(RECORD, optimizer.make(config.Training()), sharding.make_mesh(config.Mesh(*sizes)))


def values(state):
    """Everything in numpy, keys included."""
    state = state | {"key": jax.random.key_data(state["key"])}
    return jax.tree.map(np.array, state)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A work directory with the checkpoints 1 and 2, and the state that is in both."""
    workdir = tmp_path_factory.mktemp("written")
    state = training_step.start(run_on(2, 1, 1))
    checkpoints = checkpointing.Checkpoints(workdir)
    checkpoints.save(1, state, {"next_batch": 1}, RECORD, 0.5)
    checkpoints.save(2, state, {"next_batch": 2}, dataclasses.replace(RECORD, validated=1))
    checkpoints.close()
    return workdir, values(state)


@pytest.fixture
def workdir(written, tmp_path):
    return shutil.copytree(written[0], tmp_path / "work")


METRICS = {1: 0.9, 2: 0.8, 3: 0.7}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A work directory with three checkpoints."""
    workdir = tmp_path_factory.mktemp("three") / "work"
    state = training_step.start(run_on(1, 1, 1))
    checkpoints = checkpointing.Checkpoints(workdir, keep_latest=3)
    for step, metric in METRICS.items():
        checkpoints.save(step, state, {}, RECORD, metric)
    checkpoints.close()
    return workdir


def resume(workdir, record=RECORD, mesh=(2, 1, 1)):
    checkpoints = checkpointing.Checkpoints(workdir)
    try:
        return checkpoints.resume(record, run_on(*mesh).abstract)
    finally:
        checkpoints.close()


@pytest.mark.parametrize("mesh", [(1, 1, 1), (8, 1, 1), (1, 2, 2)], ids=str)
def test_a_checkpoint_is_restored_on_another_mesh(written, mesh):
    workdir, state = written
    resumed = resume(workdir, mesh=mesh)
    assert resumed.step == 2 and resumed.data == {"next_batch": 2} and resumed.record.validated == 1
    jax.tree.map(np.testing.assert_array_equal, values(resumed.state), state)
    for leaf, expected in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(run_on(*mesh).abstract), strict=True):
        assert leaf.sharding == expected.sharding


def test_without_checkpoints_there_is_nothing_to_resume(tmp_path):
    assert resume(tmp_path) is None


# Damage by disks and interrupted copies.
def _cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _emptied(path):
    path.write_bytes(b"")


def _turned_over(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_cut_short, _emptied, _turned_over, lambda path: path.unlink()])
@pytest.mark.parametrize(
    "of", ["record/metadata", "data/metadata", "training/_METADATA", "training/d/*", "ema/manifest*", "sums/metadata"]
)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(workdir, written, damage, of, caplog):
    found = next((workdir / checkpointing.FOLDER / "2").glob(of))
    before = found.read_bytes()
    damage(found)
    resumed = resume(workdir)
    jax.tree.map(np.testing.assert_array_equal, values(resumed.state), written[1])
    if resumed.step == 2:  # some bytes are never read
        assert damage is _turned_over and of != "training/d/*"
        return
    assert resumed.step == 1
    assert "checkpoint 2 is incomplete or damaged: moved" in caplog.text
    # Nothing is lost: it was moved, and step 2 can be saved again.
    moved = workdir / checkpointing.UNREADABLE / "2"
    assert moved.is_dir() and not (workdir / checkpointing.FOLDER / "2").exists() and before


DAMAGES = {
    "empty": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
    "without metrics": lambda folder: shutil.rmtree(folder / "metrics"),
    "without its list of files": lambda folder: (folder / checkpointing.FILES).unlink(),
    "half deleted": lambda folder: next((folder / "ema" / "d").iterdir()).unlink(),
    "half copied": lambda folder: _cut_short(next((folder / "training" / "d").iterdir())),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_a_damaged_checkpoint_of_any_age_is_put_aside_and_never_counts(three, tmp_path, damage, damaged, caplog):
    workdir = shutil.copytree(three, tmp_path / "work")
    damage(workdir / checkpointing.FOLDER / str(damaged))
    good = sorted({1, 2, 3} - {damaged})
    before = sorted(workdir.rglob("*"))
    # Readers ignore it, with a line, and change nothing.
    assert checkpointing.steps(workdir) == good
    assert load.load(workdir, "best").step == good[0] and load.load(workdir, "latest").step == good[-1]
    with pytest.raises(checkpointing.UnreadableCheckpointError):
        load.load(workdir, str(damaged))
    assert "ignoring" in caplog.text and sorted(workdir.rglob("*")) == before
    # Training puts it aside and goes on, and keeps the good ones.
    checkpoints = checkpointing.Checkpoints(workdir)
    run = run_on(1, 1, 1)
    resumed = checkpoints.resume(RECORD, run.abstract)
    assert resumed.step == good[-1] and caplog.text.count(f"checkpoint {damaged} is") == 1
    assert (workdir / checkpointing.UNREADABLE / str(damaged)).is_dir()
    assert checkpoints.best() == (good[0], METRICS[good[0]])
    checkpoints.save(4, resumed.state, {}, RECORD, 0.01)
    checkpoints.close()
    assert checkpointing.steps(workdir) == [*good, 4] and load.load(workdir).step == good[0]


def test_damaged_checkpoints_alone_are_not_moved(tmp_path):
    (tmp_path / checkpointing.FOLDER / "5").mkdir(parents=True)
    with pytest.raises(artifacts.ArtifactError, match=r"\[5\]"):
        resume(tmp_path)
    with pytest.raises(artifacts.ArtifactError, match="no finished checkpoint"):
        load.load(tmp_path)
    assert (tmp_path / checkpointing.FOLDER / "5").exists()


def test_saving_beside_damaged_checkpoints_deletes_no_good_one(three):
    """Even without resuming; Orbax alone would count the empty ones as the latest."""
    workdir = shutil.copytree(three, three.parent / "beside")
    for step in (7, 8):
        (workdir / checkpointing.FOLDER / str(step)).mkdir()
    checkpoints = checkpointing.Checkpoints(workdir)
    checkpoints.save(9, training_step.start(run_on(1, 1, 1)), {}, RECORD)
    checkpoints.close()
    assert checkpointing.steps(workdir) == [1, 3, 9]


def test_a_checkpoint_of_an_earlier_version_has_no_list_of_files(workdir):
    for step in (1, 2):
        folder = workdir / checkpointing.FOLDER / str(step)
        metrics = folder / "metrics" / "metrics"
        metrics.write_text(json.dumps({checkpointing.BEST: json.loads(metrics.read_text())[checkpointing.BEST]}))
        (folder / checkpointing.FILES).unlink()
    assert resume(workdir).step == 2
    (workdir / checkpointing.FOLDER / "2" / "record" / "metadata").unlink()
    assert resume(workdir).step == 1


def test_a_full_disk_while_saving_is_one_message(workdir, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpointing.files, "write_text", full)  # in the background
    checkpoints = checkpointing.Checkpoints(workdir)
    checkpoints.save(3, training_step.start(run_on(1, 1, 1)), {}, RECORD)
    with pytest.raises(disk_space.DiskFullError, match=str(workdir)):
        checkpoints.close()
    monkeypatch.undo()
    assert checkpointing.steps(workdir) == [1, 2]


def test_a_flipped_bit_of_the_arrays_is_detected(workdir):
    """With any flipped bit of the largest file, the state is the saved one or comes from another checkpoint."""
    files = [path for path in (workdir / checkpointing.FOLDER / "2" / "training").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size if "/d/" in str(path) else 0)
    content = largest.read_bytes()
    expected = checkpointing._sums(training_step.start(run_on(2, 1, 1)))
    for place in np.random.default_rng(0).integers(0, len(content), 6):
        changed = bytearray(content)
        changed[place] ^= 0x10
        largest.write_bytes(bytes(changed))
        copy = shutil.copytree(workdir, workdir.parent / f"copy{place}")
        assert checkpointing._sums(resume(copy).state) == expected


def test_without_a_readable_checkpoint_nothing_is_moved(workdir):
    for step in ("1", "2"):
        (workdir / checkpointing.FOLDER / step / "record" / "metadata").unlink()
    with pytest.raises(artifacts.ArtifactError, match=r"\[1, 2\]"):
        resume(workdir)
    assert (workdir / checkpointing.FOLDER / "2").exists() and not (workdir / checkpointing.UNREADABLE).exists()


def test_another_run_is_refused_with_every_difference(workdir):
    other = dataclasses.replace(RECORD, dataset="other", seed=3, training=RECORD.training | {"ema": 0.5})
    with pytest.raises(artifacts.ArtifactError, match="dataset was dataset, is other; seed was 0, is 3; training.ema"):
        resume(workdir, other)


def test_settings_that_change_no_result_may_change(workdir):
    training = RECORD.training | {"log_every": 7, "keep_latest": 5, "accumulate": 2, "checkpoint_every": 3}
    other = dataclasses.replace(RECORD, training=training, model=RECORD.model | {"remat": True})
    resumed = resume(workdir, other)
    assert resumed.step == 2 and resumed.record.training == training  # and later checkpoints say so


def test_the_latest_and_the_best_are_kept(tmp_path):
    state = training_step.start(run_on(1, 1, 1))
    checkpoints = checkpointing.Checkpoints(tmp_path, keep_best=2, keep_latest=2)
    none = checkpointing.NOT_VALIDATED
    metrics = {1: 0.3, 2: 0.9, 3: none, 4: 0.5, 5: 0.1, 6: none, 7: 0.2}
    for step, metric in metrics.items():
        checkpoints.save(step, state, {}, RECORD, metric)
    assert checkpoints.best() == (2, 0.9)
    checkpoints.close()
    assert checkpointing.Checkpoints(tmp_path).steps == [2, 4, 6, 7]


def test_a_checkpoint_can_be_replaced_by_one_of_the_same_step(workdir):
    checkpoints = checkpointing.Checkpoints(workdir)
    state = training_step.start(run_on(2, 1, 1))
    checkpoints.save(2, state, {"next_batch": 2}, RECORD, 0.7)
    assert checkpoints.best() == (2, 0.7) and checkpoints.steps == [1, 2]
    checkpoints.close()


def test_an_incomplete_checkpoint_is_ignored(workdir):
    half = workdir / checkpointing.FOLDER / "3.orbax-checkpoint-tmp"
    shutil.copytree(workdir / checkpointing.FOLDER / "2", half)
    assert resume(workdir).step == 2
    checkpoints = checkpointing.Checkpoints(workdir)
    checkpoints.save(3, training_step.start(run_on(2, 1, 1)), {}, RECORD)
    checkpoints.close()
    assert resume(workdir).step == 3


def test_the_record_of_another_version_is_refused(workdir):
    path = workdir / checkpointing.FOLDER / "2" / "record" / "metadata"
    path.write_text(path.read_text().replace('"seed"', '"soil"'))
    with pytest.raises(artifacts.ArtifactError, match="another version.*soil"):
        resume(workdir)


@pytest.mark.parametrize("name", ["compute", "parameters"])
def test_dtypes_that_do_not_exist_are_refused(name):
    with pytest.raises(config.ConfigError, match=f"model.{name}='float16'"):
        load.model_of(dataclasses.replace(RECORD, model=RECORD.model | {name: "float16"}))
