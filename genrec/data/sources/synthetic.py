"""A synthetic streaming service with known truth: the default data, made from a seed in seconds.

What listeners do, and a model can learn:

* in a session they go on to the next track, episode or book of a collection, or come back to a series later;
* they move to collections that are related to the one they hear: by the same creator, or of the same scene;
* otherwise they choose by taste: few genres each, tilted by country and age, drifting over months to related genres;
* the hour of the day goes with the media type: podcasts in the morning, music by day, audiobooks at night;
* they hear only what is released, available in their country and, under 18, not explicit.

Popularity is skewed: a collection's weight falls with its rank within its genre (Zipf), and so does an item's with its
place in the collection.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from etils import epath

from genrec import config as configs
from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import synthetic_catalogue as catalogue

AGE_BANDS = ("13-17", "18-24", "25-34", "35-49", "50+")
AGE_SHARES = (0.1, 0.25, 0.3, 0.2, 0.15)
COUNTRY_SHARES = (0.3, 0.12, 0.12, 0.1, 0.12, 0.09, 0.09, 0.06)
HOME = {"samba": "BR", "j-pop": "JP", "hip hop": "US", "techno": "DE", "reggae": "NG"}  # where a genre is loved most

MEAN_LENGTH = 22  # interactions per user
SHORTEST, LONGEST = 6, 150
SESSION_ENDS = 0.25  # chance after each item
DAYS_BETWEEN_SESSIONS = 6
GOES_ON = (0.3, 0.3, 0.45)  # per media type: chance that the next item of the collection follows within a session
COMES_BACK = 0.3  # chance that a session begins with the next item of the last series
FOLLOWS_RELATION = 0.25  # chance of a related collection, where nothing else was decided
RELATED = 4  # collections per collection
STAYS_IN_GENRE = 0.75  # chance that a choice by taste keeps to the session's genre
DRIFTS = 0.15  # chance per session
DRIFT = 0.35  # share of the taste that a drift replaces
ZIPF = 0.7  # exponent of the collections' popularity
VECTOR_WIDTH = 16  # of the users' vectors
VECTOR_NOISE = 0.3  # beside their own deviation
REMEMBERED = 8  # shows and book series in which a user knows the place
HOURS = ((9, 20), (6, 10), (20, 24))  # of sessions, per media type


@dataclasses.dataclass(frozen=True)
class Truth:
    """What the simulation knows and a model has to find out."""

    genres: tuple[str, ...]  # names, the columns of the tastes
    first_taste: np.ndarray  # float32[users, genres], rows sum to 1: when the user joined
    last_taste: np.ndarray  # float32[users, genres]: after the user's last interaction
    item_genre: np.ndarray  # int32[items]
    next_item: np.ndarray  # int32[items]: the next in the collection, -1 after the last
    eligible: np.ndarray  # bool[items, countries]
    countries: tuple[str, ...]  # names, the columns of `eligible`


@dataclasses.dataclass(frozen=True)
class World:
    tables: reading.Tables  # in genrec's schema, as if read from a user's files
    truth: Truth


def generate(config: configs.SyntheticCatalogue) -> World:
    """The world of this seed: the same config gives the same world everywhere."""
    if config.items < 100 or config.users < 10:
        raise DataError("data.synthetic needs at least 100 items and 10 users. Raise the numbers.")
    rng = np.random.default_rng(config.seed)
    items = catalogue.generate(config.items, rng)
    country = rng.choice(len(catalogue.COUNTRIES), config.users, p=COUNTRY_SHARES)
    age = rng.choice(len(AGE_BANDS), config.users, p=AGE_SHARES)
    affinity = _affinity()
    first_taste = _tastes(country, age, items, rng)
    taste = first_taste.copy()
    users, chosen, times = _listen(items, taste, affinity, country, age == 0, rng)

    user_ids = np.array([f"u{user:06d}" for user in range(config.users)])
    order = np.argsort(times, kind="stable")  # a log is written as things happen
    interactions = {
        "user_id": user_ids[users[order]].tolist(),
        "item_id": items.table["item_id"].take(pa.array(chosen[order])),
        "timestamp": times[order],
        "event_type": np.where(rng.random(len(order)) < 0.1, "like", "play").tolist(),
    }
    attributes = {
        "user_id": user_ids.tolist(),
        "country": np.array(catalogue.COUNTRIES)[country].tolist(),
        "age_band": np.array(AGE_BANDS)[age].tolist(),
        "vector": _vectors(first_taste, config.seed).tolist(),
    }
    tables = reading.Tables(
        reading.from_columns(interactions, "synthetic interactions"),
        reading.SourceTable(items.table, "synthetic items"),
        reading.from_columns(attributes, "synthetic users"),
    )
    truth = Truth(
        genres=tuple(genre[0] for genre in catalogue.GENRES),
        first_taste=first_taste.astype(np.float32),
        last_taste=taste.astype(np.float32),
        item_genre=items.genre[items.collection].astype(np.int32),
        next_item=_next_item(items).astype(np.int32),
        eligible=items.available[items.collection],
        countries=catalogue.COUNTRIES,
    )
    return World(tables, truth)


def write_files(config: configs.SyntheticCatalogue, folder: epath.PathLike, ending: str = ".csv") -> None:
    """Writes interactions, items and users as `ending` (.csv or .parquet) files, and `truth.npz` beside them."""
    if ending not in (".csv", ".parquet"):
        raise DataError(f"{ending!r} cannot be written. Choose .csv or .parquet.")
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    world = generate(config)
    for name in ("interactions", "items", "users"):
        table = getattr(world.tables, name).table
        if ending == ".csv" and "vector" in table.column_names:  # CSV has no lists
            texts = [" ".join(f"{x:.5g}" for x in vector) for vector in table["vector"].to_pylist()]
            table = table.set_column(table.column_names.index("vector"), "vector", pa.array(texts))
        with (folder / f"{name}{ending}").open("wb") as file:
            write = pyarrow.csv.write_csv if ending == ".csv" else pyarrow.parquet.write_table
            write(table, file)
    with (folder / "truth.npz").open("wb") as file:
        np.savez_compressed(file, **dataclasses.asdict(world.truth))


def _vectors(taste: np.ndarray, seed: int) -> np.ndarray:
    """float32[users, VECTOR_WIDTH]: what another service, which knew the users before they joined, makes of a taste.

    Draws its noise by itself: what users do stays the same.
    """
    rng = np.random.default_rng((seed, 1))
    directions = rng.normal(size=(taste.shape[1], VECTOR_WIDTH)) / np.sqrt(VECTOR_WIDTH)
    seen = np.sqrt(taste) @ directions
    return (seen + VECTOR_NOISE * seen.std() * rng.normal(size=seen.shape)).astype(np.float32)


def _affinity() -> np.ndarray:
    """float64[genres, genres], rows sum to 1: where a taste drifts to."""
    scenes = np.array([genre[2] for genre in catalogue.GENRES])
    weights = np.where(scenes[:, None] == scenes[None, :], 1.0, 0.03)
    np.fill_diagonal(weights, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def _tastes(country: np.ndarray, age: np.ndarray, items: catalogue.Items, rng: np.random.Generator) -> np.ndarray:
    """float64[users, genres]: sparse, around what is liked in the user's country and at the user's age."""
    genres = len(catalogue.GENRES)
    liked = np.exp(rng.normal(0, 0.5, (len(catalogue.COUNTRIES), genres)))
    for genre, place in HOME.items():
        column = [g[0] for g in catalogue.GENRES].index(genre)
        liked[catalogue.COUNTRIES.index(place), column] *= 4
    liked = liked[country] * np.exp(rng.normal(0, 0.5, (len(AGE_BANDS), genres)))[age]
    liked *= np.bincount(items.genre, minlength=genres) > 0  # nobody longs for what there is none of
    liked /= liked.sum(axis=1, keepdims=True)
    taste = rng.gamma(4 * liked + 1e-9) + 1e-9 * liked
    return taste / taste.sum(axis=1, keepdims=True)


def _next_item(items: catalogue.Items) -> np.ndarray:
    """int64[items], -1 after the last of a collection."""
    item = np.arange(len(items.collection))
    return np.where(items.position + 1 < items.size[items.collection], item + 1, -1)


def _related(items: catalogue.Items, weight: np.ndarray, affinity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64[collections, RELATED]: mostly by the same creator or in the same genre, else in a related genre."""
    count = len(items.size)
    related = np.empty((count, RELATED), np.int64)
    closeness = affinity + np.eye(len(affinity))
    for c in range(count):
        likely = weight * closeness[items.genre[c]][items.genre] * np.where(items.creator == items.creator[c], 20, 1)
        likely[c] = 0
        related[c] = rng.choice(count, RELATED, p=likely / likely.sum())
    return related


