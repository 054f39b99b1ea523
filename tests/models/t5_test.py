"""Against the T5 of Hugging Face transformers: small ones with random weights, saved in a local folder.

It is imported by the functions that use it: it takes seconds, and every worker collects every file.
"""

import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import numpy as np
import pytest
from flax import nnx

from genrec import artifacts, config
from genrec.input_pipeline.context import Context, Feature
from genrec.input_pipeline.examples import Histories
from genrec.input_pipeline.vocabulary import Vocabulary
from genrec.models import load, t5
from genrec.models.recommender import Conditioning, Recommender
from genrec.training import run_setup, train

pytestmark = pytest.mark.torch

SIZES = (5, 4, 3)
MODEL = config.Model(
    width=24,
    encoder_layers=2,
    decoder_layers=3,
    heads=3,
    head_width=10,
    mlp=40,
    gated_mlp=True,
    dropout=0.0,
    cross_position_bias=False,
    user_tokens=4,
)
CONTEXT = Context((Feature("country", values=("DE", "FR")),))
TOKENS, NEW = 17, 9  # of the encoder and of the decoder


@pytest.fixture(scope="module")
def words():
    return Vocabulary.train([f"{a} {b}" for a in ("calm", "dark", "bold") for b in ("music", "jazz", "metal")], 40)


def t5_model(pieces, **settings):
    import torch
    import transformers

    torch.manual_seed(0)
    cfg = transformers.T5Config(
        vocab_size=pieces,
        d_model=24,
        d_kv=10,
        d_ff=40,
        num_layers=2,
        num_decoder_layers=3,
        num_heads=3,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        **settings,
    )
    model = transformers.T5ForConditionalGeneration(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from the small and equal initial weights
            parameter.copy_(torch.randn_like(parameter) * (0.15 if parameter.ndim > 1 else 0.2) + (parameter.ndim == 1))
        model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn(pieces, 24))  # not tied
    return model


@pytest.fixture(scope="module")
def folder(words, tmp_path_factory):
    """A T5 with rows that stand for no piece, as the published ones have."""
    path = tmp_path_factory.mktemp("t5")
    t5_model(len(words) + 11).save_pretrained(path)
    (path / t5.WORDS).write_bytes(words.model)
    return path


def recommender(pieces, **changes):
    cfg = config.Model(**{**MODEL.__dict__, **changes})
    return Recommender(cfg, SIZES, nnx.Rngs(0), Conditioning(CONTEXT, pieces, 3))


def histories_of(ids, segments):
    positions = np.zeros_like(ids)
    return Histories(ids.astype(np.int32), segments.astype(np.int32), positions)


def rows():
    """Two rows of the encoder, the second of them shorter: what is beyond is padding."""
    random = np.random.default_rng(1)
    segments = np.ones((2, TOKENS), int)
    segments[1, 12:] = 0
    return random, segments


def logits_of(model, ids, segments, decoder_ids):
    import torch

    with torch.no_grad():
        return model(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(segments),
            decoder_input_ids=torch.tensor(decoder_ids),
        ).logits.numpy()


def test_a_model_with_the_weights_of_t5_has_its_logits(folder):
    import transformers

    reference = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    start = t5.read(folder)
    model = recommender(start.pieces)
    t5.check(model.cfg, start)
    t5.load_weights(model, start)
    random, segments = rows()
    ids, decoded = (random.integers(0, start.pieces, (2, count)) for count in (TOKENS, NEW))
    expected = logits_of(reference, ids, segments, np.pad(decoded, ((0, 0), (1, 0))))
    found = nnx.jit(Recommender.text_logits)(
        model, histories_of(model.first_piece + ids, segments), np.array([0, 2], np.int32), decoded.astype(np.int32)
    )
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Transformers read the saved output table and not the tied embedding table.
    own = start.tensors["lm_head.weight"]
    assert not np.allclose(own, start.tensors["shared.weight"])


