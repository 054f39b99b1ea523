import jax.numpy as jnp
import numpy as np

from genrec.models import code_prefixes

SIZES = (5, 4, 3)
USER = sum(SIZES) + 2


def hash_of(tokens):
    prefix = jnp.uint32(code_prefixes.NO_CODES)
    for token in tokens:
        prefix = code_prefixes.extend(prefix, jnp.int32(token))
    return int(prefix)


def test_a_history_has_the_hashes_that_the_decoder_computes_code_by_code():
    items = [[4, 5, 9], [4, 5, 11], [0, 8, 9]]
    row = [USER, *items[0], *items[1], USER, *items[2], 0, 0]  # two users, then padding
    codes = code_prefixes.HistoryCodes(*map(np.asarray, code_prefixes.of_history(jnp.array([row]), SIZES)))
    places = {0: 1, 1: 4, 2: 8}
    for item, start in places.items():
        for level in range(len(SIZES)):
            assert codes.levels[0, start + level] == level
            assert codes.prefixes[0, start + level] == hash_of(items[item][:level])
    assert codes.levels[0, 0] == codes.levels[0, 7] == -1


def test_different_prefixes_have_different_hashes():
    tokens = np.stack(np.meshgrid(np.arange(256), 256 + np.arange(256), indexing="ij"), axis=-1).reshape(-1, 2)
    first = code_prefixes.extend(jnp.full(len(tokens), code_prefixes.NO_CODES, jnp.uint32), jnp.asarray(tokens[:, 0]))
    pairs = np.asarray(code_prefixes.extend(first, jnp.asarray(tokens[:, 1])))
    assert len(np.unique(pairs)) == len(pairs)
    # Spread evenly: of 1,024 equal shares the largest has not twice the 64 that it should have.
    assert np.bincount(pairs % 1024, minlength=1024).max() < 128
