"""Plans a training for TPU slices on any machine, without a TPU: what fits, how fast, and what to change.

    python tools/plan_training.py --config=configs/amazon_beauty.py --topology=v5e:4x4
    python tools/plan_training.py --config=configs/amazon_beauty.py --topology=v5e:4x4 --slices=2 --config.mesh.fsdp=16
    python tools/plan_training.py --config=configs/amazon_beauty.py --topology=v5e:4x4 --search
    python tools/plan_training.py --config=configs/amazon_beauty.py --topology=v5e:2x2 --what=decode --items=1000000 \
        --levels=8 --codes=2048

Needs the extra tpu. Compiling takes minutes for a large model. The figures are the compiler's, not measurements.
"""

import json

from absl import flags

from genrec import command, files, printing, script_flags
from genrec.planning import plan, programs, topologies

_CONFIG = script_flags.define_config()
_TOPOLOGY = flags.DEFINE_string("topology", None, "Topology of a slice, such as v5e:4x4.", required=True)
_SLICES = flags.DEFINE_integer("slices", 1, "Number of slices.", lower_bound=1)
_MESH = flags.DEFINE_string("mesh", None, "Sizes of data, fsdp and tensor, such as -1,16,1; short for --config.mesh.*")
_WHAT = flags.DEFINE_enum("what", "all", plan.WHAT, "Programs to compile; all: step, decode and codes.")
_SEARCH = flags.DEFINE_bool("search", False, "Compare the training step on all meshes of the slices, and rank them.")
_ITEMS = flags.DEFINE_integer("items", 12_000, "Items of the catalogue.", lower_bound=1000)
_LEVELS = flags.DEFINE_integer("levels", 0, "Levels of the semantic IDs; 0: as in the config.", lower_bound=0)
_CODES = flags.DEFINE_integer("codes", 0, "Codes per level; 0: as in the config.", lower_bound=0)
_WIDTH = flags.DEFINE_integer("embedding_width", 0, "Width of item embeddings; 0: as in the config.", lower_bound=0)
_OUTPUT = script_flags.define_path("output", "File for the plan as JSON.")


def main() -> None:
    experiment = plan.with_mesh(_CONFIG.value, _MESH.value)
    slices = topologies.slices(_TOPOLOGY.value, _SLICES.value)
    catalogue = programs.Catalogue.of(experiment, _ITEMS.value, _LEVELS.value, _CODES.value)
    if _SEARCH.value:
        plans = plan.ranked(list(plan.compare_meshes(experiment, slices, catalogue)))
        text, as_json = plan.ranking(plans), [one.as_json() for one in plans]
    else:
        made = plan.make(experiment, slices, catalogue, _WHAT.value, _WIDTH.value)
        text, as_json = made.as_text(), [made.as_json()]
    printing.show(text)
    if _OUTPUT.value:
        files.write_text(_OUTPUT.value, json.dumps(as_json, indent=1) + "\n")
    if not any(one["fits"] for one in as_json):
        raise topologies.PlanError(f"{_TOPOLOGY.value} is too small for this: see the plan for what to change")


if __name__ == "__main__":
    command.run(main)
