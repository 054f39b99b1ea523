"""Import and export of T5 v1.1 and Flan-T5 (Raffel et al. 2020, Shazeer 2020) as Hugging Face transformers stores them.

A folder holds config.json, model.safetensors and spiece.model. The layers correspond one to one; the vocabulary becomes
the pieces of prompts and texts, and codes, users and features are further rows. What T5 lacks (repeat bias, position
bias in cross-attention, soft tokens) is initialized as without T5, and cannot be exported.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from genrec import artifacts, config, files
from genrec.models.layers import Attention, DecoderLayer, EncoderLayer, PositionBias, RMSNorm
from genrec.models.recommender import Recommender

CONFIG, WEIGHTS, WORDS = "config.json", "model.safetensors", "spiece.model"
# Our settings that must agree with T5's.
SAME = {
    "width": "d_model",
    "encoder_layers": "num_layers",
    "decoder_layers": "num_decoder_layers",
    "heads": "num_heads",
    "head_width": "d_kv",
    "mlp": "d_ff",
    "position_buckets": "relative_attention_num_buckets",
    "position_max_distance": "relative_attention_max_distance",
}
PAD = 0  # the piece with which T5's decoder starts


@dataclasses.dataclass(frozen=True)
class T5:
    """A T5 on disk."""

    folder: epath.Path
    config: dict[str, Any]
    words: bytes  # a SentencePiece model

    @functools.cached_property
    def tensors(self) -> dict[str, np.ndarray]:
        """Reads the weights, on first use: a resumed run needs the vocabulary alone."""
        found = _safetensors().load((self.folder / WEIGHTS).read_bytes())
        found.setdefault("lm_head.weight", found["shared.weight"])  # omitted where they are tied
        return found

    @property
    def pieces(self) -> int:
        """Returns the rows of the embedding table, of which the last may stand for no piece."""
        return self.config["vocab_size"]


def read(folder: epath.PathLike) -> T5:
    """Opens a folder; raises ArtifactError where it holds no T5 v1.1 or Flan-T5."""
    folder = epath.Path(folder)
    for name in (CONFIG, WEIGHTS, WORDS):
        if not (folder / name).exists():
            raise artifacts.ArtifactError(
                f"{folder}: no {name}. A T5 v1.1 or Flan-T5 is {CONFIG}, {WEIGHTS} and {WORDS} in a local folder."
            )
    settings = {"relative_attention_max_distance": 128, **files.read_json(folder / CONFIG)}
    settings.setdefault("num_decoder_layers", settings.get("num_layers"))
    # Transformers 5 writes the first field, earlier versions the second.
    scaled = settings.get("scale_decoder_outputs", settings.get("tie_word_embeddings", True))
    if settings.get("feed_forward_proj") != "gated-gelu" or scaled:
        raise artifacts.ArtifactError(
            f"{folder}: not a T5 v1.1 (gated-gelu, and an output that is not scaled): feed_forward_proj="
            f"{settings.get('feed_forward_proj')}, scale_decoder_outputs={scaled}"
        )
    return T5(folder, settings, (folder / WORDS).read_bytes())


def check(cfg: config.Model, t5: T5) -> None:
    """Raises ConfigError, with the flags to set, where a model has other sizes than a T5."""
    wanted = {name: t5.config[theirs] for name, theirs in SAME.items()} | {"gated_mlp": True, "scan_layers": False}
    wrong = {name: value for name, value in wanted.items() if getattr(cfg, name) != value}
    if wrong:
        flags = " ".join(f"--config.model.{name}={value}" for name, value in wrong.items())
        raise config.ConfigError(f"the model has other sizes than the T5 of prompts.pretrained; set {flags}")


def load_weights(model: Recommender, t5: T5) -> None:
    """Loads the weights of a T5 of the same sizes; rows that T5 lacks keep their values, scaled like T5's."""
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in t5.tensors.items()}
    for param, name, transposed in _layers(model):
        tensor = tensors[name].T if transposed else tensors[name]
        param[...] = jnp.asarray(tensor, param.dtype)
    words = tensors["shared.weight"]
    table = np.asarray(model.embedding[...], np.float32) * words.std()
    first = model.first_piece
    table[first : first + len(words)] = words
    # The start tokens of texts and of semantic IDs are initialized to T5's.
    after = first + model.conditioning.pieces
    table[after : after + model.conditioning.text_kinds] = words[PAD]
    model.embedding[...] = jnp.asarray(table, model.embedding.dtype)
    model.start_vector[...] = jnp.asarray(words[PAD], model.start_vector.dtype)
    if model.text_output is not None:
        output = np.zeros(model.text_output.shape, np.float32)
        output[: len(words)] = tensors["lm_head.weight"]
        model.text_output[...] = jnp.asarray(output, model.text_output.dtype)


