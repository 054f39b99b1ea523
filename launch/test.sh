#!/usr/bin/env bash
# Installs what the tests need into .venv, and Chromium and PostgreSQL, and runs all checks: lint, format, types,
# documentation, tests.
# Arguments go to pytest:
#
#     ./launch/test.sh
#     ./launch/test.sh tests/semantic_ids -k collision
#
# With the newest versions that setup.py allows, in .venv-newest; without the tests that need PyTorch:
#
#     ./launch/test.sh --newest
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

if [ "${1:-}" = --newest ]; then
  shift
  newest_environment test-without-torch
  echo "Without the tests that need PyTorch (-m torch), most of tests/models/t5_test.py: they run with the locked versions."
  set -- -m "not torch" "$@"
else
  environment test
fi
browser
database
# Compiled functions are cached in the checkout, so that the next run is faster.
export JAX_COMPILATION_CACHE_DIR="$PWD/.jax_cache/tests"
ruff check .
ruff format --check .
# Beside the tests, of which the last files leave a core idle. The variable silences a banner of the theme.
{ mypy genrec launch tools configs && NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet; } &
checks=$!
# In the order of tests/conftest.py, the longest files first. Three workers for two cores: some tests wait for others.
tests=0
python -m pytest --quiet --durations=5 --numprocesses=3 --dist=loadfile --no-loadscope-reorder "$@" || tests=$?
wait "$checks" || { echo "mypy or the build of the documentation failed: see above the tests." >&2 && exit 1; }
exit "$tests"
