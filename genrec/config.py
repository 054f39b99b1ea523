"""Settings of an experiment: one dataclass per stage, without logic.

`configs/*.py` build an `Experiment`; scripts take one with `--config=configs/NAME.py[:variant]`, and single fields with
`--config.model.width=64`. Misspelled names and wrong types fail before any work starts.
"""

import dataclasses

from genrec.errors import GenrecError


class ConfigError(GenrecError):
    """Error in a setting. The message says which, and what is allowed."""


@dataclasses.dataclass
class SyntheticCatalogue:
    """Sizes and seed of the built-in streaming catalogue (genrec.data.sources.synthetic)."""

    items: int = 2000
    users: int = 4000
    seed: int = 0


@dataclasses.dataclass
class Data:
    """Stage `prepare`: raw files -> `dataset/`."""

    # "files": interactions, items and users in genrec's schema (CSV, JSONL or Parquet).
    # "synthetic": the built-in catalogue. "s3rec": a folder with sequences.txt and items.csv.
    # "mcauley": a folder with reviews_*_5.json.gz and meta_*.json.gz.
    source: str = "files"
    interactions: str = ""  # for "files": path, or a glob pattern such as logs/day-*.csv
    items: str = ""  # for "files": path
    users: str = ""  # for "files": path; optional
    folder: str = ""  # for "s3rec" and "mcauley"
    text_fields: tuple[str, ...] = ("title", "description")  # columns of the items whose texts are embedded
    event_types: tuple[str, ...] = ()  # event types to keep; empty keeps all
    min_rating: float = float("-inf")  # minimum rating of the interactions to keep
    k_core: int = 5  # minimum number of interactions of every user and every item; 0 or 1 filters nothing
    split: str = "leave_one_out"  # or "temporal": at two cut times, the same for all users
    validation_fraction: float = 0.1  # for "temporal": share of the interactions
    test_fraction: float = 0.1  # for "temporal": share of the interactions
    synthetic: SyntheticCatalogue = dataclasses.field(default_factory=SyntheticCatalogue)


@dataclasses.dataclass
class Embeddings:
    """Stage `embed`: catalogue -> `item_embeddings/`."""

    source: str = "tfidf"  # or "sentence_transformers", "vectors"
    width: int = 256  # dimensions of TF-IDF + truncated SVD; the other sources keep their own
    vectors: str = ""  # for "vectors": a .npy file in the order of the items file; empty takes the column `vector`
    sentence_model: str = "sentence-transformers/all-MiniLM-L6-v2"  # a name, or a local folder
    # Weight of the collaborative part of the embedding: truncated SVD of the positive pointwise mutual information of
    # items in the *training* split. 0 leaves the content part alone, as in the TIGER paper.
    cooccurrence_weight: float = 0.0
    cooccurrence_width: int = 64  # dimensions of the collaborative part


@dataclasses.dataclass
class SemanticIdLearning:
    """Stage `tokenize`: item embeddings -> `semantic_ids/`."""

    method: str = "residual_kmeans"  # or "rqvae"
    codes: tuple[int, ...] = (256, 256, 256)  # codebook size of each level; a level that resolves collisions is added
    seed: int = 0
    # RQ-VAE only.
    hidden: tuple[int, ...] = (512, 256, 128)  # widths of the encoder's hidden layers
    latent: int = 32  # width of the quantized vector
    commitment: float = 0.25  # weight of the commitment loss
    gradient: str = "straight_through"  # estimator of the gradient through the quantization; or "rotation"
    epochs: int = 100
    batch: int = 1024  # items per step
    learning_rate: float = 1e-3
    # Health gate: the stage fails, with advice, if a metric of the quality report is beyond its limit.
    min_usage: float = 0.5  # minimum share of a level's codes in use (of those that the catalogue could use)
    max_collision_rate: float = 0.6  # maximum share of items that share their learned codes with another item
    max_group: int = 256  # maximum number of items with equal learned codes, and of codes of the collision level


@dataclasses.dataclass
class Model:
    """T5-style encoder-decoder."""

    width: int = 128  # of the residual stream (d_model)
    encoder_layers: int = 4
    decoder_layers: int = 4
    heads: int = 6  # attention heads
    head_width: int = 64  # dimensions per head (d_kv)
    mlp: int = 1024  # hidden width of the MLP (d_ff)
    gated_mlp: bool = False  # gated GELU, as in T5 v1.1, instead of ReLU
    dropout: float = 0.1
    position_buckets: int = 32  # of the relative position bias
    position_max_distance: int = 128  # from which on all distances share a bucket
    # Relative position bias in cross-attention, by distance in items. The paper's model has none: a bidirectional
    # encoder can represent which item is the last; a causal one cannot.
    cross_position_bias: bool = True
    # Learned bias on the logits of codes that lead to items of the history: the model knows from the start how likely
    # repeat consumption is, instead of learning it item by item.
    repeat_bias: bool = False
    user_tokens: int = 2000  # hash buckets of user ids, one token each; 1 gives all users the same token
    compute: str = "float32"  # dtype of activations; or "bfloat16"
    # dtype of parameters; or "bfloat16", with compute in bfloat16 too: updates are then rounded stochastically, so that
    # small ones are not lost. Adam's second moments and the averaged weights stay float32.
    parameters: str = "float32"
    scan_layers: bool = False  # scan over stacked layers: deep models compile faster
    remat: bool = False  # recompute activations in the backward pass: less memory, a third more compute


