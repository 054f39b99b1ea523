"""The built-in streaming catalogue (music, podcasts, audiobooks): the whole path in minutes on a laptop.

    python launch/run.py --config=configs/quickstart.py --workdir=runs/quickstart

or, with the set-up and recommendations for a few users, ./launch/quickstart.sh.

Takes 2 minutes on 2 CPU cores and reaches Recall@10 .43 on the test split, where the most-popular list has .04. That is
a demonstration: item-kNN has .49 and SASRec, trained for another minute, .50 (docs/benchmarks.md).

Variants:
  (none)  2,000 items, 4,000 users.
  tiny    300 items, 400 users and a few training steps: shows that everything works, in a minute; recommends badly.
"""

from genrec import config


def get_config(variant: str = "") -> config.Experiment:
    experiment = config.Experiment(
        name="quickstart",
        data=config.Data(source="synthetic"),
        # Tracks of one album have nearly the same text; what the same listeners chose tells them apart.
        embeddings=config.Embeddings(source="tfidf", width=128, cooccurrence_weight=1.0),
        semantic_ids=config.SemanticIdLearning(codes=(128, 128, 128)),
        model=config.Model(
            width=128,
            encoder_layers=2,
            decoder_layers=2,
            heads=4,
            head_width=32,
            mlp=256,
            repeat_bias=True,
            user_tokens=500,
        ),
        training=config.Training(
            batch_targets=1024,
            steps=450,
            warmup_steps=45,
            learning_rate=3e-3,
            validate_every=225,
            validation_users=1024,
            log_every=50,
        ),
        evaluation=config.Evaluation(beams=50, batch=256),
        sasrec=config.SasRec(
            model=config.Model(width=64, encoder_layers=2, heads=2, head_width=32, mlp=128, dropout=0.2),
            training=config.Training(
                batch_targets=1024,
                steps=1000,
                warmup_steps=50,
                learning_rate=5e-3,
                validate_every=500,
                validation_users=1024,
                log_every=50,
            ),
        ),
        pipeline=config.Pipeline(
            item_columns=("media_type", "genre", "topic", "artist", "collection"),
            user_columns=("country", "age_band"),
        ),
    )
    match variant:
        case "":
            pass
        case "tiny":
            experiment.data.synthetic = config.SyntheticCatalogue(items=300, users=400)
            experiment.embeddings.width = 32
            experiment.semantic_ids.codes = (32, 32, 32)
            experiment.model = config.Model(
                width=32,
                encoder_layers=1,
                decoder_layers=1,
                heads=2,
                head_width=16,
                mlp=64,
                repeat_bias=True,
                user_tokens=50,
            )
            experiment.training = config.Training(
                batch_targets=256,
                steps=20,
                warmup_steps=4,
                validate_every=10,
                validation_users=64,
                log_every=5,
            )
            experiment.evaluation = config.Evaluation(beams=20, batch=64, cutoffs=(1, 5, 10, 20))
            experiment.sasrec = config.SasRec(
                model=config.Model(width=16, encoder_layers=1, heads=2, head_width=8, mlp=32),
                training=config.Training(
                    batch_targets=256, steps=20, warmup_steps=4, validate_every=10, validation_users=64, log_every=5
                ),
            )
            experiment.pipeline.candidates = 20
        case _:
            raise ValueError(f"configs/quickstart.py has no variant {variant!r}; choose '' or 'tiny'.")
    return experiment
