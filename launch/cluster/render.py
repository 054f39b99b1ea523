"""Renders a job for a cluster: a JobSet for GKE, a script for Cloud TPU VMs, a batch script for Slurm; or a server.

    python launch/cluster/render.py --target=gke --name=quickstart --workdir=gs://my-bucket/quickstart \
        --command='python launch/run.py --config=configs/quickstart.py' \
        --image=REGISTRY/genrec:tpu --accelerator=v5e --topology=4x4 --spot | kubectl create -f -
    python launch/cluster/render.py --target=tpu_vm --name=quickstart --workdir=gs://my-bucket/quickstart \
        --command='python launch/run.py --config=configs/quickstart.py' \
        --accelerator=v5e --topology=4x4 --zone=us-central1-a --spot --output=quickstart.sh
    python launch/cluster/render.py --target=slurm --name=quickstart --workdir=/shared/quickstart \
        --command='python launch/run.py --config=configs/quickstart.py' \
        --nodes=2 --gpus_per_node=8 --time_limit=12:00:00 --output=quickstart.sbatch

    python launch/cluster/render.py --target=serve --name=quickstart --image=REGISTRY/genrec-serve \
        --bundle=gs://my-bucket/quickstart/bundle --secret=quickstart | kubectl apply -f -

docs/clusters.md describes each job, from the bucket to the results, and docs/serving.md the server.
"""

import sys
from collections.abc import Callable

from absl import flags

from genrec import command, files, script_flags
from genrec.cluster import plan, targets

_TARGET = flags.DEFINE_enum("target", None, list(targets.TARGETS), "Target: what is rendered.", required=True)
_OUTPUT = script_flags.define_path("output", "File for what is rendered; by default it is printed.")
_PLAN = flags.DEFINE_bool("plan", False, "Compile the training for the TPUs first (minutes); refuse what does not fit.")
_DEFINE: dict[type, Callable[..., flags.FlagHolder]]
_DEFINE = {str: flags.DEFINE_string, int: flags.DEFINE_integer, bool: flags.DEFINE_bool}
_SETTINGS = {
    name: _DEFINE[setting.type](name, None, setting.description) for name, setting in targets.settings().items()
}


def main() -> None:
    given = {name: flag.value for name, flag in _SETTINGS.items() if flag.present}
    text = targets.render(_TARGET.value, given)
    if _PLAN.value:
        plan.check(targets.make(_TARGET.value, given))
    if _OUTPUT.value:
        files.write_text(_OUTPUT.value, text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    command.run(main)
