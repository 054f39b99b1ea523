"""Before anything imports jax: eight CPU devices, so that sharded code is tested everywhere; a compilation cache."""

import gc
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

DEVICES = 8

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background ignores it

# Set here and not in a shell script, so that no way to start the tests goes without; processes they start inherit it,
# but those that run whole scripts have one device. Compiling takes longer than running here: hence the flags, which
# save more than half of it (of the step of tiny_training, on eight devices).
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = str(DEVICES)
XLA_FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # newer ones abort on it
    XLA_FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *XLA_FLAGS]).strip()
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # call stacks in compiled functions, which nobody reads here
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "genrec_test_compilations"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402
import pytest  # noqa: E402
import tiny_training  # noqa: E402
from absl import flags  # noqa: E402

if TYPE_CHECKING:
    import postgresql

# Traces are many small objects, and a worker holds gigabytes: collected less often, the tests are 5% quicker.
gc.set_threshold(200_000, 20, 50)

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags


# Files that take longest start first: last, they would leave the other workers idle.
LONGEST = ("end_to_end_test.py", "interruption_test.py", "train_test.py", "page_test.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_report_header() -> str:
    return f"jax {jax.__version__}, {jax.device_count()} {jax.default_backend()} devices"


@pytest.fixture
def lint_shell() -> Callable[[Path], None]:
    """Checks a shell script by bash and by ShellCheck, which is installed beside Python."""

    def lint(path: Path) -> None:
        subprocess.run(["bash", "-n", path], check=True)
        shellcheck = Path(sys.executable).with_name("shellcheck")
        subprocess.run([shellcheck, "--external-sources", path], cwd=Path(__file__).parent.parent, check=True)

    return lint


@pytest.fixture(scope="session")
def tokenized() -> Callable:
    """Makes a work directory that can be trained: data, random item embeddings, and semantic IDs of (8, 8, 2) codes.

    tokenized(workdir, experiment, seed=0, made_for="") prepares the data unless it is there, and deals the codes out at
    random. `made_for` is the fingerprint of another dataset, for those that are to be refused.
    """
    import numpy as np

    from genrec import artifacts, files
    from genrec.data import dataset as datasets
    from genrec.data.prepare import prepare
    from genrec.semantic_ids import codes, embed

    sizes = (8, 8, 2)

    def make(workdir: Path, experiment, seed: int = 0, made_for: str = "") -> None:
        if not (workdir / "dataset").exists():
            prepare(experiment.data, workdir / "dataset")
        dataset = datasets.Dataset(workdir / "dataset")
        random, items = np.random.default_rng(seed), len(dataset.catalogue)
        ids = codes.SemanticIds(random.permutation(np.array(list(np.ndindex(sizes)), np.uint16))[:items], sizes)
        recipe, inputs = f"test {seed}", {datasets.KIND: made_for or dataset.fingerprint}
        folder = workdir / "item_embeddings"
        with artifacts.writing(folder, embed.KIND, recipe, config=experiment.embeddings, inputs=inputs) as draft:
            files.save_array(draft.path / embed.FILE, random.normal(size=(items, 6)).astype(np.float32))
        folder = workdir / "semantic_ids"
        with artifacts.writing(folder, codes.KIND, recipe, config=experiment.semantic_ids, inputs=inputs) as draft:
            ids.save(draft.path)
            draft.fingerprint = ids.fingerprint

    return make


@pytest.fixture(scope="session")
def untrained(tokenized) -> Callable:
    """Makes a work directory that could have been trained: what `tokenized` makes, and checkpoints of the start.

    untrained(workdir, experiment, steps=(7,)) saves one for each step, the last as the best and as that of a finished
    training.
    """
    from genrec.data.dataset import Dataset
    from genrec.models import checkpoints, load
    from genrec.semantic_ids.codes import SemanticIds
    from genrec.training import run_setup

    def make(workdir: Path, experiment, steps: tuple[int, ...] = (7,)) -> None:
        tokenized(workdir, experiment)
        dataset, ids = Dataset(workdir / "dataset"), SemanticIds.load(workdir / "semantic_ids")
        record = run_setup.record_of(experiment, ids, dataset, workdir)
        params = jax.jit(load.model_of(record).initialize)()
        store = checkpoints.Checkpoints(workdir, keep_latest=len(steps))
        for number, step in enumerate(steps, start=1):
            record.finished = step == steps[-1]
            scaled = jax.tree.map(lambda x, number=number: x * number, params)
            store.save(step, {"ema": scaled, "params": params}, {}, record, number / 100)
        store.close()

    return make


@pytest.fixture(scope="session")
def tiny_inputs(tokenized, tmp_path_factory) -> Path:
    """A work directory for trainings of tiny_training.EXPERIMENT; each takes a copy."""
    workdir = tmp_path_factory.mktemp("tiny_inputs")
    tokenized(workdir, tiny_training.EXPERIMENT)
    return workdir


@pytest.fixture(scope="session")
def multi_stage_workdir(untrained, tmp_path_factory) -> Path:
    """A work directory of tiny_training.MULTI_STAGE with an untrained generator and a SASRec of few steps."""
    from genrec.input_pipeline import learn_transitions
    from genrec.training import train

    workdir = tmp_path_factory.mktemp("multi_stage")
    untrained(workdir, tiny_training.MULTI_STAGE)
    learn_transitions.learn(tiny_training.MULTI_STAGE.transitions, workdir)
    train.train_sasrec(tiny_training.MULTI_STAGE, workdir)
    return workdir


@pytest.fixture(scope="session")
def tiny_trained(tiny_inputs, tmp_path_factory) -> Path:
    """A work directory where tiny_training.EXPERIMENT was trained to its end; not to be changed."""
    from genrec.training import train

    workdir = shutil.copytree(tiny_inputs, tmp_path_factory.mktemp("tiny_trained") / "work")
    train.train(tiny_training.EXPERIMENT, workdir)
    return workdir


@pytest.fixture(scope="session")
def everything_known() -> Callable:
    """Makes a context with all that the synthetic users and items tell, however few users there are."""
    from genrec import config

    return lambda: config.Context(
        user_columns=("country", "age_band"),
        item_columns=("media_type",),
        time_of_day=True,
        vector=True,
        summary=True,
        min_users=1,
    )


@pytest.fixture(scope="session")
def listener(untrained, everything_known, tmp_path_factory) -> Path:
    """A work directory with an untrained model that reads features, vectors and prompts, and writes texts.

    Its parameters are large: what it reads makes a difference to what it says.
    """
    from genrec import config

    workdir = tmp_path_factory.mktemp("listener")
    model = config.Model(width=16, encoder_layers=1, decoder_layers=1, heads=2, head_width=8, mlp=16, user_tokens=5)
    experiment = config.Experiment(
        data=config.Data(source="synthetic", k_core=0, synthetic=config.SyntheticCatalogue(items=120, users=60)),
        model=model,
        context=everything_known(),
        prompts=config.Prompts(
            columns=("media_type:kind", "genre:about", "mood:mood", "artist:by", "title:words"),
            pieces=300,
            texts=True,
            rules=("media_type", "artist", "explicit"),
        ),
        training=config.Training(max_history=6),
        evaluation=config.Evaluation(beams=20),
    )
    untrained(workdir, experiment, steps=(1, 2, 3))
    return workdir


@pytest.fixture(scope="session")
def given_dataset() -> Callable:
    """Makes what reads like a dataset: given_dataset(9, train=[[3, 1], [2]]) has 9 items, and two users train."""
    import numpy as np
    import sequence_blocks

    from genrec.data.dataset import Sequence

    class Split:
        def __init__(self, records: list[list[int]]):
            self.records = [
                Sequence(f"u{user}", np.array(items, np.int32), np.arange(len(items)))
                for user, items in enumerate(records)
            ]
            self.lengths = np.array([len(items) for items in records])

        def __len__(self) -> int:
            return len(self.records)

        def read(self, indices) -> list[Sequence]:
            return [self.records[index] for index in indices]

        def blocks(self):
            return (sequence_blocks.block([(one.user_id, one.items)]) for one in self.records)

    class Dataset:
        path = "somewhere/dataset"

        def __init__(self, items: int, **splits: list[list[int]]):
            self.catalogue = range(items)
            self.split = {name: Split(records) for name, records in splits.items()}.__getitem__

    return Dataset


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator["postgresql.Server"]:
    """A PostgreSQL server; a test that stops it starts it again."""
    import postgresql

    with postgresql.running() as server:
        yield server


@pytest.fixture
def postgresql_database(postgresql_server, request) -> Iterator[str]:
    """The URL of an empty database of PostgreSQL, for one test."""
    import zlib

    name = f"test_{zlib.crc32(request.node.nodeid.encode()):08x}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    yield postgresql_server.url(name)
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
