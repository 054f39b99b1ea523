"""Trainings that are killed, preempted, or resumed on other devices: by whole scripts, in one process or several."""

import copy
import json
import os
import random
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from forked_scripts import Script
from tiny_training import EXPERIMENT, changed, lines

from genrec import config, exit_codes
from genrec.decoding.retrieval import Retriever
from genrec.models import checkpoints, load
from genrec.training import preemption, train


def same_parameters(one, other):
    """Compares the latest checkpoints of two work directories: the averaged parameters, and all checksums."""
    params, sums = [], []
    for workdir in (one, other):
        found = load.load(workdir, "latest")
        assert found.record.finished
        params.append(found.params)
        sums.append(
            json.loads((workdir / checkpoints.FOLDER / str(found.step) / checkpoints.SUMS / "metadata").read_text())
        )
    jax.tree.map(np.testing.assert_array_equal, *params)
    assert sums[0] == sums[1]


def config_file(folder: Path, experiment: config.Experiment) -> str:
    source = f"from genrec.config import *\ninf = float('inf')\ndef get_config():\n    return {experiment!r}\n"
    (folder / "config.py").write_text(source)
    return f"--config={folder / 'config.py'}"


def processes(folder: Path, number: int, *command: str) -> list[Script]:
    """A script as several processes of one run, each with two devices, as launch/local_processes.py starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(number)}
    return [
        Script(folder / str(process), *command, devices=2, environment=job | {"JAX_PROCESS_ID": str(process)})
        for process in range(number)
    ]


@pytest.fixture(scope="module")
def long_experiment():
    """An experiment that trains for some seconds on one device."""
    experiment = changed(steps=600, validate_every=100, log_every=5)
    experiment.mesh = config.Mesh(1, 1, 1)
    return experiment


@pytest.fixture(scope="module")
def uninterrupted(tiny_inputs, tmp_path_factory, long_experiment):
    """The work directory of `long_experiment` after a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    workdir = shutil.copytree(tiny_inputs, folder / "work")
    script = Script(folder / "logs", "launch/train.py", config_file(folder, long_experiment), f"--workdir={workdir}")
    assert script.wait() == 0, script.errors[-3000:]
    return workdir


def test_killed_at_ten_instants_it_ends_with_the_same_bits(uninterrupted, long_experiment, tiny_inputs, tmp_path):
    """By SIGKILL, at random instants of training, validation and writing checkpoints."""
    killed = shutil.copytree(tiny_inputs, tmp_path / "killed")
    in_danger = copy.deepcopy(long_experiment)
    in_danger.training.checkpoint_every = 5  # most of the time goes into them
    command = "launch/train.py", f"--workdir={killed}"
    flag = config_file(killed, in_danger)
    chance = random.Random(0)
    for number in range(10):
        script = Script(tmp_path / "logs", *command, flag)
        script.wait_for("steps of about")
        before = set(checkpoints.steps(killed))
        # On a slow machine the first step may take longer than the longest life: every other one makes a checkpoint.
        while number % 2 and set(checkpoints.steps(killed)) <= before and script.returncode is None:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1))
        assert script.returncode is None, "it was quicker than the killer"
        script.kill()
    last = Script(tmp_path / "logs", *command, config_file(tmp_path, long_experiment))
    assert last.wait() == 0, last.errors[-3000:]
    assert int(re.search(r"resuming from step (\d+)", last.errors)[1]) > 5, last.errors[-3000:]
    same_parameters(uninterrupted, killed)
    curves = [{step: row["train/loss"] for step, row in lines(w, "train").items()} for w in (uninterrupted, killed)]
    assert curves[0] == curves[1]


def test_sigterm_loses_no_step(uninterrupted, long_experiment, tiny_inputs, tmp_path):
    stopped = shutil.copytree(tiny_inputs, tmp_path / "stopped")
    command = "launch/train.py", config_file(tmp_path, long_experiment), f"--workdir={stopped}"
    script = Script(tmp_path / "logs", *command)
    script.wait_for("step 20 train")
    script.terminate()
    assert script.wait() == exit_codes.RESTART == 75, script.errors
    step = int(re.search(r"saved step (\d+)", script.errors)[1])
    assert step >= 20 and max(lines(stopped, "train")) == step
    again = Script(tmp_path / "logs", *command)
    assert again.wait() == 0 and f"resuming from step {step}" in again.errors
    same_parameters(uninterrupted, stopped)