def _listen(
    items: catalogue.Items,
    taste: np.ndarray,
    affinity: np.ndarray,
    country: np.ndarray,
    minor: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lets all users listen, one item each per round; `taste` drifts in place.

    Returns:
      int64[n] users, items, and times in seconds.
    """
    users = len(taste)
    weight = _popularity(items.genre, rng)
    related = _related(items, weight, affinity, rng)
    next_item = _next_item(items)
    by_genre = _WeightedGroups(items.genre, weight, len(affinity))
    places = _Places(items, next_item, users)

    length = np.clip(rng.lognormal(np.log(MEAN_LENGTH) - 0.32, 0.8, users), SHORTEST, LONGEST).astype(int)
    now = catalogue.START + rng.uniform(0, 0.7 * catalogue.DAYS, users) * catalogue.DAY
    heard = np.full(users, -1)  # the last item
    genre = _draw(taste, rng)  # of the session
    log = []
    for turn in range(length.max()):
        who = np.flatnonzero(turn < length)
        begins = (heard[who] < 0) | (rng.random(len(who)) < SESSION_ENDS)
        _drift(taste, affinity, who[begins & (rng.random(len(who)) < DRIFTS)], rng)
        resumed = places.resume(who)
        comes_back = begins & (resumed >= 0) & (rng.random(len(who)) < COMES_BACK)
        genre[who[begins]] = _draw(taste[who[begins]], rng)
        genre[who[comes_back]] = items.genre[items.collection[resumed[comes_back]]]
        now[who[begins]] = _session_start(now[who[begins]], genre[who[begins]], rng)

        # Proposals in the order of their precedence; the first that is allowed is heard.
        collection = items.collection[heard[who]]
        goes_on = ~begins & (rng.random(len(who)) < np.array(GOES_ON)[items.media[collection]])
        neighbor = related[collection, rng.integers(0, RELATED, len(who))]
        follows = (heard[who] >= 0) & (rng.random(len(who)) < FOLLOWS_RELATION)
        proposals = [
            np.where(comes_back, resumed, -1),
            np.where(goes_on, next_item[heard[who]], -1),
            np.where(follows, places.enter(who, neighbor, rng), -1),
        ]
        for _ in range(5):
            stays = rng.random(len(who)) < STAYS_IN_GENRE
            wanted = np.where(stays, genre[who], _draw(taste[who], rng))
            proposals.append(places.enter(who, by_genre.draw(wanted, rng), rng))
        choice = np.full(len(who), -1)
        for proposal in proposals:
            c = items.collection[proposal]
            allowed = (proposal >= 0) & (proposal != heard[who]) & (items.release[proposal] <= now[who])
            allowed &= items.available[c, country[who]] & ~(items.explicit[c] & minor[who])
            choice = np.where((choice < 0) & allowed, proposal, choice)

        found = choice >= 0
        who, what = who[found], choice[found]
        log.append((who, what, now[who].astype(np.int64)))
        heard[who] = what
        places.remember(who, what)
        now[who] += items.seconds[what] + rng.integers(2, 60, len(who))
    who, what, when = (np.concatenate(part) for part in zip(*log, strict=True))
    kept = when < catalogue.START + catalogue.DAYS * catalogue.DAY
    return who[kept], what[kept], when[kept]


class _Places:
    """Where each user is in the shows and book series heard lately: one goes on there, not at the beginning."""

    def __init__(self, items: catalogue.Items, next_item: np.ndarray, users: int):
        self._items = items
        self._next = next_item
        self._last = np.full((users, REMEMBERED), -1)  # item heard last, of each remembered series, latest first

    def resume(self, who: np.ndarray) -> np.ndarray:
        """The next item of the series heard last; -1 where there is none."""
        last = self._last[who, 0]
        return np.where(last >= 0, self._next[last], -1)

    def enter(self, who: np.ndarray, collection: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The item with which a user begins or goes on with a collection; -1 where a series is finished.

        An album is begun at any track, a show at any episode (the early ones most often), a book series at its first.
        """
        items = self._items
        skipped = np.minimum(rng.geometric(0.25, len(collection)) - 1, items.size[collection] - 1)
        entrance = items.first[collection] + np.where(items.media[collection] == 2, 0, skipped)
        last = self._last[who]  # [who, series]
        same = (last >= 0) & (items.collection[last] == collection[:, None])
        known = last[np.arange(len(who)), same.argmax(axis=1)]
        return np.where(same.any(axis=1), self._next[known], entrance)

    def remember(self, who: np.ndarray, what: np.ndarray) -> None:
        """Moves the series of the items just heard to the front; the one longest ago is forgotten."""
        items = self._items
        series = items.media[items.collection[what]] > 0
        who, what = who[series], what[series]
        last = self._last[who]
        same = (last >= 0) & (items.collection[last] == items.collection[what][:, None])
        place = np.where(same.any(axis=1), same.argmax(axis=1), REMEMBERED - 1)[:, None]
        shifted = np.concatenate([what[:, None], last[:, :-1]], axis=1)
        self._last[who] = np.where(np.arange(REMEMBERED) <= place, shifted, last)


def _popularity(genre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float64[collections]: by rank within the genre, ranks at random."""
    weight = np.empty(len(genre))
    for g in np.unique(genre):
        weight[genre == g] = (1.0 + rng.permutation((genre == g).sum())) ** -ZIPF
    return weight


class _WeightedGroups:
    """Draws members of groups by weight, one group per draw."""

    def __init__(self, group: np.ndarray, weight: np.ndarray, groups: int):
        self._members = np.argsort(group, kind="stable")
        self._cumulative = np.concatenate([[0], np.cumsum(weight[self._members])])
        self._bounds = self._cumulative[np.concatenate([[0], np.cumsum(np.bincount(group, minlength=groups))])]

    def draw(self, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        low, high = self._bounds[group], self._bounds[group + 1]
        place = np.searchsorted(self._cumulative, low + rng.random(len(group)) * (high - low), side="right") - 1
        return self._members[np.minimum(place, len(self._members) - 1)]


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64[rows], one column per row of float64[rows, columns]."""
    cumulative = np.cumsum(probabilities, axis=1)
    point = rng.random((len(probabilities), 1)) * cumulative[:, -1:]
    return np.minimum((cumulative <= point).sum(axis=1), probabilities.shape[1] - 1)


def _drift(taste: np.ndarray, affinity: np.ndarray, users: np.ndarray, rng: np.random.Generator) -> None:
    if len(users):
        new = _draw(affinity[_draw(taste[users], rng)], rng)
        taste[users] *= 1 - DRIFT
        taste[users, new] += DRIFT


def _session_start(now: np.ndarray, genre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The next session's time in seconds: some days later, at an hour that suits the genre's media type."""
    media = np.array([g[1] for g in catalogue.GENRES])[genre]
    days = np.floor(now / catalogue.DAY + 1 + rng.exponential(DAYS_BETWEEN_SESSIONS - 1, len(now)))
    earliest, latest = np.array(HOURS).T
    hours = rng.uniform(earliest[media], latest[media])
    return days * catalogue.DAY + hours * 3600
