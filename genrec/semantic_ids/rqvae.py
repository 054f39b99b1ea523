"""RQ-VAE: an autoencoder whose latent vector is quantized as the sum of one code vector per level.

Residual quantization as in Zeghidour et al. 2021 (SoundStream) and Lee et al. 2022; semantic IDs as in Rajput et al.
2023 (TIGER), section 3.1: encoder MLP, residual quantization of the latent, decoder MLP.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from flax import nnx
from jax.sharding import Mesh

from genrec import config as config_lib
from genrec import sharding
from genrec.progress import progress
from genrec.semantic_ids import residual_kmeans
from genrec.semantic_ids.codes import SemanticIdError

WEIGHT_DECAY = 1e-4
BLOCK_ROWS = 1 << 16  # embeddings that are summed at a time
ELEMENTS_PER_ROW = 2048  # about those of the largest layer: bounds the rows that are encoded at once
GRADIENTS = ("straight_through", "rotation")

Books = tuple[jax.Array, ...]  # float32[codes, latent] per level
Carry = tuple[nnx.State, optax.OptState, "Items"]  # parameters, optimizer state, data
Epoch = tuple[nnx.State, optax.OptState, jax.Array, jax.Array]  # parameters, optimizer, mean losses, codes in use


class Items(NamedTuple):
    """Embeddings on the devices as they are, and what standardizes those that are drawn.

    On a CPU a memory-mapped file is used in place: a whole catalogue is never copied.
    """

    embeddings: jax.Array  # float32[items, width], padded to equally many rows on every device; padding is never drawn
    mean: jax.Array  # float32[width]
    scale: jax.Array  # float32[]

    def take(self, rows: jax.Array) -> jax.Array:
        """Returns the rows int32[rows] of the items, standardized."""
        return (self.embeddings[rows] - self.mean) / self.scale


class Mlp(nnx.Module):
    """Linear layers with ReLU in between."""

    def __init__(self, widths: Sequence[int], rngs: nnx.Rngs):
        self.layers = nnx.List(
            [
                nnx.Linear(inputs, outputs, rngs=rngs, kernel_init=nnx.initializers.he_normal())
                for inputs, outputs in itertools.pairwise(widths)
            ]
        )

    def __call__(self, vectors: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            vectors = nnx.relu(layer(vectors))
        return self.layers[-1](vectors)


class Rqvae(nnx.Module):
    """Encoder, codebooks ([codes, latent] per level) and decoder."""

    def __init__(self, width: int, config: config_lib.SemanticIdLearning, rngs: nnx.Rngs):
        widths = (width, *config.hidden, config.latent)
        self.encoder = Mlp(widths, rngs)
        self.decoder = Mlp(widths[::-1], rngs)
        self.codebooks = nnx.List([nnx.Param(jnp.zeros((size, config.latent))) for size in config.codes])

    def books(self) -> Books:
        return tuple(book[...] for book in self.codebooks)


@dataclasses.dataclass(frozen=True)
class LearnedRqvae:
    """A trained RQ-VAE as a `residual_kmeans.Quantizer`, with codebooks in the latent space."""

    graphdef: nnx.GraphDef
    params: nnx.State
    mean: np.ndarray  # float32[width], subtracted from embeddings
    scale: float  # divides embeddings
    mesh: Mesh  # the devices that share the items
    beams: int  # see `residual_kmeans.quantize`

    @property
    def codebooks(self) -> list[np.ndarray]:
        return [np.asarray(book) for book in nnx.merge(self.graphdef, self.params).books()]

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all learned arrays by name; see `of_arrays`."""
        leaves = jax.tree.leaves(self.params)
        named = {f"parameter_{number}": np.asarray(leaf) for number, leaf in enumerate(leaves)}
        return {"mean": self.mean, "scale": np.array(self.scale, np.float64), **named}

    @staticmethod
    def of_arrays(
        arrays: dict[str, np.ndarray], config: config_lib.SemanticIdLearning, mesh: Mesh | None = None
    ) -> "LearnedRqvae":
        """Restores the RQ-VAE from the result of `arrays` and the config it was learned with."""
        mean = arrays["mean"]
        graphdef, abstract = nnx.split(nnx.eval_shape(lambda: Rqvae(len(mean), config, nnx.Rngs(0))))
        leaves = [arrays[f"parameter_{number}"] for number in range(len(jax.tree.leaves(abstract)))]
        params = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
        mesh = mesh or sharding.one_device()
        return LearnedRqvae(graphdef, params, mean, float(arrays["scale"]), mesh, config.encoding_beams)

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        latents = self._in_blocks(
            lambda rows: _encode(self.graphdef, self.params, (rows - self.mean) / self.scale), embeddings
        )
        return residual_kmeans.ResidualCodebooks(self.codebooks, self.mesh, self.beams).encode(latents)

    def reconstruct(self, codes: np.ndarray, levels: int | None = None) -> np.ndarray:
        latents = residual_kmeans.ResidualCodebooks(self.codebooks).reconstruct(codes, levels)
        restored = self._in_blocks(lambda rows: _decode(self.graphdef, self.params, rows), latents)
        return restored * self.scale + self.mean

    def _in_blocks(self, function: Callable[[jax.Array], jax.Array], rows: np.ndarray) -> np.ndarray:
        return residual_kmeans.in_blocks(function, rows, ELEMENTS_PER_ROW, self.mesh)


