"""The experiment's settings: one small dataclass per stage, no logic.

`configs/*.py` build an `Experiment`; every launch script takes one with `--config=configs/NAME.py[:variant]` and single
fields with `--config.model.width=64`. Misspelled names and wrong types fail before any work starts.
"""

import dataclasses

from genrec.errors import GenrecError


class ConfigError(GenrecError):
    """A setting that cannot be. The message says which, and what can."""


@dataclasses.dataclass
class SyntheticCatalogue:
    """The built-in streaming catalogue of music, podcasts and audiobooks (genrec.data.sources.synthetic)."""

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
    interactions: str = ""  # path, or a pattern such as logs/day-*.csv, for "files"
    items: str = ""  # path, for "files"
    users: str = ""  # path, for "files"; optional
    folder: str = ""  # for "s3rec" and "mcauley"
    text_fields: tuple[str, ...] = ("title", "description")  # columns of items that describe an item in words
    event_types: tuple[str, ...] = ()  # keep these events only; empty keeps all
    min_rating: float = float("-inf")  # keep ratings of at least this much
    k_core: int = 5  # every user and every item keeps at least this many interactions; 0 or 1 filters nothing
    split: str = "leave_one_out"  # or "temporal": two global cut times
    validation_fraction: float = 0.1  # of interactions, for "temporal"
    test_fraction: float = 0.1  # of interactions, for "temporal"
    synthetic: SyntheticCatalogue = dataclasses.field(default_factory=SyntheticCatalogue)


@dataclasses.dataclass
class Embeddings:
    """Stage `embed`: catalogue -> `item_embeddings/`."""

    source: str = "tfidf"  # or "sentence_transformers", "vectors"
    width: int = 256  # of TF-IDF + truncated SVD; vectors and sentence encoders keep their own
    vectors: str = ""  # for "vectors": a .npy file in the order of the items file; empty takes the column `vector`
    sentence_model: str = "sentence-transformers/all-MiniLM-L6-v2"  # a name or a local folder
    # Weight of a second part of the embedding: which items the same users chose, in the *training* split
    # (truncated SVD of positive pointwise mutual information). 0 leaves content alone, as in the TIGER paper.
    cooccurrence_weight: float = 0.0
    cooccurrence_width: int = 64


@dataclasses.dataclass
class SemanticIdLearning:
    """Stage `tokenize`: item embeddings -> `semantic_ids/`."""

    method: str = "residual_kmeans"  # or "rqvae"
    codes: tuple[int, ...] = (256, 256, 256)  # per learned level; a last level that separates collisions is added
    seed: int = 0
    # RQ-VAE only.
    hidden: tuple[int, ...] = (512, 256, 128)
    latent: int = 32
    commitment: float = 0.25
    gradient: str = "straight_through"  # or "rotation"
    epochs: int = 100
    batch: int = 1024
    learning_rate: float = 1e-3
    # Health gate: the run stops with advice when a figure of the quality report is beyond its limit.
    min_usage: float = 0.5  # share of a level's codes that some item uses (of those that the catalogue could use)
    max_collision_rate: float = 0.6  # share of items that share their learned codes with another item
    max_group: int = 256  # items with the same learned codes; also the size that the separating level may reach


@dataclasses.dataclass
class Model:
    """The T5-style encoder-decoder."""

    width: int = 128
    encoder_layers: int = 4
    decoder_layers: int = 4
    heads: int = 6
    head_width: int = 64
    mlp: int = 1024
    gated_mlp: bool = False
    dropout: float = 0.1
    position_buckets: int = 32
    position_max_distance: int = 128
    # Lets the decoder know how many items ago an encoded item was. The paper's model has none: its bidirectional
    # encoder knows which item is the last; a causal one cannot.
    cross_position_bias: bool = True
    # Adds a learned number to the logits of codes that lead on to items of the history: whether users choose items
    # again is then known from the start, and not learned item by item.
    repeat_bias: bool = False
    user_tokens: int = 2000  # users are hashed into this many tokens; 1 gives every user the same
    compute: str = "float32"  # or "bfloat16"
    # Or "bfloat16", with compute in bfloat16 too: updates are then rounded at random, up or down, so that small ones
    # are not lost. Adam's second moments and the averaged weights stay float32.
    parameters: str = "float32"
    scan_layers: bool = False  # one stacked layer that is run many times: deep models compile quickly
    remat: bool = False  # layers are computed again for their gradients: less memory, a third more work


