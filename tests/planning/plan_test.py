"""Plans: a tiny training and its search, compiled for TPU slices without a TPU; advice; meshes compared."""

import dataclasses
import json

import jax
import pytest

from genrec import config, sharding
from genrec.models import load, run_record
from genrec.planning import plan, topologies
from genrec.planning.plan import Figures
from genrec.planning.programs import Catalogue
from genrec.planning.topologies import GIB

CATALOGUE = Catalogue(2000, (64, 64, 16))
# Temporary bytes of the two programs below, by the versions that they were seen with.
RECORDED = {("0.10.2", "0.0.42.1"): {"training step": 11_402_240, "search": 5_082_112}}
KNOWN_CALLS = {"sort", "TopK"}  # operations without cycles; another one would be a kernel that the schedule cannot see


def tiny(mesh: config.Mesh, **training) -> config.Experiment:
    return config.Experiment(
        model=config.Model(
            width=32,
            encoder_layers=1,
            decoder_layers=1,
            heads=2,
            head_width=16,
            mlp=64,
            user_tokens=100,
            transition_bias=True,
        ),
        training=config.Training(**dict(max_history=4, row_targets=5, batch_targets=40) | training),
        evaluation=config.Evaluation(beams=8, batch=16, cutoffs=(1, 5)),
        mesh=mesh,
    )


@pytest.fixture(scope="module")
def two_slices() -> plan.Plan:
    """The step on two slices, with a transition bias and no dataset; the search on four."""
    experiment = tiny(config.Mesh(-1, 2, 2))
    step = plan.make(experiment, topologies.slices("v5e:2x2", 2), CATALOGUE, "step")
    search = plan.make(experiment, topologies.slices("v5e:2x2", 4), CATALOGUE, "decode")
    return dataclasses.replace(step, programs=[*step.programs, *search.programs])


def test_step_and_search_compile_and_take_no_more_memory_than_recorded(two_slices):
    recorded = RECORDED.get((two_slices.versions["jax"], two_slices.versions["libtpu"]), {})
    assert two_slices.fits and [one.name for one in two_slices.programs] == ["training step", "search"]
    for one in two_slices.programs:
        assert one.cycles > 0 and one.rate > 0
        assert set(one.without_cycles) <= KNOWN_CALLS
        assert one.memory["temporary"] <= 1.1 * recorded.get(one.name, one.memory["temporary"])


def test_gradients_cross_slices_and_parameters_are_gathered_within_one(two_slices):
    step, _ = two_slices.programs
    assert any(one.crosses_slices and one.bytes > step.memory["parameters"] for one in step.collectives)
    assert any(one.kind == "all-gather" and not one.crosses_slices for one in step.collectives)


def test_the_state_is_divided_by_fsdp_and_tensor_and_not_by_slices(two_slices):
    step, _ = two_slices.programs
    record = run_record.RunRecord.of(tiny(config.Mesh()), CATALOGUE.sizes, "", "")
    whole = sum(4 * leaf.size for leaf in jax.tree.leaves(load.model_of(record).abstract))
    assert 1 / 4 < step.memory["parameters"] / whole < 0.3
    assert step.memory["average"] == step.memory["parameters"]
    # Log-shares of the transitions for each target and code, in float32, shared by data and fsdp.
    assert step.memory["batch"] > 4 * step.units * sum(CATALOGUE.sizes) / 4


def test_a_plan_is_written_as_json_and_as_text(two_slices):
    read = json.loads(json.dumps(two_slices.as_json()))
    assert read["fits"] and read["slices"] == 2 and read["mesh"] == {"data": 2, "fsdp": 2, "tensor": 2}
    step = read["programs"][0]
    assert step["targets_per_second"] > 0 and step["bytes"] == sum(step["memory"].values())
    assert sum(step["by_kind"].values()) == step["cycles"] and len(step["dearest"]) == plan.DEAREST
    text = two_slices.as_text()
    assert "training step: fits" in text and "between slices" in text and "not a measurement" in text


