"""Recommends items for users of the data, or for any history of items, and prints titles beside the history's.

    python tools/recommend.py --workdir=/tmp/quickstart --users=3
    python tools/recommend.py --workdir=/tmp/quickstart --user=u17,u42 --top=20
    python tools/recommend.py --workdir=/tmp/quickstart --items=i5,i961,i12

Needs no --config: the checkpoint knows how its model was made.
"""

from absl import flags

from genrec import command
from genrec.decoding import trained as trained_models
from genrec.evaluation import recommendations, stage

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the stages' results.", required=True)
_USERS = flags.DEFINE_integer("users", 0, "Choose this many users of the split.", lower_bound=0)
_USER = flags.DEFINE_list("user", [], "Ids of users, separated by commas.")
_ITEMS = flags.DEFINE_list("items", [], "A history: item ids, oldest first, separated by commas.")
_SPLIT = flags.DEFINE_enum("split", "test", stage.SPLITS, "Where to find users.")
_TOP = flags.DEFINE_integer("top", 10, "Items to recommend.", lower_bound=1)
_BEAMS = flags.DEFINE_integer("beams", 50, "Width of the search; at least --top.", lower_bound=1)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by the validation metric), latest, or a step.")


def main() -> None:
    trained = trained_models.load(_WORKDIR.value, _CHECKPOINT.value)
    catalogue, sequences = trained.dataset.catalogue, trained.dataset.split(_SPLIT.value)
    requests = recommendations.sample_users(sequences, _USERS.value)
    if _USER.value:
        requests += recommendations.find_users(sequences, _USER.value)
    if _ITEMS.value:
        requests.append(recommendations.from_items(catalogue, _ITEMS.value))
    for request, found in zip(
        requests, recommendations.recommend(trained, requests, _BEAMS.value, _TOP.value), strict=True
    ):
        print(recommendations.table(request, found, catalogue), end="\n\n")


if __name__ == "__main__":
    command.run(main)