@dataclasses.dataclass
class Context:
    """Conditioning inputs placed before the history: features of the user and of the request, each optional."""

    user_columns: tuple[str, ...] = ()  # columns of the users: text is categorical, numbers are bucketed
    item_columns: tuple[str, ...] = ()  # columns of the items, given for the target at request time, such as media_type
    time_of_day: bool = False  # UTC time of the request, in buckets of three hours
    buckets: int = 8  # maximum number of buckets of a number, by quantiles
    min_users: int = 5  # minimum frequency of a value; rarer values are unknown
    # Soft tokens: vectors that an adapter projects to `soft_tokens` embeddings each.
    vector: bool = False  # the column `vector` of the users
    summary: bool = False  # mean embedding of the items before the window, for histories longer than the window
    sequential: bool = False  # SASRec's encoding of the same items (run launch/train_sasrec.py first)
    soft_tokens: int = 2
    dropout: float = 0.15  # probability that a feature is dropped from a training segment
    drop_all: float = 0.2  # probability that all features are dropped
    request_time_examples: float = 0.3  # single-target segments with features of the target's time, per log segment


@dataclasses.dataclass
class Prompts:
    """Prompts and text-generation tasks, trained beside next-item prediction.

    Prompts are made from the catalogue by templates. `columns` gives each column its role, as in "media_type:kind":
    kind (music), mood (calm), about (a genre, a topic), by (an artist), words (of a title).
    """

    columns: tuple[str, ...] = ()  # COLUMN:ROLE; empty trains without prompts
    pieces: int = 2000  # maximum size of the SentencePiece vocabulary
    vocabulary: str = ""  # path of a SentencePiece model to use, such as T5's spiece.model; empty trains one
    pretrained: str = ""  # folder of a T5 v1.1 or Flan-T5 checkpoint to start from (genrec.models.t5)
    # Initializes embeddings of codes and pieces with the mean embedding of their items, not at random
    # (genrec.models.content_init).
    from_content: bool = False
    longest: int = 16  # maximum pieces of a prompt in training; six times as many in serving
    history: int = 8  # maximum items before a prompt in training
    examples: float = 1.25  # segments with prompts per log segment
    weight: float = 3.0  # loss weight of their targets, relative to those of log segments, which have many each
    # Mixing weights of the prompt tasks.
    next_item: float = 4.0  # history and a prompt for the next item -> the next item
    any_item: float = 4.0  # history and a prompt -> another matching item, sampled by popularity
    attributes: float = 1.0  # several attributes -> an item, without a history
    title: float = 3.0  # a title -> its item, without a history
    # Text generation: one example beside each row of a batch.
    texts: bool = False
    text_weight: float = 0.3  # loss weight of a piece, relative to a code
    longest_text: int = 32  # maximum pieces of a text
    # Mixing weights of the text-generation tasks.
    item_title: float = 2.0  # semantic ID -> title
    item_attributes: float = 1.0  # semantic ID -> attributes
    taste: float = 1.0  # history -> description of the taste
    # Columns whose mention in a prompt constrains the search: "no audiobooks" returns none.
    rules: tuple[str, ...] = ()


@dataclasses.dataclass
class Training:
    """Stage `train`: dataset + semantic IDs -> `checkpoints/`."""

    targets: str = "every"  # every item of a sequence in one pass; or "last": one target per example, as in the paper
    max_history: int = 20  # maximum items before a target
    row_targets: int = 24  # minimum targets of a packed row; up to twice as many where that leaves less padding
    batch_targets: int = 1024  # targets per step, padding included
    accumulate: int = 1  # gradient accumulation: parts of a batch, to save memory
    steps: int = 4000
    optimizer: str = "adamw"  # or "adafactor"
    learning_rate: float = 2e-3  # peak
    schedule: str = "cosine"  # decay after a linear warm-up; or "inverse_sqrt"
    warmup_steps: int = 400
    weight_decay: float = 0.05
    gradient_clip: float = 1.0  # maximum global norm
    ema: float = 0.999  # decay of the averaged weights, which are evaluated and served; 0 disables averaging
    validate_every: int = 500  # steps; each validation is followed by a checkpoint
    checkpoint_every: int = 0  # steps between additional checkpoints without validation; 0 disables them
    keep_best: int = 1  # number of best checkpoints to keep, by best_metric
    keep_latest: int = 2  # number of latest checkpoints to keep; the second one replaces a corrupt first
    validation_users: int = 4096  # maximum; 0 takes all
    patience: int = 0  # validations without improvement before early stopping; 0 disables it
    best_metric: str = "ndcg@10"
    log_every: int = 50  # steps
    profile_steps: int = 0  # steps to profile, into WORKDIR/profile; 0 disables the profiler
    peak_flops: float = 0.0  # FLOP/s of one device, for the utilization; 0 looks the device up
    stop_after: int = 0  # for tests: steps after which training stops as if interrupted; 0 disables it


