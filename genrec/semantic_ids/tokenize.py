"""Stage `tokenize`: `item_embeddings/` -> `semantic_ids/`, the codes of every item and their quality report.

semantic_ids/
  codes.npy, layout.json   see `codes.SemanticIds`
  codebooks.npz            level_0, level_1, ...: float32[codes, width]
  rqvae.npz                all parameters of an RQ-VAE
  quality.json, quality.txt, quality.png
  artifact.json
"""

import dataclasses

import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh

from genrec import artifacts, distributed, files, settings_check
from genrec import config as config_lib
from genrec.data.dataset import Dataset
from genrec.semantic_ids import codes, embed, given, quality, residual_kmeans, rqvae

CODEBOOKS, RQVAE = "codebooks.npz", "rqvae.npz"


def learn(
    config: config_lib.SemanticIdLearning,
    embeddings_path: epath.PathLike,
    path: epath.PathLike,
    mesh: Mesh | None = None,
) -> None:
    """Learns codes from embeddings, checks their quality, separates collisions and writes `path` if not up to date.

    Items are sharded over `mesh`, by default one device. A collective: all processes must call it. Given codes are read
    instead, of the items of the dataset beside the embeddings. Raises ConfigError for invalid settings, QualityError,
    and writes nothing, if learned codes are beyond a quality limit, SemanticIdError for sizes or given codes that do
    not suit the catalogue, and ArtifactError if there are no item embeddings.
    """
    settings_check.check(config, "semantic_ids")
    given.check_file(config)
    source = artifacts.read(embeddings_path, embed.KIND)
    inputs = {"item_embeddings": source.fingerprint, "dataset": source.inputs["dataset"]}
    if config.method == "given":
        artifacts.check_apart(path, **{"semantic_ids.given": config.given})
        inputs["given"] = artifacts.hash_file(config.given)
    recipe = artifacts.hash_of(codes.KIND, dataclasses.replace(config, given=""), inputs)
    if artifacts.up_to_date(path, codes.KIND, recipe, models=artifacts.GENERATOR):
        logging.info("%s is up to date", path)
        return
    vectors = embed.load(embeddings_path)
    if config.fit_codes:
        config = _fitted(config, len(vectors))
    if config.method == "given":
        learned_codes = _given_codes(config, epath.Path(embeddings_path).parent / "dataset", inputs["dataset"])
        quantizer: residual_kmeans.Quantizer = given.quantizer(vectors, learned_codes)
    else:
        quantizer = learn_quantizer(vectors, config, mesh)
        learned_codes = quantizer.encode(vectors)
    report = quality.measure(vectors, learned_codes, quantizer)
    logging.info("\n%s", quality.table(report))
    if config.method != "given":
        quality.check(report, config)
    ids = codes.separate_collisions(learned_codes, report.sizes, config.max_group)
    logging.info("separated collisions by a last level of %d codes", ids.sizes[-1])

    def write() -> None:
        with artifacts.writing(path, codes.KIND, recipe, config=config, inputs=inputs) as draft:
            ids.save(draft.path)
            _save_report(draft.path, report, learned_codes)
            save_quantizer(quantizer, draft.path)
            draft.fingerprint = ids.fingerprint

    distributed.on_first(write)


def _fitted(config: config_lib.SemanticIdLearning, items: int) -> config_lib.SemanticIdLearning:
    sizes = residual_kmeans.fitted_sizes(config.codes, items)
    if sizes != config.codes:
        logging.warning("semantic_ids.codes is reduced from %s to %s: %d items", config.codes, sizes, items)
    return dataclasses.replace(config, codes=sizes)


def _given_codes(config: config_lib.SemanticIdLearning, path: epath.Path, fingerprint: str) -> np.ndarray:
    """Returns int32[items, levels], the given codes of the dataset in `path`, which the embeddings were made for."""
    dataset = Dataset(path)
    if dataset.fingerprint != fingerprint:
        raise artifacts.ArtifactError(
            f"{path}: is not the dataset that the item embeddings were made for. Run launch/embed_items.py again."
        )
    return given.load(config.given, dataset.catalogue.item_ids)


def learn_quantizer(
    vectors: np.ndarray, config: config_lib.SemanticIdLearning, mesh: Mesh | None = None
) -> residual_kmeans.Quantizer:
    """Learns a quantizer of float32[items, width] by `config.method`."""
    method = rqvae.learn if config.method == "rqvae" else residual_kmeans.learn
    return method(vectors, config, mesh)


def save_quantizer(quantizer: residual_kmeans.Quantizer, path: epath.Path) -> None:
    """Writes the quantizer into the folder `path`; see `load_quantizer`."""
    arrays = {CODEBOOKS: {f"level_{level}": book for level, book in enumerate(quantizer.codebooks)}}
    if isinstance(quantizer, rqvae.LearnedRqvae):
        arrays[RQVAE] = quantizer.arrays()
    for name, content in arrays.items():
        with (path / name).open("wb") as file:
            np.savez(file, allow_pickle=False, **content)


def load_quantizer(path: epath.PathLike) -> residual_kmeans.Quantizer:
    """Loads the quantizer of the semantic IDs in the folder `path`; raises ArtifactError if it is damaged."""
    path = epath.Path(path)
    settings = artifacts.read(path, codes.KIND).config
    with files.reading(path / files.MANIFEST, "the settings of semantic IDs"):
        config = config_lib.SemanticIdLearning(**settings)
    name = RQVAE if config.method == "rqvae" else CODEBOOKS
    arrays = files.load_arrays(path / name)
    with files.reading(path / name, "the parameters of a quantizer"):
        if config.method == "rqvae":
            return rqvae.LearnedRqvae.of_arrays(arrays, config)
        books = [arrays[f"level_{level}"] for level in range(len(arrays))]
        return residual_kmeans.ResidualCodebooks(books, beams=config.encoding_beams)


def copy_quantizer(source: epath.PathLike, target: epath.Path) -> None:
    """Copies the quantizer of the folder `source` to `target`."""
    for name in (CODEBOOKS, RQVAE):
        if (epath.Path(source) / name).exists():
            (target / name).write_bytes((epath.Path(source) / name).read_bytes())


def _save_report(path: epath.Path, report: quality.Report, learned_codes: np.ndarray) -> None:
    files.write_json(path / "quality.json", dataclasses.asdict(report))
    (path / "quality.txt").write_text(quality.table(report) + "\n")
    (path / "quality.png").write_bytes(quality.picture(report, learned_codes))
