"""Tries bad inputs, kills, damaged files and second writers on the real scripts, and prints a table of what happened.

    python tests/measure_reliability.py --output=docs/reliability.md

Everything happens in a temporary folder, with the `tiny` variant of configs/quickstart.py. Faults are described on
stderr, and make the exit code 1. `--only=inputs,kills,damages,writers` chooses parts.
"""

import argparse
import collections
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import conftest  # noqa: F401  the environment of the tests: CPU devices, quick compilations
import pyarrow.parquet
from forked_scripts import Script  # noqa: F401  starts the server before anything opens a thread
from reliability import bad_inputs, damages, kills, writers
from reliability.bad_inputs import COPY, NEW, BadInput
from reliability.scripts import CONFIG, STAGES, Ended, Folder, every
from tabulate import tabulate

BEGIN, END = "<!-- table of tests/measure_reliability.py -->", "<!-- end of the table -->"


class Row(NamedTuple):
    """A line of the table."""

    what: str
    tried: int
    good: int
    happened: str
    faults: list[str]


def bad_input_rows(folder: Folder) -> Iterable[Row]:
    items = pyarrow.parquet.read_metadata(folder.finished / "dataset" / "catalogue.parquet").num_rows
    for what, cases in (
        ("bad settings", bad_inputs.settings()),
        ("bad flags", bad_inputs.flags()),
        ("bad files", bad_inputs.files(folder.new(), items)),
    ):
        ends = every(functools.partial(refuse, folder), cases)
        count = collections.Counter(ended.verdict for ended in ends)
        happened = f"clear errors: {count['refused']}, tracebacks: {count['traceback']}, accepted: {count['accepted']}"
        happened += f", unclear: {count['unclear']}" * (count["unclear"] > 0)
        faults = [f"{ended.verdict}: {ended}" for ended in ends if ended.verdict != "refused"]
        yield Row(what, len(ends), count["refused"], happened, faults)


def refuse(folder: Folder, given: BadInput) -> Ended:
    """Runs a bad input. With bad settings, launch/run.py has accepted them when it writes a dataset."""
    command, new = given.command, folder.new()
    for name, path in ((NEW, lambda: new), (COPY, folder.copy)):
        if any(name in part for part in command):
            command = tuple(part.replace(name, str(path())) for part in command)
    watched = [new / "dataset", new / ".dataset.partial"] if given.command[0] == "launch/run.py" else []
    return folder.run(*command, until=lambda: any(path.exists() for path in watched))


def kill_rows(folder: Folder) -> Iterable[Row]:
    for stage, found in zip(kills.ALL, every(functools.partial(kills.try_stage, folder), kills.ALL), strict=True):
        happened = f"survived, with the same results: {found.survived}"
        yield Row(f"SIGKILL in stage `{stage.name}`", found.kills, found.survived, happened, found.faults)


def damage_rows(folder: Folder) -> Iterable[Row]:
    for what, cases, inflict in (
        ("artifact", damages.of_artifacts(folder), damages.damage_artifact),
        ("checkpoint", damages.of_checkpoints(folder), damages.damage_checkpoint),
    ):
        outcomes = every(functools.partial(inflict, folder), cases)
        for kind in damages.KINDS:
            found = [outcome for damage, outcome in zip(cases, outcomes, strict=True) if damage.kind == kind]
            count = collections.Counter(outcome.verdict for outcome in found)
            happened = ", ".join(f"{verdict}: {number}" for verdict, number in sorted(count.items()))
            faults = [f"{o.verdict}: {o.description}" for o in found if o.verdict not in ("named", "healed")]
            yield Row(f"file of {what} {kind}", len(found), len(found) - len(faults), happened, faults)


def writer_rows(folder: Folder) -> Iterable[Row]:
    found = every(functools.partial(writers.second_writer, folder), writers.WRITERS)
    good = sum(refused for refused, _ in found)
    faults = [description for refused, description in found if not refused]
    yield Row("two writers in one work directory", len(found), good, f"second refused: {good}", faults)


PARTS: dict[str, Callable[[Folder], Iterable[Row]]] = {
    "inputs": bad_input_rows,
    "kills": kill_rows,
    "damages": damage_rows,
    "writers": writer_rows,
}


def prepare(folder: Folder) -> None:
    """Makes the work directories that are copied for every try: one finished, one whose training was interrupted."""
    for script in ("launch/run.py", "launch/train_sasrec.py", "tools/evaluate_multi_stage.py"):
        ended = folder.run(script, CONFIG, f"--workdir={folder.finished}", seconds=300)
        assert ended.code == 0, ended
    folder.recommendations = folder.run(*damages.READ, f"--workdir={folder.finished}").output
    assert folder.recommendations
    folder.copy(parts=STAGES).rename(folder.interrupted)
    stop = ("--config.training.checkpoint_every=5", "--config.training.stop_after=17")
    ended = folder.run("launch/train.py", CONFIG, f"--workdir={folder.interrupted}", *stop)
    assert ended.code == 0, ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="Markdown file whose table, between two comments, is replaced")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to try, separated by commas")
    arguments = parser.parse_args()
    rows = []
    with Folder.temporary() as folder:
        prepare(folder)
        for part in arguments.only.split(","):
            for row in PARTS[part](folder):
                print(f"{row.what}: {row.good} of {row.tried} ({row.happened})", file=sys.stderr, flush=True)
                for fault in row.faults:
                    print(f"  {fault}", file=sys.stderr, flush=True)
                rows.append(row)
    lines = [(row.what, row.tried, row.happened) for row in rows]
    table = tabulate(lines, headers=("what", "tried", "what happened"), tablefmt="github")
    print(table)
    if path := arguments.output:
        before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        path.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.exit(any(row.faults for row in rows))


if __name__ == "__main__":
    main()
