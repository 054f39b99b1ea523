"""Shows, edits, explains, exports and deletes a taste profile: a user's preferences, in a small JSON file.

    python tools/taste_profile.py --workdir=runs/streaming --user=u000017 --profile=u17.json
    python tools/taste_profile.py --workdir=runs/streaming --profile=u17.json --add='more_of x2:genre=jazz|folk' \
        --add='blocked for a week:explicit=true & genre=hip hop' --remove=genre=metal
    python tools/recommend.py --workdir=runs/streaming --user=u000017 --profile=u17.json
    python tools/taste_profile.py --workdir=runs/streaming --profile=u17.json --export=copy.json --delete

A profile that does not exist is made from the most frequent values in the user's history. An entry is likes, dislikes,
more_of, less_of or blocked, for COLUMN=VALUE of the catalogue or item=ID.
"""

from absl import flags

from genrec import command, printing, script_flags
from genrec.serving import command_line

_WORKDIR = script_flags.define_path("workdir", "Work directory with the dataset.", required=True)
_PROFILE = script_flags.define_path("profile", "Path of the profile's file.", required=True)
_USER = flags.DEFINE_string("user", "", "Id of the user for whom to make a profile that does not exist.")
_ADD = flags.DEFINE_multi_string("add", [], "KIND[ xSTRENGTH][ for N days]:COLUMN=VALUE: entry to add or replace.")
_REMOVE = flags.DEFINE_multi_string("remove", [], "COLUMN=VALUE: entry to remove.")
_REMOVE_LEARNED = flags.DEFINE_bool("remove_learned", False, "Remove all entries that were learned from the log.")
_COLUMNS = flags.DEFINE_list("columns", ["media_type", "genre", "artist"], "Columns of a new profile.")
_EXPORT = script_flags.define_path("export", "Path of a copy of the profile, written after all edits.")
_DELETE = flags.DEFINE_bool("delete", False, "Delete the profile; after the copy, if --export is given.")


def main() -> None:
    add, remove, learned, path = _ADD.value, _REMOVE.value, _REMOVE_LEARNED.value, _PROFILE.value
    if add or remove or learned or not _DELETE.value:
        printing.show(
            command_line.edit_profile(_WORKDIR.value, path, _USER.value, add, remove, _COLUMNS.value, learned)
        )
    if _EXPORT.value:
        printing.show(command_line.export_profile(path, _EXPORT.value))
    if _DELETE.value:
        printing.show(command_line.delete_profile(path, _USER.value))


if __name__ == "__main__":
    command.run(main)
