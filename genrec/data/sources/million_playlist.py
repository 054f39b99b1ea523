"""Spotify's Million Playlist Dataset (aicrowd.com): slices of 1,000 playlists, mpd.slice.0-999.json, ...

A playlist is a user, and its tracks, in the order of `pos`, are the sequence. Titles of items are "track - artist".
"""

from typing import Any

import pyarrow as pa
from etils import epath

from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import folders, parsing
from genrec.progress import progress

LOG = pa.schema({"user_id": pa.string(), "item_id": pa.string(), "order": pa.int64()})
ITEMS = ("track_uri", "track_name", "artist_name", "album_name", "artist_uri", "album_uri", "duration_ms")
TEXTS = ("title", "album")
USERS = ("pid", "name", "num_followers", "modified_at", "collaborative")


def files(folder: epath.PathLike, subset: str = "") -> folders.Files:
    """Returns the slices, in the order of their playlists."""
    slices = folders.some(folder, f"mpd.slice.{subset}*.json")
    return {"slices": sorted(slices, key=lambda path: (len(path.name), path.name))}


def read(folder: epath.PathLike, subset: str = "") -> reading.Tables:
    """Returns interactions with a column `order`, items of all tracks, and playlists as users."""
    logs: list[pa.Table] = []
    items: list[pa.Table] = []
    users: list[pa.Table] = []
    seen: set[str] = set()
    paths = files(folder, subset)["slices"]
    for path in progress(paths, "reading slices"):
        rows, tracks, playlists = _slice(path, seen)
        logs.append(pa.Table.from_pydict(rows, LOG))
        items.append(pa.table(tracks))
        users.append(pa.table(playlists))
    log, catalogue, owners = (
        reading.SourceTable(pa.concat_tables(parts, promote_options="permissive"), str(paths[0]))
        for parts in (logs, items, users)
    )
    return reading.Tables(log, parsing.described(catalogue, log, TEXTS), owners, text_fields=TEXTS)


def _slice(path: epath.Path, seen: set[str]) -> tuple[dict[str, list], dict[str, list], dict[str, list]]:
    """Returns the columns of interactions, of tracks that are not in `seen`, to which they are added, and of users."""
    log: dict[str, list] = {name: [] for name in LOG.names}
    tracks: list[dict[str, Any]] = []
    content = parsing.json_file(path)
    try:
        playlists = content["playlists"]
        for playlist in playlists:
            for track in sorted(playlist["tracks"], key=lambda track: track["pos"]):
                row = (str(playlist["pid"]), track["track_uri"], track["pos"])
                for values, value in zip(log.values(), row, strict=True):
                    values.append(value)
                if track["track_uri"] not in seen:
                    seen.add(track["track_uri"])
                    tracks.append(track)
        users = {name: [playlist.get(name) for playlist in playlists] for name in USERS}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: is not a slice of playlists with pid and tracks (pos, track_uri): {error!r}. Download it again."
        ) from error
    uri, name, artist, album, artist_uri, album_uri, duration = (
        [track.get(field) for track in tracks] for field in ITEMS
    )
    items = {
        "item_id": pa.array(uri, pa.string()),
        "title": pa.array([" - ".join(filter(None, both)) for both in zip(name, artist, strict=True)], pa.string()),
        "artist": pa.array(artist, pa.string()),
        "album": pa.array(album, pa.string()),
        "artist_uri": pa.array(artist_uri, pa.string()),
        "album_uri": pa.array(album_uri, pa.string()),
        "duration_ms": pa.array(duration, pa.int64()),
    }
    users["user_id"] = [str(pid) for pid in users.pop("pid")]
    return log, items, users
