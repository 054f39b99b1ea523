#!/usr/bin/env bash
# Installs what the tests need, into .venv and a browser, and runs them: lint, format, tests. Arguments go to pytest:
#
#     ./launch/test.sh
#     ./launch/test.sh tests/metrics_test.py -k collisions
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

environment test
browser
# Compiled functions stay in the checkout, so that the second run is quicker.
export JAX_COMPILATION_CACHE_DIR="$PWD/.jax_cache/tests"
ruff check .
ruff format --check .
# In the order of names, the files that take longest (end_to_end, interruption) do not come last, where one core would
# wait.
python -m pytest --quiet --durations=5 --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
