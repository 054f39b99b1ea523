"""Settings of an experiment: one dataclass per stage, without logic. Each field has its default, meaning and range.

`configs/*.py` build an `Experiment`; scripts take one with `--config=configs/NAME.py[:variant]`, and single fields with
`--config.model.width=64`. Misspelled names, wrong types and values out of range fail before any work starts
(genrec.settings_check). `--help` of a script shows all fields.
"""

import dataclasses
import math

from genrec.errors import GenrecError
from genrec.settings import PATH, setting

MANY = 2**16  # the most of what is held in memory many times, such as widths, or is numbered in 16 bits, such as codes
NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
DTYPES = ("float32", "bfloat16")
AUTO = ("auto",)
FOLDER_SOURCES = (  # public datasets (genrec.data.sources)
    "amazon_2018",
    "amazon_2023",
    "hetrec",
    "kuairand",
    "kuairec",
    "lastfm_1k",
    "lcrec",
    "lightgcn",
    "mcauley",
    "million_playlist",
    "mind",
    "movielens",
    "otto",
    "recbole",
    "s3rec",
    "steam",
    "yambda",
)


class ConfigError(GenrecError):
    """Error in a setting. The message says which, and what is allowed."""


@dataclasses.dataclass
class SyntheticCatalogue:
    """Sizes and seed of the built-in streaming catalogue (genrec.data.sources.synthetic)."""

    items: int = setting(2000, "items of the catalogue", at_least=100, at_most=10_000_000)
    users: int = setting(4000, "users of the log", at_least=10, at_most=100_000_000)
    seed: int = setting(0, "random seed", at_least=0)


@dataclasses.dataclass
class Data:
    """Stage `prepare`: raw files -> `dataset/`."""

    source: str = setting(
        "files",
        "files: interactions, items and users in genrec's schema (CSV, JSONL or Parquet); table: a log, as a file or a "
        "folder of files, which may hold the texts of its items; synthetic: the built-in catalogue; the others: a "
        "public dataset in a folder as it was downloaded (docs/data_sources.md)",
        choices=("files", "table", "synthetic", *FOLDER_SOURCES),
    )
    interactions: str = setting(
        "", "for files and table: path, or a glob pattern such as logs/day-*.csv; for table also a folder", text=PATH
    )
    items: str = setting("", "for files and table: path; optional for table", text=PATH)
    users: str = setting("", "for files and table: path; optional", text=PATH)
    folder: str = setting("", "for public datasets: the folder with their files", text=PATH)
    subset: str = setting(
        "",
        "for public datasets: which one, where the folder holds several, such as the beginning of its file names",
        text="a part of a file name",
    )
    text_fields: tuple[str, ...] = setting(
        AUTO,
        "columns of the items whose texts are embedded; auto: title and description, or those that a public dataset "
        "has; empty for items without texts",
        text="a column of the items",
    )
    columns: tuple[str, ...] = setting(
        (),
        "for files and table: NAME=COLUMN for each column that the files name otherwise, such as user_id=visitor",
        text="NAME=COLUMN, such as user_id=visitor",
        pattern=r"\s*[^=\s][^=]*=.*\S.*",
    )
    separator: str = setting(
        "",
        "for files and table: the character between the cells of a CSV file, or tab; empty recognizes commas, tabs, "
        "semicolons and pipes from the header",
        text="one character, or tab",
        pattern=r"|[^\n\r\"]|tab|\\t",
    )
    quoted: bool = setting(
        True,
        "for files and table: whether the cells of a CSV file may be in quotation marks; off where these are a part of "
        "the text, as in many files with tabs",
    )
    missing_values: tuple[str, ...] = setting(
        ("nan", "NaN", "NULL", "null", "None", "\\N", "<NA>", "NaT", "N/A", "n/a", "#N/A"),
        "for files and table: texts that stand for a missing value in any column, as empty cells do",
        text="a text",
    )
    time_unit: str = setting(
        "",
        "unit of the numbers in the column timestamp since 1970; empty recognizes it from the magnitude of all",
        choices=("", "s", "ms", "us", "ns"),
    )
    time_format: str = setting(
        "",
        "format of the times, as in Python's strptime, such as %Y%m%d for 20240531; UTC unless it has %z; empty reads "
        "numbers and ISO 8601",
        text="a format of strptime, such as %Y%m%d",
        pattern=r"|.*%.*",
    )
    types: tuple[str, ...] = setting(
        (),
        "COLUMN=TYPE of attributes of items and users: text, number, boolean or date; others are inferred",
        text="COLUMN=TYPE, a type of text, number, boolean, date",
        pattern=".+=(text|number|boolean|date)",
    )
    repeated: str = setting(
        "refuse",
        "rows that repeat the user, item, time and event type of an earlier one: refuse the log, drop them, or keep "
        "them as interactions of their own",
        choices=("refuse", "drop", "keep"),
    )
    event_types: tuple[str, ...] = setting((), "event types to keep; empty keeps all", text="an event type")
    min_rating: float = setting(
        -math.inf, "minimum rating of the interactions to keep", at_least=-math.inf, at_most=math.inf
    )
    k_core: int = setting(
        5, "minimum number of interactions of every user and every item; 0 or 1 filters nothing", at_least=0
    )
    split: str = setting(
        "leave_one_out",
        "temporal splits at two cut times, the same for all users",
        choices=("leave_one_out", "temporal"),
    )
    validation_fraction: float = setting(0.1, "for temporal: share of the interactions", above=0, below=1)
    test_fraction: float = setting(0.1, "for temporal: share of the interactions", above=0, below=1)
    memory_gb: float = setting(
        4.0,
        "for files: memory in GB (1e9 bytes) that the preparation may take beside the items and the ids of users; more "
        "is on disk, in the work directory. The dataset does not depend on it",
        at_least=0.1,
        at_most=1e6,
    )
    synthetic: SyntheticCatalogue = dataclasses.field(default_factory=SyntheticCatalogue)