@dataclasses.dataclass
class Mesh:
    """Sizes of the mesh axes (docs/scaling.md). One of them may be -1: the remaining devices."""

    data: int = -1  # data parallelism: shards of the batch, with replicated parameters
    fsdp: int = 1  # fully sharded data parallelism: shards of the batch and of the parameters
    tensor: int = 1  # tensor parallelism: shards of heads, MLP and rows of embedding tables


@dataclasses.dataclass
class Evaluation:
    """Stage `evaluate`: a checkpoint + a split -> `evaluation/`."""

    beams: int = 50  # width of the beam search
    # Maximum width: lists whose first `certify` items are not certified as the best are searched again, each time with
    # twice the beams; 0 keeps to `beams`. The shares of certified lists are reported in any case.
    max_beams: int = 0
    certify: int = 10
    sharded_table: bool = False  # shard the catalogue's index over mesh.tensor; the results stay the same
    batch: int = 256  # users per beam search
    cutoffs: tuple[int, ...] = (1, 5, 10, 20, 50)  # k of Recall@k and NDCG@k
    # Columns of items or users by which metrics are segmented, besides columns of few values, history length and
    # popularity of the target.
    segments: tuple[str, ...] = ()
    # Quota of items that are new to the model among the first k of each list, for every k
    # (genrec.decoding.new_item_quota); 0 ranks them by the model's scores.
    new_items_share: float = 0.0
    history: int = -1  # maximum items of the model's input history, 0 for none; -1 is the limit of the model
    withheld_features: tuple[str, ...] = ()  # features and soft tokens left out of the input; "all" for all of them
    request_time: bool = False  # give the model the request-time features of the target


@dataclasses.dataclass
class ItemKnn:
    """Baseline item-kNN (genrec.ranking.item_knn), fitted on the training split during evaluation."""

    neighbors: int = 300  # per item
    shrinkage: float = 10.0  # added to the denominator of the cosine similarity
    decay: float = 0.5  # weight of an item of the history, relative to the item after it


@dataclasses.dataclass
class SasRec:
    """Baseline SASRec (genrec.models.sasrec): dataset -> `sasrec/checkpoints/`.

    Ignores the settings of `model` for the decoder, user tokens and repeats.
    """

    model: Model = dataclasses.field(default_factory=lambda: Model(encoder_layers=2, mlp=256, dropout=0.4))
    training: Training = dataclasses.field(default_factory=lambda: Training(row_targets=24, batch_targets=1024))


@dataclasses.dataclass
class FinalScoring:
    """Last stage of the multi-stage recommender: business rules (genrec.ranking.scoring)."""

    exclude_history: bool = False  # never recommend items of the history
    filter: tuple[str, ...] = ()  # conditions on items, all of which must hold, as in tools/recommend.py --filter
    boosts: tuple[str, ...] = ()  # CONDITION:NUMBER to add to the scores, such as media_type=podcast:0.5
    max_share: float = 1.0  # maximum share of a list with equal values of the column `share_of`
    share_of: str = ""  # a column of the items
    new_items_share: float = 0.0  # quota of items that no training sequence contains


@dataclasses.dataclass
class MultiStage:
    """Multi-stage recommender: candidates of several sources, a ranker, final scores and rules."""

    sources: tuple[str, ...] = ("generator", "SASRec", "item-kNN")  # also "most popular"
    candidates: int = 50  # per source
    ranker: bool = True  # rank all candidates by SASRec and the features below; False leaves the sources' scores
    item_columns: tuple[str, ...] = ()  # columns of the items: similarity to the history, and context features
    user_columns: tuple[str, ...] = ()  # columns of the users: context features
    fit_users: int = 8192  # validation users to fit the weights on; 0 takes all
    weights: tuple[str, ...] = ()  # NAME=NUMBER of sources and of "ranker"; empty fits them
    scoring: FinalScoring = dataclasses.field(default_factory=FinalScoring)


@dataclasses.dataclass
class Experiment:
    """All settings of an experiment."""

    name: str = "experiment"
    seed: int = 0  # of initialization, data order, dropout and tasks
    data: Data = dataclasses.field(default_factory=Data)
    embeddings: Embeddings = dataclasses.field(default_factory=Embeddings)
    semantic_ids: SemanticIdLearning = dataclasses.field(default_factory=SemanticIdLearning)
    model: Model = dataclasses.field(default_factory=Model)
    context: Context = dataclasses.field(default_factory=Context)
    prompts: Prompts = dataclasses.field(default_factory=Prompts)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    training: Training = dataclasses.field(default_factory=Training)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)
    item_knn: ItemKnn = dataclasses.field(default_factory=ItemKnn)
    sasrec: SasRec = dataclasses.field(default_factory=SasRec)
    multi_stage: MultiStage = dataclasses.field(default_factory=MultiStage)
