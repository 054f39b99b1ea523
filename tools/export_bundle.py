"""Exports a trained model as a bundle for tools/serve.py: weights, compiled functions, catalogue and a card.

    python tools/export_bundle.py --workdir=runs/quickstart --output=runs/quickstart/bundle

With SASRec (launch/train_sasrec.py) the bundle has a ranker, with the weights of tools/evaluate_multi_stage.py if that
was run, and then the multi-stage recommender too. Item-kNN has the settings of the evaluation of the work directory.
Serving needs none of the libraries of training. docs/serving.md describes the folder and its use.
"""

from absl import flags

from genrec import command, printing, script_flags
from genrec.decoding import loaded_model
from genrec.semantic_ids import frozen
from genrec.serving import bundle, bundle_export

_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_OUTPUT = script_flags.define_path("output", "Folder for the bundle; replaces an earlier bundle.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "Checkpoint: best (by validation metric), latest, or a step.")
_CHECKPOINTS_OF = script_flags.define_path("checkpoints_of", "Folder of the checkpoints, if not --workdir.")
_OPTIONS = script_flags.define_fields(bundle_export.ExportOptions)


def main() -> None:
    options = _OPTIONS()
    loaded = loaded_model.load(_WORKDIR.value, _CHECKPOINT.value, checkpoints_of=_CHECKPOINTS_OF.value)
    codebooks = frozen.load(_WORKDIR.value, loaded.dataset)
    card = bundle_export.export(loaded, _WORKDIR.value, _OUTPUT.value, options, codebooks)
    size, ranker = sum(size for size, _ in card.files.values()), "a" if bundle.RANKER in card.files else "no"
    sources = ", ".join(name for name, file in bundle.SOURCES.items() if file in card.files) or "none"
    printing.show(
        f"wrote {_OUTPUT.value}: {card.items:,} items, {card.parameters:,} parameters, {len(card.files)} files, "
        f"{size / 2**20:.0f} MiB, {ranker} ranker, sources beside the generator: {sources}, "
        f"fingerprint {card.fingerprint}"
    )


if __name__ == "__main__":
    command.run(main)
