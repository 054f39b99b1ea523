"""The mesh, the rules, and the training step on meshes of all shapes."""

import dataclasses
import itertools
import math
import os
import re
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from genrec import config, sharding
from genrec.input_pipeline.examples import Segment, Tokenizer, pack
from genrec.models import run_record
from genrec.planning import topologies
from genrec.training import optimizer
from genrec.training import step as training_step

MESHES = [(1, 1, 1), (8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 2, 4)]
SIZES = (64, 64, 7)
ROWS = 16


def record_of(**model) -> run_record.RunRecord:
    small = dict(width=64, encoder_layers=1, decoder_layers=1, heads=4, head_width=16, mlp=128, user_tokens=200)
    experiment = config.Experiment(model=config.Model(**small | dict(repeat_bias=True) | model))
    return run_record.RunRecord.of(experiment, SIZES, "semantic IDs", "dataset")


@pytest.fixture(scope="module")
def examples():
    """Returns rows of two users each, with histories of different lengths."""
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, size, 500) for size in SIZES], axis=1)
    items = codes + np.cumsum((0, *SIZES[:-1]))
    tokenizer = Tokenizer(items.astype(np.int32), sum(SIZES), 200)

    def user(number: int) -> Segment:
        return Segment(f"u{number}", random.integers(0, 500, 3 + number % 5), 0, True)

    return pack([[user(2 * row), user(2 * row + 1)] for row in range(ROWS)], tokenizer, 40, 16)


def one_step(mesh_sizes, record, tx, examples, accumulate=1):
    """Returns the state before and after a step (as numpy arrays on demand), the metrics, and the compiled program."""
    mesh = sharding.make_mesh(config.Mesh(*mesh_sizes))
    run = training_step.describe(record, tx, mesh)
    step = training_step.make_step(run, tx, config.Experiment(training=config.Training(accumulate=accumulate)))
    before = training_step.start(run)
    params = jax.tree.map(np.array, before["params"])  # copies: a view would keep the memory
    with jax.set_mesh(mesh):
        batch = sharding.put_rows(mesh, examples, ROWS)
        compiled = step.lower(before, batch).compile()
        after, metrics = compiled(before, batch)
    for leaf, expected in zip(jax.tree.leaves(after), jax.tree.leaves(run.abstract), strict=True):
        assert leaf.sharding == expected.sharding
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before["params"]))  # its memory was taken over
    return params, after, jax.device_get(metrics), compiled.as_text()


@pytest.fixture(scope="module")
def single(examples):
    """Returns gradients and metrics on one device; plain SGD moves the parameters by the gradient itself."""
    before, after, metrics, _ = one_step((1, 1, 1), record_of(), optax.sgd(1.0), examples)
    return before, jax.tree.map(lambda a, b: a - np.asarray(b), before, after["params"]), metrics


