"""What tools/taste_profile.py does: makes, changes and shows a profile."""

import datetime
from collections.abc import Sequence

from etils import epath

from genrec.data.dataset import Dataset
from genrec.decoding.profiles import Profile, ProfileError, learnt
from genrec.evaluation.recommendations import find_users


def edit(
    workdir: epath.PathLike,
    path: epath.PathLike,
    user: str,
    add: Sequence[str],
    remove: Sequence[str],
    columns: Sequence[str],
) -> str:
    """Changes the profile at `path`, which is made from the history of `user` where there is none; returns it to read.

    `add` are KIND:COLUMN=VALUE, `remove` COLUMN=VALUE; a new profile speaks of those of `columns` that there are. It is
    written when all changes are right. Raises ProfileError for one that is not, DataError for an unknown user.
    """
    path, dataset = epath.Path(path), Dataset(epath.Path(workdir) / "dataset")
    catalogue = dataset.catalogue
    if path.exists():
        profile = Profile.load(path)
        if user not in ("", profile.user):
            raise ProfileError(f"{path}: is the profile of {profile.user}, not of {user}")
    elif user:
        request = find_users(dataset.split("test"), [user])[0]
        there = [column for column in columns if column in catalogue.table.column_names]
        profile = learnt(user, request.history, catalogue, there, datetime.date.today().isoformat())
    else:
        raise ProfileError(f"{path}: no profile here. Say whose to make: --user=ID")
    for about in remove:
        profile = profile.without(about)
    for text in add:
        kind, _, about = text.partition(":")
        profile = profile.with_entry(kind, about)
    profile.checked(catalogue).save(path)
    return profile.readable(catalogue)
