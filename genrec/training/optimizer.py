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
        names = [str(getattr(key, "key", key)) for key in path]
        # Scales are told by name: those of stacked layers have two dimensions.
        return value.ndim >= 2 and not any("bias" in name or name == "scale" for name in names)

    return jax.tree_util.tree_map_with_path(is_decayed, params)


def make(cfg: config.Training, parameters: str = "float32") -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW or Adafactor with decoupled weight decay.

    For `parameters` in bfloat16, updates are computed in float32, and only the first moments of Adam are bfloat16: the
    second ones change by a thousandth a step, which bfloat16 would round away.
    """
    clip = optax.clip_by_global_norm(cfg.gradient_clip) if cfg.gradient_clip > 0 else optax.identity()
    if cfg.optimizer == "adamw":
        adamw = optax.adamw(schedule(cfg), weight_decay=cfg.weight_decay, mask=decayed, mu_dtype=parameters)
        return _in_float32(optax.chain(clip, adamw))
    if cfg.optimizer == "adafactor":
        # optax.adafactor applies its weight decay without the learning rate; this is decoupled decay as in AdamW.
        adafactor = optax.chain(
            clip,
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.add_decayed_weights(cfg.weight_decay, mask=decayed),
            optax.scale_by_learning_rate(schedule(cfg)),
        )
        return _in_float32(adafactor)
    raise config.ConfigError(f"training.optimizer={cfg.optimizer!r}: choose adamw or adafactor")


def apply_updates(params: Any, updates: Any, key: jax.Array) -> Any:
    """Parameters plus float32 updates.

    Sums that become bfloat16 are rounded at random, up or down so that the mean is right (Gupta et al. 2015, "Deep
    learning with limited numerical precision"): nearest rounding would lose every update below 1/256 of a weight.
    """
    leaves, structure = jax.tree.flatten(params)

    def apply(number: int, old: jax.Array, update: jax.Array) -> jax.Array:
        new = old.astype(jnp.float32) + update
        return _round_at_random(new, jax.random.fold_in(key, number)) if old.dtype == jnp.bfloat16 else new

    added = [apply(number, *pair) for number, pair in enumerate(zip(leaves, jax.tree.leaves(updates), strict=True))]
    return jax.tree.unflatten(structure, added)


def _round_at_random(x: jax.Array, key: jax.Array) -> jax.Array:
    """float32 to bfloat16, which is its upper 16 bits: adds random lower bits, and cuts them off."""
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)


def _in_float32(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same transformation, which sees parameters as float32 whatever they are."""

    def wide(params: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(jnp.float32), params)

    return optax.GradientTransformation(
        lambda params: tx.init(wide(params)),
        lambda gradients, state, params: tx.update(gradients, state, wide(params)),
    )
