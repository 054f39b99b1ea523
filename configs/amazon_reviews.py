"""Any category of McAuley's Amazon reviews of 2014, from the original files.

    python launch/run.py --config=configs/amazon_reviews.py:sports --workdir=runs/sports \
        --config.data.folder=DATA/sports

The folder holds reviews_Sports_and_Outdoors_5.json.gz and meta_Sports_and_Outdoors.json.gz as they were published; put
each category into its own folder. A category is given by a prefix of its file name: sports, toys, video_games, ...

Variants:
  CATEGORY        TF-IDF embeddings; every position of a sequence is a target, in one pass.
  CATEGORY,sasrec the baseline of launch/train_sasrec.py without the frequency filter of BSARec: SASRec; the rest as in
                  CATEGORY.
  CATEGORY,paper  the setting of the TIGER paper with Sentence-T5 embeddings; needs the extra `sentences`
                  (pip install -e '.[sentences]'), which downloads its model once.
"""

from genrec import config, recipes

CATEGORIES = (
    "Amazon_Instant_Video",
    "Apps_for_Android",
    "Automotive",
    "Baby",
    "Beauty",
    "Books",
    "CDs_and_Vinyl",
    "Cell_Phones_and_Accessories",
    "Clothing_Shoes_and_Jewelry",
    "Digital_Music",
    "Electronics",
    "Grocery_and_Gourmet_Food",
    "Health_and_Personal_Care",
    "Home_and_Kitchen",
    "Kindle_Store",
    "Movies_and_TV",
    "Musical_Instruments",
    "Office_Products",
    "Patio_Lawn_and_Garden",
    "Pet_Supplies",
    "Sports_and_Outdoors",
    "Tools_and_Home_Improvement",
    "Toys_and_Games",
    "Video_Games",
)


def get_config(argument: str = "beauty") -> config.Experiment:
    category, _, variant = argument.partition(",")
    matches = [name for name in CATEGORIES if name.lower().startswith(category.lower())]
    if len(matches) != 1 or not category:
        choices = ", ".join(CATEGORIES)
        raise config.ConfigError(
            f"configs/amazon_reviews.py: {category!r} must be a prefix of exactly one of {choices}."
        )
    experiment = recipes.amazon(f"amazon_{matches[0].lower()}")
    experiment.data = config.Data(source="mcauley", text_fields=("title", "brand", "categories", "description"))
    match variant:
        case "":
            return experiment
        case "sasrec":
            experiment.sasrec = recipes.sequential_baseline()
            return experiment
        case "paper":
            experiment.data.text_fields = ("title", "price", "brand", "categories")
            experiment.embeddings.source = "sentence_transformers"
            experiment.embeddings.sentence_model = "sentence-transformers/sentence-t5-base"
            return recipes.tiger_paper(experiment)
    raise config.ConfigError(f"configs/amazon_reviews.py has no variant {variant!r}; choose '', 'sasrec' or 'paper'.")
