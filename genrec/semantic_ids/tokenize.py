"""Stage `tokenize`: `item_embeddings/` -> `semantic_ids/`, the codes of every item and the report on them.

semantic_ids/
  codes.npy, layout.json   see `codes.SemanticIds`
  codebooks.npz            level_0, level_1, ...: float32[codes, width]
  rqvae.npz                of an RQ-VAE: all of its parameters
  quality.json, quality.txt, quality.png
  artifact.json
"""

import dataclasses
import io
import json

import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh

from genrec import artifacts, distributed
from genrec import config as config_lib
from genrec.semantic_ids import codes, embed, quality, residual_kmeans, rqvae

CODEBOOKS, RQVAE = "codebooks.npz", "rqvae.npz"


def learn(
    config: config_lib.SemanticIdLearning,
    embeddings_path: epath.PathLike,
    path: epath.PathLike,
    mesh: Mesh | None = None,
) -> None:
    """Learns codes from the embeddings, judges them, separates collisions and writes `path`, unless it is up to date.

    The devices of `mesh`, by default one, share the items. Among several processes, all of them call this. Raises:
      QualityError: when the codes fail the health gate; nothing is written then.
      SemanticIdError: for sizes that do not suit the catalogue.
      ArtifactError: when there are no item embeddings.
    """
    source = artifacts.read(embeddings_path, embed.KIND)
    inputs = {"item_embeddings": source.fingerprint, "dataset": source.inputs["dataset"]}
    recipe = artifacts.hash_of(codes.KIND, config, inputs)
    if artifacts.up_to_date(path, codes.KIND, recipe):
        logging.info("%s is up to date", path)
        return
    vectors = embed.load(embeddings_path)
    quantizer = learn_quantizer(vectors, config, mesh)
    learned_codes = quantizer.encode(vectors)
    report = quality.measure(vectors, learned_codes, quantizer)
    logging.info("\n%s", quality.table(report))
    quality.check(report, config)
    ids = codes.separate_collisions(learned_codes, config.codes, config.max_group)
    logging.info("separated collisions with a last level of %d codes", ids.sizes[-1])

    def write() -> None:
        with artifacts.writing(path, codes.KIND, recipe, config=config, inputs=inputs) as draft:
            ids.save(draft.path)
            _save_report(draft.path, report, learned_codes)
            save_quantizer(quantizer, draft.path)
            draft.fingerprint = ids.fingerprint

    distributed.on_first(write)


def learn_quantizer(
    vectors: np.ndarray, config: config_lib.SemanticIdLearning, mesh: Mesh | None = None
) -> residual_kmeans.Quantizer:
    """The learner that `config.method` names, fitted to float32[items, width]."""
    match config.method:
        case "residual_kmeans":
            return residual_kmeans.learn(vectors, config, mesh)
        case "rqvae":
            return rqvae.learn(vectors, config, mesh)
        case other:
            raise codes.SemanticIdError(f"semantic_ids.method is {other!r}; it can be 'residual_kmeans' or 'rqvae'.")


def save_quantizer(quantizer: residual_kmeans.Quantizer, path: epath.Path) -> None:
    """Writes what `load_quantizer` reads into the folder `path`."""
    arrays = {CODEBOOKS: {f"level_{level}": book for level, book in enumerate(quantizer.codebooks)}}
    if isinstance(quantizer, rqvae.LearnedRqvae):
        arrays[RQVAE] = quantizer.arrays()
    for name, content in arrays.items():
        with (path / name).open("wb") as file:
            np.savez(file, **content)


def load_quantizer(path: epath.PathLike) -> residual_kmeans.Quantizer:
    """The quantizer of the semantic IDs in the folder `path`; raises ArtifactError where it was not kept."""
    path = epath.Path(path)
    settings = artifacts.read(path, codes.KIND).config
    config = config_lib.SemanticIdLearning(**settings)
    name = RQVAE if config.method == "rqvae" else CODEBOOKS
    if not (path / name).exists():
        raise artifacts.ArtifactError(
            f"{path}: has no {name}: these semantic IDs were learned by an earlier version of genrec. Learn them again "
            "in a new --workdir (launch/learn_semantic_ids.py), and train there."
        )
    with np.load(io.BytesIO((path / name).read_bytes())) as file:
        arrays = dict(file)
    if config.method == "rqvae":
        return rqvae.LearnedRqvae.of_arrays(arrays, config)
    return residual_kmeans.ResidualCodebooks([arrays[f"level_{level}"] for level in range(len(arrays))])


def copy_quantizer(source: epath.PathLike, target: epath.Path) -> None:
    """The same quantizer in another folder."""
    for name in (CODEBOOKS, RQVAE):
        if (epath.Path(source) / name).exists():
            (target / name).write_bytes((epath.Path(source) / name).read_bytes())


def _save_report(path: epath.Path, report: quality.Report, learned_codes: np.ndarray) -> None:
    (path / "quality.json").write_text(json.dumps(dataclasses.asdict(report), indent=2))
    (path / "quality.txt").write_text(quality.table(report) + "\n")
    (path / "quality.png").write_bytes(quality.picture(report, learned_codes))
