"""Measures what must not grow with users: looking up sequences, and the memory of an evaluation.

    python tests/measure_many_users.py prepare --workdir=/tmp/users --users=2000000 --items=1000000
    python tests/measure_many_users.py lookups --workdir=/tmp/users
    python tests/measure_many_users.py evaluation --workdir=/tmp/users

The dataset is synthetic, of 3 to 8 interactions per user, and written as stage `prepare` writes it. The evaluation is
the stage `evaluate` of an untrained model, except that random lists stand in for those that a search finds.
"""

import argparse
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
from etils import epath

from genrec import artifacts, config, files, sharding
from genrec.data import dataset as datasets
from genrec.data import splits
from genrec.data.dataset import Dataset
from genrec.decoding import loaded_model
from genrec.decoding.beam_search import RankedItems
from genrec.evaluation import evaluate, evaluator, identity
from genrec.models import checkpoints
from genrec.models import load as model_loading
from genrec.semantic_ids import codes, embed
from genrec.training import run_setup

AT_ONCE = 100_000  # users
SIZES = (256, 256, 256, 2)
WIDTH = 128
MODEL = config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=32, user_tokens=5)
EXPERIMENT = config.Experiment(model=MODEL, training=config.Training(max_history=20))
BEGIN = 1_700_000_000_000_000  # microseconds


def prepare(path: epath.Path, users: int, items: int) -> None:
    """Writes a dataset of users with 3 to 8 interactions with items, some of which are far more frequent."""
    lengths = np.random.default_rng(0).integers(3, 9, users)

    def parts() -> Iterator[tuple[list[str], splits.UserSequences]]:
        for start in range(0, users, AT_ONCE):
            some, random = lengths[start : start + AT_ONCE], np.random.default_rng((1, start))
            offsets = np.concatenate([[0], np.cumsum(some)])
            chosen = (items * random.random(offsets[-1]) ** 3).astype(np.int64)
            times = BEGIN + np.arange(offsets[-1]) * 1_000_000
            yield (
                [f"{user:036d}" for user in range(start, start + len(some))],
                splits.UserSequences(offsets, chosen, times),
            )

    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ends = splits.leave_one_out(splits.UserSequences(offsets, np.zeros(0, np.int64), np.zeros(0, np.int64)))
    table = {"item_id": [f"{item:036d}" for item in range(items)], "source_row": np.arange(items)}
    catalogue = pa.table({**table, "title": [f"Item {item}" for item in range(items)]})
    figures = {"text_fields": ["title"], "interactions": int(offsets[-1]), "types": {}}
    with artifacts.writing(path, datasets.KIND, "measured", config={}) as draft:
        datasets.write(draft.path, datasets.Contents(parts(), ends, catalogue, None, figures))


def prepare_model(workdir: epath.Path) -> None:
    """Writes random embeddings, semantic IDs and a checkpoint of the start of a small model."""
    dataset, random = Dataset(workdir / "dataset"), np.random.default_rng(0)
    items, inputs = len(dataset.catalogue), {datasets.KIND: dataset.fingerprint}
    numbers = random.choice(int(np.prod(SIZES)), items, replace=False)
    ids = codes.SemanticIds(np.stack(np.unravel_index(numbers, SIZES), axis=1).astype(np.uint16), SIZES)
    made = {"recipe": "measured", "config": {}, "inputs": inputs}
    with artifacts.writing(workdir / "item_embeddings", embed.KIND, **made) as draft:
        files.save_array(draft.path / embed.FILE, random.standard_normal((items, WIDTH), np.float32))
    with artifacts.writing(workdir / "semantic_ids", codes.KIND, **made) as draft:
        ids.save(draft.path)
        draft.fingerprint = ids.fingerprint
    record = run_setup.record_of(EXPERIMENT, ids, dataset, workdir)
    record.finished = True
    params = jax.jit(model_loading.model_of(record)[1])()
    store = checkpoints.Checkpoints(workdir)
    store.save(1, {"ema": params, "params": params}, {}, record, 0.0)
    store.close()


def measure_lookups(workdir: epath.Path) -> None:
    """Prints the time of looking users up by id, one by one, in a dataset that has just been opened."""
    Dataset(workdir / "dataset").split("validation").of_users(["imports libraries"])
    start = time.monotonic()
    split = Dataset(workdir / "dataset").split("test")
    wanted = [f"{user:036d}" for user in np.random.default_rng(2).integers(0, len(split), 1001).tolist()]
    split.of_users(wanted[:1])
    print(f"opened, and the first user looked up: {time.monotonic() - start:.3f} s")
    seconds = []
    for user_id in wanted[1:]:
        start = time.monotonic()
        found = split.of_users([user_id])
        seconds.append(time.monotonic() - start)
        assert list(found) == [user_id]
    quantiles = 1000 * np.quantile(seconds, [0.5, 0.95, 1])
    print("a user in {:.2f} ms (median), {:.2f} ms (95%), {:.2f} ms (slowest)".format(*quantiles))
    print(f"peak memory: {peak():.2f} GiB")


def measure_evaluation(workdir: epath.Path) -> None:
    """Prints the peak memory of stage `evaluate`, and that before its work."""
    random = np.random.default_rng(3)

    def lists(self: evaluator.Evaluator, params: object, rows: object, exclude: object) -> RankedItems[np.ndarray]:
        beams = EXPERIMENT.evaluation.beams
        first = random.integers(0, len(loaded.dataset.catalogue) // beams, (self._batch, 1))
        scores = np.tile(-np.arange(1.0, beams + 1, dtype=np.float32), (self._batch, 1))
        items = (first * beams + np.arange(beams)).astype(np.int32)
        return RankedItems(items, scores, np.full(self._batch, -beams / 2, np.float32))

    evaluator.Evaluator._recommend = lists  # type: ignore[method-assign]
    loaded = loaded_model.load(workdir, "latest", sharding.make_mesh(EXPERIMENT.mesh))
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30
    print(f"memory with the model, the catalogue and the libraries: {resident:.2f} GiB", flush=True)
    start = time.monotonic()
    checked = evaluate.CheckpointEvaluator(EXPERIMENT, workdir, "test", loaded)
    print(f"leaks checked after {time.monotonic() - start:.0f} s, peak {peak():.2f} GiB", flush=True)
    checked.run(loaded, identity.folder(workdir, EXPERIMENT.evaluation))
    print(f"evaluated after {time.monotonic() - start:.0f} s, peak memory: {peak():.2f} GiB")


def peak() -> float:
    """Returns the most memory that this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "lookups", "evaluation"))
    parser.add_argument("--workdir", type=epath.Path, required=True)
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.what == "prepare":
        prepare(given.workdir / "dataset", given.users, given.items)
        prepare_model(given.workdir)
    elif given.what == "lookups":
        measure_lookups(given.workdir)
    else:
        measure_evaluation(given.workdir)


if __name__ == "__main__":
    main()
