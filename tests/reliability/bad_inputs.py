"""Inputs that must be refused: settings, flags and files, each with the command that is given it."""

import dataclasses
import gzip
import io
import pickle
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet

from genrec import config

CONFIG = "--config=configs/quickstart.py:tiny"
EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny"
NEW = "NEW"  # as a work directory: one that does not exist
COPY = "COPY"  # as a work directory: a copy of a finished one

HUGE = str(10**30)  # of anything: more than 64 bits can count
BAD: dict[type, tuple[str, ...]] = {
    int: ("-1", "1.5", "many", HUGE),
    float: ("-1", "nan", "inf", "much"),
    bool: ("perhaps",),
}
# Settings of which -1 or infinity is a value like any other.
ALLOWED = {"data.min_rating=-1", "data.min_rating=inf", "evaluation.history=-1"}
ALLOWED |= {f"mesh.{axis}=-1" for axis in ("data", "fsdp", "tensor")}

CHOICES = (
    "data.source",
    "data.split",
    "embeddings.source",
    "semantic_ids.method",
    "semantic_ids.gradient",
    "model.compute",
    "model.parameters",
    "training.targets",
    "training.optimizer",
    "training.schedule",
    "training.best_metric",
)
OTHER_SETTINGS = (
    "training.best_metric=ndcg@7",
    "training.warmup_steps=1000",
    "training.steps=0",
    "training.batch_targets=0",
    "training.accumulate=0",
    "training.validate_every=0",
    "training.log_every=0",
    "training.max_history=0",
    "model.width=0",
    "model.dropout=1.5",
    "model.heads=0",
    "mesh.data=0",
    "mesh.data=-2",
    "mesh.data=64",
    "evaluation.cutoffs=()",
    "evaluation.cutoffs=(0,)",
    "evaluation.cutoffs=(-5,)",
    "evaluation.cutoffs=('ten',)",
    "evaluation.cutoffs=(20,)",  # the best metric is of the first ten
    "evaluation.beams=0",
    "evaluation.new_items_share=1.5",
    "semantic_ids.codes=()",
    "semantic_ids.codes=(0, 8)",
    "semantic_ids.codes=('many',)",
    "semantic_ids.hidden=(0,)",
    "data.validation_fraction=0.9",
    "data.synthetic.items=0",
    "context.dropout=2",
    "context.drop_all=-0.5",
    "multi_stage.sources=('magic',)",
    "multi_stage.scoring.max_share=0",
    "multi_stage.scoring.boosts=('loud',)",
    "multi_stage.weights=('ranker',)",
    "prompts.columns=('genre',)",
    "prompts.columns=('genre:smell',)",
)
# What only the data can tell.
COLUMNS = (
    "context.user_columns=('no_such_column',)",
    "context.item_columns=('no_such_column',)",
    "prompts.columns=('no_such_column:about',)",
    "evaluation.segments=('no_such_column',)",
    "evaluation.withheld_features=('no_such_feature',)",
)


class BadInput(NamedTuple):
    """A command that must be refused; its work directories are NEW and COPY."""

    command: tuple[str, ...]
    typed: str = ""


