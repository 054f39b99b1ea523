# shellcheck shell=bash
# Sourced by the other scripts: `environment EXTRAS` makes .venv with the versions of requirements.lock, installs this
# checkout into it, and activates it. If it is installed already, it is only activated.

find_python() {
  # Being on the path is not enough: version managers have shims there that do not start.
  local python
  for python in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if "$python" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  echo "No Python 3.11, 3.12 or 3.13 with venv found. Install one, or name it: PYTHON=/path/to/python3.11 $0" >&2
  return 1
}

environment() {
  local extras="$1" stamp wanted python
  stamp=".venv/installed-${extras:-base}"
  if [ ! -x .venv/bin/python ]; then
    python="$(find_python)"
    echo "Making .venv with $("$python" --version) ..."
    "$python" -m venv .venv
  fi
  # shellcheck disable=SC1091
  source .venv/bin/activate
  wanted="$PWD $(cat setup.py pyproject.toml requirements.lock | cksum)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing genrec and its requirements into .venv (once; some minutes where nothing is cached) ..."
    python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".${extras:+[$extras]}"
    echo "$wanted" >"$stamp"
  fi
}

# `newest_environment EXTRAS` makes .venv-newest with the newest versions that setup.py allows, on the newest Python.
newest_environment() {
  local python
  if [ ! -x .venv-newest/bin/python ]; then
    python="$(PYTHON="${PYTHON:-python3.13 python3.12 python3.11 python3}" find_python)"
    echo "Making .venv-newest with $("$python" --version) ..."
    "$python" -m venv .venv-newest
  fi
  # shellcheck disable=SC1091
  source .venv-newest/bin/activate
  echo "Installing the newest versions that setup.py allows into .venv-newest ..."
  python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager -e ".[$1]"
}

# `install PACKAGE PURPOSE` installs a package of the distribution.
install() {
  local sudo=()
  if [ "$(id -u)" != 0 ]; then sudo=(sudo -n); fi
  echo "Installing $1, $2 ..."
  if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" apt-get install --yes --no-install-recommends "$1"; } >/dev/null; then
    echo "No $1, and apt-get could not install it. Install it, and run this again." >&2
    return 1
  fi
}

# The tests open reports and the page of the server in a headless browser.
browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then return; fi
  done
  install chromium "in which the tests open reports"
}

# The tests start a PostgreSQL server of their own, as a user who is not root.
database() {
  local program
  for program in /usr/lib/postgresql/*/bin/initdb $(command -v initdb); do
    if [ -x "$program" ]; then return; fi
  done
  install postgresql "which the tests of the store start"
}
