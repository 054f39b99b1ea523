"""Imports the histories of a dataset's users into the store of a server, which starts without events.

    python tools/import_events.py --workdir=runs/streaming --store=sqlite:///runs/store.db
    python tools/import_events.py --workdir=runs/streaming --store=postgresql://genrec@db/genrec --targets

Run again after it was stopped, it goes on: no history is imported twice. With --targets, histories are whole, as a
server goes on from them; without, as tools/recommend.py has them, which keeps the last item of each back.
"""

from absl import flags
from etils import epath

from genrec import command, printing, script_flags
from genrec.data import splits
from genrec.data.dataset import Dataset
from genrec.serving.store.import_events import import_histories
from genrec.serving.store.store import Store

_WORKDIR = script_flags.define_path("workdir", "Work directory with the dataset.", required=True)
_STORE = flags.DEFINE_string("store", None, "URL of the store: sqlite:///PATH or postgresql://...", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", splits.NAMES, "Split of the users.")
_TARGETS = flags.DEFINE_bool("targets", False, "Import the targets of validation and test too.")


def main() -> None:
    dataset = Dataset(epath.Path(_WORKDIR.value) / "dataset")
    store = Store.open(_STORE.value)
    users, events = import_histories(dataset, _SPLIT.value, store, _TARGETS.value)
    store.close()
    printing.show(f"Imported {events:,} new events into histories of {users:,} users.")


if __name__ == "__main__":
    command.run(main)