@dataclasses.dataclass
class Embeddings:
    """Stage `embed`: catalogue -> `item_embeddings/`."""

    source: str = setting(
        "tfidf",
        "source of the content part; cooccurrence leaves it out, for items without texts and vectors: items that no "
        "training sequence has, new ones among them, then have no embedding",
        choices=("tfidf", "sentence_transformers", "vectors", "cooccurrence"),
    )
    width: int = setting(
        256, "dimensions of TF-IDF + truncated SVD; the other sources keep their own", at_least=1, at_most=MANY
    )
    vectors: str = setting(
        "", "for vectors: a .npy file in the order of the items file; empty takes the column vector", text=PATH
    )
    sentence_model: str = setting(
        "sentence-transformers/all-MiniLM-L6-v2", "for sentence_transformers: a name, or a local folder", text=PATH
    )
    cooccurrence_weight: float = setting(
        0.0,
        "weight of the collaborative part of the embedding: truncated SVD of the positive pointwise mutual information "
        "of items in the training split; 0 leaves the content part alone, as in the TIGER paper; without effect for "
        "the source cooccurrence",
        at_least=0,
    )
    cooccurrence_width: int = setting(64, "dimensions of the collaborative part", at_least=1, at_most=MANY)


@dataclasses.dataclass
class SemanticIdLearning:
    """Stage `tokenize`: item embeddings -> `semantic_ids/`."""

    method: str = setting(
        "residual_kmeans",
        "quantizer; given: codes that were learned elsewhere are read from a file, and pass the health gate",
        choices=("residual_kmeans", "rqvae", "given"),
    )
    given: str = setting(
        "", "for given: path of the .index.json of LC-Rec, LETTER or MiniOneRec, codes by item id", text=PATH
    )
    codes: tuple[int, ...] = setting(
        (256, 256, 256),
        "codebook size of each level; a level that resolves collisions is added",
        at_least=2,
        at_most=MANY,
        fewest=1,
    )
    fit_codes: bool = setting(
        False, "reduces the codes of a level, where the catalogue has fewer than eight items for each, to suit its size"
    )
    encoding_beams: int = setting(
        1,
        "code sequences kept for an item while it is encoded, level by level; 1 takes the nearest code at each level",
        at_least=1,
        at_most=1000,
    )
    seed: int = setting(0, "random seed", at_least=0)
    # RQ-VAE only.
    hidden: tuple[int, ...] = setting(
        (512, 256, 128), "rqvae: widths of the encoder's hidden layers", at_least=1, at_most=MANY
    )
    latent: int = setting(32, "rqvae: width of the quantized vector", at_least=1, at_most=MANY)
    commitment: float = setting(0.25, "rqvae: weight of the commitment loss", at_least=0)
    gradient: str = setting(
        "straight_through",
        "rqvae: estimator of the gradient through the quantization",
        choices=("straight_through", "rotation"),
    )
    epochs: int = setting(100, "rqvae: passes over the items", at_least=1)
    batch: int = setting(1024, "rqvae: items per step", at_least=1)
    learning_rate: float = setting(1e-3, "rqvae: learning rate at the first step", above=0, at_most=1000)
    # Health gate: the stage fails, with advice, if a metric of the quality report is beyond its limit.
    min_usage: float = setting(
        0.5,
        "health gate: minimum share of a level's codes in use (of those that the catalogue could use)",
        at_least=0,
        at_most=1,
    )
    max_collision_rate: float = setting(
        0.6,
        "health gate: maximum share of items that share their learned codes with another item",
        at_least=0,
        at_most=1,
    )
    max_group: int = setting(
        256,
        "health gate: maximum number of items with equal learned codes, and of codes of the collision level",
        at_least=1,
        at_most=MANY,
    )
    max_reconstruction_error: float = setting(
        0.9, "health gate: maximum share of the embeddings' variance that all levels together leave", above=0
    )