def test_an_exported_model_has_its_logits_of_pieces_and_codes(folder, words, tmp_path):
    import transformers

    model = recommender(len(words))
    random, segments = rows()
    for _, param in nnx.iter_graph(model):
        if isinstance(param, nnx.Param):
            param[...] = param[...] + 0.1 * random.normal(size=param.shape).astype(np.float32)
    places = t5.export(model, words.model, tmp_path / "out")
    exported = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    # Encoder inputs are any tokens: theirs begin with the pieces, ours with codes, users and features.
    ours = random.integers(0, model.first_piece + len(words), (2, TOKENS))
    theirs = np.where(ours < model.first_piece, ours + places["codes"], ours - model.first_piece)
    histories = histories_of(ours, segments)

    decoded = random.integers(0, len(words), (2, NEW))
    text_logits = nnx.jit(Recommender.text_logits)
    for kind in range(3):
        first = np.full((2, 1), places["texts"] + kind)
        expected = logits_of(exported, theirs, segments, np.concatenate([first, decoded], axis=1))[..., : len(words)]
        found = text_logits(model, histories, np.full(2, kind, np.int32), decoded.astype(np.int32))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    codes = np.stack([random.integers(0, size, 2) for size in SIZES], axis=1)
    offsets = np.cumsum((0, *SIZES[:-1]))
    decoder_ids = np.concatenate([np.full((2, 1), places["start"]), places["codes"] + codes + offsets], axis=1)[:, :-1]
    expected = logits_of(exported, theirs, segments, decoder_ids)
    memory, step = nnx.jit(Recommender.start)(model, histories), nnx.jit(Recommender.step, static_argnums=3)
    cache, before = None, None
    for level, size in enumerate(SIZES):
        found, cache = step(model, memory, before, level, cache)
        own = places["codes"] + offsets[level]
        np.testing.assert_allclose(found[:, 0], expected[:, level, own : own + size], rtol=1e-4, atol=1e-4)
        before = codes[:, level : level + 1].astype(np.int32)


def test_a_round_trip_changes_nothing(folder, words, tmp_path):
    start = t5.read(folder)
    model = recommender(start.pieces)
    t5.load_weights(model, start)
    places = t5.export(model, start.words, tmp_path / "out")
    again = t5.read(tmp_path / "out")
    assert again.words == words.model and places["codes"] == start.pieces
    for name, tensor in start.tensors.items():
        kept = (
            again.tensors[name][: len(tensor)] if name in ("shared.weight", "lm_head.weight") else again.tensors[name]
        )
        np.testing.assert_array_equal(kept, tensor, err_msg=name)
    assert again.tensors.keys() == start.tensors.keys() - {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}


def test_a_run_is_initialized_from_a_folder_and_keeps_its_vocabulary(folder, listener, tmp_path):
    import shutil

    from genrec.data.dataset import Dataset
    from genrec.semantic_ids.codes import SemanticIds

    for part in ("dataset", "semantic_ids", "item_embeddings"):
        shutil.copytree(listener / part, tmp_path / part)
    experiment = config.Experiment(
        model=MODEL,
        prompts=config.Prompts(
            columns=("media_type:kind", "genre:about"), pretrained=str(folder), texts=True, longest=12, longest_text=8
        ),
        training=config.Training(
            max_history=4, row_targets=8, batch_targets=64, steps=2, warmup_steps=1, learning_rate=1e-9,
            weight_decay=0.0, validate_every=2, validation_users=8, targets="last",
        ),
        evaluation=config.Evaluation(beams=10, batch=8, cutoffs=(10,)),
    )  # fmt: skip
    train.train(experiment, tmp_path)
    loaded, start = load.load(tmp_path, "latest"), t5.read(folder)
    assert loaded.record.prompt_tokenizer.vocabulary.model == start.words
    model = nnx.merge(loaded.graphdef, loaded.params)
    rows = np.asarray(model.embedding[...])[model.first_piece : model.first_piece + start.pieces]
    np.testing.assert_allclose(rows, start.tensors["shared.weight"], atol=1e-6)  # two tiny steps away
    np.testing.assert_allclose(
        np.asarray(model.decoder.each()[1].mlp.gate.kernel[...]),
        start.tensors["decoder.block.1.layer.2.DenseReluDense.wi_1.weight"].T,
        atol=1e-6,
    )
    wrong = config.Experiment(model=config.Model(width=32), prompts=experiment.prompts)
    with pytest.raises(config.ConfigError, match=r"--config.model.width=24 .*--config.model.gated_mlp=True"):
        dataset = Dataset(tmp_path / "dataset")
        run_setup.record_of(wrong, SemanticIds.load(tmp_path / "semantic_ids"), dataset, tmp_path)


def test_invalid_folders_and_models_are_refused(folder, words, tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="config.json"):
        t5.read(tmp_path)
    settings = json.loads((folder / t5.CONFIG).read_text())
    for name in (t5.WEIGHTS, t5.WORDS):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / t5.CONFIG).write_text(json.dumps({**settings, "feed_forward_proj": "relu"}))
    with pytest.raises(artifacts.ArtifactError, match="gated-gelu"):
        t5.read(tmp_path)
    for change, name in (({"repeat_bias": True}, "repeat_bias"), ({"gated_mlp": False}, "gated_mlp=False")):
        with pytest.raises(config.ConfigError, match=name):
            t5.export(recommender(len(words), **change), words.model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_abstract_parameters_need_no_folder(folder, words):
    """A checkpoint that was initialized from a T5 is loaded without it."""
    shapes = nnx.eval_shape(lambda: recommender(len(words) + 11))
    assert jax.tree.leaves(nnx.state(shapes))
