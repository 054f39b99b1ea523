"""Makes, edits and prints the taste profile of a user: a small JSON file of explicit preferences.

    python tools/taste_profile.py --workdir=runs/streaming --user=u000017 --profile=u17.json
    python tools/taste_profile.py --workdir=runs/streaming --profile=u17.json --add=more_of:genre=jazz \
        --add='blocked:artist=Ada Costa' --remove=genre=metal
    python tools/recommend.py --workdir=runs/streaming --user=u000017 --profile=u17.json

A new profile has the most frequent values of the user's history. The kind of an entry is likes, dislikes, more_of,
less_of or blocked; it is about COLUMN=VALUE of the catalogue, or item=ID.
"""

from absl import flags

from genrec import command
from genrec.serving import command_line

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder with the dataset.", required=True)
_PROFILE = flags.DEFINE_string("profile", None, "Path of the profile.", required=True)
_USER = flags.DEFINE_string("user", "", "User id of a new profile.")
_ADD = flags.DEFINE_multi_string("add", [], "KIND:COLUMN=VALUE: adds an entry, or replaces that about the same.")
_REMOVE = flags.DEFINE_multi_string("remove", [], "COLUMN=VALUE: removes the entry about it.")
_COLUMNS = flags.DEFINE_list("columns", ["media_type", "genre", "artist"], "Catalogue columns of a new profile.")


def main() -> None:
    text = command_line.edit_profile(
        _WORKDIR.value, _PROFILE.value, _USER.value, add=_ADD.value, remove=_REMOVE.value, columns=_COLUMNS.value
    )
    print(text)


if __name__ == "__main__":
    command.run(main)