@functools.partial(jax.jit, static_argnums=0)
def _encode(graphdef: nnx.GraphDef, params: nnx.State, rows: jax.Array) -> jax.Array:
    return nnx.merge(graphdef, params).encoder(rows)


@functools.partial(jax.jit, static_argnums=0)
def _decode(graphdef: nnx.GraphDef, params: nnx.State, rows: jax.Array) -> jax.Array:
    return nnx.merge(graphdef, params).decoder(rows)


def learn(embeddings: np.ndarray, config: config_lib.SemanticIdLearning, mesh: Mesh | None = None) -> LearnedRqvae:
    """Trains an RQ-VAE on float32[items, width]; the same seed gives the same result on the same kind of machine.

    Items and batches are sharded over `mesh`, by default one device. Raises SemanticIdError for an unknown gradient
    estimator, for more codes at a level than there are items, and if the loss is not finite.
    """
    if config.gradient not in GRADIENTS:
        raise SemanticIdError(f"semantic_ids.gradient is {config.gradient!r}; it can be one of {', '.join(GRADIENTS)}.")
    residual_kmeans.check_sizes(len(embeddings), config.codes)
    mesh = mesh or sharding.one_device()
    mean, scale = _moments(embeddings)

    items, width = embeddings.shape
    model = Rqvae(width, config, nnx.Rngs(config.seed))
    _initialize_codebooks(model, (residual_kmeans.sample(embeddings, config) - mean) / scale, config, mesh)
    graphdef, params = nnx.split(model)
    params = jax.tree.map(lambda x: sharding.put(mesh, np.asarray(x)), params)

    batch = min(config.batch, items)
    steps = items // batch
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.epochs * steps)
    optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY, mask=_decay_mask)
    optimizer_state = jax.jit(optimizer.init, out_shardings=sharding.named(mesh))(params)
    data = _placed(embeddings, mean, scale, mesh)
    train_epoch = _make_epoch(graphdef, optimizer, config, batch, items)
    for epoch in progress(range(config.epochs), "RQ-VAE epochs"):
        key = jax.random.fold_in(jax.random.key(config.seed), epoch)
        with jax.set_mesh(mesh):
            params, optimizer_state, losses, used = train_epoch(params, optimizer_state, data, key)
        reconstruction, commitment = (float(loss) for loss in losses)
        if not np.isfinite(reconstruction + commitment):
            raise SemanticIdError(
                f"The RQ-VAE diverged in epoch {epoch + 1}. Set a lower semantic_ids.learning_rate "
                f"(it is {config.learning_rate:g}), or method=residual_kmeans."
            )
        if (epoch + 1) % max(1, config.epochs // 10) == 0:
            logging.info(
                f"RQ-VAE epoch {epoch + 1} of {config.epochs}: reconstruction {reconstruction:.4f}, "
                f"commitment {commitment:.4f}, codes in use {used.tolist()}"
            )
    return LearnedRqvae(graphdef, params, mean, scale, mesh, config.encoding_beams)


def _blocks(items: int) -> list[slice]:
    return [slice(start, min(start + BLOCK_ROWS, items)) for start in range(0, items, BLOCK_ROWS)]


def _moments(embeddings: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the mean float32[width] and the standard deviation of all elements from it."""
    # Variance 1 per element, so that weights of the loss do not depend on the length of the embeddings.
    # Summed in float64: numpy adds the rows one by one, and float32 drifts over millions of them.
    blocks = _blocks(len(embeddings))
    sums = sum(embeddings[some].sum(axis=0, dtype=np.float64) for some in blocks)
    mean = (sums / len(embeddings)).astype(np.float32)
    squares = sum(((embeddings[some] - mean) ** 2).sum(dtype=np.float64) for some in blocks)
    return mean, max(float(np.sqrt(squares / embeddings.size)), 1e-12)


def _placed(embeddings: np.ndarray, mean: np.ndarray, scale: float, mesh: Mesh) -> Items:
    """Returns float32[items, width] on the devices of the mesh; what `_moments` gives standardizes them."""
    embeddings = np.asarray(embeddings, np.float32)
    items, width = embeddings.shape
    rows = -(-items // mesh.size)  # of a device
    placed = jax.make_array_from_callback(
        (rows * mesh.size, width), sharding.named(mesh, "items"), lambda index: _padded(embeddings[index], rows)
    )
    return Items(placed, sharding.put(mesh, mean), sharding.put(mesh, np.array(scale, np.float32)))


def _padded(shard: np.ndarray, rows: int) -> np.ndarray:
    return shard if len(shard) == rows else np.pad(shard, ((0, rows - len(shard)), (0, 0)))


def residual_quantize(
    latents: jax.Array, books: Sequence[jax.Array], commitment: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Quantizes float32[batch, latent].

    Returns codes int32[batch, levels]; the sum of their code vectors float32[batch, latent], with gradients stopped;
    and the loss of code vectors toward residuals plus, weighted by `commitment`, of residuals toward code vectors.
    """
    codes = residual_kmeans.quantize(
        jax.lax.stop_gradient(latents), tuple(jax.lax.stop_gradient(book) for book in books)
    )
    residual, total, loss = latents, jnp.zeros_like(latents), jnp.float32(0)
    for level, book in enumerate(books):
        chosen = book[codes[:, level]]
        loss += jnp.mean((jax.lax.stop_gradient(residual) - chosen) ** 2)
        loss += commitment * jnp.mean((residual - jax.lax.stop_gradient(chosen)) ** 2)
        chosen = jax.lax.stop_gradient(chosen)
        residual, total = residual - chosen, total + chosen
    return codes, total, loss


def pass_gradient(latents: jax.Array, quantized: jax.Array, method: str) -> jax.Array:
    """Returns `quantized` with a gradient estimator for `latents`, both float32[batch, latent].

    "straight_through" copies the gradient. "rotation" (Fifty et al. 2024, "Restructuring vector quantization with the
    rotation trick") rotates and scales it as the latent is moved onto its quantized vector, which keeps the angle
    between them: q = (|q| / |z|) R z, R = I - 2 r r' + 2 q^ z^' constant, r = (z^ + q^) / |z^ + q^|, ^ unit vectors.
    """
    if method == "straight_through":
        return latents + jax.lax.stop_gradient(quantized - latents)
    constant = jax.lax.stop_gradient(latents)
    unit_latent, unit_quantized = _unit(constant), _unit(quantized)
    middle = _unit(unit_latent + unit_quantized)
    scale = _norm(quantized) / _norm(constant)

    def along(direction: jax.Array) -> jax.Array:  # [batch, 1]
        return jnp.sum(latents * direction, axis=1, keepdims=True)

    return scale * (latents - 2 * along(middle) * middle + 2 * along(unit_latent) * unit_quantized)


def _make_epoch(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: config_lib.SemanticIdLearning,
    batch: int,
    items: int,
) -> Callable[[nnx.State, optax.OptState, Items, jax.Array], Epoch]:
    """Returns the compiled training of one epoch: a function of parameters, optimizer state, data and random key."""
    steps = items // batch

    def loss(params: nnx.State, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, params, copy=True)
        latents = model.encoder(rows)
        _, quantized, commitment = residual_quantize(latents, model.books(), config.commitment)
        restored = model.decoder(pass_gradient(latents, quantized, config.gradient))
        reconstruction = jnp.mean((restored - rows) ** 2)
        return reconstruction + commitment, jnp.stack([reconstruction, commitment])

    def step(carry: Carry, rows: jax.Array) -> tuple[Carry, jax.Array]:
        params, optimizer_state, data = carry
        grads, losses = jax.grad(loss, has_aux=True)(params, sharding.constrain(data.take(rows), "items"))
        updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state, data), losses

    def codes_in_use(params: nnx.State, data: Items) -> tuple[jax.Array, ...]:  # bool[codes] per level
        def mark(used: tuple[jax.Array, ...], rows: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
            model = nnx.merge(graphdef, params, copy=True)
            codes = residual_kmeans.quantize(model.encoder(sharding.constrain(data.take(rows), "items")), model.books())
            return tuple(level.at[codes[:, place]].set(True) for place, level in enumerate(used)), None

        every = jnp.arange(-(-items // batch) * batch).reshape(-1, batch) % items  # some items twice, to fill a batch
        return jax.lax.scan(mark, tuple(jnp.zeros(size, bool) for size in config.codes), every)[0]

    draws = len(config.codes) * max(config.codes)  # different items for each level

    @jax.jit
    def epoch(params: nnx.State, optimizer_state: optax.OptState, data: Items, key: jax.Array) -> Epoch:
        order, revival = jax.random.split(key)
        rows = jax.random.permutation(order, items)[: steps * batch].reshape(steps, batch)
        (params, optimizer_state, _), losses = jax.lax.scan(step, (params, optimizer_state, data), rows)
        # Of all items, with the parameters as they are now: codes that some item has are not to be revived.
        used = codes_in_use(params, data)
        params = _reset_unused_codes(graphdef, params, data, used, jax.random.choice(revival, items, (draws,)))
        return params, optimizer_state, losses.mean(axis=0), jnp.stack([jnp.sum(level) for level in used])

    return epoch


def _reset_unused_codes(
    graphdef: nnx.GraphDef, params: nnx.State, data: Items, used: Sequence[jax.Array], rows: jax.Array
) -> nnx.State:
    """Moves codes that are not `used` (bool[codes] per level) onto residuals of items drawn at random, `rows`."""
    model = nnx.merge(graphdef, params, copy=True)
    most = max(map(len, used))
    # Different items for each level: an item whose residual became a code has none left at the next.
    residual = model.encoder(data.take(rows))
    for level, (book, in_use) in enumerate(zip(model.codebooks, used, strict=True)):
        places = residual[level * most :][: len(in_use)]
        book[...] = jnp.where(in_use[:, None], book[...], places)
        nearest = jnp.argmin(residual_kmeans.squared_distances(residual, book[...]), axis=1)
        residual = residual - book[...][nearest]
    return nnx.state(model)


def _initialize_codebooks(model: Rqvae, data: np.ndarray, config: config_lib.SemanticIdLearning, mesh: Mesh) -> None:
    """Initializes the codebooks by residual k-means of the untrained encoder's latents, of a sample of the data."""
    graphdef, params = nnx.split(model)
    untrained = LearnedRqvae(graphdef, params, np.zeros(data.shape[1], np.float32), 1.0, mesh, beams=1)
    latents = untrained._in_blocks(lambda block: _encode(graphdef, params, block), data)
    for book, start in zip(model.codebooks, residual_kmeans.learn(latents, config, mesh).codebooks, strict=True):
        book[...] = jnp.asarray(start)


def _decay_mask(params: nnx.State) -> nnx.State:
    """Returns the tree of which parameters have weight decay: all but code vectors, which are positions."""
    return jax.tree_util.tree_map_with_path(lambda path, _: "codebooks" not in jax.tree_util.keystr(path), params)


def _norm(vectors: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors / _norm(vectors)