@dataclasses.dataclass
class Model:
    """T5-style encoder-decoder."""

    width: int = setting(128, "of the residual stream (d_model)", at_least=1, at_most=MANY)
    encoder_layers: int = setting(4, "layers of the encoder", at_least=1, at_most=1000)
    decoder_layers: int = setting(4, "layers of the decoder", at_least=1, at_most=1000)
    heads: int = setting(6, "attention heads", at_least=1, at_most=1000)
    head_width: int = setting(64, "dimensions per head (d_kv)", at_least=1, at_most=MANY)
    mlp: int = setting(1024, "hidden width of the MLP (d_ff)", at_least=1, at_most=2**20)
    gated_mlp: bool = setting(False, "gated GELU, as in T5 v1.1, instead of ReLU")
    dropout: float = setting(0.1, "dropout probability", at_least=0, below=1)
    position_buckets: int = setting(32, "buckets of the relative position bias", at_least=4, at_most=MANY)
    position_max_distance: int = setting(128, "from which on all distances share a bucket", at_least=3)
    cross_position_bias: bool = setting(
        True,
        "relative position bias in cross-attention, by distance in items. The paper's model has none: a bidirectional "
        "encoder can represent which item is the last; a causal one cannot",
    )
    repeat_bias: bool = setting(
        False,
        "learned bias on the logits of codes that lead to items of the history: the model knows from the start how "
        "likely repeat consumption is, instead of learning it item by item",
    )
    transition_bias: bool = setting(
        False,
        "adds to the logits of codes what sparse transitions and content say of them, with a learned weight: the "
        "network learns only what they do not know",
    )
    user_tokens: int = setting(
        2000, "hash buckets of user ids, one token each; 1 gives all users the same token", at_least=1, at_most=2**24
    )
    compute: str = setting("float32", "dtype of activations", choices=DTYPES)
    parameters: str = setting(
        "float32",
        "dtype of parameters; for bfloat16, with compute in bfloat16 too, updates are rounded stochastically, so that "
        "small ones are not lost. Adam's second moments and the averaged weights stay float32",
        choices=DTYPES,
    )
    scan_layers: bool = setting(
        False, "scan over stacked layers: deep models compile faster. On TPUs, more than four layers imply remat"
    )
    remat: bool = setting(False, "recompute activations in the backward pass: less memory, a third more compute")