def export(model: Recommender, words: bytes, folder: epath.PathLike) -> dict[str, int]:
    """Writes a model as a T5 with the SentencePiece model `words`; returns T5's first token of each kind.

    The tokens of T5 are the pieces, then codes, users and features, kinds of texts, and a start token of semantic IDs.
    A decoder that begins with a start token gives our logits of codes or pieces; they are equal for a model trained
    with a bidirectional encoder (training.targets="last"), which is the only kind that T5 has.

    Raises ConfigError for what T5 cannot express.
    """
    cfg, conditioning = model.cfg, model.conditioning
    beyond = [
        name for name in ("repeat_bias", "transition_bias", "cross_position_bias", "scan_layers") if getattr(cfg, name)
    ]
    beyond += ["soft tokens"] if conditioning.context.vectors else []
    beyond += ["prompts.bias"] if conditioning.mention_columns else []
    beyond += [] if cfg.gated_mlp else ["gated_mlp=False"]
    beyond += ["prompts.texts=False"] if model.text_output is None else []
    if beyond or model.text_output is None:
        raise config.ConfigError(f"T5 has no way to express {', '.join(beyond)}: train without, and export again")
    embedding = np.asarray(model.embedding[...], np.float32)
    first, pieces = model.first_piece, conditioning.pieces
    codes = sum(model.sizes)
    last = first + pieces + conditioning.text_kinds
    rows = [embedding[first : first + pieces], embedding[:first], embedding[first + pieces : last]]
    shared = np.concatenate([*rows, np.asarray(model.start_vector[...], np.float32)[None]])
    output = np.zeros_like(shared)
    output[:pieces] = np.asarray(model.text_output[...], np.float32)[:pieces]
    output[pieces : pieces + codes] = np.concatenate([np.asarray(level[...], np.float32) for level in model.output])
    tensors = {"shared.weight": shared, "lm_head.weight": output}
    for param, name, transposed in _layers(model):
        value = np.asarray(param[...], np.float32)
        tensors[name] = np.ascontiguousarray(value.T if transposed else value)
    places = {"codes": pieces, "users": pieces + codes, "texts": pieces + first, "start": len(shared) - 1}
    settings = {
        **{theirs: getattr(cfg, name) for name, theirs in SAME.items()},
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": len(shared),
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": cfg.dropout,
        "is_encoder_decoder": True,
        "pad_token_id": PAD,
        "eos_token_id": 1,
        "decoder_start_token_id": places["start"],
        "genrec_tokens": places,
    }
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The configuration is written last: where it exists, the folder is complete.
    for name, content in ((WEIGHTS, _safetensors().save(tensors, {"format": "pt"})), (WORDS, words)):
        files.write_bytes(folder / name, content)
    files.write_json(folder / CONFIG, settings)
    return places


def _layers(model: Recommender) -> Iterator[tuple[nnx.Param, str, bool]]:
    """Yields each parameter of the layers, its name in T5, and whether it is transposed there."""
    sides: tuple[tuple[str, Sequence[EncoderLayer | DecoderLayer], PositionBias, RMSNorm], ...] = (
        ("encoder", model.encoder.each(), model.encoder_bias, model.encoder_norm),
        ("decoder", model.decoder.each(), model.decoder_bias, model.decoder_norm),
    )
    for side, layers, bias, norm in sides:
        yield bias.table, f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", False
        yield norm.scale, f"{side}.final_layer_norm.weight", False
        for number, layer in enumerate(layers):
            parts: list[tuple[str, Attention]] = [("SelfAttention", layer.attention)]
            if isinstance(layer, DecoderLayer):
                parts.append(("EncDecAttention", layer.cross))
            for place, (kind, attention) in enumerate(parts):
                name = f"{side}.block.{number}.layer.{place}"
                yield attention.norm.scale, f"{name}.layer_norm.weight", False
                matrices = (attention.query, attention.key, attention.value, attention.out)
                for theirs, matrix in zip("qkvo", matrices, strict=True):
                    yield matrix.kernel, f"{name}.{kind}.{theirs}.weight", True
            name = f"{side}.block.{number}.layer.{len(parts)}"
            yield layer.mlp.norm.scale, f"{name}.layer_norm.weight", False
            assert layer.mlp.gate is not None  # `check` and `export` require gated_mlp
            # GELU is applied to wi_0; the gate is wi_1.
            for theirs, matrix in (("wi_0", layer.mlp.into), ("wi_1", layer.mlp.gate), ("wo", layer.mlp.out)):
                yield matrix.kernel, f"{name}.DenseReluDense.{theirs}.weight", True


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as problem:
        raise config.ConfigError("T5 needs the extra `t5`: pip install -c requirements.lock -e '.[t5]'") from problem
    return safetensors.numpy
