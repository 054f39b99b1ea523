"""genrec: a JAX trainer for generative retrieval in recommendation."""

__version__ = "0.1.0"
