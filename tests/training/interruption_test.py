"""Trainings that are killed, asked to leave, or go on elsewhere: by whole scripts, in one process or several."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_training import EXPERIMENT, changed, lines

from genrec import config, exit_codes
from genrec.decoding.retrieval import Retriever
from genrec.models import checkpoints, load
from genrec.training import preemption, train

ROOT = Path(__file__).parents[2]


def same_parameters(one, other):
    """Bit by bit, at the latest checkpoint of both work directories: the weights and their average, by the sums too."""
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


def start_script(flags: list[str], processes: int = 1, devices: int = 1, **environment: str) -> subprocess.Popen:
    """launch/train.py, by itself or as several processes."""
    command = ["launch/train.py", *flags]
    if processes > 1:
        command = ["launch/local_processes.py", f"--processes={processes}", f"--devices={devices}", "--", *command]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)} | environment
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, **pipes)


def wait_for(process: subprocess.Popen, text: str) -> str:
    """The output up to the first line with `text`."""
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"the script ended without {text!r}: {seen[-3000:]}")


def test_killed_at_twenty_instants_it_ends_with_the_same_bits(tiny_inputs, tmp_path):
    """By SIGKILL, at random instants of training, of validating and of writing checkpoints."""
    whole, killed = (shutil.copytree(tiny_inputs, tmp_path / name) for name in ("whole", "killed"))
    experiment = changed(steps=600, validate_every=100, log_every=5)
    experiment.mesh = config.Mesh(1, 1, 1)
    in_peace = config_file(whole, experiment)
    uninterrupted = start_script([in_peace, f"--workdir={whole}"])
    assert uninterrupted.wait(timeout=300) == 0, uninterrupted.stdout.read()[-3000:]
    experiment.training.checkpoint_every = 5  # most of the time goes into them
    in_danger = config_file(killed, experiment)
    chance = random.Random(0)
    for number in range(20):
        process = start_script([in_danger, f"--workdir={killed}"])
        # On a slow machine the first step may take longer than the longest life: every other one lives to see some.
        wait_for(process, " train: " if number % 2 else "steps of about")
        time.sleep(chance.uniform(0, 1))
        assert process.poll() is None, "it was quicker than the killer"
        process.kill()
        process.wait()
    last = start_script([in_peace, f"--workdir={killed}"])
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0, output[-3000:]
    assert int(re.search(r"resuming from step (\d+)", output)[1]) > 5
    same_parameters(whole, killed)
    curves = [{step: row["train/loss"] for step, row in lines(w, "train").items()} for w in (whole, killed)]
    assert curves[0] == curves[1]


def test_sigterm_loses_no_step(tiny_inputs, tmp_path):
    whole, stopped = (shutil.copytree(tiny_inputs, tmp_path / name) for name in ("whole", "stopped"))
    experiment = changed(steps=300, validate_every=300, log_every=10)
    experiment.mesh = config.Mesh(1, 1, 1)
    flag = config_file(tmp_path, experiment)
    process = start_script([flag, f"--workdir={stopped}"])
    wait_for(process, "step 20 train")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == exit_codes.RESTART == 75, output
    step = int(re.search(r"saved step (\d+)", output)[1])
    assert step >= 20 and max(lines(stopped, "train")) == step
    again = start_script([flag, f"--workdir={stopped}"])
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and f"resuming from step {step}" in output
    uninterrupted = start_script([flag, f"--workdir={whole}"])
    output, _ = uninterrupted.communicate(timeout=300)
    assert uninterrupted.returncode == 0, output[-3000:]
    same_parameters(whole, stopped)


def test_a_validation_that_is_cut_short_is_made_up_for(tiny_inputs, tmp_path, monkeypatch):
    whole, stopped = (shutil.copytree(tiny_inputs, tmp_path / name) for name in ("whole", "stopped"))
    train.train(EXPERIMENT, whole)
    search = Retriever.__call__

    def terminated(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return search(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Retriever, "__call__", terminated)
        with pytest.raises(preemption.Preempted):
            train.train(EXPERIMENT, stopped)
    assert list(lines(stopped, "validation")) == [] and max(lines(stopped, "train")) == 4
    assert load.load(stopped, "best").step == 4  # the only one
    train.train(EXPERIMENT, stopped)
    assert list(lines(stopped, "validation")) == [4, 8, 12]
    same_parameters(whole, stopped)


def test_two_processes_train_as_one(tiny_inputs, tmp_path):
    """The same curves with the same global batch; a notice to leave reaches both; the checkpoint goes on anywhere."""
    one, two = (shutil.copytree(tiny_inputs, tmp_path / name) for name in ("one", "two"))
    experiment = changed(steps=24, validate_every=12, log_every=4)
    experiment.mesh = config.Mesh(data=-1, fsdp=2, tensor=1)
    process = start_script([config_file(tmp_path, experiment), f"--workdir={two}"], processes=2, devices=2)
    wait_for(process, "step 8 train")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == exit_codes.RESTART, output[-3000:]
    step = int(re.search(r"saved step (\d+)", output)[1])
    copies = {devices: shutil.copytree(two, tmp_path / f"on_{devices}") for devices in (1, 8)}
    again = start_script([config_file(tmp_path, experiment), f"--workdir={two}"], processes=2, devices=2)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and f"resuming from step {step}" in output, output[-3000:]

    train.train(experiment, one)
    curve, curve_of_two = lines(one, "train"), lines(two, "train")
    assert curve.keys() <= curve_of_two.keys()
    for number in curve.keys() - {-(-step // 4) * 4}:  # that line is of the steps after the interruption alone
        np.testing.assert_allclose(curve_of_two[number]["train/loss"], curve[number]["train/loss"], rtol=1e-3)
    last = lines(two, "validation")[24]["validation/ndcg@10"]
    np.testing.assert_allclose(last, lines(one, "validation")[24]["validation/ndcg@10"], atol=0.02)

    for devices, folder in copies.items():
        experiment.mesh = config.Mesh(data=-1, fsdp=4) if devices == 8 else config.Mesh(1, 1, 1)
        train.train(experiment, folder)
        first = min(number for number in lines(folder, "train") if number > step)
        np.testing.assert_allclose(
            lines(folder, "train")[first]["train/loss"], curve_of_two[first]["train/loss"], rtol=1e-4
        )


def test_a_checkpoint_of_eight_devices_goes_on_on_two_processes(tiny_inputs, tmp_path):
    """Even if one of them finds its part of the newest one damaged, and the other does not."""
    workdir = shutil.copytree(tiny_inputs, tmp_path / "work")
    experiment = changed(stop_after=4, log_every=1, checkpoint_every=2)
    experiment.mesh = config.Mesh(data=2, fsdp=2, tensor=2)
    train.train(experiment, workdir)
    on_two = shutil.copytree(workdir, tmp_path / "on_two")
    parts = (on_two / checkpoints.FOLDER / "4" / "training" / "ocdbt.process_0" / "d").iterdir()
    max(parts, key=lambda path: path.stat().st_size).unlink()
    (on_two / checkpoints.FOLDER / "4" / "training" / "manifest.ocdbt").unlink()
    experiment.training.stop_after, experiment.mesh = 6, config.Mesh(data=-1, fsdp=2)
    ended = start_script([config_file(tmp_path, experiment), f"--workdir={on_two}"], processes=2, devices=2)
    output, _ = ended.communicate(timeout=300)
    assert ended.returncode == 0, output[-3000:]
    assert "checkpoint 4 cannot be read" in output and "resuming from step 2" in output
    experiment.mesh = config.Mesh(1, 1, 1)
    train.train(experiment, workdir)
    for step in range(3, 7):
        np.testing.assert_allclose(
            lines(on_two, "train")[step]["train/loss"], lines(workdir, "train")[step]["train/loss"], rtol=1e-4
        )
