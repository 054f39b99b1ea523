"""Inputs of a training run: run record, tokenizer, training mixture, retriever for validation, initialization."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from genrec import artifacts, distributed, files, settings_check
from genrec.artifacts import ArtifactError
from genrec.config import ConfigError, Experiment
from genrec.data import dataset as datasets
from genrec.data.dataset import Catalogue, Dataset
from genrec.decoding import sorted_table
from genrec.decoding.exhaustive import ExhaustiveRetriever
from genrec.decoding.retrieval import Retriever
from genrec.evaluation.metrics import NAMES
from genrec.input_pipeline import context as contexts
from genrec.input_pipeline import item_histories, prompts, transitions
from genrec.input_pipeline.examples import Tokenizer
from genrec.input_pipeline.tasks import LOG_ONLY, Mixture
from genrec.input_pipeline.vocabulary import Vocabulary
from genrec.models import checkpoints, content_init, t5, user_context
from genrec.models.recommender import Recommender
from genrec.models.run_record import RunRecord
from genrec.ranking.popular import popularity
from genrec.semantic_ids import codes

WarmStart = Callable[[Recommender], None]  # changes the randomly initialized model before the first step


class RunSetup(NamedTuple):
    """Inputs of a training run."""

    experiment: Experiment  # its `model` and `training` are those of the trained model
    workdir: epath.Path  # of checkpoints and logs
    dataset: Dataset
    record: RunRecord
    tokenizer: Tokenizer
    make_retriever: Callable[[nnx.GraphDef, Mesh], Retriever | ExhaustiveRetriever]  # for validation
    mixture: Mixture = LOG_ONLY
    warm_start: WarmStart | None = None


def generator(experiment: Experiment, workdir: epath.Path) -> RunSetup:
    """Returns the setup of the generative recommender; for errors see `train.train`."""
    check(experiment)
    dataset = Dataset(workdir / "dataset")
    artifacts.require_input(workdir / "semantic_ids", codes.KIND, datasets.KIND, dataset.fingerprint)
    semantic_ids = codes.SemanticIds.load(workdir / "semantic_ids")
    record = record_of(experiment, semantic_ids, dataset, workdir)
    shares = record.code_shares(workdir, semantic_ids, dataset.fingerprint)
    tokenizer = record.tokenizer(semantic_ids, user_context.load(record, dataset, workdir), shares, dataset.catalogue)

    def make_retriever(graphdef: nnx.GraphDef, mesh: Mesh) -> Retriever:
        distributed.on_first(lambda: sorted_table.save(workdir, semantic_ids))
        table, cfg = sorted_table.load(workdir, semantic_ids), experiment.evaluation
        return Retriever.of_table(graphdef, table, cfg.beams, mesh, cfg.sharded_table)

    sampler = None
    if experiment.prompts.columns:
        sampler = prompts.PromptSampler(experiment.prompts, dataset.catalogue, popularity(dataset))
    item_codes = contexts.item_feature_codes(tokenizer.context, dataset.catalogue)
    mixture = Mixture(experiment.context, sampler, item_codes)
    setup = RunSetup(experiment, workdir, dataset, record, tokenizer, make_retriever, mixture)
    return setup._replace(warm_start=warm_start_of(setup, semantic_ids))


def baseline(experiment: Experiment, workdir: epath.Path) -> RunSetup:
    """Returns the setup of SASRec on the same dataset, with the settings `experiment.sasrec`."""
    check_baseline(experiment)
    model = dataclasses.replace(experiment.sasrec.model, decoder_layers=0)
    own = dataclasses.replace(experiment, model=model, training=experiment.sasrec.training)
    dataset = Dataset(workdir / "dataset")
    items = len(dataset.catalogue)
    record = RunRecord.of(own, (items,), semantic_ids="", dataset=dataset.fingerprint)
    # Its search is exhaustive, whatever the beams.
    validation = {name: value for name, value in record.validation.items() if name != "beams"}
    record = dataclasses.replace(record, kind="sasrec", validation=validation)

    def make_retriever(graphdef: nnx.GraphDef, mesh: Mesh) -> ExhaustiveRetriever:
        return ExhaustiveRetriever(graphdef, items, own.evaluation.beams, mesh)

    return RunSetup(own, workdir / checkpoints.SASREC, dataset, record, item_histories.tokenizer(items), make_retriever)


def check(experiment: Experiment) -> None:
    """Raises ConfigError for invalid settings of training, before any work."""
    settings_check.check(experiment)
    _check_best_metric(experiment)


def check_baseline(experiment: Experiment) -> None:
    """Raises ConfigError for invalid settings of the training of SASRec, before any work."""
    settings_check.check(experiment)
    _check_best_metric(dataclasses.replace(experiment, training=experiment.sasrec.training), "sasrec.training")


def _check_best_metric(experiment: Experiment, name: str = "training") -> None:
    """Raises ConfigError for a best_metric that validation does not compute."""
    metric, cutoffs = experiment.training.best_metric, experiment.evaluation.cutoffs
    known = [f"{name}@{cutoff}" for name in NAMES for cutoff in cutoffs if cutoff <= experiment.evaluation.beams]
    if metric not in known:
        raise ConfigError(f"{name}.best_metric={metric!r}: with these cutoffs and beams choose of {', '.join(known)}")


def check_resumable(experiment: Experiment, workdir: epath.Path) -> None:
    """Raises ArtifactError if the newest checkpoint of `workdir` was trained with other settings.

    Compares what is known without the data; `Checkpoints.resume` compares everything.
    """
    if not (steps := checkpoints.steps(workdir)):
        return
    with contextlib.closing(checkpoints.Checkpoints(workdir)) as store:
        try:
            earlier = store.record(max(steps))
        except ArtifactError:
            raise
        except Exception:  # Orbax raises any type for a damaged checkpoint, which the training puts aside
            return
        record = RunRecord.of(experiment, tuple(earlier.sizes), earlier.semantic_ids, earlier.dataset)
        learned = {name: getattr(earlier, name) for name in ("context", "prompts", "transitions", "dropped")}
        store.check_same_run(earlier, dataclasses.replace(record, **learned))


def record_of(
    experiment: Experiment, semantic_ids: codes.SemanticIds, dataset: Dataset, workdir: epath.PathLike
) -> RunRecord:
    """Returns the record of a new run, with the context and the vocabulary that are learned from the data.

    `workdir` has the item embeddings and SASRec, where the context needs them. Raises ConfigError for what is missing.
    """
    record = RunRecord.of(experiment, semantic_ids.sizes, semantic_ids.fingerprint, dataset.fingerprint)
    if experiment.model.transition_bias:
        folder = epath.Path(workdir) / transitions.FOLDER
        artifacts.require_input(folder, transitions.KIND, datasets.KIND, dataset.fingerprint)
        record.transitions = artifacts.read(folder, transitions.KIND).fingerprint
    cfg, embeddings, width, vector = experiment.context, user_context.embeddings_file(workdir), None, None
    if cfg.summary and embeddings.exists():
        width = files.array_shape(embeddings)[1]
    if cfg.sequential and checkpoints.steps(epath.Path(workdir) / checkpoints.SASREC):
        vector, _ = user_context.sasrec_encoder(workdir, cfg.soft_tokens)
    context = contexts.learn(cfg, dataset, width, vector)
    if context.names:
        record.context = context.as_json()
        record.dropped = {name: getattr(cfg, name) for name in ("dropout", "drop_all", "request_time_examples")}
    if experiment.prompts.columns:
        prompts.check(experiment.prompts, dataset.catalogue)
        # With lists in place of tuples, as in a record that was read from a checkpoint.
        settings = json.loads(json.dumps(dataclasses.asdict(experiment.prompts)))
        record.prompts = {**settings, **_vocabulary(experiment, dataset.catalogue)}
    return record


def _vocabulary(experiment: Experiment, catalogue: Catalogue) -> dict[str, Any]:
    """Returns the entries of `RunRecord.prompts` beside the settings."""
    cfg, columns = experiment.prompts, prompts.parse_columns(experiment.prompts.columns)
    if cfg.pretrained:
        pretrained = t5.read(cfg.pretrained)
        t5.check(experiment.model, pretrained)
        return {"model": Vocabulary(pretrained.words).as_text(), "rows": pretrained.pieces}  # all of them are trained
    if cfg.vocabulary:
        vocabulary = Vocabulary.read(cfg.vocabulary)
    else:
        vocabulary = Vocabulary.train(prompts.vocabulary_texts(catalogue, columns), cfg.pieces)
    trained = [vocabulary.encode(text) for text in prompts.training_texts(catalogue, columns)]
    return {"model": vocabulary.as_text(), "trained": np.unique(np.concatenate(trained)).tolist()}


def warm_start_of(setup: RunSetup, semantic_ids: codes.SemanticIds) -> WarmStart | None:
    """Returns the initialization from T5 or from item embeddings; None for a random one.

    Raises ArtifactError for embeddings that are missing or those of another dataset.
    """
    cfg, sampler = setup.experiment.prompts, setup.mixture.prompts
    if sampler is None or not (cfg.pretrained or cfg.from_content):
        return None
    if cfg.pretrained:
        return lambda model: t5.load_weights(model, t5.read(cfg.pretrained))
    file = user_context.embeddings_file(setup.workdir)
    artifacts.require_input(file.parent, file.parent.name, "dataset", setup.dataset.fingerprint)

    def initialize_from_content(model: Recommender) -> None:
        vocabulary = setup.tokenizer.vocabulary
        texts = [f"{title} {sampler.description(item)}" for item, title in enumerate(sampler.titles)]
        content = content_init.compute_content(
            files.load_array(file).astype(np.float32),
            semantic_ids,
            texts=[vocabulary.encode(text) for text in texts],
            pieces=len(vocabulary),
            width=setup.experiment.model.width,
            seed=setup.experiment.seed,
        )
        content_init.initialize(model, content)

    return initialize_from_content
