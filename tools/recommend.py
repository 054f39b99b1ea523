"""Recommends items for users of the dataset, or for any history of items, and prints them beside the history.

    python tools/recommend.py --workdir=runs/streaming --users=3
    python tools/recommend.py --workdir=runs/streaming --user=u17,u42 --top=20 --output=json
    python tools/recommend.py --workdir=runs/streaming --items=m00005,p01201 --exclude_history \
        --filter=media_type=podcast --filter=countries~DE,all --filter='release_time>=2023-06-01'
    python tools/recommend.py --workdir=runs/streaming --users=3 --temperature=1 --max_share=0.2 --share_of=artist
    python tools/recommend.py --workdir=runs/streaming --users=1 --prompt="something calm, no podcasts" --explain
    python tools/recommend.py --workdir=runs/streaming --users=1 --interactive

Needs no --config: the checkpoint describes its model. Items must fulfill all conditions of --filter.
"""

from absl import flags

from genrec import command
from genrec.data.filters import Filter
from genrec.decoding import loaded_model
from genrec.evaluation import evaluate
from genrec.serving import command_line, engine
from genrec.serving.requests import build_requests, with_allow_deny

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the stages' results.", required=True)
_USERS = flags.DEFINE_integer("users", 0, "Number of users to sample from the split.", lower_bound=0)
_USER = flags.DEFINE_list("user", [], "Comma-separated user ids.")
_ITEMS = flags.DEFINE_list("items", None, "A history: comma-separated item ids, oldest first; empty: none.")
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Split of the users.")
_CONTEXT = flags.DEFINE_multi_string("context", [], "NAME=VALUE: overrides a feature of the request context.")
_PROMPT = flags.DEFINE_string("prompt", "", "Text that conditions the recommendations.")
_PROFILE = flags.DEFINE_string("profile", None, "Path of a taste profile; tools/taste_profile.py makes one.")
_FILTER = flags.DEFINE_multi_string("filter", [], "A condition: COLUMN, = != ~ !~ >= or <=, comma-separated values.")
_ALLOW = flags.DEFINE_list("allow", None, "Comma-separated ids of the only items to recommend.")
_DENY = flags.DEFINE_list("deny", [], "Comma-separated ids of items to exclude.")
_EXPLAIN = flags.DEFINE_bool("explain", False, "Explain each item.")
_INTERACTIVE = flags.DEFINE_bool("interactive", False, "Read prompts and commands from the terminal.")
_OUTPUT = flags.DEFINE_enum("output", "table", ("table", "json"), "A table for people, or a line of JSON per request.")
_CHECKPOINTS_OF = flags.DEFINE_string("checkpoints_of", None, "Folder of the checkpoints, if not --workdir.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by the validation metric), latest, or a step.")
_OPTIONS = command.define_flags(engine.Options)


def main() -> None:
    conditions, options = Filter.parse(_FILTER.value), _OPTIONS()
    add_inputs = command_line.conditioning(_CONTEXT.value, _PROMPT.value, _PROFILE.value)
    loaded = loaded_model.load(_WORKDIR.value, _CHECKPOINT.value, checkpoints_of=_CHECKPOINTS_OF.value)
    item_filter = with_allow_deny(conditions, loaded.dataset.catalogue, _ALLOW.value, _DENY.value)
    requests = build_requests(loaded.dataset, _SPLIT.value, _USERS.value, _USER.value, _ITEMS.value)
    requests = [add_inputs(request) for request in requests]
    if _INTERACTIVE.value:
        command_line.chat(loaded, requests, options, item_filter, _PROFILE.value)
    else:
        command_line.print_recommendations(loaded, requests, options, item_filter, _OUTPUT.value, _EXPLAIN.value)


if __name__ == "__main__":
    command.run(main)
