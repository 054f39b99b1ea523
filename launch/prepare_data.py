"""Stage `prepare`: interactions, items and users -> `WORKDIR/dataset`.

    python launch/prepare_data.py --config=configs/quickstart.py --workdir=/tmp/quickstart

With your own files (docs/bring_your_own_data.md):

    python launch/prepare_data.py --config=configs/quickstart.py --workdir=/tmp/tiny --config.data.source=files \
        --config.data.interactions=examples/tiny/interactions.csv --config.data.items=examples/tiny/items.csv \
        --config.data.k_core=2

On Apache Beam (docs/preparation_at_scale.md), in two processes:

    python launch/prepare_data.py --config=configs/quickstart.py --workdir=/tmp/quickstart --beam_runner=DirectRunner \
        --beam_options=--direct_num_workers=2 --beam_options=--direct_running_mode=multi_processing
"""

from absl import flags
from etils import epath

from genrec import command, distributed, script_flags, workdir_lock
from genrec.data.beam import runner as beam_runner
from genrec.data.prepare import prepare

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Work directory, for the results of all stages.", required=True)
_BEAM_RUNNER = flags.DEFINE_string("beam_runner", "", "Apache Beam runner, such as DirectRunner; empty for none.")
_BEAM_OPTIONS = flags.DEFINE_multi_string("beam_options", [], "Option of the runner, --NAME=VALUE; can be repeated.")


def main() -> None:
    runner = beam_runner.of_flags(_BEAM_RUNNER.value, _BEAM_OPTIONS.value)
    with workdir_lock.hold(_WORKDIR.value):
        distributed.on_first(lambda: prepare(_CONFIG.value.data, epath.Path(_WORKDIR.value) / "dataset", runner))


if __name__ == "__main__":
    command.run(main)
