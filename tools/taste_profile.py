"""Shows, edits and explains a taste profile: the preferences of a user, in a small JSON file.

    python tools/taste_profile.py --workdir=runs/streaming --user=u000017 --profile=u17.json
    python tools/taste_profile.py --workdir=runs/streaming --profile=u17.json --add=more_of:genre=jazz \
        --add='blocked:artist=Ada Costa' --remove=genre=metal
    python tools/recommend.py --workdir=runs/streaming --user=u000017 --profile=u17.json

A profile that does not exist is made from the most frequent values in the user's history. An entry is likes, dislikes,
more_of, less_of or blocked, for COLUMN=VALUE of the catalogue or item=ID.
"""

from absl import flags

from genrec import command, printing, script_flags
from genrec.serving import command_line

_WORKDIR = script_flags.define_path("workdir", "Work directory with the dataset.", required=True)
_PROFILE = script_flags.define_path("profile", "Path of the profile's file.", required=True)
_USER = flags.DEFINE_string("user", "", "Id of the user for whom to make a profile that does not exist.")
_ADD = flags.DEFINE_multi_string("add", [], "KIND:COLUMN=VALUE: entry to add, which replaces one for the same value.")
_REMOVE = flags.DEFINE_multi_string("remove", [], "COLUMN=VALUE: entry to remove.")
_COLUMNS = flags.DEFINE_list("columns", ["media_type", "genre", "artist"], "Columns of a new profile.")


def main() -> None:
    text = command_line.edit_profile(
        _WORKDIR.value, _PROFILE.value, _USER.value, add=_ADD.value, remove=_REMOVE.value, columns=_COLUMNS.value
    )
    printing.show(text)


if __name__ == "__main__":
    command.run(main)
