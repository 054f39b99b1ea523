"""Runs several seeds of a config with its baselines and the multi-stage recommender, and writes one reproduction card.

    python launch/reproduce.py --config=configs/quickstart.py --workdir=runs/quickstart_card --seeds=3

Seed n is in WORKDIR/seed_n, with its own semantic IDs, model and SASRec. WORKDIR/card.md and card.json hold means,
deviations, differences with intervals, settings, fingerprints, commands and the machine. With --both_histories the same
models are also evaluated with the other evaluation.exclude_history. It can be stopped: the same command resumes it.
"""

import os
import shlex
import sys
from pathlib import Path

from absl import flags, logging
from etils import epath

from genrec import command, files, printing, script_flags, signals, workdir_lock
from genrec.evaluation import card, identity
from genrec.training import run_setup

_CONFIG = script_flags.define_config()
_WORKDIR = script_flags.define_path("workdir", "Folder for the seeds and the card.", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds: 0, 1, ...", lower_bound=1)
_BOTH = flags.DEFINE_bool("both_histories", False, "Evaluate with history items kept, and with them excluded.")

ROOT = Path(os.path.relpath(Path(__file__).parent.parent))
SCRIPTS = ("launch/prepare_data.py", "launch/train_sasrec.py", "launch/run.py", "tools/evaluate_multi_stage.py")
EVALUATIONS = ("tools/evaluate_checkpoint.py", "tools/evaluate_multi_stage.py")


def main() -> None:
    workdir, given = epath.Path(_WORKDIR.value), script_flags.given(leave_out=("workdir", "seeds", "both_histories"))
    run_setup.check(_CONFIG.value)
    run_setup.check_baseline(_CONFIG.value)
    identity.require_plain(_CONFIG.value.evaluation, "a reproduction card")
    folders = [workdir / f"seed_{seed}" for seed in range(_SEEDS.value)]
    commands, other = [], not _CONFIG.value.evaluation.exclude_history
    with workdir_lock.hold(workdir):
        for seed, folder in enumerate(folders):
            own = [f"--workdir={folder}", f"--config.seed={seed}", f"--config.semantic_ids.seed={seed}"]
            results_in = card.other_results(folder, other)
            again = [*own, f"--config.evaluation.exclude_history={other}", f"--results_in={results_in}"]
            runs = [(folder, script, own) for script in SCRIPTS]
            runs += [(results_in, script, again) for script in EVALUATIONS if _BOTH.value]
            for results, script, more in runs:
                arguments = [str(ROOT / script), *given, *more]
                commands.append(shlex.join(["python", *arguments]))
                if (done := results / f"{Path(script).stem}.done").exists() and done.read_text() == commands[-1]:
                    continue
                logging.info("%s", commands[-1])
                if code := signals.run_child([sys.executable, *arguments]):
                    sys.exit(code)  # the script has printed why
                files.write_text(done, commands[-1])
        printing.show(card.write(workdir, folders, _CONFIG.value, commands, _BOTH.value))


if __name__ == "__main__":
    command.run(main)
