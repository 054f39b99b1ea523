"""Recipes: settings that several configs share, from which each config starts."""

import dataclasses

from genrec import config


def streaming(name: str) -> config.Experiment:
    """Returns the experiment on the built-in streaming catalogue (2,000 items, 4,000 users)."""
    model = config.Model(
        width=128,
        encoder_layers=2,
        decoder_layers=2,
        heads=4,
        head_width=32,
        mlp=256,
        repeat_bias=True,
        transition_bias=True,
        user_tokens=500,
    )
    training = config.Training(batch_targets=1024, steps=450, warmup_steps=45, learning_rate=3e-3)
    training.validate_every, training.validation_users, training.log_every = 225, 1024, 50
    return config.Experiment(
        name=name,
        data=config.Data(source="synthetic"),
        # Tracks of one album have nearly the same text; the collaborative part distinguishes them.
        embeddings=config.Embeddings(source="tfidf", width=128, cooccurrence_weight=1.0),
        semantic_ids=config.SemanticIdLearning(codes=(128, 128, 128)),
        model=model,
        training=training,
        evaluation=config.Evaluation(beams=50, batch=256),
        sasrec=config.SasRec(
            config.SasRecModel(width=64, encoder_layers=2, heads=2, head_width=32, mlp=128, dropout=0.2),
            dataclasses.replace(training, steps=1000, warmup_steps=50, learning_rate=5e-3, validate_every=500),
        ),
        multi_stage=config.MultiStage(
            item_columns=("media_type", "genre", "topic", "artist", "collection"), user_columns=("country", "age_band")
        ),
    )


def tiny(experiment: config.Experiment) -> None:
    """Shrinks an experiment on the streaming catalogue, in place, to a smoke test of all stages."""
    experiment.data.synthetic = config.SyntheticCatalogue(items=300, users=400)
    experiment.embeddings.width = 32
    experiment.semantic_ids.codes = (32, 32, 32)
    experiment.model = config.Model(
        width=32, encoder_layers=1, decoder_layers=1, heads=2, head_width=16, mlp=64, repeat_bias=True, user_tokens=50
    )
    experiment.model.transition_bias = True
    experiment.training = config.Training(
        batch_targets=256, steps=20, warmup_steps=4, validate_every=10, validation_users=64, log_every=5
    )
    experiment.evaluation = config.Evaluation(beams=20, batch=64, cutoffs=(1, 5, 10, 20))
    sasrec = config.SasRecModel(width=16, encoder_layers=1, heads=2, head_width=8, mlp=32)
    experiment.sasrec = config.SasRec(sasrec, dataclasses.replace(experiment.training))
    experiment.multi_stage.candidates = 20


def amazon(name: str) -> config.Experiment:
    """Returns the experiment on a category of Amazon reviews (10,000 to 60,000 items, short histories).

    Every position is a target. Semantic IDs are learned from content and, with equal weight, from co-occurrence.
    """
    model = config.Model(width=128, encoder_layers=3, decoder_layers=3, heads=4, head_width=32, mlp=512, dropout=0.2)
    model.repeat_bias, model.transition_bias, model.user_tokens = True, True, 2000
    # With transitions, the network has learned what it adds after some ten epochs of Beauty.
    training = config.Training(row_targets=24, batch_targets=1024, steps=1500, warmup_steps=100, learning_rate=2e-3)
    training.validate_every, training.validation_users, training.log_every = 500, 4096, 100
    return config.Experiment(
        name=name,
        embeddings=config.Embeddings(cooccurrence_weight=1.0),
        semantic_ids=config.SemanticIdLearning(method="residual_kmeans", codes=(256, 256, 256)),
        model=model,
        training=training,
        evaluation=config.Evaluation(beams=50),
        sasrec=sequential_baseline(frequency_filter=0.7),
        item_knn=config.ItemKnn(shrinkage=30.0, decay=0.6),  # best on validation of 10, 30, 100, and of 0.3 to 0.8
    )


def sequential_baseline(frequency_filter: float = 0.0) -> config.SasRec:
    """Returns SASRec as in the best published results on Amazon reviews, those of BSARec's paper.

    One target per example, histories of 50 items, dropout of one half. With the paper's `frequency_filter` of 0.7 it is
    BSARec. The number of steps (40 epochs of Beauty), the batch and the schedule are ours.
    """
    model = config.SasRecModel(width=64, encoder_layers=2, heads=2, head_width=32, mlp=256, dropout=0.5)
    model.architecture, model.frequency_filter, model.frequencies = "bert", frequency_filter, 5
    training = config.Training(targets="last", max_history=50, row_targets=8, batch_targets=512, steps=12_000)
    training.learning_rate, training.warmup_steps, training.weight_decay = 2e-3, 200, 0.0
    training.validate_every, training.log_every = 1000, 100
    return config.SasRec(model, training)


def tiger_paper(experiment: config.Experiment) -> config.Experiment:
    """Returns the experiment with the settings of the TIGER paper (Rajput et al. 2023, section 4) on the same data.

    One target per example, a bidirectional encoder, histories of 20 items, batches of 256, 200,000 steps. The learning
    rate differs: the paper's 0.01 is unstable in public reproductions, which use 0.0003 to 0.003, and it is warmed up
    in the 10,000 steps in which the paper holds it constant, before the inverse-square-root decay.
    """
    model = config.Model(width=128, encoder_layers=4, decoder_layers=4, heads=6, head_width=64, mlp=1024, dropout=0.1)
    model.cross_position_bias, model.user_tokens = False, 2000
    training = config.Training(targets="last", max_history=20, row_targets=4, batch_targets=256, steps=200_000)
    training.optimizer, training.schedule, training.warmup_steps = "adafactor", "inverse_sqrt", 10_000
    training.learning_rate, training.weight_decay, training.ema = 2e-3, 0.0, 0.0
    training.validate_every, training.log_every = 5000, 200
    return dataclasses.replace(
        experiment,
        embeddings=dataclasses.replace(experiment.embeddings, cooccurrence_weight=0.0),
        name=f"{experiment.name}_paper",
        semantic_ids=config.SemanticIdLearning(
            method="rqvae", codes=(256, 256, 256), hidden=(512, 256, 128), latent=32, commitment=0.25, epochs=2000
        ),
        model=model,
        training=training,
    )
