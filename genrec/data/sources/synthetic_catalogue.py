"""Catalogue of the synthetic streaming service: music, podcasts and audiobooks in collections, with texts.

A *collection* is an album, a show or a book series, whose items are ordered.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

MEDIA = ("music", "podcast", "audiobook")
MEDIA_SHARES = (0.5, 0.3, 0.2)  # shares of the items
ITEMS_PER_COLLECTION = ((6, 13), (8, 25), (3, 8))  # from, to (exclusive), per media type
SECONDS_PER_ITEM = ((150, 330), (1200, 3600), (3600, 9000))  # from, to (exclusive), per media type

COUNTRIES = ("US", "GB", "DE", "FR", "BR", "JP", "IN", "NG")
START = 1_672_531_200  # Unix seconds of 2023-01-01, when the log begins
DAY = 86_400  # seconds
DAYS = 420  # duration of the log

# (name, media type, scene, topics). Genres of one scene share listeners across media types.
GENRES = (
    ("jazz", 0, "mind", "smoky clubs, brass sections, improvisation, Blue Note pianos, brushed drums"),
    ("classical", 0, "mind", "string quartets, sonatas, choirs, court dances, concert halls"),
    ("techno", 0, "night", "warehouses, drum machines, basslines, strobe lights, early trains home"),
    ("ambient", 0, "night", "drones, tape loops, rain on windows, deep space, slow tides"),
    ("hip hop", 0, "night", "street corners, sampled vinyl, rhyme battles, subway rides, block parties"),
    ("folk", 0, "roots", "harvest time, river crossings, old letters, fiddles, mountain villages"),
    ("soul", 0, "roots", "heartbreak, gospel choirs, summer evenings, horns, second chances"),
    ("reggae", 0, "roots", "island mornings, dub echoes, harbour towns, freedom, sound systems"),
    ("samba", 0, "roots", "carnival, beach nights, percussion, street parades, hillside bars"),
    ("metal", 0, "edge", "thunder, iron, winter battles, broken idols, double bass drums"),
    ("indie rock", 0, "edge", "basement shows, road trips, jangling guitars, lost summers, cheap motels"),
    ("j-pop", 0, "home", "cherry blossom, arcade lights, first love, school festivals, neon rivers"),
    ("history", 1, "roots", "lost empires, trade routes, revolutions, ancient ships, forgotten queens"),
    ("science", 1, "mind", "black holes, gene editing, deep oceans, sleeping brains, climate models"),
    ("politics", 1, "mind", "elections, parliaments, border treaties, city councils, constitutions"),
    ("business", 1, "mind", "start-ups, supply chains, central banks, famous failures, negotiation"),
    ("technology", 1, "night", "chip design, open source, robots, encryption, self-driving cars"),
    ("true crime", 1, "edge", "cold cases, forged paintings, missing persons, bank heists, courtrooms"),
    ("film", 1, "edge", "directors, film noir, stunt crews, sound stages, festival winners"),
    ("sports", 1, "home", "penalty shoot-outs, marathons, transfer rumours, underdogs, coaches"),
    ("comedy", 1, "home", "bad dates, office life, improvised sketches, awkward families, stage fright"),
    ("health", 1, "home", "sleep, running injuries, gut bacteria, meditation, home cooking"),
    ("science fiction", 2, "night", "generation ships, rogue machines, first contact, moon colonies, time loops"),
    ("thriller", 2, "night", "double agents, hijacked trains, blackmail, stolen codes, safe houses"),
    ("memoir", 2, "roots", "leaving home, family farms, long illnesses, night shifts, mother tongues"),
    ("biography", 2, "mind", "inventors, mathematicians, composers, explorers, stateswomen"),
    ("mystery", 2, "edge", "locked rooms, poisoned teas, village secrets, lighthouse keepers, stolen wills"),
    ("horror", 2, "edge", "haunted mills, black forests, cursed dolls, drowned towns, whispering walls"),
    ("fantasy", 2, "home", "dragon riders, hidden schools, cursed crowns, wandering wizards, talking swords"),
    ("romance", 2, "home", "rival bakers, seaside weddings, second letters, snowed-in cabins, old friends"),
)
MOODS = ("calm", "dark", "warm", "restless", "playful", "sad", "bold", "dreamy")
FIRST_NAMES = (
    "Ada Amara Bruno Carla Chidi Dora Elif Emeka Farah Felix Greta Hana Ines Ivo Jonas Kaito Lena Luis Mara Milo Nadia "
    "Noor Olga Omar Pia Priya Ravi Rosa Sora Tara Theo Uma Viktor Wanda Yuki Zoe"
).split()
LAST_NAMES = (
    "Abbott Adeyemi Alves Bauer Becker Costa Dubois Eze Ferrari Fischer Garnier Hughes Ito Jansen Kapoor Keller Kimura "
    "Lambert Lima Marsh Mehta Moreau Nakamura Novak Obi Okafor Pereira Quinn Rao Rossi Sato Silva Tanaka Turner Weber"
).split()
ADJECTIVES = (
    "Amber Borrowed Broken Burning Distant Electric Empty Endless First Frozen Gentle Golden Hidden Hollow Last "
    "Little Lonely Midnight Northern Open Paper Quiet Red Restless Secret Silver Slow Sudden Velvet Wild Winter"
).split()
NOUNS = (
    "Anchor Atlas Bridge Candle Circus Compass Crown Daughter Door Echo Engine Field Fire Garden Harbour Horizon House "
    "Island Lantern Letter Machine Map Mirror Mountain Orchard Promise River Road Shadow Signal Station Storm Stranger "
    "Summer Tower Valley Window Wolf"
).split()

TITLES = {
    "music": "{name} - {artist}",
    "podcast": "{collection} #{position}: {topic}",
    "audiobook": "{name} ({collection}, book {position})",
}
DESCRIPTIONS = {
    "music": "A {mood} {genre} track, number {position} on the album {collection} by {artist}. {topic}.",
    "podcast": "Episode {position} of {collection}, a {mood} {genre} podcast about {shared_topic}. {artist} talks "
    "about {topic}.",
    "audiobook": "Book {position} of the {mood} {genre} series {collection} by {artist}: a story of {shared_topic} "
    "and {topic}.",
}


@dataclasses.dataclass(frozen=True)
class Items:
    """Arrays of the catalogue, for the simulation and for `table`."""

    collection: np.ndarray  # int64[items]
    position: np.ndarray  # int64[items], within the collection, from 0
    release: np.ndarray  # int64[items], Unix seconds
    seconds: np.ndarray  # int64[items], duration
    first: np.ndarray  # int64[collections], item at position 0; a collection's items are consecutive
    size: np.ndarray  # int64[collections], items
    genre: np.ndarray  # int64[collections], rows of GENRES
    media: np.ndarray  # int64[collections], rows of MEDIA
    creator: np.ndarray  # int64[collections]
    explicit: np.ndarray  # bool[collections]
    available: np.ndarray  # bool[collections, countries]


def generate(items: int, rng: np.random.Generator) -> Items:
    """Returns a catalogue of `items` items, at least 30."""
    media, size = _collections(items, rng)
    count = len(size)
    first = np.cumsum(size) - size
    collection = np.repeat(np.arange(count), size)
    position = np.arange(items) - first[collection]

    genre_media = np.array([genre[1] for genre in GENRES])
    genre = np.empty(count, np.int64)
    for kind in range(len(MEDIA)):
        genre[media == kind] = rng.choice(np.flatnonzero(genre_media == kind), (media == kind).sum())
    # A creator has one genre and about two collections.
    creator = genre * count + rng.integers(0, np.maximum(1, np.bincount(genre, minlength=len(GENRES)) // 2)[genre])
    creator = np.unique(creator, return_inverse=True)[1]
    adult = np.isin(genre, [i for i, g in enumerate(GENRES) if g[0] in ("hip hop", "metal", "true crime", "horror")])
    explicit = rng.random(count) < np.where(adult, 0.5, 0.05)
    available = rng.random((count, len(COUNTRIES))) < 0.5
    available |= rng.random((count, 1)) < 0.85  # most are available everywhere
    available[~available.any(axis=1)] = True

    # Most collections are older than the log. Episodes are released weekly, items of other collections all at once.
    age = np.where(rng.random(count) < 0.8, rng.uniform(30, 1000, count), -rng.uniform(0, 0.8 * DAYS, count))
    weeks = np.where(media == 1, 7, 0)[collection] * position
    release = (START + (np.floor(weeks - age[collection]) * DAY)).astype(np.int64)
    shortest, longest = np.array(SECONDS_PER_ITEM).T
    seconds = rng.integers(shortest[media][collection], longest[media][collection])
    return Items(collection, position, release, seconds, first, size, genre, media, creator, explicit, available)


def _collections(items: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64[collections], the media types and the sizes of the collections; the sizes add up to `items`."""
    media: list[int] = []
    sizes: list[int] = []
    shares = np.round(np.cumsum(MEDIA_SHARES) * items).astype(int)
    for kind, share in enumerate(np.diff(shares, prepend=0)):
        low, high = ITEMS_PER_COLLECTION[kind]
        drawn = rng.integers(low, high, size=share)
        drawn = drawn[: np.searchsorted(np.cumsum(drawn), share) + 1]
        drawn[-1] -= drawn.sum() - share
        media += [kind] * len(drawn)
        sizes += drawn.tolist()
    return np.array(media), np.array(sizes)