def test_an_interrupted_validation_is_repeated(tiny_inputs, tiny_trained, tmp_path, monkeypatch):
    stopped = shutil.copytree(tiny_inputs, tmp_path / "stopped")
    search = Retriever.__call__

    def interrupted(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C
        return search(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Retriever, "__call__", interrupted)
        with pytest.raises(preemption.Preempted):
            train.train(EXPERIMENT, stopped)
    assert list(lines(stopped, "validation")) == [] and max(lines(stopped, "train")) == 4
    assert load.load(stopped, "best").step == 4  # the only one
    train.train(EXPERIMENT, stopped)
    assert list(lines(stopped, "validation")) == [4, 8, 12]
    same_parameters(tiny_trained, stopped)


def test_two_processes_train_as_one(tiny_inputs, tmp_path):
    """The same curves with the same global batch; a preemption reaches both; any devices resume from the checkpoint."""
    one, two = (shutil.copytree(tiny_inputs, tmp_path / name) for name in ("one", "two"))
    experiment = changed(steps=24, validate_every=12, log_every=1)
    experiment.mesh = config.Mesh(data=-1, fsdp=2, tensor=1)
    command = "launch/train.py", config_file(tmp_path, experiment), f"--workdir={two}"
    both = processes(tmp_path / "logs", 2, *command)
    both[0].wait_for("step 8 train")
    both[1].terminate()  # which tells the other
    assert [process.wait() for process in both] == [exit_codes.RESTART] * 2, both[0].errors[-3000:]
    step = int(re.search(r"saved step (\d+)", both[0].errors)[1])
    copies = {devices: shutil.copytree(two, tmp_path / f"on_{devices}") for devices in (1, 8)}
    both = processes(tmp_path / "again", 2, *command)
    assert [process.wait() for process in both] == [0, 0], both[0].errors[-3000:]
    assert f"resuming from step {step}" in both[0].errors

    train.train(experiment, one)
    curve, curve_of_two = lines(one, "train"), lines(two, "train")
    assert curve.keys() == curve_of_two.keys()
    for number in curve:
        np.testing.assert_allclose(curve_of_two[number]["train/loss"], curve[number]["train/loss"], rtol=1e-3)
    last = lines(two, "validation")[24]["validation/ndcg@10"]
    np.testing.assert_allclose(last, lines(one, "validation")[24]["validation/ndcg@10"], atol=0.02)

    for devices, folder in copies.items():
        experiment.mesh = config.Mesh(data=-1, fsdp=4) if devices == 8 else config.Mesh(1, 1, 1)
        experiment.training.stop_after = step + 1
        train.train(experiment, folder)
        np.testing.assert_allclose(
            lines(folder, "train")[step + 1]["train/loss"], curve_of_two[step + 1]["train/loss"], rtol=1e-4
        )


def test_a_checkpoint_of_eight_devices_is_restored_on_two_processes(tiny_inputs, tmp_path):
    """Even if one process finds its part of the newest checkpoint damaged, and the other does not."""
    workdir = shutil.copytree(tiny_inputs, tmp_path / "work")
    experiment = changed(stop_after=4, log_every=1, checkpoint_every=2, validate_every=12)
    experiment.mesh = config.Mesh(data=2, fsdp=2, tensor=2)
    train.train(experiment, workdir)
    on_two = shutil.copytree(workdir, tmp_path / "on_two")
    files = (on_two / checkpoints.FOLDER / "4" / "training" / "d").iterdir()
    largest = max(files, key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[:-100].ljust(len(content), b"\0"))
    experiment.training.stop_after, experiment.mesh = 6, config.Mesh(data=-1, fsdp=2)
    command = "launch/train.py", config_file(tmp_path, experiment), f"--workdir={on_two}"
    both = processes(tmp_path / "logs", 2, *command)
    assert [process.wait() for process in both] == [0, 0], both[0].errors[-3000:]
    told = "".join(process.errors for process in both)
    assert "checkpoint 4 cannot be read" in told and "resuming from step 2" in told
    experiment.mesh = config.Mesh(1, 1, 1)
    train.train(experiment, workdir)
    for step in range(3, 7):
        np.testing.assert_allclose(
            lines(on_two, "train")[step]["train/loss"], lines(workdir, "train")[step]["train/loss"], rtol=1e-4
        )
