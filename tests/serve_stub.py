"""tools/serve.py with an engine that has no model, as a process of its own: python serve_stub.py STORE."""

import sys

import stub_engine

from genrec.serving.server import run
from genrec.serving.server.settings import ServerSettings


class Loader:
    """Loads a stub, whatever the bundle is."""

    load = staticmethod(lambda folder: stub_engine.StubEngine())


if __name__ == "__main__":
    run.ServedEngine = Loader
    run.run("bundle", ServerSettings(port=0, store=sys.argv[1], poll_seconds=0.05), None)
