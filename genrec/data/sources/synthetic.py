"""Synthetic streaming service with known ground truth: the default data, made from a seed in seconds.

Behavior of the simulated users, which a model can learn:

* within a session they continue with the next track, episode or book of a collection, or return to a series later;
* they move to related collections: by the same creator, in the same genre, or in a genre of the same scene;
* otherwise they choose by taste: a few genres per user, which depend on country and age and drift to related genres;
* the hour of the day goes with the media type: podcasts in the morning, music by day, audiobooks at night;
* they hear only items that are released, available in their country and, under 18, not explicit.

Popularity is skewed: a collection's weight falls with its rank within its genre (Zipf), and an item's with its position
in the collection.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from genrec import config as configs
from genrec.data import reading
from genrec.data.errors import DataError
from genrec.data.sources import synthetic_catalogue as catalogue

AGE_BANDS = ("13-17", "18-24", "25-34", "35-49", "50+")
AGE_SHARES = (0.1, 0.25, 0.3, 0.2, 0.15)
COUNTRY_SHARES = (0.3, 0.12, 0.12, 0.1, 0.12, 0.09, 0.09, 0.06)
HOME = {"samba": "BR", "j-pop": "JP", "hip hop": "US", "techno": "DE", "reggae": "NG"}  # genre -> its favorite country

MEAN_LENGTH = 22  # interactions per user
SHORTEST, LONGEST = 6, 150  # interactions per user
SESSION_ENDS = 0.25  # probability after each item
DAYS_BETWEEN_SESSIONS = 6  # mean
GOES_ON = (0.3, 0.3, 0.45)  # per media type: probability of the collection's next item, within a session
COMES_BACK = 0.3  # probability that a session begins with the next item of the latest series
FOLLOWS_RELATION = 0.25  # probability of a related collection, where none of the above holds
RELATED = 4  # related collections per collection
STAYS_IN_GENRE = 0.75  # probability that a choice by taste keeps the session's genre
DRIFTS = 0.15  # probability per session that the taste drifts
DRIFT = 0.35  # share of the taste that a drift replaces
ZIPF = 0.7  # exponent of the collections' popularity
VECTOR_WIDTH = 16  # of the users' vectors
VECTOR_NOISE = 0.3  # standard deviation, relative to that of the signal
REMEMBERED = 8  # shows and book series in which a user's position is kept
HOURS = ((9, 20), (6, 10), (20, 24))  # per media type: earliest and latest begin of a session


@dataclasses.dataclass(frozen=True)
class Truth:
    """Ground truth of the simulation, which a model has to infer."""

    genres: tuple[str, ...]  # names, the columns of the tastes
    first_taste: np.ndarray  # float32[users, genres], rows sum to 1: when the user joined
    last_taste: np.ndarray  # float32[users, genres]: after the user's last interaction
    item_genre: np.ndarray  # int32[items]
    next_item: np.ndarray  # int32[items]: the next in the collection, -1 after the last
    eligible: np.ndarray  # bool[items, countries]
    countries: tuple[str, ...]  # names, the columns of `eligible`


@dataclasses.dataclass(frozen=True)
class World:
    """Result of the simulation."""

    tables: reading.Tables  # in genrec's schema, as if read from files
    truth: Truth


def generate(config: configs.SyntheticCatalogue) -> World:
    """Returns the world of the config's seed, the same on every machine; raises DataError if it is too small."""
    if config.items < 100 or config.users < 10:
        raise DataError(f"data.synthetic needs at least 100 items and 10 users, got {config.items} and {config.users}.")
    rng = np.random.default_rng(config.seed)
    items = catalogue.generate(config.items, rng)
    items_table = catalogue.table(items, rng)
    country = rng.choice(len(catalogue.COUNTRIES), config.users, p=COUNTRY_SHARES)
    age = rng.choice(len(AGE_BANDS), config.users, p=AGE_SHARES)
    first_taste = _tastes(country, age, items, rng)
    simulation = _Simulation(items, first_taste.copy(), country, age == 0, rng)
    users, chosen, times = simulation.run()

    user_ids = np.array([f"u{user:06d}" for user in range(config.users)])
    order = np.argsort(times, kind="stable")  # a log is in the order of time
    interactions = {
        "user_id": user_ids[users[order]].tolist(),
        "item_id": items_table["item_id"].take(pa.array(chosen[order])),
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
        reading.SourceTable(items_table, "synthetic items"),
        reading.from_columns(attributes, "synthetic users"),
    )
    truth = Truth(
        genres=tuple(genre[0] for genre in catalogue.GENRES),
        first_taste=first_taste.astype(np.float32),
        last_taste=simulation.taste.astype(np.float32),
        item_genre=items.genre[items.collection].astype(np.int32),
        next_item=_next_item(items).astype(np.int32),
        eligible=items.available[items.collection],
        countries=catalogue.COUNTRIES,
    )
    return World(tables, truth)


