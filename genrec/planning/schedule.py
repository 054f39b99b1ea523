"""Cost of a compiled TPU program by the compiler's own schedule, read from its text (`compiled.as_text()`).

The TPU compiler notes `estimated_cycles` at each operation that it scheduled. Counted with the trip counts of the loops
around them, they add up to an estimate of a run on one core. It is the compiler's model, not a measurement:

* Collectives, copies between memories and sorts carry no cycles. The first two mostly overlap with computation.
* A loop whose condition compares with no constant is counted once.
"""

import dataclasses
import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_CONSTANT = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = [su]32\[\]\S* constant\((\d+)\)")
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_OPERATION = re.compile(r'op_name="([^"]*)"')
_FRAME = re.compile(r"stack_frame_id=(\d+)")

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_MOVES = {"copy", "transpose", "bitcast", "reshape", "parameter", "slice", "concatenate", "pad", "tuple", "constant"}
# Custom calls that only tell the compiler something, or are counted by what they start.
_ANNOTATIONS = (
    *("AssumeGather", "GatherScatterIndices", "ConcatBitcast", "Async", "Sharding", "AllocateBuffer"),
    *("SliceId", "ZeroCrop"),
)

PRODUCTS, ATTENTION, COPIES, SUMS, LOOK_UPS, ELEMENTS = (
    "matrix products",
    "attention products",
    "copies into other layouts",
    "sums and maxima",
    "look-ups",
    "element-wise",
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    text: str  # operands and attributes


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation that the compiler scheduled."""

    name: str
    kind: str
    cycles: int  # of all its runs in a run of the program
    runs: int
    shape: str
    operation: str  # as JAX names it
    source: str  # file:line of genrec; empty if the program has none


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collectives of one kind."""

    kind: str
    count: int
    bytes: int  # of their results, on one device
    crosses_slices: bool


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Cost of a program on one device."""

    operations: list[Operation]  # the dearest first
    collectives: list[Collective]
    without_cycles: dict[str, int]  # sorts and custom calls whose time the compiler does not tell -> their number

    @property
    def cycles(self) -> int:
        return sum(operation.cycles for operation in self.operations)

    def by_kind(self) -> dict[str, int]:
        """Returns the cycles of each kind of operation, the dearest first."""
        found: Counter[str] = Counter()
        for operation in self.operations:
            found[operation.kind] += operation.cycles
        return dict(found.most_common())


def read(text: str) -> Schedule:
    """Returns the schedule in the text of a program compiled for TPUs."""
    return _Program(text).schedule()


def bytes_of(shape: str) -> int:
    """Returns the bytes of the arrays in the text of a shape, without padding."""
    return sum(
        math.prod(int(size) for size in sizes.split(",") if size) * _bits(dtype) // 8
        for dtype, sizes in _ARRAY.findall(shape)
    )


def _bits(dtype: str) -> int:
    digits = re.search(r"\d+", dtype)
    return _BITS.get(dtype, int(digits[0]) if digits else 8)


class _Program:
    """The computations of a program by name."""

    def __init__(self, text: str):
        self._computations: dict[str, list[Instruction]] = {}
        self._names: dict[str, Instruction] = {}
        self._constants: dict[str, dict[str, int]] = defaultdict(dict)
        self._tables: dict[str, list[str]] = defaultdict(list)
        self._entry, name, table = "", "", ""
        for line in text.splitlines():
            if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
                table = line
            elif line[:1].isdigit() and table:
                self._tables[table].append(line.partition(" ")[2])
            elif match := _COMPUTATION.match(line):
                name, table = match[1], ""
                self._computations[name] = []
                self._entry = name if line.startswith("ENTRY") else self._entry
            elif name and (match := _INSTRUCTION.match(line)):
                instruction = Instruction(*match.groups())
                self._computations[name].append(instruction)
                self._names[instruction.name] = instruction
                if constant := _CONSTANT.match(line):
                    self._constants[name][instruction.name] = int(constant[1])

    def schedule(self) -> Schedule:
        operations: list[Operation] = []
        collectives: Counter[tuple[str, bool]] = Counter()
        moved: Counter[tuple[str, bool]] = Counter()
        untold: Counter[str] = Counter()
        for instruction, runs in self._run(self._entry, 1):
            cycles = _CYCLES.search(instruction.text)
            for inner in self._collectives(instruction):
                crosses = inner.opcode == "send"
                key = (inner.opcode.removesuffix("-start"), crosses)
                collectives[key] += runs
                # The state of one that has only started holds its operands, too.
                arrays = [bytes_of(array[0]) for array in re.finditer(_ARRAY, inner.shape)]
                moved[key] += runs * (max(arrays, default=0) if crosses or "-start" in inner.opcode else sum(arrays))
            if cycles:
                operations.append(self._operation(instruction, int(cycles[1]) * runs, runs))
            elif name := _untold(instruction):
                untold[name] += runs
        operations.sort(key=lambda operation: -operation.cycles)
        found = [
            Collective(kind, count, moved[kind, crosses], crosses) for (kind, crosses), count in collectives.items()
        ]
        return Schedule(operations, sorted(found, key=lambda one: -one.bytes), dict(untold))

    def _run(self, computation: str, runs: int) -> Iterator[tuple[Instruction, int]]:
        """Yields the instructions that run in a computation, and how often; those within a fusion count as one."""
        for instruction in self._computations.get(computation, ()):
            if instruction.opcode == "while":
                (body,) = _CALLED.findall(instruction.text)
                yield from self._run(body, runs * self._trips(instruction))
            elif instruction.opcode == "call":
                for called in _CALLED.findall(instruction.text):
                    yield from self._run(called, runs)
            elif instruction.opcode == "conditional":
                names = [
                    name
                    for both in _BRANCHES.findall(instruction.text)
                    for name in re.findall(r"[\w.\-]+", " ".join(both))
                ]
                branches = [list(self._run(name, runs)) for name in names]
                yield from max(branches, key=_cycles_of, default=[])
            else:
                yield instruction, runs

    def _trips(self, loop: Instruction) -> int:
        """Returns how often the body of a loop runs, from the comparison of its condition and the step of its counter.

        1 if its condition is none with a constant, as for a loop until something has converged.
        """
        condition, body = _CONDITION.search(loop.text), _CALLED.search(loop.text)
        assert condition and body
        found = re.search(r"%?([\w.\-]+), %?([\w.\-]+)\), direction=LT", self._text(condition[1]))
        limits = self._constants.get(condition[1], {})
        if found is None or found[2] not in limits:
            return max(limits.values(), default=1)  # the comparison is within a fusion
        index = self._index(condition[1], found[1])
        start = self._names.get(_operand(loop, 0))
        first = self._value(_operand(start, index)) if start else 0
        return max(1, -(-(limits[found[2]] - first) // self._step(body[1], index)))

    def _text(self, computation: str) -> str:
        return "\n".join(f"{one.opcode}({one.text}" for one in self._computations[computation])

    def _index(self, computation: str, name: str) -> int:
        """Returns which element of the loop's state an instruction of its condition is."""
        instruction = self._names.get(name)
        found = re.search(r"index=(\d+)", instruction.text) if instruction else None
        return int(found[1]) if found else 0

    def _step(self, body: str, index: int) -> int:
        """Returns what a run of a loop's body adds to an element of the loop's state."""
        last = self._computations[body][-1]
        added = self._names.get(_operand(last, index))
        if added is None or added.opcode != "add":
            return 1
        return max(self._value(_operand(added, number)) for number in (0, 1)) or 1

    def _value(self, name: str) -> int:
        """Returns the value of a constant, 0 for what is none."""
        instruction = self._names.get(name)
        while instruction and instruction.opcode in ("copy", "bitcast"):
            instruction = self._names.get(_operand(instruction, 0))
        found = re.match(r"(\d+)\)", instruction.text) if instruction and instruction.opcode == "constant" else None
        return int(found[1]) if found else 0

    def _inner(self, instruction: Instruction) -> list[Instruction]:
        """Returns an instruction and all within it."""
        found = [instruction]
        for outer in found:
            if outer.opcode in ("fusion", "async-start", "call", "custom-call"):
                for called in _CALLED.findall(outer.text):
                    found += self._computations.get(called, ())
        return found

    def _collectives(self, instruction: Instruction) -> list[Instruction]:
        return [
            inner
            for inner in self._inner(instruction)
            if inner.opcode.removesuffix("-start") in COLLECTIVES or inner.opcode == "send"
        ]

    def _operation(self, instruction: Instruction, cycles: int, runs: int) -> Operation:
        operation = _OPERATION.search(instruction.text)
        name = operation[1] if operation else ""
        return Operation(
            instruction.name,
            self._kind(instruction, name),
            cycles,
            runs,
            instruction.shape,
            name,
            self._source(instruction),
        )

    def _kind(self, instruction: Instruction, operation: str) -> str:
        opcodes = {inner.opcode for inner in self._inner(instruction)} - {"fusion"}
        if opcodes & {"convolution", "dot"}:
            return ATTENTION if re.search(r"b[dhkq]{3},b[dhkq]{3}->b", operation) else PRODUCTS
        if opcodes & {"gather", "scatter", "dynamic-slice", "dynamic-update-slice"}:
            return LOOK_UPS
        if opcodes & {"reduce", "reduce-window", "sort"}:
            return SUMS
        return COPIES if opcodes <= _MOVES else ELEMENTS

    def _source(self, instruction: Instruction) -> str:
        """Returns the innermost line of genrec that made an instruction."""
        frame = _FRAME.search(instruction.text)
        number, seen = int(frame[1]) if frame else 0, set[int]()
        while number and number not in seen:
            seen.add(number)
            location, parent = self._frames[number - 1]
            file, line = self._locations[location - 1]
            if "/genrec/" in file:
                return f"genrec/{file.rpartition('/genrec/')[2]}:{line}"
            number = parent
        return ""

    @functools.cached_property
    def _frames(self) -> Sequence[tuple[int, int]]:
        fields = [dict(re.findall(r"(\w+)=(\d+)", line)) for line in self._tables["StackFrames"]]
        return [(int(one["file_location_id"]), int(one.get("parent_frame_id", 0))) for one in fields]

    @functools.cached_property
    def _locations(self) -> Sequence[tuple[str, int]]:
        names = [line.strip('"') for line in self._tables["FileNames"]]
        fields = [dict(re.findall(r"(\w+)=(\d+)", line)) for line in self._tables["FileLocations"]]
        return [(names[int(one["file_name_id"]) - 1], int(one["line"])) for one in fields]


def _operand(instruction: Instruction, number: int) -> str:
    """Returns the name of an operand."""
    names = re.findall(r"%([\w.\-]+)", instruction.text.partition(")")[0])
    return names[number] if number < len(names) else ""


def _cycles_of(branch: Sequence[tuple[Instruction, int]]) -> int:
    found = ((_CYCLES.search(instruction.text), runs) for instruction, runs in branch)
    return sum(int(cycles[1]) * runs for cycles, runs in found if cycles)


def _untold(instruction: Instruction) -> str:
    """Returns the name of an operation that takes time which the compiler does not tell; empty for others."""
    if instruction.opcode == "sort":
        return "sort"
    target = _TARGET.search(instruction.text) if instruction.opcode == "custom-call" else None
    return target[1] if target and not target[1].startswith(_ANNOTATIONS) else ""
