"""What a run knows when it starts: what the model is told, which words it knows, and what is trained beside the log."""

import dataclasses

import numpy as np
from etils import epath

from genrec.config import Experiment
from genrec.data import context as contexts
from genrec.data import flat, wishes
from genrec.data.dataset import Dataset
from genrec.data.examples import Tokens
from genrec.data.tasks import Mixture
from genrec.data.vocabulary import Vocabulary
from genrec.models import saved, t5
from genrec.semantic_ids import codes


def record_of(
    experiment: Experiment, semantic_ids: codes.SemanticIds, dataset: Dataset, workdir: epath.PathLike
) -> saved.Record:
    """The record of a run that starts: what it is told, and the words that it knows, are learnt from the data.

    `workdir` has the item embeddings and SASRec, where the context needs them. Raises ConfigError for what is missing.
    """
    record = saved.Record.of(experiment, semantic_ids.sizes, semantic_ids.fingerprint, dataset.fingerprint)
    cfg, width, sasrec = experiment.wishes, None, None
    if experiment.context.summary and saved.embeddings_file(workdir).exists():
        width = codes.array_shape(saved.embeddings_file(workdir))[1]
    if experiment.context.sequential and saved.steps(epath.Path(workdir) / saved.SASREC):
        sasrec = saved.sequential_encoder(workdir)[:2]
    told = contexts.learn(experiment.context, dataset, width, sasrec)
    if told.names:
        record.context = told.as_json()
        record.dropped = {name: getattr(experiment.context, name) for name in ("dropout", "drop_all", "moments")}
    if cfg.columns:
        wishes.check(cfg, dataset.catalogue)
        rows = 0
        if cfg.pretrained:
            start = t5.read(cfg.pretrained)
            t5.check(experiment.model, start)
            vocabulary, rows = Vocabulary(start.words), start.pieces
        elif cfg.vocabulary:
            vocabulary = Vocabulary.read(cfg.vocabulary)
        else:
            columns = wishes.parse_columns(cfg.columns)
            vocabulary = Vocabulary.train(wishes.texts(dataset.catalogue, columns), cfg.pieces)
        fields = {name: list(x) if isinstance(x, tuple) else x for name, x in dataclasses.asdict(cfg).items()}
        record.wishes = {**fields, "model": vocabulary.as_text()}
        if rows:
            record.wishes["rows"] = rows  # all of them trained already
        else:
            said = wishes.spoken_in_training(dataset.catalogue, wishes.parse_columns(cfg.columns))
            record.wishes["trained"] = np.unique(np.concatenate([vocabulary.encode(t) for t in said])).tolist()
    return record


def mixture_of(experiment: Experiment, tokens: Tokens, dataset: Dataset) -> Mixture:
    """The tasks beside the log."""
    maker = None
    if experiment.wishes.columns:
        sequences = flat.load(dataset.split("train"), tokens)
        popularity = np.bincount(sequences.items, minlength=len(dataset.catalogue))
        maker = wishes.Wishes(experiment.wishes, dataset.catalogue, popularity)
    codes_of_items = contexts.item_codes(tokens.context, dataset.catalogue)
    return Mixture(experiment.context, experiment.wishes, maker, codes_of_items)
