"""Amazon Beauty (22,363 users, 12,101 items) as S3-Rec published it, the dataset on which TIGER reports.

    python launch/run.py --config=configs/amazon_beauty.py --workdir=runs/beauty \
        --config.data.folder=DATA/amazon_beauty --config.embeddings.vectors=DATA/amazon_beauty/item_embeddings.npy

The folder holds sequences.txt and items.csv (genrec/data/sources/s3rec.py gives the format); row i of the vectors
belongs to line i of the items. Without vectors, --config.embeddings.source=tfidf makes them from the titles.

Takes 17 minutes on 2 CPU cores and reaches, on the test split, Recall@10 .0794 and NDCG@10 .0416, means of three seeds
(docs/benchmarks.md).

Variants:
  (none)  every position of a user trains, in one pass.
  prompts the same, and prompts of words of titles: tools/recommend.py --prompt="shea butter hand cream". 86 minutes,
          and Recall@10 .0848 when no prompt is made, one seed.
  paper   the setting of the TIGER paper: RQ-VAE, one target per example, 200,000 steps.
"""

from genrec import config, recipes


def get_config(variant: str = "") -> config.Experiment:
    experiment = recipes.amazon("amazon_beauty")
    experiment.data = config.Data(source="s3rec", text_fields=("title",))
    experiment.embeddings.source = "vectors"
    # Two learned levels are quicker than three and no worse, though more items share their learned codes.
    experiment.semantic_ids.codes = (512, 256)
    match variant:
        case "":
            return experiment
        case "prompts":
            experiment.prompts = config.Prompts(columns=("title:words",), pieces=4000, from_content=True)
            # There are many titles, and nothing but them: each is read 101 times. What is learned of them helps the log
            # up to some weight and stands against it above (docs/benchmarks.md).
            experiment.prompts.weight = 1.5
            experiment.prompts.next_item, experiment.prompts.any_item = 4.0, 1.0
            experiment.prompts.attributes, experiment.prompts.title = 1.0, 20.0
            # A segment with a prompt takes many tokens for its one target: the fewer share a row, the less attention.
            experiment.training.row_targets = 8
            experiment.training.steps, experiment.training.warmup_steps = 12_000, 200
            experiment.training.validate_every = 1500
            return experiment
        case "paper":
            return recipes.tiger_paper(experiment)
    raise ValueError(f"configs/amazon_beauty.py has no variant {variant!r}; choose '', 'prompts' or 'paper'.")
