"""Run record of a checkpoint: the model, settings and inputs of the run, and its progress."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from genrec import config
from genrec.data.dataset import Catalogue
from genrec.input_pipeline.context import Context, UserFeatures
from genrec.input_pipeline.examples import NO_USER_FEATURES, Tokenizer
from genrec.input_pipeline.mentions import MentionFinder
from genrec.input_pipeline.prompts import parse_columns
from genrec.input_pipeline.tasks import TEXT_KINDS
from genrec.input_pipeline.transitions import CodeShares
from genrec.input_pipeline.vocabulary import PromptTokenizer, Vocabulary
from genrec.semantic_ids.codes import SemanticIds

if TYPE_CHECKING:
    from genrec.models.recommender import Conditioning

# Settings that a resumed run may change, since they do not affect the model.
CHANGEABLE = (
    "model.remat training.accumulate training.checkpoint_every training.keep_best training.keep_latest "
    "training.log_every training.peak_flops training.profile_steps training.stop_after"
).split()


@dataclasses.dataclass
class RunRecord:
    """Description of a run, stored as JSON in each of its checkpoints."""

    model: dict[str, Any]  # config.Model, of SASRec config.SasRecModel
    training: dict[str, Any]  # config.Training
    # `beams` and `exclude_history`: metrics at different values are not comparable.
    validation: dict[str, Any]
    sizes: list[int]  # codes per level
    semantic_ids: str  # fingerprint
    dataset: str  # fingerprint
    seed: int
    context: dict[str, Any] = dataclasses.field(default_factory=dict)  # input_pipeline.context.Context
    # config.Prompts, and: "model", the vocabulary; "trained", its pieces that occur in training; "rows", of the
    # embedding table of a pretrained T5, which may exceed the vocabulary. Empty if the model takes no prompts.
    prompts: dict[str, Any] = dataclasses.field(default_factory=dict)
    transitions: str = ""  # fingerprint; empty for a model without a transition bias
    dropped: dict[str, float] = dataclasses.field(default_factory=dict)  # dropout rates of the context
    kind: str = "generator"  # or "sasrec", which has one level, the items of the catalogue, and no semantic IDs
    validated: int = 0  # the last validated step
    validations_without_best: int = 0
    finished: bool = False

    @classmethod
    def of(cls, experiment: config.Experiment, sizes: tuple[int, ...], semantic_ids: str, dataset: str) -> "RunRecord":
        """Returns the record of a new run; `semantic_ids` and `dataset` are fingerprints."""
        return cls(
            model=dataclasses.asdict(experiment.model),
            training=dataclasses.asdict(experiment.training),
            validation={
                "beams": max(experiment.evaluation.beams, experiment.evaluation.max_beams),
                "exclude_history": experiment.evaluation.exclude_history,
            },
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
        """Returns whether the encoder is causal between items (`input_pipeline.examples`)."""
        return self.training["targets"] == "every"

    @property
    def conditioning(self) -> "Conditioning":
        """Returns the inputs and outputs of the model beside users and items."""
        from genrec.models.recommender import Conditioning  # here, as serving does without Flax

        prompts = self.prompt_tokenizer
        pieces = 0 if prompts is None else self.prompts.get("rows", len(prompts.vocabulary))
        kinds = TEXT_KINDS if self.prompts.get("texts") else 0
        return Conditioning(Context.from_json(self.context), pieces, kinds, len(self._mention_columns))

    @property
    def _mention_columns(self) -> list[tuple[str, str]]:
        """Returns the columns (name, role) whose values are found in prompts, for a prompt bias; [] without one."""
        columns = parse_columns(self.prompts["columns"]) if self.prompts.get("bias") else []
        return [(name, role) for name, role in columns if role != "words"]

    @property
    def prompt_tokenizer(self) -> PromptTokenizer | None:
        """Returns the tokenizer of prompts and texts; None for a model that takes no prompts."""
        if not self.prompts:
            return None
        vocabulary, trained = Vocabulary.from_text(self.prompts["model"]), None
        if "trained" in self.prompts:
            trained = np.zeros(len(vocabulary), bool)
            trained[self.prompts["trained"]] = True
        return PromptTokenizer(vocabulary, self.prompts["longest"], trained)

    def code_shares(self, workdir: epath.PathLike, semantic_ids: SemanticIds, dataset: str) -> CodeShares | None:
        """Returns what the transitions of a work directory say of codes; None for a model without a transition bias.

        They may be newer than the model: those of a grown dataset, whose fingerprint is `dataset`.
        """
        if not self.transitions:
            return None
        return CodeShares.load(workdir, semantic_ids.codes, semantic_ids.sizes, dataset)

    def tokenizer(
        self,
        semantic_ids: SemanticIds,
        user_features: UserFeatures = NO_USER_FEATURES,
        code_shares: CodeShares | None = None,
        catalogue: Catalogue | None = None,
    ) -> Tokenizer:
        """Returns the tokenizer of the model's inputs; `models.user_context` loads the features of users.

        A model with a prompt bias needs the catalogue. Raises DataError for columns that it does not have.
        """
        tokens, prompts, finder = semantic_ids.tokens(), self.prompt_tokenizer, None
        if self._mention_columns:
            assert catalogue is not None and prompts is not None, "a prompt bias needs the values of the catalogue"
            finder = MentionFinder(self._mention_columns, catalogue, prompts.vocabulary, tokens)
        return Tokenizer(
            tokens,
            first_user=semantic_ids.vocabulary,
            user_tokens=self.model["user_tokens"],
            user_features=user_features,
            prompt_tokenizer=prompts,
            code_shares=code_shares,
            mention_finder=finder,
        )

    def note_validation(self, step: int, is_best: bool) -> None:
        """Records a validation, after which the run is finished at its last step or when it is out of patience."""
        self.validated = step
        self.validations_without_best = 0 if is_best else self.validations_without_best + 1
        out_of_patience = 0 < self.training["patience"] <= self.validations_without_best
        self.finished = step == self.training["steps"] or out_of_patience

    def differences(self, other: "RunRecord") -> list[str]:
        """Returns the settings and inputs that prevent the run of `other` from resuming from this checkpoint."""

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
