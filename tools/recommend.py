"""Recommends items for users of the dataset, or for a given history, and prints their titles.

    python tools/recommend.py --workdir=runs/streaming --users=3
    python tools/recommend.py --workdir=runs/streaming --user=u17,u42 --top=20 --output=json
    python tools/recommend.py --workdir=runs/streaming --items=m00005,p01201 --exclude_history \
        --filter=media_type=podcast --filter=countries~DE,all --filter='release_time>=2023-06-01'
    python tools/recommend.py --workdir=runs/streaming --users=3 --temperature=1 --max_share=0.2 --share_of=artist
    python tools/recommend.py --workdir=runs/streaming --users=1 --prompt="something calm, no podcasts" --explain
    python tools/recommend.py --workdir=runs/streaming --users=1 --prompt="no podcasts, something calm" --rules=off:1
    python tools/recommend.py --workdir=runs/streaming --users=1 --interactive

Needs no --config: the checkpoint has the settings of its model. All conditions of --filter must hold.
"""

from absl import flags

from genrec import command, script_flags
from genrec.data.filters import Filter
from genrec.decoding import loaded_model
from genrec.evaluation import evaluate
from genrec.serving import command_line
from genrec.serving.queries import Options
from genrec.serving.requests import build_requests, with_allow_deny

_WORKDIR = script_flags.define_path("workdir", "Work directory, with the results of all stages.", required=True)
_USERS = flags.DEFINE_integer("users", 0, "Number of users of the split, a fixed sample.", lower_bound=0)
_USER = flags.DEFINE_list("user", [], "Ids of users, separated by commas.")
_ITEMS = flags.DEFINE_list("items", None, "A history: item ids, oldest first, separated by commas; may be empty.")
_SPLIT = flags.DEFINE_enum("split", "test", evaluate.SPLITS, "Split of the users.")
_CONTEXT = flags.DEFINE_multi_string("context", [], "NAME=VALUE: a feature that overrides the user's own.")
_PROMPT = flags.DEFINE_string("prompt", "", "Prompt: the wanted items in words.")
_RULES = flags.DEFINE_string("rules", "on", "Rules of the prompt: on, off, or off:1,3 without these parts of it.")
_PROFILE = script_flags.define_path("profile", "Taste profile, a file that tools/taste_profile.py wrote.")
_FILTER = flags.DEFINE_multi_string("filter", [], "Condition: COLUMN, one of = != ~ !~ >= <=, comma-separated values.")
_ALLOW = flags.DEFINE_list("allow", None, "Ids of the only items to recommend.")
_DENY = flags.DEFINE_list("deny", [], "Ids of items that are never recommended.")
_EXPLAIN = flags.DEFINE_bool("explain", False, "Explain why each item is recommended.")
_INTERACTIVE = flags.DEFINE_bool("interactive", False, "Chat: read prompts until the input ends.")
_OUTPUT = flags.DEFINE_enum("output", "table", ("table", "json"), "Format: a table, or a line of JSON per history.")
_CHECKPOINTS_OF = script_flags.define_path("checkpoints_of", "Folder of the checkpoints, if not --workdir.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "Checkpoint: best (by validation metric), latest, or a step.")
_OPTIONS = script_flags.define_fields(Options)


def main() -> None:
    conditions, options = Filter.parse(_FILTER.value), _OPTIONS()
    add_inputs = command_line.conditioning(_CONTEXT.value, _PROMPT.value, _PROFILE.value, _RULES.value)
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
