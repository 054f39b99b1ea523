"""Amazon Beauty (22,363 users, 12,101 items) as published by S3-Rec, the dataset of the TIGER paper.

    python launch/run.py --config=configs/amazon_beauty.py --workdir=runs/beauty \
        --config.data.folder=DATA/amazon_beauty --config.embeddings.vectors=DATA/amazon_beauty/item_embeddings.npy

The folder holds sequences.txt and items.csv (format: genrec/data/sources/s3rec.py); row i of the vectors is the
embedding of item i. Without vectors, --config.embeddings.source=tfidf makes them from the titles.

It has Recall@10 .1039 and NDCG@10 .0601 on the test split, means of three seeds (docs/benchmarks.md).

Variants:
  (none)  every position of a sequence is a target, in one pass.
  prompts the same, and prompts of words of titles: tools/recommend.py --prompt="shea butter hand cream". 86 minutes,
          and Recall@10 .0848 when no prompt is made, one seed.
  sasrec  the baseline of launch/train_sasrec.py without the frequency filter of BSARec: SASRec; the rest as in (none).
  paper   the setting of the TIGER paper: RQ-VAE, one target per example, 200,000 steps.
"""

from genrec import config, recipes


def get_config(variant: str = "") -> config.Experiment:
    experiment = recipes.amazon("amazon_beauty")
    experiment.data = config.Data(source="s3rec", text_fields=("title",))
    experiment.embeddings.source = "vectors"
    # Two learned levels are faster than three and no worse, although more items share their learned codes.
    experiment.semantic_ids.codes = (512, 256)
    match variant:
        case "":
            return experiment
        case "prompts":
            experiment.prompts = config.Prompts(columns=("title:words",), pieces=4000, from_content=True)
            # The catalogue has titles only, and many of them: each is seen 101 times. They help next-item prediction up
            # to some loss weight, and hurt it above (docs/benchmarks.md).
            experiment.prompts.weight = 1.5
            experiment.prompts.next_item, experiment.prompts.any_item = 4.0, 1.0
            experiment.prompts.attributes, experiment.prompts.title = 1.0, 20.0
            # A segment with a prompt has many tokens for one target: shorter rows save attention.
            experiment.training.row_targets = 8
            experiment.training.steps, experiment.training.warmup_steps = 12_000, 200
            experiment.training.validate_every = 1500
            return experiment
        case "sasrec":
            experiment.sasrec = recipes.sequential_baseline()
            return experiment
        case "paper":
            return recipes.tiger_paper(experiment)
    raise config.ConfigError(
        f"configs/amazon_beauty.py has no variant {variant!r}; choose '', 'prompts', 'sasrec' or 'paper'."
    )
