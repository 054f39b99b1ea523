"""Serves a bundle over HTTP: recommendations, events, profiles, changes of the catalogue, and a page (docs/serving.md).

    python tools/serve.py --bundle=runs/quickstart/bundle
    GENREC_BUNDLE=runs/quickstart/bundle GENREC_PORT=8081 python tools/serve.py

Each flag is also an environment variable: GENREC_ and its name in capitals. Flags win.
"""

import sys

from genrec import command, script_flags

# isort: split
from genrec.serving.server import run
from genrec.serving.server.settings import ServerSettings

_BUNDLE = script_flags.define_path("bundle", "Folder of a bundle, from tools/export_bundle.py.", required=True)
_TOKENS = script_flags.define_path(
    "token_file", 'File with a bearer token on each line, after it "admin" if it may change catalogue and server.'
)
_SETTINGS = script_flags.define_fields(ServerSettings)


def main() -> None:
    run.run(_BUNDLE.value, _SETTINGS(), _TOKENS.value)


if __name__ == "__main__":
    sys.argv[1:1] = script_flags.of_environment("GENREC_")
    command.run(main)