def numeric_settings(declared: type = config.Experiment, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yields name and type of all settings that are numbers or switches."""
    for name, kind in typing.get_type_hints(declared).items():
        if dataclasses.is_dataclass(kind):
            yield from numeric_settings(typing.cast(type, kind), f"{prefix}{name}.")
        elif kind in BAD:
            yield prefix + name, kind


def sections(declared: type = config.Experiment, prefix: str = "") -> Iterator[str]:
    """Yields the sections of the settings, such as "data." and "data.synthetic."."""
    yield prefix
    for name, kind in typing.get_type_hints(declared).items():
        if dataclasses.is_dataclass(kind):
            yield from sections(typing.cast(type, kind), f"{prefix}{name}.")


def settings() -> Iterator[BadInput]:
    """Yields wrong values of all numeric settings and switches, unknown choices, and misspelled names."""
    wrong = [f"{name}={bad}" for name, kind in numeric_settings() for bad in BAD[kind]]
    wrong = [setting for setting in wrong if setting not in ALLOWED]
    wrong += [f"{name}=nonsense" for name in CHOICES]
    wrong += [f"{section}misspeled=1" for section in sections()]
    wrong += OTHER_SETTINGS
    for setting in wrong:
        yield BadInput(("launch/run.py", CONFIG, f"--workdir={NEW}", f"--config.{setting}"))
    for setting in COLUMNS:
        yield BadInput(("launch/run.py", CONFIG, f"--workdir={COPY}", f"--config.{setting}"))


RECOMMEND = (
    "",
    "--users=-1",
    "--users=many",
    "--user=nobody",
    "--items=nothing",
    "--users=1 --split=train",
    "--users=1 --context=country",
    "--users=1 --context=nothing=1",
    "--users=1 --prompt=calm",
    "--users=1 --filter=media_type",
    "--users=1 --filter=nothing=1",
    "--users=1 --filter=release_time>=soon",
    "--users=1 --allow=nothing",
    "--users=1 --deny=nothing",
    "--users=1 --checkpoint=newest",
    "--users=1 --checkpoint=999",
    "--users=1 --checkpoint=-1",
    "--users=1 --checkpoints_of=/nowhere",
    "--users=1 --output=xml",
    "--users=1 --top=0",
    "--users=1 --top=-1",
    "--users=1 --beams=0",
    "--users=1 --max_beams=-1",
    "--users=1 --temperature=-1",
    "--users=1 --temperature=nan",
    "--users=1 --temperature=1 --top_p=0",
    "--users=1 --temperature=1 --top_p=nan",
    "--users=1 --max_share=0",
    "--users=1 --max_share=2",
    "--users=1 --max_share=0.5 --share_of=nothing",
    "--users=1 --guidance=-1",
    "--users=1 --guidance=nan",
    "--users=1 --seed=-1",
    "--users=1 --profile=/nowhere.json",
    "--users=1 --nothing=1",
    "--users=1 stray",
)
OTHER_TOOLS = (
    "tools/inspect_semantic_ids.py --prefix=a",
    "tools/inspect_semantic_ids.py --prefix=-1",
    "tools/inspect_semantic_ids.py --item=nothing",
    "tools/inspect_semantic_ids.py --limit=0",
    "tools/compare_runs.py",
    "tools/compare_runs.py --other=/nowhere",
    "tools/compare_runs.py --other=COPY --cutoffs=0",
    "tools/compare_runs.py --other=COPY --cutoffs=ten",
    "tools/compare_runs.py --other=COPY --cutoffs=1000",
    "tools/compare_runs.py --other=COPY --samples=0",
    "tools/compare_runs.py --other=COPY --split=train",
    "tools/report.py --split=train",
    "tools/report.py --split=validation",
    "tools/taste_profile.py",
    "tools/taste_profile.py --profile=COPY/new.json",
    "tools/taste_profile.py --profile=COPY/new.json --user=nobody",
    "tools/taste_profile.py --profile=COPY/new.json --delete",
    "tools/taste_profile.py --profile=COPY/new.json --export=COPY/copy.json --delete",
    "tools/check_profiles.py --beams=1",
    "tools/check_profiles.py --profiles=-1",
    "tools/taste_profile.py --profile=COPY/new.json --user=nobody --columns=nothing",
    "tools/hold_out_items.py",
    "tools/hold_out_items.py --output=COPY",
    "tools/hold_out_items.py --output=NEW --share=0",
    "tools/hold_out_items.py --output=NEW --share=1",
    "tools/hold_out_items.py --output=NEW --share=nan",
    "tools/hold_out_items.py --output=NEW --share=-0.5",
    "tools/hold_out_items.py --output=NEW --seed=-1",
    "tools/export_t5.py --output=NEW --checkpoint=newest",
    "tools/evaluate_prompts.py",
    "tools/evaluate_prompts.py --strengths=strong",
    "tools/evaluate_prompts.py --users=-1",
    "tools/evaluate_prompts.py --beams=1",
    "tools/evaluate_checkpoint.py",
    "tools/evaluate_checkpoint.py CONFIG --split=train",
    "tools/evaluate_checkpoint.py CONFIG --checkpoint=newest",
    "tools/evaluate_checkpoint.py CONFIG --checkpoints_of=/nowhere",
    "tools/evaluate_checkpoint.py CONFIG --watch --poll_seconds=0",
    "tools/evaluate_checkpoint.py CONFIG --watch --poll_seconds=nan",
    "tools/evaluate_multi_stage.py",
    "tools/evaluate_multi_stage.py CONFIG --checkpoint=newest",
    "tools/assign_semantic_ids.py CONFIG",
    "tools/assign_semantic_ids.py CONFIG --parent=COPY",
    "tools/assign_semantic_ids.py CONFIG --parent=/nowhere",
    "launch/prepare_data.py",
    "launch/prepare_data.py CONFIG --beam_runner=NoSuchRunner",
    "launch/embed_items.py",
    "launch/learn_semantic_ids.py",
    "launch/train_sasrec.py",
    "launch/train.py",
    "launch/train.py --config=",
    "launch/train.py --config=configs/missing.py",
    "launch/train.py --config=configs",
    "launch/train.py --config=README.md",
    "launch/train.py --config=configs/quickstart.py:tyni",
    "launch/train.py CONFIG --processes=2",
    "launch/run.py",
    "launch/run.py CONFIG --distributed=perhaps",
    "launch/run.py CONFIG --coordinator=nowhere --processes=-1 --process=0",
    "launch/reproduce.py",
    "launch/reproduce.py CONFIG --seeds=0",
)
NO_WORKDIR = tuple(
    f"{script} {flags}"
    for script in ("launch/train.py CONFIG", "tools/recommend.py --users=1", "tools/report.py")
    for flags in ("", "--workdir=", "--workdir=/nowhere", "--workdir=README.md")
)


def flags() -> Iterator[BadInput]:
    """Yields wrong flags of all scripts, on a work directory that is finished."""
    commands = [f"tools/recommend.py --workdir={COPY} {flags}" for flags in RECOMMEND]
    for line in OTHER_TOOLS:
        script, _, rest = line.partition(" ")
        commands.append(f"{script} --workdir={COPY} {rest}")
    commands += NO_WORKDIR
    for command in commands:
        yield BadInput(tuple(CONFIG if part == "CONFIG" else part for part in command.split()))


def _parquet(**columns: list) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def _changed(name: str, line: int, text: str) -> bytes:
    lines = (EXAMPLE / name).read_text().splitlines()
    lines[line] = text
    return "\n".join(lines).encode()


def _column_twice(table: bytes) -> bytes:
    header, *rows = table.splitlines()
    return b"\n".join([header + b"," + header.partition(b",")[0], *(row + b",1" for row in rows)])


def tables() -> Iterator[tuple[str, str, bytes]]:
    """Yields setting, file name and content of bad files of interactions, items and users."""
    log, items, users = ("interactions.csv", "items.csv", "users.csv")
    header = "user_id,item_id,timestamp,event_type,rating"
    good = (EXAMPLE / log).read_bytes()
    for setting in ("interactions", "items", "users"):
        content = (EXAMPLE / f"{setting}.csv").read_bytes()
        yield setting, "empty.csv", b""
        yield setting, "blank.csv", b"\n\n"
        yield setting, "binary.csv", bytes(range(256)) * 8
        yield setting, "not_utf8.csv", content.replace(b"1", b"\xff\xfe", 5)
        yield setting, "nul.csv", content.replace(b",", b"\0", 5)
        yield setting, "twice_a_column.csv", _column_twice(content)
        yield setting, "no_gzip.csv.gz", content
        yield setting, "truncated.csv.gz", gzip.compress(content)[:-20]
        yield setting, "no_parquet.parquet", content
        yield setting, "truncated.parquet", _parquet(user_id=["a"], item_id=["b"])[:-9]
        yield setting, "other_columns.parquet", _parquet(x=[1.0])
        yield setting, "float_ids.parquet", _parquet(user_id=[1.5], item_id=[2.5], timestamp=[1], title=["x"])
        yield setting, "no_json.jsonl", b"not JSON\n"
        yield setting, "list.jsonl", b"[1, 2]\n"
        yield setting, "mixed_types.jsonl", b'{"user_id": "a", "item_id": "b"}\n{"user_id": {"a": 1}, "item_id": []}\n'
        yield setting, "unknown.format", content
        yield setting, "unclosed_quote.csv", content + b'"open,\n'
    for text in (
        "003,p-005",
        "003,p-005,yesterday,play,3",
        "003,p-005,nan,play,3",
        "003,p-005,1e400,play,3",
        "003,p-005,9999999999999999999999,play,3",
        "003,p-005,1709299560000,play,3",
        "003,nothing,2024-03-01T13:26:00Z,play,3",
        ",p-005,2024-03-01T13:26:00Z,play,3",
        "003,,2024-03-01T13:26:00Z,play,3",
        "003,p-005,2024-03-01T13:26:00Z,play,good",
        "003,p-005,2024-03-01T13:26:00Z,play,3," + "x" * 1_000_000,
    ):
        yield "interactions", "row.csv", _changed(log, 1, text)
    yield "interactions", "no_timestamp.csv", good.replace(b"timestamp", b"time", 1)
    yield "interactions", "header_alone.csv", header.encode()
    yield "items", "twice.csv", _changed(items, 2, "m-001,Twice,Twice,music,folk")
    yield "items", "no_text.csv", _changed(items, 1, "m-001,,,music,folk")
    yield "items", "no_id.csv", _changed(items, 1, ",Title,Text,music,folk")
    yield "users", "twice.csv", _changed(users, 2, "001,GB,35-49")
    yield "users", "no_id.csv", _changed(users, 1, ",GB,35-49")


def _npy(array: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def vectors(items: int) -> Iterator[tuple[str, bytes]]:
    """Yields file name and content of files that do not hold a vector for each of so many items."""
    good = np.random.default_rng(0).normal(size=(items, 8)).astype(np.float32)
    packed = io.BytesIO()
    np.savez(packed, good)
    yield "one_more.npy", _npy(np.concatenate([good, good[:1]]))
    yield "one_less.npy", _npy(good[:-1])
    yield "truncated.npy", _npy(good)[:-40]
    yield "flat.npy", _npy(good[:, 0])
    yield "three_axes.npy", _npy(good[:, :, None])
    yield "no_columns.npy", _npy(good[:, :0])
    yield "nan.npy", _npy(np.where(good > 2, np.nan, good))
    yield "text.npy", _npy(good.astype(str))
    yield "objects.npy", _npy(good.astype(object), allow_pickle=True)
    yield "complex.npy", _npy(good.astype(np.complex64))
    yield "empty.npy", b""
    yield "garbage.npy", bytes(range(256)) * 4
    yield "packed.npz", packed.getvalue()
    yield "vectors.pt", pickle.dumps(good)


PROFILES = (
    b"",
    b"not JSON",
    b"[]",
    b"7",
    b"null",
    b"{}",
    b"\xff\xfe\x00",
    b'{"user": 7, "entries": []}',
    b'{"user": "u", "entries": 7}',
    b'{"user": "u", "entries": [7]}',
    b'{"user": "u", "entries": [{"kind": "likes"}]}',
    b'{"user": "u", "entries": [{"kind": "hates", "about": "genre=jazz", "since": "2024-01-31"}]}',
    b'{"user": "u", "entries": [{"kind": "likes", "about": "jazz", "since": "2024-01-31"}]}',
    b'{"user": "u", "entries": [{"kind": "likes", "about": 7, "since": "2024-01-31"}]}',
    b'{"user": "u", "entries": [{"kind": "likes", "about": "genre=jazz", "since": "soon"}]}',
    b'{"user": "u", "entries": [{"kind": "likes", "about": "genre=jazz", "since": 7}]}',
    b'{"user": "u", "entries": [{"kind": "blocked", "about": "nothing=jazz", "since": "2024-01-31"}]}',
    b'{"user": "u", "entries": [{"kind": "blocked", "about": "genre=nothing", "since": "2024-01-31"}]}',
    b'{"user": "u", "entries": [{"kind": "blocked", "about": "item=nothing", "since": "2024-01-31"}]}',
)
CONFIGS = (
    "",
    "def get_config(",
    "raise ValueError('no')",
    "def get_config():\n    raise ValueError('no')",
    "def get_config():\n    return 7",
    "import nothing_of_this_name",
)


def files(folder: Path, items: int) -> Iterator[BadInput]:
    """Writes bad files into `folder` and yields the commands that read them; `items` is the number of those of COPY."""
    prepare = ["launch/prepare_data.py", CONFIG, f"--workdir={NEW}", "--config.data.source=files"]
    for number, (setting, name, content) in enumerate(tables()):
        path = _write(folder / str(number) / name, content)
        given = {kind: EXAMPLE / f"{kind}.csv" for kind in ("interactions", "items", "users")} | {setting: path}
        yield BadInput((*prepare, *(f"--config.data.{kind}={path}" for kind, path in given.items())))
    for setting in ("interactions", "items", "users"):
        for path in (folder, folder / "nothing.csv", folder / "nothing-*.csv"):
            given = {kind: EXAMPLE / f"{kind}.csv" for kind in ("interactions", "items")} | {setting: path}
            yield BadInput((*prepare, *(f"--config.data.{kind}={path}" for kind, path in given.items())))
    embed = ("launch/embed_items.py", CONFIG, f"--workdir={COPY}", "--config.embeddings.source=vectors")
    for name, content in vectors(items):
        yield BadInput((*embed, f"--config.embeddings.vectors={_write(folder / name, content)}"))
    yield BadInput((*embed, f"--config.embeddings.vectors={folder}"))
    for number, content in enumerate(PROFILES):
        path = _write(folder / f"profile_{number}.json", content)
        yield BadInput(("tools/recommend.py", f"--workdir={COPY}", "--users=1", f"--profile={path}"))
    for number, text in enumerate(CONFIGS):
        path = _write(folder / f"config_{number}.py", text.encode())
        yield BadInput(("launch/run.py", f"--config={path}", f"--workdir={NEW}"))


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
