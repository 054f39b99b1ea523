"""What a run knows when it starts: what the model is told, which words it knows, and what is trained beside the log."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from genrec import artifacts, files
from genrec.config import ConfigError, Experiment
from genrec.data.dataset import Catalogue, Dataset
from genrec.input_pipeline import context as contexts
from genrec.input_pipeline import prompts
from genrec.input_pipeline.examples import Tokenizer
from genrec.input_pipeline.tasks import Mixture
from genrec.input_pipeline.vocabulary import Vocabulary
from genrec.models import checkpoints, content_init, run_record, t5, user_context
from genrec.models.recommender import Recommender
from genrec.ranking.popular import popularity
from genrec.semantic_ids import codes


def record_of(
    experiment: Experiment, semantic_ids: codes.SemanticIds, dataset: Dataset, workdir: epath.PathLike
) -> run_record.RunRecord:
    """The record of a run that starts: what it is told, and the words that it knows, are learned from the data.

    `workdir` has the item embeddings and SASRec, where the context needs them. Raises ConfigError for what is missing.
    """
    record = run_record.RunRecord.of(experiment, semantic_ids.sizes, semantic_ids.fingerprint, dataset.fingerprint)
    width, sasrec, embeddings = None, None, user_context.embeddings_file(workdir)
    if experiment.context.summary and embeddings.exists():
        width = files.array_shape(embeddings)[1]
    if experiment.context.sequential and checkpoints.steps(epath.Path(workdir) / checkpoints.SASREC):
        sasrec = user_context.sequential_encoder(workdir)[:2]
    learned = contexts.learn(experiment.context, dataset, width, sasrec)
    if learned.names:
        record.context = learned.as_json()
        record.dropped = {
            name: getattr(experiment.context, name) for name in ("dropout", "drop_all", "request_time_examples")
        }
    if experiment.prompts.columns:
        prompts.check(experiment.prompts, dataset.catalogue)
        # As they are read back: with lists for tuples.
        settings = json.loads(json.dumps(dataclasses.asdict(experiment.prompts)))
        record.prompts = {**settings, **_words(experiment, dataset.catalogue)}
    return record


def _words(experiment: Experiment, catalogue: Catalogue) -> dict[str, Any]:
    """What a record says of the vocabulary beside the settings."""
    cfg, columns = experiment.prompts, prompts.parse_columns(experiment.prompts.columns)
    if cfg.pretrained:
        start = t5.read(cfg.pretrained)
        t5.check(experiment.model, start)
        return {"model": Vocabulary(start.words).as_text(), "rows": start.pieces}  # all of them trained already
    if cfg.vocabulary:
        vocabulary = Vocabulary.read(cfg.vocabulary)
    else:
        vocabulary = Vocabulary.train(prompts.texts(catalogue, columns), cfg.pieces)
    said = [vocabulary.encode(text) for text in prompts.spoken_in_training(catalogue, columns)]
    return {"model": vocabulary.as_text(), "trained": np.unique(np.concatenate(said)).tolist()}


def mixture_of(experiment: Experiment, tokenizer: Tokenizer, dataset: Dataset) -> Mixture:
    """The tasks beside the log."""
    maker = None
    if experiment.prompts.columns:
        maker = prompts.PromptSampler(experiment.prompts, dataset.catalogue, popularity(dataset))
    codes_of_items = contexts.item_codes(tokenizer.context, dataset.catalogue)
    return Mixture(experiment.context, experiment.prompts, maker, codes_of_items)


def beginning_of(
    experiment: Experiment,
    semantic_ids: codes.SemanticIds,
    dataset: Dataset,
    tokenizer: Tokenizer,
    mixture: Mixture,
    workdir: epath.PathLike,
) -> Callable[[Recommender], None] | None:
    """What changes the model before its first step, where it does not start from what is drawn.

    Raises ConfigError where it is told to start from two things, ArtifactError where the item embeddings are missing or
    those of other items.
    """
    cfg = experiment.prompts
    if not cfg.columns or not (cfg.pretrained or cfg.from_content):
        return None
    if cfg.pretrained and cfg.from_content:
        raise ConfigError("prompts.pretrained and prompts.from_content are two ways to start: choose one of them")
    if cfg.pretrained:
        return lambda model: t5.start_from(model, t5.read(cfg.pretrained))
    file = user_context.embeddings_file(workdir)
    artifacts.require_input(file.parent, file.parent.name, "dataset", dataset.fingerprint)

    def start_from_content(model: Recommender) -> None:
        said = [f"{title} {mixture.maker.description(item)}" for item, title in enumerate(mixture.maker.titles)]
        texts = [tokenizer.vocabulary.encode(text) for text in said]
        numbers = len(tokenizer.vocabulary), experiment.model.width, experiment.seed
        vectors = files.load_array(file).astype(np.float32)
        content_init.start_from(model, content_init.summarize(vectors, semantic_ids, texts, *numbers))

    return start_from_content
