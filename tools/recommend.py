"""Recommends items for users of the data, or for any history of items, and prints titles beside the history's.

    python tools/recommend.py --workdir=/tmp/quickstart --users=3
    python tools/recommend.py --workdir=/tmp/quickstart --user=u17,u42 --top=20 --output=json
    python tools/recommend.py --workdir=/tmp/quickstart --items=m00005,p01201 --exclude_history \
        --filter=media_type=podcast --filter=countries~DE,all --filter='release_time>=2023-06-01'
    python tools/recommend.py --workdir=/tmp/quickstart --users=3 --temperature=1 --max_share=0.2 --share_of=artist

Needs no --config: the checkpoint knows how its model was made. Of conditions, all must be fulfilled.
"""

from absl import flags

from genrec import command
from genrec.decoding import trained as trained_models
from genrec.decoding.filters import Filter
from genrec.evaluation import recommendations, stage

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the stages' results.", required=True)
_USERS = flags.DEFINE_integer("users", 0, "Choose this many users of the split.", lower_bound=0)
_USER = flags.DEFINE_list("user", [], "Ids of users, separated by commas.")
_ITEMS = flags.DEFINE_list("items", [], "A history: item ids, oldest first, separated by commas.")
_SPLIT = flags.DEFINE_enum("split", "test", stage.SPLITS, "Where to find users.")
_TOP = flags.DEFINE_integer("top", 10, "Items to recommend.", lower_bound=1)
_BEAMS = flags.DEFINE_integer("beams", 50, "Width of the search.", lower_bound=1)
_MAX_BEAMS = flags.DEFINE_integer("max_beams", 0, "Widen it up to this, until the list is surely the best.")
_FILTER = flags.DEFINE_multi_string("filter", [], "A condition: COLUMN, one of = != ~ >= <=, values with commas.")
_ALLOW = flags.DEFINE_list("allow", None, "Ids of the only items to recommend.")
_DENY = flags.DEFINE_list("deny", [], "Ids of items that nobody gets.")
_EXCLUDE_HISTORY = flags.DEFINE_bool("exclude_history", False, "Recommend no item of the history.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "Above 0: draw items; 1 is how the model sees them.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Draw from the likeliest codes that have this probability together.")
_SEED = flags.DEFINE_integer("seed", 0, "Of what is drawn.", lower_bound=0, upper_bound=2**31 - 1)
_MAX_SHARE = flags.DEFINE_float("max_share", 1.0, "Of the list that may be alike, in --share_of.")
_SHARE_OF = flags.DEFINE_string("share_of", "", "A column of the items; empty: the code of the first level.")
_OUTPUT = flags.DEFINE_enum("output", "table", ("table", "json"), "A table for people, or a line of JSON a history.")
_CHECKPOINTS_OF = flags.DEFINE_string("checkpoints_of", None, "Where the checkpoints are, if not in --workdir.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by the validation metric), latest, or a step.")


def main() -> None:
    conditions = Filter.parse(_FILTER.value)
    options = recommendations.Options(
        top=_TOP.value, beams=_BEAMS.value, max_beams=_MAX_BEAMS.value, exclude_history=_EXCLUDE_HISTORY.value,
        temperature=_TEMPERATURE.value, top_p=_TOP_P.value, seed=_SEED.value,
        max_share=_MAX_SHARE.value, share_of=_SHARE_OF.value,
    )  # fmt: skip
    trained = trained_models.load(_WORKDIR.value, _CHECKPOINT.value, checkpoints_of=_CHECKPOINTS_OF.value)
    catalogue = trained.dataset.catalogue
    wanted = recommendations.with_items(conditions, catalogue, _ALLOW.value, _DENY.value)
    requests = recommendations.requests(trained.dataset, _SPLIT.value, _USERS.value, _USER.value, _ITEMS.value)
    for request, found in zip(requests, recommendations.recommend(trained, requests, options, wanted), strict=True):
        print(recommendations.shown(request, found, catalogue, _OUTPUT.value))


if __name__ == "__main__":
    command.run(main)