@dataclasses.dataclass
class Context:
    """What the model is told of a user and of the moment, before the history; any of it may be absent."""

    user_columns: tuple[str, ...] = ()  # of the users: text becomes categories, numbers are bucketed
    item_columns: tuple[str, ...] = ()  # of the items: what the user is about to choose from, such as media_type
    time_of_day: bool = False  # when the next item is chosen, in steps of three hours (UTC)
    buckets: int = 8  # of a number, at most, by quantiles
    min_users: int = 5  # a rarer value counts as unknown
    # Soft tokens: vectors that an adapter makes into `soft_tokens` tokens each.
    vector: bool = False  # the column `vector` of the users
    summary: bool = False  # of a history longer than the window: the mean embedding of the items before it
    sequential: bool = False  # of the same items, what SASRec makes of them (launch/train_sasrec.py comes first)
    soft_tokens: int = 2
    dropout: float = 0.15  # chance that a feature is left out of a training segment
    drop_all: float = 0.2  # chance that all are
    request_time_examples: float = 0.3  # segments with one target and features of its time, for each segment of the log


@dataclasses.dataclass
class Prompts:
    """What users say in words, and texts that the model says: tasks beside the next item of the log.

    Prompts are made from the catalogue by templates. `columns` gives each column its role, as in "media_type:kind":
    kind (music), mood (calm), about (a genre, a topic), by (an artist), words (of a title).
    """

    columns: tuple[str, ...] = ()  # empty: the model knows no words
    pieces: int = 2000  # of the SentencePiece vocabulary, at most
    vocabulary: str = ""  # path of a SentencePiece model that is given, such as T5's spiece.model; empty trains one
    pretrained: str = ""  # folder of a T5 v1.1 or Flan-T5 to start from, with its words (genrec.models.t5)
    # Codes and words start as the mean embedding of the items that have them, not at random
    # (genrec.models.content_init).
    from_content: bool = False
    longest: int = 16  # pieces of a prompt in training; six times as many in serving
    history: int = 8  # items before a prompt in training, at most
    examples: float = 1.25  # segments with prompts, for each segment of the log
    weight: float = 3.0  # of their targets in the loss, where those of the log, of which a segment has many, have 1
    # How many of those are of each task, in proportion.
    next_item: float = 4.0  # the item that target, and a prompt for it
    any_item: float = 4.0  # another item that fulfils a prompt, by popularity
    attributes: float = 1.0  # several attributes -> an item, without a history
    title: float = 3.0  # a title -> its item, without a history
    # Texts that the model writes, one beside each row of a batch.
    texts: bool = False
    text_weight: float = 0.3  # of the loss of a piece, where a code has 1
    longest_text: int = 32  # pieces
    item_title: float = 2.0  # semantic ID -> title
    item_attributes: float = 1.0  # semantic ID -> attributes
    taste: float = 1.0  # history -> a description of the taste
    # Columns about which a prompt is a rule, kept by constraining the search: "no audiobooks" gives none.
    rules: tuple[str, ...] = ()


@dataclasses.dataclass
class Training:
    """Stage `train`: dataset + semantic IDs -> `checkpoints/`."""

    targets: str = "every"  # every position of a user in one pass; or "last": one target per example, as in the paper
    max_history: int = 20  # items
    row_targets: int = 24  # of a packed row, at least; up to twice as many where that leaves less padding
    batch_targets: int = 1024  # per step, padding included
    accumulate: int = 1  # parts of a batch whose gradients are added up: less memory
    steps: int = 4000
    optimizer: str = "adamw"  # or "adafactor"
    learning_rate: float = 2e-3
    schedule: str = "cosine"  # or "inverse_sqrt"; after a linear warm-up
    warmup_steps: int = 400
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    ema: float = 0.999  # decay of the averaged weights, which are evaluated and served; 0 averages nothing
    validate_every: int = 500  # steps; each validation is followed by a checkpoint
    checkpoint_every: int = 0  # steps between checkpoints that wait for no validation; 0 makes none
    keep_best: int = 1  # checkpoints, by best_metric
    keep_latest: int = 2  # checkpoints; with two, a newest one that cannot be read costs little
    validation_users: int = 4096  # at most; 0 takes all
    patience: int = 0  # validations without a new best before training stops; 0 never stops early
    best_metric: str = "ndcg@10"
    log_every: int = 50  # steps
    profile_steps: int = 0  # record a trace of so many steps in WORKDIR/profile; 0 records none
    peak_flops: float = 0.0  # of one device, per second, for the utilization; 0 takes what is known of the device
    stop_after: int = 0  # for tests: leave after this many steps as if interrupted; 0 runs to the end