def test_sizes_of_the_catalogue_are_those_of_the_flags_or_of_the_config():
    learned = config.Experiment(semantic_ids=config.SemanticIdLearning(codes=(32, 16), max_group=7))
    assert Catalogue.of(learned, 1000, 0, 0).sizes == (32, 16, 7)
    assert Catalogue.of(learned, 1000, 4, 256).sizes == (256,) * 4
    assert Catalogue.of(learned, 1000, 5, 0).sizes == (32,) * 5


def figures(fits: bool = True, state: float = 1, temporary: float = 1, units: float = 8192, **changes) -> Figures:
    memory = {"parameters": int(state * GIB), "optimizer": 0, "average": 0, "temporary": int(temporary * GIB)}
    return Figures("training step", fits, 16 * GIB, memory, 1.0, unit="targets", units=units, **changes)


@pytest.mark.parametrize(
    ("found", "model", "mesh", "advised"),
    [
        (figures(fits=False, state=20), {}, (8, 2, 1), "mesh.fsdp=4"),
        (figures(fits=False, state=20), {}, (1, 16, 1), "larger topology"),
        (figures(fits=False, temporary=20), {}, (16, 1, 1), "model.remat=True"),
        (figures(fits=False, temporary=20), {"remat": True}, (16, 1, 1), "training.accumulate=2"),
        (figures(), {"head_width": 64, "heads": 16}, (16, 1, 1), "8 heads of 128"),
        (figures(), {"width": 100}, (16, 1, 1), "model.width=100"),
        (figures(units=160), {}, (16, 1, 1), "training.batch_targets"),
        (figures(state=0.1), {}, (1, 16, 1), "mesh.fsdp=1"),
        (figures(cycles=100, by_kind={"copies into other layouts": 40}), {}, (16, 1, 1), "copies"),
        (figures(), {"remat": True}, (16, 1, 1), "model.remat=False saves"),
        (figures(), {"scan_layers": True, "encoder_layers": 12}, (16, 1, 1), "free: model.scan_layers=False"),
        (figures(), {"remat": True, "scan_layers": True, "decoder_layers": 12}, (16, 1, 1), "model.scan_layers=False"),
        (figures(without_cycles={"sort": 3}), {}, (16, 1, 1), "3 sort"),
    ],
)
def test_what_does_not_fit_or_is_wasteful_is_told_with_what_to_set(found, model, mesh, advised):
    experiment = config.Experiment(model=config.Model(**model), mesh=config.Mesh(*mesh))
    placed = sharding.make_mesh(experiment.mesh, topologies.slices("v5e:4x4").devices)
    assert any(advised in line for line in plan.advise(found, experiment, placed))


def test_a_plan_without_waste_gives_no_advice():
    model = config.Model(head_width=128, scan_layers=True, encoder_layers=4, decoder_layers=4)
    experiment = config.Experiment(model=model, mesh=config.Mesh())
    mesh = sharding.make_mesh(experiment.mesh, topologies.slices("v5e:4x4").devices)
    assert plan.advise(figures(state=5), experiment, mesh) == []


def test_meshes_that_fit_are_ranked_before_others_by_the_longer_of_computation_and_collectives():
    def planned(data: int, **changes) -> plan.Plan:
        mesh = {"data": data, "fsdp": 1, "tensor": 1}
        return plan.Plan("v5e:4x4", 1, mesh, {}, [figures(**changes)], [])

    plans = [
        planned(1, seconds=1.0, fits=False),
        planned(2, seconds=2.0, collective_seconds=9.0),
        planned(3, seconds=3.0),
    ]
    assert [one.mesh["data"] for one in plan.ranked(plans)] == [3, 2, 1]
    header, first, *_ = plan.ranking(plans).splitlines()
    assert "targets/s" in header and first.startswith("3 x 1 x 1")


@pytest.mark.parametrize("mesh", ["", "1", "1,2", "a,b,c", "1,2,3,4", "1, 2, 3"])
def test_a_mesh_is_three_numbers(mesh):
    with pytest.raises(topologies.PlanError, match="--mesh"):
        plan.with_mesh(config.Experiment(), mesh)
    assert plan.with_mesh(config.Experiment(), "-1,16,1").mesh == config.Mesh(-1, 16, 1)