def _vectors(taste: np.ndarray, seed: int) -> np.ndarray:
    """Returns float32[users, VECTOR_WIDTH], noisy projections of the tastes, like user embeddings of another service.

    Has a random generator of its own, so that the interactions do not depend on the vectors.
    """
    rng = np.random.default_rng((seed, 1))
    directions = rng.normal(size=(taste.shape[1], VECTOR_WIDTH)) / np.sqrt(VECTOR_WIDTH)
    seen = np.sqrt(taste) @ directions
    return (seen + VECTOR_NOISE * seen.std() * rng.normal(size=seen.shape)).astype(np.float32)


def _affinity() -> np.ndarray:
    """Returns float64[genres, genres], rows sum to 1: the probabilities of the genre that a taste drifts to."""
    scenes = np.array([genre[2] for genre in catalogue.GENRES])
    weights = np.where(scenes[:, None] == scenes[None, :], 1.0, 0.03)
    np.fill_diagonal(weights, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def _tastes(country: np.ndarray, age: np.ndarray, items: catalogue.Items, rng: np.random.Generator) -> np.ndarray:
    """Returns float64[users, genres], sparse tastes around those of the user's country and age; rows sum to 1."""
    genres = len(catalogue.GENRES)
    liked = np.exp(rng.normal(0, 0.5, (len(catalogue.COUNTRIES), genres)))
    for genre, place in HOME.items():
        column = [g[0] for g in catalogue.GENRES].index(genre)
        liked[catalogue.COUNTRIES.index(place), column] *= 4
    liked = liked[country] * np.exp(rng.normal(0, 0.5, (len(AGE_BANDS), genres)))[age]
    liked *= np.bincount(items.genre, minlength=genres) > 0  # only genres that have items
    liked /= liked.sum(axis=1, keepdims=True)
    taste = rng.gamma(4 * liked + 1e-9) + 1e-9 * liked
    return taste / taste.sum(axis=1, keepdims=True)


def _next_item(items: catalogue.Items) -> np.ndarray:
    """Returns int64[items], the next item of the collection, -1 after the last."""
    item = np.arange(len(items.collection))
    return np.where(items.position + 1 < items.size[items.collection], item + 1, -1)


def _related(items: catalogue.Items, weight: np.ndarray, affinity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns int64[collections, RELATED]: mostly by the same creator or in the same genre, else in a related genre."""
    count = len(items.size)
    related = np.empty((count, RELATED), np.int64)
    closeness = affinity + np.eye(len(affinity))
    for c in range(count):
        likely = weight * closeness[items.genre[c]][items.genre] * np.where(items.creator == items.creator[c], 20, 1)
        likely[c] = 0
        related[c] = rng.choice(count, RELATED, p=likely / likely.sum())
    return related


class _Simulation:
    """All users listening, one item each per turn."""

    def __init__(
        self,
        items: catalogue.Items,
        taste: np.ndarray,
        country: np.ndarray,
        minor: np.ndarray,
        rng: np.random.Generator,
    ):
        """Draws the initial state; `taste` will drift in place."""
        users = len(taste)
        self.taste, self._affinity = taste, _affinity()
        self._items, self._country, self._minor, self._rng = items, country, minor, rng
        weight = _popularity(items.genre, rng)
        self._related = _related(items, weight, self._affinity, rng)
        self._next_item = _next_item(items)
        self._by_genre = _WeightedGroups(items.genre, weight, len(self._affinity))
        self._places = _Places(items, self._next_item, users)
        length = rng.lognormal(np.log(MEAN_LENGTH) - 0.32, 0.8, users)
        self._length = np.clip(length, SHORTEST, LONGEST).astype(int)
        self._now = catalogue.START + rng.uniform(0, 0.7 * catalogue.DAYS, users) * catalogue.DAY
        self._heard = np.full(users, -1)  # the latest item
        self._genre = _draw(taste, rng)  # of the session

    def run(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns int64[n] users, items, and times in seconds."""
        turns = [self._turn(np.flatnonzero(turn < self._length)) for turn in range(self._length.max())]
        who, what, when = (np.concatenate(part) for part in zip(*turns, strict=True))
        kept = when < catalogue.START + catalogue.DAYS * catalogue.DAY
        return who[kept], what[kept], when[kept]

    def _turn(self, who: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lets users choose; returns those who found an item, the items, and the times."""
        items = self._items
        choice = np.full(len(who), -1)
        for proposal in self._proposals(who):
            c = items.collection[proposal]
            allowed = (proposal >= 0) & (proposal != self._heard[who]) & (items.release[proposal] <= self._now[who])
            allowed &= items.available[c, self._country[who]] & ~(items.explicit[c] & self._minor[who])
            choice = np.where((choice < 0) & allowed, proposal, choice)
        found = choice >= 0
        who, what = who[found], choice[found]
        when = self._now[who].astype(np.int64)
        self._heard[who] = what
        self._places.remember(who, what)
        self._now[who] += items.seconds[what] + self._rng.integers(2, 60, len(who))
        return who, what, when

    def _proposals(self, who: np.ndarray) -> list[np.ndarray]:
        """Returns int64[users] proposals, -1 for none, in the order of precedence; the first allowed one is chosen."""
        items, rng, heard = self._items, self._rng, self._heard[who]
        begins, returning = self._begin_sessions(who)
        collection = items.collection[heard]
        goes_on = ~begins & (rng.random(len(who)) < np.array(GOES_ON)[items.media[collection]])
        neighbor = self._related[collection, rng.integers(0, RELATED, len(who))]
        follows = (heard >= 0) & (rng.random(len(who)) < FOLLOWS_RELATION)
        proposals = [
            returning,
            np.where(goes_on, self._next_item[heard], -1),
            np.where(follows, self._places.enter(who, neighbor, rng), -1),
        ]
        for _ in range(5):
            stays = rng.random(len(who)) < STAYS_IN_GENRE
            wanted = np.where(stays, self._genre[who], _draw(self.taste[who], rng))
            proposals.append(self._places.enter(who, self._by_genre.draw(wanted, rng), rng))
        return proposals

    def _begin_sessions(self, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Begins sessions: tastes drift, and genre and time are drawn.

        Returns bool[users], whose session begins, and int64[users], the item with which they return to a series, or -1.
        """
        items, rng = self._items, self._rng
        begins = (self._heard[who] < 0) | (rng.random(len(who)) < SESSION_ENDS)
        _drift(self.taste, self._affinity, who[begins & (rng.random(len(who)) < DRIFTS)], rng)
        resumed = self._places.resume(who)
        comes_back = begins & (resumed >= 0) & (rng.random(len(who)) < COMES_BACK)
        self._genre[who[begins]] = _draw(self.taste[who[begins]], rng)
        self._genre[who[comes_back]] = items.genre[items.collection[resumed[comes_back]]]
        self._now[who[begins]] = _session_start(self._now[who[begins]], self._genre[who[begins]], rng)
        return begins, np.where(comes_back, resumed, -1)


class _Places:
    """Each user's position in the latest shows and book series, where the user resumes them."""

    def __init__(self, items: catalogue.Items, next_item: np.ndarray, users: int):
        self._items = items
        self._next = next_item
        self._last = np.full((users, REMEMBERED), -1)  # latest item of each series, latest series first

    def resume(self, who: np.ndarray) -> np.ndarray:
        """Returns the next item of each user's latest series; -1 where there is none."""
        last = self._last[who, 0]
        return np.where(last >= 0, self._next[last], -1)

    def enter(self, who: np.ndarray, collection: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the item with which each user begins or resumes a collection; -1 where a series is finished.

        Albums and shows are begun at any item, most often an early one, book series at the first.
        """
        items = self._items
        skipped = np.minimum(rng.geometric(0.25, len(collection)) - 1, items.size[collection] - 1)
        entrance = items.first[collection] + np.where(items.media[collection] == 2, 0, skipped)
        last = self._last[who]  # [who, series]
        same = (last >= 0) & (items.collection[last] == collection[:, None])
        known = last[np.arange(len(who)), same.argmax(axis=1)]
        return np.where(same.any(axis=1), self._next[known], entrance)

    def remember(self, who: np.ndarray, what: np.ndarray) -> None:
        """Moves the series of the items just heard to the front, and drops the oldest one."""
        items = self._items
        series = items.media[items.collection[what]] > 0
        who, what = who[series], what[series]
        last = self._last[who]
        same = (last >= 0) & (items.collection[last] == items.collection[what][:, None])
        place = np.where(same.any(axis=1), same.argmax(axis=1), REMEMBERED - 1)[:, None]
        shifted = np.concatenate([what[:, None], last[:, :-1]], axis=1)
        self._last[who] = np.where(np.arange(REMEMBERED) <= place, shifted, last)


def _popularity(genre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns float64[collections], Zipf weights of random ranks within the genre."""
    weight = np.empty(len(genre))
    for g in np.unique(genre):
        weight[genre == g] = (1.0 + rng.permutation((genre == g).sum())) ** -ZIPF
    return weight


class _WeightedGroups:
    """Sampler of members of groups, in proportion to their weights."""

    def __init__(self, group: np.ndarray, weight: np.ndarray, groups: int):
        self._members = np.argsort(group, kind="stable")
        self._cumulative = np.concatenate([[0], np.cumsum(weight[self._members])])
        self._bounds = self._cumulative[np.concatenate([[0], np.cumsum(np.bincount(group, minlength=groups))])]

    def draw(self, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns int64[n], a member of each of the groups (int64[n])."""
        low, high = self._bounds[group], self._bounds[group + 1]
        place = np.searchsorted(self._cumulative, low + rng.random(len(group)) * (high - low), side="right") - 1
        return self._members[np.minimum(place, len(self._members) - 1)]


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns int64[rows], one column drawn per row of float64[rows, columns], unnormalized probabilities."""
    cumulative = np.cumsum(probabilities, axis=1)
    point = rng.random((len(probabilities), 1)) * cumulative[:, -1:]
    return np.minimum((cumulative <= point).sum(axis=1), probabilities.shape[1] - 1)


def _drift(taste: np.ndarray, affinity: np.ndarray, users: np.ndarray, rng: np.random.Generator) -> None:
    """Moves a share of the taste (float64[users, genres], in place) of some users to a genre near a liked one."""
    if len(users):
        new = _draw(affinity[_draw(taste[users], rng)], rng)
        taste[users] *= 1 - DRIFT
        taste[users, new] += DRIFT


def _session_start(now: np.ndarray, genre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the start of the next session in Unix seconds: days later, at an hour of the genre's media type."""
    media = np.array([g[1] for g in catalogue.GENRES])[genre]
    days = np.floor(now / catalogue.DAY + 1 + rng.exponential(DAYS_BETWEEN_SESSIONS - 1, len(now)))
    earliest, latest = np.array(HOURS).T
    hours = rng.uniform(earliest[media], latest[media])
    return days * catalogue.DAY + hours * 3600
