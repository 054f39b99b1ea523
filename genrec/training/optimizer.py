"""Optimizers and learning-rate schedules from the config."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from genrec import config


def schedule(cfg: config.Training) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then down by a half cosine to zero, or with the inverse root of the step.

    The inverse root leaves from the end of the warm-up, as in T5: step s gets learning_rate * sqrt(warmup / s).
    """
    if not 0 <= cfg.warmup_steps < cfg.steps:
        raise config.ConfigError(
            f"training.warmup_steps={cfg.warmup_steps} must be less than training.steps={cfg.steps}"
        )
    if cfg.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, cfg.learning_rate, cfg.warmup_steps, cfg.steps)
    if cfg.schedule == "inverse_sqrt":
        warmup = max(1, cfg.warmup_steps)
        return lambda step: cfg.learning_rate * jnp.minimum(step / warmup, (warmup / jnp.maximum(step, 1)) ** 0.5)
    raise config.ConfigError(f"training.schedule={cfg.schedule!r}: choose cosine or inverse_sqrt")


def decayed(params: Any) -> Any:
    """Which parameters decay: matrices and embedding tables, not norm scales, position biases or single vectors."""

    def is_decayed(path: tuple, value: jax.Array) -> bool:
        return value.ndim >= 2 and not any("bias" in str(getattr(key, "key", key)) for key in path)

    return jax.tree_util.tree_map_with_path(is_decayed, params)


def make(cfg: config.Training) -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW or Adafactor with decoupled weight decay."""
    clip = optax.clip_by_global_norm(cfg.gradient_clip) if cfg.gradient_clip > 0 else optax.identity()
    if cfg.optimizer == "adamw":
        return optax.chain(clip, optax.adamw(schedule(cfg), weight_decay=cfg.weight_decay, mask=decayed))
    if cfg.optimizer == "adafactor":
        # optax.adafactor applies its weight decay without the learning rate; this is decoupled decay as in AdamW.
        return optax.chain(
            clip,
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.add_decayed_weights(cfg.weight_decay, mask=decayed),
            optax.scale_by_learning_rate(schedule(cfg)),
        )
    raise config.ConfigError(f"training.optimizer={cfg.optimizer!r}: choose adamw or adafactor")
