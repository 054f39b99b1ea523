"""Writes a log of any size in Parquet, with its items, to measure preparation and the stages after it at scale.

    python tools/generate_log.py --output=logs/20m --rows=20000000 --users=200000 --items=100000 --files=16
    python launch/prepare_data.py --config=configs/quickstart.py --workdir=runs/20m \\
        --config.data.source=files --config.data.interactions='logs/20m/log-*.parquet' \\
        --config.data.items=logs/20m/items.parquet

The same flags give the same log on every machine. docs/preparation_at_scale.md has figures.
"""

from genrec import command, script_flags
from genrec.data.generated_logs import LogSize, generate

_OUTPUT = script_flags.define_path("output", "Folder for the files, which must be empty.", required=True)
_SIZE = script_flags.define_fields(LogSize)


def main() -> None:
    generate(_SIZE(), _OUTPUT.value)


if __name__ == "__main__":
    command.run(main)