@pytest.mark.parametrize("sizes", MESHES[1:], ids=str)
def test_losses_and_gradients_do_not_depend_on_the_mesh(sizes, single, examples):
    _, gradients, metrics = single
    before, after, found, _ = one_step(sizes, record_of(), optax.sgd(1.0), examples)
    for name in ("loss", "loss_per_level", "gradient_norm"):
        np.testing.assert_allclose(found[name], metrics[name], rtol=1e-5)
    assert found["targets"] == metrics["targets"]
    moved = jax.tree.map(lambda a, b: a - np.asarray(b), before, after["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), moved, gradients)


def test_parameters_are_initialized_alike_on_any_mesh():
    found = []
    for sizes in MESHES:
        run = training_step.describe(record_of(), optax.sgd(1.0), sharding.make_mesh(config.Mesh(*sizes)))
        lowered = jax.jit(run.initialize, out_shardings=sharding.of(run.abstract)).lower()
        # Compiled as outside of tests: without its fusions, XLA rounds by the shape of an array.
        fusions = {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ["XLA_FLAGS"] else {}
        state = lowered.compile(fusions)()
        found.append(jax.tree.map(np.array, state["params"]))
    for params in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, params, found[0])


def test_scanned_and_recomputed_layers_change_nothing(examples):
    deep = dict(encoder_layers=2, decoder_layers=2)
    plain, scanned = (
        one_step((2, 2, 2), record_of(**deep, **changes), optax.sgd(1.0), examples)[2]
        for changes in ({}, dict(scan_layers=True, remat=True))
    )
    for name in ("loss", "loss_per_level", "gradient_norm"):
        np.testing.assert_allclose(scanned[name], plain[name], rtol=1e-5)


def test_gradients_are_accumulated_on_any_mesh(examples):
    record = record_of(dropout=0.0)  # every part draws its own
    _, whole, metrics, _ = one_step((1, 1, 1), record, optax.sgd(1.0), examples)
    _, parts, found, _ = one_step((2, 2, 2), record, optax.sgd(1.0), examples, accumulate=4)
    np.testing.assert_allclose(found["loss"], metrics["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), parts["params"], whole["params"])


@pytest.mark.parametrize("sizes", MESHES[1:], ids=str)
@pytest.mark.parametrize("scan_layers", [False, True])
def test_bytes_of_parameters_and_optimizer_fall_with_fsdp_and_tensor(sizes, scan_layers):
    mesh = sharding.make_mesh(config.Mesh(*sizes))
    state = training_step.describe(record_of(scan_layers=scan_layers), optax.adamw(1e-3), mesh).abstract
    for name in ("params", "ema", "optimizer"):
        leaves = jax.tree.leaves(state[name])
        whole = sum(math.prod(leaf.shape) for leaf in leaves)
        on_each = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
        # Scales, biases of positions and the smallest level's table are whole everywhere.
        np.testing.assert_allclose(on_each / whole, 1 / (sizes[1] * sizes[2]), rtol=0.15)


def test_large_tables_are_never_gathered(examples):
    record = record_of()
    _, after, _, compiled = one_step((1, 2, 4), record, optax.adamw(1e-3), examples)
    rows = after["params"]["embedding"].shape[0]
    assert after["params"]["embedding"].sharding.spec == PartitionSpec("tensor", "fsdp")
    gathered = [tuple(map(int, dims.split(","))) for dims in re.findall(r"= f32\[([\d,]+)\]\S* all-gather", compiled)]
    assert (rows // 4, 64) in gathered  # the width, for the look-up
    assert all(shape[0] < rows for shape in gathered)


def test_bfloat16_parameters_train_and_are_half_as_large(examples):
    record = record_of(parameters="bfloat16", compute="bfloat16")
    tx = optimizer.make(config.Training(steps=10, warmup_steps=0, learning_rate=1e-2), "bfloat16")
    mesh = sharding.make_mesh(config.Mesh(2, 2, 2))
    run = training_step.describe(record, tx, mesh)
    step, state = training_step.make_step(run, tx, config.Experiment()), training_step.start(run)
    losses = []
    with jax.set_mesh(mesh):
        for _ in range(8):
            state, metrics = step(state, sharding.put_rows(mesh, examples, ROWS))
            losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 1
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state["params"])} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state["ema"])} == {"float32"}


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((-1, 1, 1), (8, 1, 1)), ((-1, 2, 2), (2, 2, 2)), ((2, -1, 1), (2, 4, 1)), ((1, 1, 8), (1, 1, 8))],
)
def test_one_size_of_a_mesh_may_be_the_remaining_devices(sizes, shape):
    mesh = sharding.make_mesh(config.Mesh(*sizes))
    assert tuple(mesh.shape.values()) == shape and mesh.axis_names == ("data", "fsdp", "tensor")
    assert sharding.parts(mesh, "batch") == shape[0] * shape[1]


@pytest.mark.parametrize("sizes", [(3, -1, 1), (-1, -1, 1), (0, 1, 1), (4, 4, 1), (16, 1, 1), (-2, 1, 1)])
def test_meshes_that_do_not_fit_the_devices_are_refused(sizes):
    with pytest.raises(config.ConfigError, match=rf"mesh\.data={sizes[0]}"):
        sharding.make_mesh(config.Mesh(*sizes))


def test_devices_may_be_left_idle_when_all_sizes_are_given():
    assert sharding.make_mesh(config.Mesh(2, 1, 1)).size == 2


