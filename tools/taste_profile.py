"""Shows, edits and explains what a user lets the system know of their taste: a small JSON file.

    python tools/taste_profile.py --workdir=runs/streaming --user=u000017 --profile=u17.json
    python tools/taste_profile.py --workdir=runs/streaming --profile=u17.json --add=more_of:genre=jazz \
        --add='blocked:artist=Ada Costa' --remove=genre=metal
    python tools/recommend.py --workdir=runs/streaming --user=u000017 --profile=u17.json

A profile that is not there yet is made of what the user's history has most of. An entry is likes, dislikes, more_of,
less_of or blocked, and about COLUMN=VALUE of the catalogue, or item=ID.
"""

from absl import flags

from genrec import command
from genrec.serving import command_line

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the dataset.", required=True)
_PROFILE = flags.DEFINE_string("profile", None, "Path of the profile.", required=True)
_USER = flags.DEFINE_string("user", "", "Whose profile to make, where there is none yet.")
_ADD = flags.DEFINE_multi_string("add", [], "KIND:COLUMN=VALUE: one more entry; replaces what it said of the same.")
_REMOVE = flags.DEFINE_multi_string("remove", [], "COLUMN=VALUE: no more entry about it.")
_COLUMNS = flags.DEFINE_list("columns", ["media_type", "genre", "artist"], "Of what a new profile speaks.")


def main() -> None:
    print(command_line.edit(_WORKDIR.value, _PROFILE.value, _USER.value, _ADD.value, _REMOVE.value, _COLUMNS.value))


if __name__ == "__main__":
    command.run(main)
