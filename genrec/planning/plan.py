"""Plan of a run on TPU slices: memory, time and traffic of its programs as the TPU compiler sees them, and advice.

Nothing here has run on a TPU. Times are those of the compiler's schedule, which leaves out collectives, waiting for
memory and sorts: the true ones are longer.
"""

import dataclasses
import importlib.metadata
import math
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from genrec import config, sharding, tables
from genrec.config import Experiment
from genrec.models import layers
from genrec.planning import programs, schedule
from genrec.planning.programs import Catalogue, Program
from genrec.planning.schedule import COPIES, Schedule
from genrec.planning.topologies import GIB, PlanError, Slices

WHAT = ("all", "step", "decode", "codes")
LANES = 128  # of a tile of TPU memory: the last dimension of arrays is padded to a multiple of it
DEAREST = 10
ROOMY, LOW, FEW_TARGETS = 0.25, 0.3, 512
MISSED = (
    "The compiler's schedule, not a measurement: no TPU has run this. It counts no time for collectives, which partly "
    "overlap with computation, nor for copies between memories."
)


@dataclasses.dataclass(frozen=True)
class Figures:
    """Memory, cycles and collectives of a compiled program, for one device."""

    name: str
    fits: bool
    chip_memory: int  # bytes
    memory: dict[str, int]  # bytes by part; with "temporary" and "code" if it was compiled
    compile_seconds: float
    problem: str = ""  # why it could not be compiled
    unit: str = ""
    units: float = 0
    cycles: int = 0
    seconds: float = 0
    collective_seconds: float = 0  # of those within a slice, if nothing overlapped
    utilization: float | None = None  # of the peak, by the operations that the model needs
    by_kind: dict[str, int] = dataclasses.field(default_factory=dict)  # cycles
    dearest: list[schedule.Operation] = dataclasses.field(default_factory=list)
    collectives: list[schedule.Collective] = dataclasses.field(default_factory=list)
    without_cycles: dict[str, int] = dataclasses.field(default_factory=dict)
    advice: list[str] = dataclasses.field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(self.memory.values())

    @property
    def rate(self) -> float:
        """Returns units per second by all devices, by the compiler's schedule."""
        return self.units / self.seconds if self.seconds else 0.0

    @property
    def bound(self) -> float:
        """Returns the seconds that computation or collectives need, whichever is more."""
        return max(self.seconds, self.collective_seconds)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Figures of all programs of a run."""

    topology: str
    slices: int
    mesh: dict[str, int]
    versions: dict[str, str]
    programs: list[Figures]
    notes: list[str]

    @property
    def fits(self) -> bool:
        return all(figures.fits for figures in self.programs)

    def as_json(self) -> dict[str, Any]:
        """Returns the plan as JSON."""
        derived = [
            {"bytes": one.bytes, f"{one.unit or 'units'}_per_second": one.rate, "bound_seconds": one.bound}
            for one in self.programs
        ]
        fields = dataclasses.asdict(self)
        fields["programs"] = [one | more for one, more in zip(fields["programs"], derived, strict=True)]
        return {"fits": self.fits, **fields}

    def as_text(self) -> str:
        """Returns the plan as text."""
        axes = " x ".join(f"{size} {axis}" for axis, size in self.mesh.items())
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        lines = [f"{self.slices} x {self.topology}, {axes} ({versions})"]
        for figures in self.programs:
            lines += ["", *_lines(figures)]
        return "\n".join([*lines, "", *self.notes])


def make(
    experiment: Experiment, slices: Slices, catalogue: Catalogue, what: str = "all", embedding_width: int = 0
) -> Plan:
    """Compiles the programs of a run for slices; raises ConfigError for a mesh that does not suit them."""
    mesh = sharding.make_mesh(experiment.mesh, slices.devices)
    planned: list[Program] = []
    if what in ("all", "step"):
        planned.append(programs.training_step(experiment, catalogue, mesh))
    if what in ("all", "decode"):
        planned.append(programs.search(experiment, catalogue, mesh))
    if what in ("all", "codes"):
        planned += programs.learning_of_codes(experiment, catalogue, mesh, embedding_width)
    found = []
    for program in planned:
        logging.info("compiling for %d x %s: %s", slices.count, slices.name, program.name)
        found.append(_figures(program, experiment, slices, mesh))
    return Plan(slices.name, slices.count, dict(mesh.shape), _versions(), found, _notes(experiment, what))


def with_mesh(experiment: Experiment, mesh: str | None) -> Experiment:
    """Returns the experiment on a mesh given as "data,fsdp,tensor"; raises PlanError for any other text."""
    if mesh is None:
        return experiment
    if not re.fullmatch(r"-?\d{1,6}(,-?\d{1,6}){2}", mesh):
        raise PlanError(f"--mesh={mesh}: give the sizes of {', '.join(sharding.AXES)}, such as -1,16,1")
    return dataclasses.replace(experiment, mesh=config.Mesh(*map(int, mesh.split(","))))


def compare_meshes(experiment: Experiment, slices: Slices, catalogue: Catalogue) -> Iterator[Plan]:
    """Yields the plan of the training step for each mesh that suits the model and whose state fits on a chip."""
    devices, state_fits = len(slices.devices), False
    for fsdp, tensor in _divisors(devices // slices.count):
        own = dataclasses.replace(experiment, mesh=config.Mesh(-1, fsdp, tensor))
        try:
            mesh = sharding.make_mesh(own.mesh, slices.devices)
            program = programs.training_step(own, catalogue, mesh)
        except config.ConfigError as problem:
            logging.info("fsdp %d, tensor %d: %s", fsdp, tensor, problem)
            continue
        if sum(program.memory.values()) > slices.chip.memory:
            logging.info("fsdp %d, tensor %d: the state alone does not fit", fsdp, tensor)
            continue
        state_fits = True
        figures = _figures(program, own, slices, mesh)
        yield Plan(slices.name, slices.count, dict(mesh.shape), _versions(), [figures], _notes(own, "step"))
    if not state_fits:
        raise PlanError(
            f"--topology={slices.name}: the state fits on no mesh of it. Take more chips, or a smaller model"
        )


def ranking(plans: Sequence[Plan]) -> str:
    """Returns a table of meshes, those that fit first, by the longer of computation and collectives."""
    rows = [
        [
            " x ".join(map(str, plan.mesh.values())),
            "yes" if plan.fits else "no",
            figures.bytes / GIB,
            1e3 * figures.seconds,
            1e3 * figures.collective_seconds,
            figures.units / figures.bound if figures.bound else None,
            figures.utilization,
        ]
        for plan in ranked(plans)
        for figures in plan.programs
    ]
    header = [
        "data x fsdp x tensor",
        "fits",
        "GiB a chip",
        "computation, ms",
        "collectives, ms",
        "targets/s",
        "utilization",
    ]
    return tables.text(rows, header, floats=["", "", ".2f", ".3f", ".3f", ",.0f", ".1%"], align="llr")


def ranked(plans: Sequence[Plan]) -> list[Plan]:
    """Returns the plans of one program each, the fastest first, then those that do not fit."""
    return sorted(plans, key=lambda plan: (not plan.fits, plan.programs[0].bound))


def _divisors(devices: int) -> list[tuple[int, int]]:
    """Returns the pairs of fsdp and tensor whose product divides a number of devices."""
    own = [size for size in range(1, devices + 1) if devices % size == 0]
    return [(fsdp, tensor) for tensor in own for fsdp in own if devices % (fsdp * tensor) == 0]


def _figures(program: Program, experiment: Experiment, slices: Slices, mesh: Mesh) -> Figures:
    chip, start = slices.chip, time.monotonic()
    try:
        compiled = program.lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        taken = time.monotonic() - start
        figures = Figures(program.name, False, chip.memory, program.memory, taken, str(error).splitlines()[0])
        return dataclasses.replace(figures, advice=advise(figures, experiment, mesh))
    taken, analysis, text = time.monotonic() - start, compiled.memory_analysis(), compiled.as_text()
    assert analysis is not None and text is not None  # as some backends have none, but not that of TPUs
    memory = program.memory | {
        "temporary": analysis.temp_size_in_bytes,
        "code": analysis.generated_code_size_in_bytes,
        "results": max(0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes),
    }
    costs: Schedule = schedule.read(text)
    seconds = costs.cycles / chip.clock
    moved = sum(one.bytes for one in costs.collectives if not one.crosses_slices)
    figures = Figures(
        program.name,
        sum(memory.values()) <= chip.memory,
        chip.memory,
        memory,
        taken,
        unit=program.unit,
        units=program.units,
        cycles=costs.cycles,
        seconds=seconds,
        collective_seconds=moved / chip.interconnect,
        utilization=program.flops / (seconds * chip.peak_flops * mesh.size) if program.flops and seconds else None,
        by_kind=costs.by_kind(),
        dearest=costs.operations[:DEAREST],
        collectives=costs.collectives,
        without_cycles=costs.without_cycles,
    )
    return dataclasses.replace(figures, advice=advise(figures, experiment, mesh))


def advise(figures: Figures, experiment: Experiment, mesh: Mesh) -> list[str]:
    """Returns what to change where a program does not fit on a chip, or wastes it; a sentence each."""
    model, found = experiment.model, list[str]()
    is_step = "optimizer" in figures.memory
    state = sum(figures.memory.get(part, 0) for part in programs.STATE)
    if not figures.fits and not is_step:
        found.append("It does not fit: set a smaller evaluation.batch, or evaluation.beams.")
    elif not figures.fits:
        found.append(f"It does not fit: {_remedy(experiment, mesh, state, figures.chip_memory)}.")
    elif is_step and mesh.shape["fsdp"] > 1 and state * mesh.shape["fsdp"] < ROOMY * figures.chip_memory:
        found.append("The whole state fits on a chip many times over: mesh.fsdp=1 saves collectives.")
    if is_step and model.head_width % LANES and (full := model.heads * model.head_width // LANES):
        found.append(
            f"model.head_width={model.head_width} is padded to {_padded(model.head_width)} in attention: for a new "
            f"model take {full} heads of {LANES}."
        )
    for name in ("width", "mlp") if is_step else ():
        if getattr(model, name) % LANES:
            found.append(f"model.{name}={getattr(model, name)} is padded: take a multiple of {LANES}.")
    each = figures.units / sharding.parts(mesh, "batch")
    if is_step and figures.fits and figures.units and each < FEW_TARGETS:
        found.append(f"{each:.0f} targets on each part of the batch keep a chip idle: raise training.batch_targets.")
    if is_step and figures.fits and (off := _recomputation(model)) and figures.bytes < ROOMY * figures.chip_memory:
        found.append(f"Three quarters of the memory are free: {off} saves a quarter of the work.")
    if (copies := figures.by_kind.get(COPIES, 0)) > LOW / 2 * max(1, figures.cycles):
        found.append(f"{copies / figures.cycles:.0%} of the time are copies into other layouts.")
    if figures.without_cycles:
        names = ", ".join(f"{number} {name}" for name, number in figures.without_cycles.items())
        found.append(f"The compiler counts no time for {names}: the true time is longer.")
    return found


def _remedy(experiment: Experiment, mesh: Mesh, state: int, memory: int) -> str:
    sizes, model = mesh.shape, experiment.model
    if state > memory / 2 and sizes["data"] > len(sharding.slices(list(mesh.devices.flat))):
        return (
            f"the state takes {state / GIB:.1f} GiB of a chip's {memory / GIB:.0f}; set mesh.fsdp={2 * sizes['fsdp']}"
        )
    if state > memory / 2:
        return f"the state takes {state / GIB:.1f} GiB of a chip's {memory / GIB:.0f}; take a larger topology"
    if not model.remat:
        return "set model.remat=True, with model.scan_layers=True"
    return f"set training.accumulate={2 * experiment.training.accumulate}"


def _recomputation(model: config.Model) -> str:
    """Returns how to keep the activations of layers for the gradients; empty if they are kept."""
    deep = max(model.encoder_layers, model.decoder_layers) > layers.UNROLLED
    causes = {"remat": model.remat, "scan_layers": model.scan_layers and deep}
    return " with ".join(f"model.{name}=False" for name, is_cause in causes.items() if is_cause)


def _padded(size: int) -> int:
    return math.ceil(size / LANES) * LANES


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}


def _notes(experiment: Experiment, what: str) -> list[str]:
    found = [MISSED]
    if what != "codes" and (experiment.prompts.columns or experiment.context.user_columns):
        found.append("Prompts and context are left out: their sizes are learned from data.")
    return found


def _lines(figures: Figures) -> list[str]:
    share = figures.bytes / figures.chip_memory
    parts = ", ".join(f"{name} {size / GIB:.3f}" for name, size in figures.memory.items())
    verdict = "fits" if figures.fits else "DOES NOT FIT"
    lines = [
        f"{figures.name}: {verdict}, {figures.bytes / GIB:.2f} GiB of {figures.chip_memory / GIB:.0f} on a chip "
        f"({share:.0%}), compiled in {figures.compile_seconds:.0f} s",
        f"  GiB: {parts}",
    ]
    if figures.problem:
        lines.append(f"  {figures.problem:.300}")
    if figures.cycles:
        used = "" if figures.utilization is None else f", {figures.utilization:.1%} of the peak"
        lines.append(
            f"  {figures.cycles / 1e6:.2f}M cycles, {figures.seconds * 1e3:.2f} ms, {figures.rate:,.0f} "
            f"{figures.unit}/s{used}"
        )
        kinds = (f"{name} {cycles / figures.cycles:.0%}" for name, cycles in figures.by_kind.items())
        lines.append(f"  by kind: {', '.join(kinds)}")
        rows = [[one.cycles / figures.cycles, one.runs, one.kind, one.source or one.name] for one in figures.dearest]
        table = tables.text(rows, ["share", "runs", "kind", "source"], floats=".1%", align="rrll")
        lines += [f"  {line}" for line in table.splitlines()]
    for one in figures.collectives:
        between = "between slices" if one.crosses_slices else "within a slice"
        lines.append(f"  {one.kind}: {one.count:,} with {one.bytes / 1e6:,.1f} MB a device, {between}")
    if figures.collective_seconds:
        lines.append(f"  collectives within a slice: {figures.collective_seconds * 1e3:.2f} ms, if nothing overlapped")
    return [*lines, *(f"  * {advice}" for advice in figures.advice)]
