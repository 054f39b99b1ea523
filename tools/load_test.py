"""Measures a running server under load: requests at given rates, whether or not it keeps up.

    python tools/load_test.py --workdir=runs/quickstart --rates=20,40 --seconds=30
    python tools/load_test.py --workdir=runs/quickstart --find_saturation --output=load.json
    python tools/load_test.py --workdir=runs/quickstart --compare_in_process --bundle=runs/quickstart/bundle
    python tools/load_test.py --workdir=runs/quickstart --rates=20 --changes=10000 --change_rate=100

Requests are histories of users of a split up to a random event, with filters, prompts and options in the given shares;
they arrive as a Poisson process. Latencies count from the moment when a request was due. The third command also
measures the same searches in process, without the server, in turn with it. The last one changes the catalogue
meanwhile, restores it, and fails if an item is returned after its removal. docs/serving.md describes the figures.
"""

import gc

from absl import flags
from etils import epath

from genrec import command, files, printing, script_flags
from genrec.data.dataset import Dataset
from genrec.semantic_ids import embed
from genrec.serving.load import in_process, load_test
from genrec.serving.load.client import Client, LoadTestError, read_token
from genrec.serving.load.mix import Mix, RequestSource

_URL = flags.DEFINE_string("url", "http://127.0.0.1:8080", "Address of the server.")
_WORKDIR = script_flags.define_path("workdir", "Work directory of the model that is served.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Split whose histories are sent.")
_TOKEN_FILE = script_flags.define_path("token_file", "Token file of the server; a token of an administrator is taken.")
_COMPARE = flags.DEFINE_bool("compare_in_process", False, "Also measure the same searches of --bundle in process.")
_BUNDLE = script_flags.define_path("bundle", "Bundle that the server has.")
_VECTORS = flags.DEFINE_bool("vectors", False, "Changes add items by vectors: where the embed stage was given them.")
_OUTPUT = script_flags.define_path("output", "File for the figures, as JSON.")
_PLAN = script_flags.define_fields(load_test.Plan)
_MIX = script_flags.define_fields(Mix)


def main() -> None:
    if _COMPARE.value and not _BUNDLE.value:
        raise LoadTestError("--compare_in_process needs the bundle that the server has: give --bundle.")
    workdir, plan = epath.Path(_WORKDIR.value), _PLAN()
    dataset = Dataset(workdir / "dataset")
    source = RequestSource(dataset, _SPLIT.value, _MIX())
    client = Client(_URL.value, read_token(_TOKEN_FILE.value))
    test = load_test.LoadTest(client, source)
    gc.freeze()  # a full garbage collection would keep requests that are due waiting for 0.1 s
    test.run(plan, dataset, lambda: embed.load(workdir / "item_embeddings") if _VECTORS.value else None)
    if _COMPARE.value:
        searches = in_process.Searches(_BUNDLE.value, source, plan.search_threads)
        test.compare(plan, searches.measure, clients=2 * searches.largest_batch)
    printing.show(load_test.table(test.results))
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, test.results)
    load_test.check(test.results)


if __name__ == "__main__":
    command.run(main)
