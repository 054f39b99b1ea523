"""Recommends items for users of the data, or for any history of items, and prints titles beside the history's.

    python tools/recommend.py --workdir=runs/streaming --users=3
    python tools/recommend.py --workdir=runs/streaming --user=u17,u42 --top=20 --output=json
    python tools/recommend.py --workdir=runs/streaming --items=m00005,p01201 --exclude_history \
        --filter=media_type=podcast --filter=countries~DE,all --filter='release_time>=2023-06-01'
    python tools/recommend.py --workdir=runs/streaming --users=3 --temperature=1 --max_share=0.2 --share_of=artist
    python tools/recommend.py --workdir=runs/streaming --users=1 --prompt="something calm, no podcasts" --explain
    python tools/recommend.py --workdir=runs/streaming --users=1 --interactive

Needs no --config: the checkpoint knows how its model was made. Of conditions, all must be fulfilled.
"""

from absl import flags

from genrec import command
from genrec.data.filters import Filter
from genrec.decoding import loaded_model
from genrec.evaluation import evaluate
from genrec.serving import command_line, engine
from genrec.serving import requests as user_requests

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the stages' results.", required=True)
_USERS = flags.DEFINE_integer("users", 0, "Choose this many users of the split.", lower_bound=0)
_USER = flags.DEFINE_list("user", [], "Ids of users, separated by commas.")
_ITEMS = flags.DEFINE_list("items", None, "A history: item ids, oldest first, with commas; empty: nothing heard yet.")
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Where to find users.")
_CONTEXT = flags.DEFINE_multi_string("context", [], "NAME=VALUE: a feature, in the place of what is known of the user.")
_PROMPT = flags.DEFINE_string("prompt", "", "What to look for, in words.")
_PROFILE = flags.DEFINE_string("profile", None, "A taste profile, as tools/taste_profile.py makes it.")
_FILTER = flags.DEFINE_multi_string("filter", [], "A condition: COLUMN, one of = != ~ !~ >= <=, values with commas.")
_ALLOW = flags.DEFINE_list("allow", None, "Ids of the only items to recommend.")
_DENY = flags.DEFINE_list("deny", [], "Ids of items that nobody gets.")
_EXPLAIN = flags.DEFINE_bool("explain", False, "Say why each item is there.")
_INTERACTIVE = flags.DEFINE_bool("interactive", False, "Go on with prompt after prompt.")
_OUTPUT = flags.DEFINE_enum("output", "table", ("table", "json"), "A table for people, or a line of JSON a history.")
_CHECKPOINTS_OF = flags.DEFINE_string("checkpoints_of", None, "Where the checkpoints are, if not in --workdir.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by the validation metric), latest, or a step.")
_OPTIONS = command.define_flags(engine.Options)


def main() -> None:
    conditions, options = Filter.parse(_FILTER.value), _OPTIONS()
    said = command_line.said(_CONTEXT.value, _PROMPT.value, _PROFILE.value)
    loaded = loaded_model.load(_WORKDIR.value, _CHECKPOINT.value, checkpoints_of=_CHECKPOINTS_OF.value)
    wanted = user_requests.with_items(conditions, loaded.dataset.catalogue, _ALLOW.value, _DENY.value)
    requests = user_requests.requests(loaded.dataset, _SPLIT.value, _USERS.value, _USER.value, _ITEMS.value)
    requests = [said(request) for request in requests]
    if _INTERACTIVE.value:
        command_line.converse(loaded, requests, options, wanted, _PROFILE.value)
    else:
        command_line.answer(loaded, requests, options, wanted, _OUTPUT.value, _EXPLAIN.value)


if __name__ == "__main__":
    command.run(main)
