"""Optimizers and learning-rate schedules from the config."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genrec import config


def schedule(cfg: config.Training) -> optax.Schedule:
    """Returns linear warm-up to `learning_rate`, then half-cosine decay to 0 or inverse square-root decay.

    The inverse square root is that of T5: after the warm-up, step s has learning_rate * sqrt(warmup / s).
    """
    if not 0 <= cfg.warmup_steps < cfg.steps:
        raise config.ConfigError(f"training.warmup_steps={cfg.warmup_steps} must be below training.steps={cfg.steps}")
    if cfg.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, cfg.learning_rate, cfg.warmup_steps, cfg.steps)
    if cfg.schedule == "inverse_sqrt":
        warmup = max(1, cfg.warmup_steps)
        return lambda step: cfg.learning_rate * jnp.minimum(step / warmup, (warmup / jnp.maximum(step, 1)) ** 0.5)
    raise config.ConfigError(f"training.schedule={cfg.schedule!r}: choose cosine or inverse_sqrt")


def weight_decay_mask(params: Any) -> Any:
    """Returns a tree of bools: True for matrices and embedding tables, not for norm scales, biases or vectors."""

    def is_decayed(path: tuple, value: jax.Array) -> bool:
        names = [str(getattr(key, "key", key)) for key in path]
        # Scales are recognized by name: in stacked layers they have two dimensions.
        return value.ndim >= 2 and not any("bias" in name or name == "scale" for name in names)

    return jax.tree_util.tree_map_with_path(is_decayed, params)


def make(cfg: config.Training, parameters: str = "float32") -> optax.GradientTransformation:
    """Returns clipping by the global norm, then AdamW or Adafactor with decoupled weight decay.

    For `parameters` in bfloat16, updates are computed in float32, and only Adam's first moments are in bfloat16: second
    moments change by a thousandth a step, which bfloat16 would round to nothing.
    """
    clip = optax.clip_by_global_norm(cfg.gradient_clip) if cfg.gradient_clip > 0 else optax.identity()
    if cfg.optimizer == "adamw":
        adamw = optax.adamw(schedule(cfg), weight_decay=cfg.weight_decay, mask=weight_decay_mask, mu_dtype=parameters)
        return _in_float32(optax.chain(clip, adamw))
    if cfg.optimizer == "adafactor":
        # optax.adafactor does not scale weight decay by the learning rate; here it is decoupled as in AdamW.
        adafactor = optax.chain(
            clip,
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.add_decayed_weights(cfg.weight_decay, mask=weight_decay_mask),
            optax.scale_by_learning_rate(schedule(cfg)),
        )
        return _in_float32(adafactor)
    raise config.ConfigError(f"training.optimizer={cfg.optimizer!r}: choose adamw or adafactor")


def apply_updates(params: Any, updates: Any, key: jax.Array) -> Any:
    """Returns the parameters plus float32 updates, with stochastic rounding of bfloat16 parameters.

    Rounding up or down at random keeps the mean (Gupta et al. 2015, "Deep learning with limited numerical precision"):
    rounding to nearest would lose every update below 1/256 of a weight.
    """
    leaves, structure = jax.tree.flatten(params)

    def apply(number: int, old: jax.Array, update: jax.Array) -> jax.Array:
        new = old.astype(jnp.float32) + update
        return _round_stochastically(new, jax.random.fold_in(key, number)) if old.dtype == jnp.bfloat16 else new

    pairs = enumerate(zip(leaves, jax.tree.leaves(updates), strict=True))
    return jax.tree.unflatten(structure, [apply(number, old, update) for number, (old, update) in pairs])


def _round_stochastically(x: jax.Array, key: jax.Array) -> jax.Array:
    """Rounds float32 to bfloat16, its upper 16 bits, by adding random lower bits before truncation."""
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)


def _in_float32(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns the same transformation on parameters that are cast to float32."""
    wide = functools.partial(jax.tree.map, lambda x: x.astype(jnp.float32))
    return optax.GradientTransformation(
        lambda params: tx.init(wide(params)), lambda gradients, state, params: tx.update(gradients, state, wide(params))
    )