@dataclasses.dataclass
class Context:
    """Conditioning inputs placed before the history: features of the user and of the request, each optional."""

    user_columns: tuple[str, ...] = setting(
        (), "columns of the users: text is categorical, numbers are bucketed", text="a column of the users"
    )
    item_columns: tuple[str, ...] = setting(
        (),
        "columns of the items, given for the target at request time, such as media_type",
        text="a column of the items",
    )
    time_of_day: bool = setting(False, "UTC time of the request, in buckets of three hours")
    buckets: int = setting(8, "maximum number of buckets of a number, by quantiles", at_least=2, at_most=MANY)
    min_users: int = setting(5, "minimum frequency of a value; rarer values are unknown", at_least=0)
    # Soft tokens: vectors that an adapter projects to `soft_tokens` embeddings each.
    vector: bool = setting(False, "soft tokens of the column vector of the users")
    summary: bool = setting(
        False, "soft tokens of the mean embedding of the items before the window, for histories longer than the window"
    )
    sequential: bool = setting(
        False, "soft tokens of SASRec's encoding of the same items (run launch/train_sasrec.py first)"
    )
    soft_tokens: int = setting(2, "soft tokens of each vector", at_least=1, at_most=1000)
    dropout: float = setting(
        0.15, "probability that a feature is dropped from a training segment", at_least=0, at_most=1
    )
    drop_all: float = setting(0.2, "probability that all features are dropped", at_least=0, at_most=1)
    request_time_examples: float = setting(
        0.3, "single-target segments with features of the target's time, per log segment", at_least=0, at_most=100
    )


@dataclasses.dataclass
class Prompts:
    """Prompts and text-generation tasks, trained beside next-item prediction.

    Prompts are made from the catalogue by templates. `columns` gives each column its role, as in "media_type:kind":
    kind (music), mood (calm), about (a genre, a topic), by (an artist), words (of a title).
    """

    columns: tuple[str, ...] = setting(
        (),
        "COLUMN:ROLE; empty trains without prompts",
        text="COLUMN:ROLE, a role of kind, mood, about, by, words",
        pattern=".+:(kind|mood|about|by|words)",
    )
    pieces: int = setting(2000, "maximum size of the SentencePiece vocabulary", at_least=1, at_most=2**20)
    vocabulary: str = setting(
        "", "path of a SentencePiece model to use, such as T5's spiece.model; empty trains one", text=PATH
    )
    pretrained: str = setting(
        "", "folder of a T5 v1.1 or Flan-T5 checkpoint to start from (genrec.models.t5)", text=PATH
    )
    from_content: bool = setting(
        False,
        "initializes embeddings of codes and pieces with the mean embedding of their items, not at random "
        "(genrec.models.content_init)",
    )
    bias: bool = setting(
        False,
        "adds to the logits of codes how many of their items have the values that a prompt names, with numbers learned "
        "from the words around them (genrec.models.prompt_bias)",
    )
    longest: int = setting(
        16, "maximum pieces of a prompt in training; six times as many in serving", at_least=1, at_most=MANY
    )
    history: int = setting(8, "maximum items before a prompt in training", at_least=0)
    examples: float = setting(1.25, "segments with prompts per log segment", at_least=0, at_most=100)
    weight: float = setting(
        3.0,
        "loss weight of their targets, relative to those of log segments, which have many each",
        at_least=0,
        at_most=1e6,
    )
    # Mixing weights of the prompt tasks.
    next_item: float = setting(
        4.0, "mixing weight: history and a prompt for the next item -> the next item", at_least=0, at_most=1e6
    )
    any_item: float = setting(
        4.0,
        "mixing weight: history and a prompt -> another matching item, sampled by popularity",
        at_least=0,
        at_most=1e6,
    )
    attributes: float = setting(
        1.0, "mixing weight: several attributes -> an item, without a history", at_least=0, at_most=1e6
    )
    title: float = setting(3.0, "mixing weight: a title -> its item, without a history", at_least=0, at_most=1e6)
    # Text generation: one example beside each row of a batch.
    texts: bool = setting(False, "train text generation, one example beside each row of a batch")
    text_weight: float = setting(0.3, "loss weight of a piece, relative to a code", at_least=0, at_most=1e6)
    longest_text: int = setting(32, "maximum pieces of a text", at_least=1, at_most=MANY)
    # Mixing weights of the text-generation tasks.
    item_title: float = setting(2.0, "mixing weight: semantic ID -> title", at_least=0, at_most=1e6)
    item_attributes: float = setting(1.0, "mixing weight: semantic ID -> attributes", at_least=0, at_most=1e6)
    taste: float = setting(1.0, "mixing weight: history -> description of the taste", at_least=0, at_most=1e6)
    rules: tuple[str, ...] = setting(
        (),
        'columns whose mention in a prompt constrains the search: "no audiobooks" returns none',
        text="a column of the items",
    )