@pytest.mark.parametrize(
    ("sizes", "changes", "setting"),
    [
        ((1, 1, 8), dict(heads=4), "model.heads=4"),
        ((1, 8, 1), dict(width=36), "model.width=36"),
        ((1, 1, 4), dict(mlp=30), "model.mlp=30"),
    ],
)
def test_layers_that_cannot_be_sharded_evenly_are_refused_with_the_setting(sizes, changes, setting):
    mesh = sharding.make_mesh(config.Mesh(*sizes))
    with pytest.raises(config.ConfigError, match=setting):
        training_step.describe(record_of(**changes), optax.sgd(1.0), mesh)


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What a mesh reads of a device."""

    id: int
    slice_index: int
    platform: str = "gpu"
    device_kind: str = "NVIDIA L4"


def documented_meshes() -> list[tuple[str, list, int, dict[str, int], tuple[int, ...]]]:
    """Returns machines, devices, number of slices, sizes and result from the table of docs/clusters.md."""
    text = (Path(__file__).parents[1] / "docs" / "clusters.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*(?:slices?|nodes) .*) \| `(.*)` \| (\d+) x (\d+) x (\d+) \|$", text, re.MULTILINE)
    found = []
    for machines, mesh, *result in rows:
        count = int(machines.split()[0].replace("one", "1"))
        if topology := re.search("`(.*)`", machines):
            devices = list(topologies.slices(topology[1], count).devices)
        else:
            each = int(re.search(r"(\d+) GPUs", machines)[1])
            devices = [Gpu(number, number // each) for number in range(count * each)]
        sizes = {name: int(size) for name, size in re.findall(r"mesh\.(\w+)=(-?\d+)", mesh)}
        found.append((machines, devices, count, sizes, tuple(map(int, result))))
    return found


def test_the_table_of_meshes_is_that_of_the_documentation():
    assert [machines for machines, *_ in documented_meshes() if "GPU" in machines or "slices" in machines]
    for machines, devices, count, sizes, result in documented_meshes():
        mesh = sharding.make_mesh(config.Mesh(**sizes), devices)
        assert mesh.devices.shape == result, machines
        assert {id(device) for device in mesh.devices.flat} == {id(device) for device in devices}, machines
        for data, part in enumerate(mesh.devices):
            assert {sharding.slice_of(device) for device in part.flat} == {data * count // result[0]}, machines


@pytest.mark.parametrize("topology", ["v4:2x2x2", "v5e:4x4", "v5p:2x2x4", "v6e:4x4", "tpu7x:2x2x1"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_mesh_within_slices_starts_and_those_beyond_are_refused(topology, count):
    devices = topologies.slices(topology, count).devices
    powers = [2**n for n in range(10) if 2**n <= len(devices)]
    for fsdp, tensor in itertools.product(powers, powers):
        if len(devices) % (fsdp * tensor):
            continue
        cfg = config.Mesh(-1, fsdp, tensor)
        if len(devices) // count % (fsdp * tensor):
            with pytest.raises(config.ConfigError, match="slices.*mesh.fsdp"):
                sharding.make_mesh(cfg, devices)
        else:
            mesh = sharding.make_mesh(cfg, devices)
            assert all(len({sharding.slice_of(one) for one in part.flat}) == 1 for part in mesh.devices)


def test_neighbors_along_an_axis_are_neighbors_on_the_torus():
    mesh = sharding.make_mesh(config.Mesh(-1, 4, 4), topologies.slices("v5e:4x4", 2).devices)
    for part in mesh.devices:
        for line in (*part, *part.T):
            first, *others = (np.array(device.coords) for device in line)
            differs = [int((first != other).sum()) for other in others]
            assert differs == [1] * 3  # along one dimension of the torus


def test_slices_of_different_sizes_are_refused():
    devices = [Gpu(number, number // 4) for number in range(6)]
    with pytest.raises(config.ConfigError, match="2 to 4 devices"):
        sharding.make_mesh(config.Mesh(), devices)


def test_devices_that_form_no_rectangle_may_be_left_idle():
    assert sharding.make_mesh(config.Mesh(3, 1, 1), topologies.slices("v5e:2x4").devices).size == 3


def test_rows_of_a_batch_are_fetched_as_they_were_put():
    mesh = sharding.make_mesh(config.Mesh(2, 2, 2))
    rows = np.arange(24).reshape(8, 3)
    np.testing.assert_array_equal(sharding.own_rows(mesh, 8), np.arange(8))  # one process has them all
    placed = sharding.put_rows(mesh, rows, 8)
    assert placed.addressable_shards[0].data.shape == (2, 3)
    np.testing.assert_array_equal(sharding.fetch(placed), rows)


def test_dimensions_that_do_not_divide_are_replicated():
    mesh = sharding.make_mesh(config.Mesh(1, 2, 4))
    state = sharding.with_shardings({"x": jax.ShapeDtypeStruct((6, 7), np.float32)}, mesh)
    assert state["x"].sharding.spec == PartitionSpec()
    record = record_of()
    abstract = training_step.describe(record, optax.sgd(1.0), mesh).abstract["params"]
    sizes = {level: abstract["output"][level].get_raw_value().sharding.spec for level in range(len(SIZES))}
    assert sizes[0] == PartitionSpec("tensor", "fsdp") and sizes[2] == PartitionSpec(None, "fsdp")


def test_constraints_do_nothing_without_a_mesh():
    x = np.ones((3, 5), np.float32)
    np.testing.assert_array_equal(jax.jit(lambda x: sharding.constrain(x, "batch", "mlp"))(x), x)


def test_every_rule_names_axes_of_the_mesh():
    for axes in sharding.RULES.values():
        assert axes is None or set((axes,) if isinstance(axes, str) else axes) <= set(sharding.AXES)
    assert math.prod(sharding.make_mesh(config.Mesh()).shape.values()) == jax.device_count()
