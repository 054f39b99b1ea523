#!/usr/bin/env bash
# Installs the requirements of the tests (.venv, a browser); runs linter, formatter and tests. Arguments go to pytest:
#
#     ./launch/test.sh
#     ./launch/test.sh tests/evaluation/metrics_test.py -k collisions
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

environment test
browser
# Compiled functions are cached in the checkout, so that the next run is faster.
export JAX_COMPILATION_CACHE_DIR="$PWD/.jax_cache/tests"
ruff check .
ruff format --check .
# Files run in the order of their names: the longest (end_to_end, interruption) last would leave one core idle.
python -m pytest --quiet --durations=5 --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