@dataclasses.dataclass
class Training:
    """Stage `train`: dataset + semantic IDs -> `checkpoints/`."""

    targets: str = setting(
        "every",
        "every item of a sequence in one pass, or the last: one target per example, as in the paper",
        choices=("every", "last"),
    )
    max_history: int = setting(20, "maximum items before a target", at_least=1, at_most=10_000)
    row_targets: int = setting(
        24,
        "minimum targets of a packed row; up to twice as many where that leaves less padding",
        at_least=1,
        at_most=4096,
    )
    batch_targets: int = setting(1024, "targets per step, padding included", at_least=1)
    accumulate: int = setting(1, "gradient accumulation: parts of a batch, to save memory", at_least=1, at_most=MANY)
    steps: int = setting(4000, "training steps", at_least=1)
    optimizer: str = setting("adamw", "optimizer", choices=("adamw", "adafactor"))
    learning_rate: float = setting(2e-3, "peak of the learning rate", above=0, at_most=1000)
    schedule: str = setting("cosine", "decay after a linear warm-up", choices=("cosine", "inverse_sqrt"))
    warmup_steps: int = setting(400, "steps of the warm-up, fewer than steps", at_least=0)
    weight_decay: float = setting(0.05, "decoupled weight decay", at_least=0, at_most=1000)
    gradient_clip: float = setting(1.0, "maximum global norm; 0 disables clipping", at_least=0)
    ema: float = setting(
        0.999,
        "decay of the averaged weights, which are evaluated and served; 0 disables averaging",
        at_least=0,
        below=1,
    )
    validate_every: int = setting(500, "steps; each validation is followed by a checkpoint", at_least=1)
    checkpoint_every: int = setting(
        0, "steps between additional checkpoints without validation; 0 disables them", at_least=0
    )
    keep_best: int = setting(1, "number of best checkpoints to keep, by best_metric", at_least=1)
    keep_latest: int = setting(
        2, "number of latest checkpoints to keep; the second one replaces a corrupt first", at_least=1
    )
    validation_users: int = setting(4096, "maximum; 0 takes all", at_least=0)
    patience: int = setting(0, "validations without improvement before early stopping; 0 disables it", at_least=0)
    best_metric: str = setting(
        "ndcg@10",
        "validation metric of the best checkpoints, at one of evaluation.cutoffs",
        text="recall, ndcg or mrr at a cutoff, such as ndcg@10",
        pattern=r"(recall|ndcg|mrr)@[1-9]\d*",
    )
    log_every: int = setting(50, "steps between lines of the log", at_least=1)
    profile_steps: int = setting(0, "steps to profile, into WORKDIR/profile; 0 disables the profiler", at_least=0)
    peak_flops: float = setting(
        0.0, "FLOP/s of one device, for the utilization; 0 looks the device up", at_least=0, at_most=1e20
    )
    stop_after: int = setting(
        0, "for tests: steps after which training stops as if interrupted; 0 disables it", at_least=0
    )


