"""Exports a trained model as T5 v1.1: config.json, model.safetensors, spiece.model.

    python tools/export_t5.py --workdir=runs/streaming --output=runs/streaming/t5

Hugging Face transformers load the folder. docs/steering.md says which models can be exported.
"""

from absl import flags
from flax import nnx

from genrec import command, printing, script_flags
from genrec.models import load, t5

_WORKDIR = script_flags.define_path("workdir", "Work directory with the checkpoints.", required=True)
_OUTPUT = script_flags.define_path("output", "Folder for the exported model.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "Checkpoint: best (by validation metric), latest, or a step.")


def main() -> None:
    model = load.load(_WORKDIR.value, _CHECKPOINT.value)
    prompts = model.record.prompt_tokenizer
    words = prompts.vocabulary.model if prompts else b""
    places = t5.export(nnx.merge(model.graphdef, model.params), words, _OUTPUT.value)
    printing.show(
        f"wrote {_OUTPUT.value}; tokens: " + ", ".join(f"{name} from {first}" for name, first in places.items())
    )


if __name__ == "__main__":
    command.run(main)