def table(items: Items, rng: np.random.Generator) -> pa.Table:
    """Returns the catalogue in genrec's schema. Its texts tell collection, genre, topic and mood, and nothing else."""

    def draw(words: Sequence[str], n: int) -> list[str]:
        return [words[i] for i in rng.integers(0, len(words), n)]

    def pairs(first: Sequence[str], second: Sequence[str], n: int) -> list[str]:
        return [f"{a} {b}" for a, b in zip(draw(first, n), draw(second, n), strict=True)]

    def topics(genres: np.ndarray) -> list[str]:
        return [draw(GENRES[g][3].split(", "), 1)[0] for g in genres]

    def per_item(values: Sequence[str]) -> list[str]:
        return [values[c] for c in items.collection]

    creators = pairs(FIRST_NAMES, LAST_NAMES, items.creator.max() + 1)
    collections, moods = pairs(ADJECTIVES, NOUNS, len(items.genre)), draw(MOODS, len(items.genre))
    shared_topics = topics(items.genre)
    names, own_topics = pairs(ADJECTIVES, NOUNS, len(items.collection)), topics(items.genre[items.collection])
    columns = {
        "media_type": per_item([MEDIA[kind] for kind in items.media]),
        "genre": per_item([GENRES[g][0] for g in items.genre]),
        "topic": own_topics,
        "mood": per_item(moods),
        "artist": per_item([creators[c] for c in items.creator]),
        "collection": per_item(collections),
        "position": (items.position + 1).astype(np.int32),
        "explicit": items.explicit[items.collection],
        "countries": per_item(["all" if row.all() else "|".join(np.array(COUNTRIES)[row]) for row in items.available]),
        "release_time": np.datetime_as_string(items.release.astype("datetime64[s]"), timezone="UTC").tolist(),
        "duration_seconds": items.seconds.astype(np.int32),
    }
    rows = pa.table(columns | {"name": names, "shared_topic": per_item(shared_topics)}).to_pylist()
    texts = {
        "item_id": [f"{row['media_type'][0]}{item:05d}" for item, row in enumerate(rows)],
        "title": [TITLES[row["media_type"]].format(**row) for row in rows],
        "description": [DESCRIPTIONS[row["media_type"]].format(**row) for row in rows],
    }
    return pa.table(texts | columns)