@dataclasses.dataclass
class Mesh:
    """Sizes of the mesh axes (docs/scaling.md). One of them may be -1: the remaining devices."""

    data: int = setting(-1, "data parallelism: shards of the batch, with replicated parameters", at_least=1, also=(-1,))
    fsdp: int = setting(
        1, "fully sharded data parallelism: shards of the batch and of the parameters", at_least=1, also=(-1,)
    )
    tensor: int = setting(
        1, "tensor parallelism: shards of heads, MLP and rows of embedding tables", at_least=1, also=(-1,)
    )


@dataclasses.dataclass
class Evaluation:
    """Stage `evaluate`: a checkpoint + a split -> `evaluation/`."""

    beams: int = setting(50, "width of the beam search", at_least=1, at_most=MANY)
    max_beams: int = setting(
        0,
        "maximum width: lists whose first `certify` items are not certified as the best are searched again, each time "
        "with twice the beams; 0 keeps to beams. The shares of certified lists are reported in any case",
        at_least=0,
        at_most=MANY,
    )
    certify: int = setting(10, "first items of a list to certify", at_least=1)
    sharded_table: bool = setting(False, "shard the catalogue's index over mesh.tensor; the results stay the same")
    exclude_history: bool = setting(
        False,
        "exclude the items of the user's history, all those before the target, from the lists of the model and of the "
        "baselines; a target that is in the history is then never found",
    )
    batch: int = setting(256, "users per beam search", at_least=1)
    cutoffs: tuple[int, ...] = setting(
        (1, 5, 10, 20, 50), "k of Recall@k and NDCG@k; those above beams are left out", at_least=1, fewest=1
    )
    segments: tuple[str, ...] = setting(
        (),
        "columns of items or users by which metrics are segmented, besides columns of few values, history length and "
        "popularity of the target",
        text="a column of the items or users",
    )
    new_items_share: float = setting(
        0.0,
        "quota of items that are new to the model among the first k of each list, for every k "
        "(genrec.decoding.new_item_quota); 0 ranks them by the model's scores",
        at_least=0,
        at_most=1,
    )
    history: int = setting(
        -1, "maximum items of the model's input history, 0 for none; -1 is the limit of the model", at_least=-1
    )
    withheld_features: tuple[str, ...] = setting(
        (), "features and soft tokens left out of the input; all for all of them", text="a feature"
    )
    request_time: bool = setting(False, "give the model the request-time features of the target")


@dataclasses.dataclass
class ItemKnn:
    """Baseline item-kNN (genrec.ranking.item_knn), fitted on the training split during evaluation."""

    neighbors: int = setting(300, "neighbors per item", at_least=1)
    shrinkage: float = setting(10.0, "added to the denominator of the cosine similarity", at_least=0)
    decay: float = setting(0.5, "weight of an item of the history, relative to the item after it", above=0, at_most=1)


@dataclasses.dataclass
class Transitions:
    """Baseline of a mixture of transitions (genrec.input_pipeline.transitions), also for `model.transition_bias`.

    Its weights are fitted on the validation split.
    """

    neighbors: int = setting(128, "neighbors per item", at_least=1)
    parts: int = setting(
        4, "parts of the training sequences, each scored in training by counts of the others", at_least=2, at_most=100
    )


