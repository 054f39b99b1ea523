"""The run record of a checkpoint: model, settings and inputs of the run, and its progress."""

import dataclasses
from typing import Any

import numpy as np

from genrec import config
from genrec.input_pipeline.context import Context, Users
from genrec.input_pipeline.examples import NO_USERS, Tokenizer
from genrec.input_pipeline.tasks import TEXT_KINDS
from genrec.input_pipeline.vocabulary import Vocabulary
from genrec.models.recommender import Conditioning
from genrec.semantic_ids.codes import SemanticIds

# Settings that a resumed run may change: they decide how it runs and what it keeps, not what it computes.
CHANGEABLE = (
    "model.remat",
    "training.accumulate",
    "training.checkpoint_every",
    "training.keep_best",
    "training.keep_latest",
    "training.log_every",
    "training.peak_flops",
    "training.profile_steps",
    "training.stop_after",
)


@dataclasses.dataclass
class RunRecord:
    """What a checkpoint says of its run."""

    model: dict[str, Any]  # config.Model
    training: dict[str, Any]  # config.Training
    validation: dict[str, Any]  # `beams`: metrics of other beams do not compare
    sizes: list[int]  # codes per level
    semantic_ids: str  # fingerprint
    dataset: str  # fingerprint
    seed: int
    context: dict[str, Any] = dataclasses.field(default_factory=dict)  # data.context.Context
    # config.Prompts; "model", the vocabulary of words; "trained", its pieces that training has; "rows", where a
    # language model has more of them. Empty where the model knows no words.
    prompts: dict[str, Any] = dataclasses.field(default_factory=dict)
    dropped: dict[str, float] = dataclasses.field(default_factory=dict)  # how often context is left out in training
    kind: str = "generator"  # or "sasrec", which has one level: the items of the catalogue, and no semantic IDs
    validated: int = 0  # the last step that was validated
    validations_without_best: int = 0
    finished: bool = False

    @classmethod
    def of(cls, experiment: config.Experiment, sizes: tuple[int, ...], semantic_ids: str, dataset: str) -> "RunRecord":
        """The record of a run that starts; `semantic_ids` and `dataset` are fingerprints."""
        return cls(
            model=dataclasses.asdict(experiment.model),
            training=dataclasses.asdict(experiment.training),
            validation={"beams": max(experiment.evaluation.beams, experiment.evaluation.max_beams)},
            sizes=list(sizes),
            semantic_ids=semantic_ids,
            dataset=dataset,
            seed=experiment.seed,
        )

    @property
    def max_history(self) -> int:
        return self.training["max_history"]

    @property
    def causal(self) -> bool:
        """Whether encoder inputs are causal between items (`data.examples`)."""
        return self.training["targets"] == "every"

    @property
    def conditioning(self) -> Conditioning:
        """What the model reads and writes beside users and items."""
        pieces = self.prompts.get("rows", len(self.vocabulary)) if self.prompts else 0
        return Conditioning(Context.from_json(self.context), pieces, TEXT_KINDS if self.prompts.get("texts") else 0)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Of prompts and texts; None where the model knows none."""
        return Vocabulary.from_text(self.prompts["model"]) if self.prompts else None

    def tokenizer(self, semantic_ids: SemanticIds, known: Users = NO_USERS) -> Tokenizer:
        """How this model's users and items become tokens; `known` is what it is told of users (models.known_users)."""
        words, longest, trained = self.vocabulary, self.prompts.get("longest", 0), None
        if "trained" in self.prompts:
            trained = np.zeros(len(words), bool)
            trained[self.prompts["trained"]] = True
        numbers = semantic_ids.vocabulary, self.model["user_tokens"]
        return Tokenizer(semantic_ids.tokens(), *numbers, known, words, longest, trained)

    def differences(self, other: "RunRecord") -> list[str]:
        """Why a run described by `other` cannot go on from this checkpoint."""

        def flat(record: RunRecord) -> dict[str, Any]:
            fields = dataclasses.asdict(record)
            for progress in ("validated", "validations_without_best", "finished"):
                del fields[progress]
            nested = {name: fields.pop(name) for name in ("model", "training", "validation", "prompts", "dropped")}
            for name, values in nested.items():
                fields |= {f"{name}.{key}": value for key, value in values.items()}
            return {name: value for name, value in fields.items() if name not in CHANGEABLE}

        mine, theirs = flat(self), flat(other)
        names = sorted(mine.keys() | theirs.keys())
        return [
            f"{name} was {mine.get(name)!s:.200}, is {theirs.get(name)!s:.200}"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]