@dataclasses.dataclass
class Mesh:
    """How the devices are laid out; docs/scaling.md says which axis is for what. One axis may be -1: what is left."""

    data: int = -1  # parts of the batch, each with its own copy of the parameters
    fsdp: int = 1  # parts of the batch that share one copy of the parameters, each holding a part of it
    tensor: int = 1  # parts of every layer: heads, MLP, and the rows of embedding tables


@dataclasses.dataclass
class Evaluation:
    """Stage `evaluate`: a checkpoint + a split -> `evaluation/`."""

    beams: int = 50
    # Lists whose first `certify` items are not surely the best are searched again, each time with twice the beams, up
    # to this many; 0 keeps to `beams`. Without it, the shares of certified lists are reported all the same.
    max_beams: int = 0
    certify: int = 10
    sharded_table: bool = False  # over mesh.tensor, where a catalogue does not fit one device; results stay the same
    batch: int = 256  # users per beam search
    cutoffs: tuple[int, ...] = (1, 5, 10, 20, 50)
    # Columns of the items or of the users by whose values users are told apart in the results. Columns of few values,
    # history lengths and the popularity of the target are there in any case.
    segments: tuple[str, ...] = ()
    # Of the first k items of each list, for every k, so many are items that are new to the model
    # (genrec.decoding.new_item_quota); 0 leaves them to the model's own scores.
    new_items_share: float = 0.0
    history: int = -1  # the model gets only so many of the last items, 0 for none; -1 gives it all that it reads
    withheld_features: tuple[str, ...] = ()  # features and soft tokens left out of its input; "all" for all of them
    request_time: bool = False  # whether it is told the features of the target's moment


@dataclasses.dataclass
class ItemKnn:
    """The baseline item-kNN (genrec.ranking.item_knn), learned from the training split while evaluating."""

    neighbors: int = 300  # of each item
    shrinkage: float = 10.0  # users added to the geometric mean of two items' users
    decay: float = 0.5  # weight of an item of the history, times that of the one after it


@dataclasses.dataclass
class SasRec:
    """The baseline SASRec (genrec.models.sasrec): dataset -> `sasrec/checkpoints/`.

    Of `model`, what belongs to a decoder, to users and to repeats is left unused.
    """

    model: Model = dataclasses.field(default_factory=lambda: Model(encoder_layers=2, mlp=256, dropout=0.4))
    training: Training = dataclasses.field(default_factory=lambda: Training(row_targets=24, batch_targets=1024))


@dataclasses.dataclass
class FinalScoring:
    """The last stage of the pipeline: rules for lists (genrec.ranking.scoring)."""

    exclude_history: bool = False  # recommend nothing that the user has had
    filter: tuple[str, ...] = ()  # conditions on items, as tools/recommend.py takes them; all must be fulfilled
    boosts: tuple[str, ...] = ()  # CONDITION:NUMBER, such as media_type=podcast:0.5: added to the items' scores
    max_share: float = 1.0  # of a list that may be alike in `share_of`
    share_of: str = ""  # a column of the items
    new_items_share: float = 0.0  # of a list, reserved for items that no training shows


@dataclasses.dataclass
class MultiStage:
    """The multi-stage recommender: candidates of several sources, a ranker, final scores and rules."""

    sources: tuple[str, ...] = ("generator", "SASRec", "item-kNN")  # also "most popular"
    candidates: int = 50  # of each source
    ranker: bool = True  # SASRec and the features below, on all candidates; False leaves them to the sources' scores
    item_columns: tuple[str, ...] = ()  # of the catalogue: features of likeness to the history, and of context
    user_columns: tuple[str, ...] = ()  # of the users: features of context
    fit_users: int = 8192  # of the validation split, by which weights are fitted; 0 takes all
    weights: tuple[str, ...] = ()  # NAME=NUMBER of sources and of "ranker"; empty fits them
    scoring: FinalScoring = dataclasses.field(default_factory=FinalScoring)


@dataclasses.dataclass
class Experiment:
    name: str = "experiment"
    seed: int = 0
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