@dataclasses.dataclass
class SasRecModel(Model):
    """SASRec's transformer. The inherited settings for the decoder, user tokens and repeats have no effect."""

    architecture: str = setting(
        "t5",
        "t5: layers of the generator's encoder, with relative positions; bert: layers of the published code of SASRec "
        "and BSARec, with learned absolute positions, for which gated_mlp and position_* have no effect",
        choices=("t5", "bert"),
    )
    frequency_filter: float = setting(
        0.0,
        "for bert: share of BSARec's frequency filter in the output of a layer, the rest is that of self-attention "
        "(the paper's alpha); 0 leaves it out; it is the paper's filter where training.targets is last, a causal one "
        "otherwise",
        at_least=0,
        at_most=1,
    )
    frequencies: int = setting(
        5, "lowest frequencies that the filter keeps, of training.max_history + 1 (the paper's c)", at_least=1
    )


@dataclasses.dataclass
class SasRec:
    """Baseline SASRec (genrec.models.sasrec): dataset -> `sasrec/checkpoints/`."""

    model: SasRecModel = dataclasses.field(default_factory=lambda: SasRecModel(encoder_layers=2, mlp=256, dropout=0.4))
    training: Training = dataclasses.field(default_factory=lambda: Training(row_targets=24, batch_targets=1024))


@dataclasses.dataclass
class FinalScoring:
    """Last stage of the multi-stage recommender: business rules (genrec.ranking.scoring)."""

    filter: tuple[str, ...] = setting(
        (), "conditions on items, all of which must hold, as in tools/recommend.py --filter", text="a condition"
    )
    boosts: tuple[str, ...] = setting(
        (),
        "CONDITION:NUMBER to add to the scores, such as media_type=podcast:0.5",
        text="CONDITION:NUMBER",
        pattern=f".+:{NUMBER}",
    )
    max_share: float = setting(
        1.0, "maximum share of a list with equal values of the column share_of", at_least=0, at_most=1
    )
    share_of: str = setting("", "a column of the items, for max_share", text="a column of the items")
    new_items_share: float = setting(0.0, "quota of items that no training sequence contains", at_least=0, at_most=1)


@dataclasses.dataclass
class MultiStage:
    """Multi-stage recommender: candidates of several sources, a ranker, final scores and rules."""

    sources: tuple[str, ...] = setting(
        ("generator", "SASRec", "item-kNN", "transitions"),
        "sources of candidates",
        choices=("generator", "SASRec", "item-kNN", "transitions", "most popular"),
        fewest=1,
    )
    candidates: int = setting(50, "per source", at_least=1, at_most=MANY)
    ranker: bool = setting(
        True, "rank all candidates by SASRec and the features below; False leaves the sources' scores"
    )
    item_columns: tuple[str, ...] = setting(
        (), "columns of the items: similarity to the history, and context features", text="a column of the items"
    )
    user_columns: tuple[str, ...] = setting((), "columns of the users: context features", text="a column of the users")
    fit_users: int = setting(32_768, "validation users to fit the final scores on; 0 takes all", at_least=0)
    trees: bool = setting(
        True,
        "order the candidates by gradient-boosted trees over all scores and features, where they do so better than "
        "the weighted sum on validation users that neither was fitted to; False, and given weights, keep the sum",
    )
    weights: tuple[str, ...] = setting(
        (),
        'NAME=NUMBER of sources and of "ranker"; empty fits them',
        text="NAME=NUMBER, such as generator=0.5",
        pattern=f".+={NUMBER}",
    )
    scoring: FinalScoring = dataclasses.field(default_factory=FinalScoring)


@dataclasses.dataclass
class Experiment:
    """All settings of an experiment."""

    name: str = setting("experiment", "name of the experiment, for reports", text="a name")
    seed: int = setting(0, "random seed of initialization, data order, dropout and tasks", at_least=0)
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
    transitions: Transitions = dataclasses.field(default_factory=Transitions)
    sasrec: SasRec = dataclasses.field(default_factory=SasRec)
    multi_stage: MultiStage = dataclasses.field(default_factory=MultiStage)
