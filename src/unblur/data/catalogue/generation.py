"""Generated interactions: sets of any size, for measurements, and the embedded default.

`generated` has power-law degrees on both sides and groups of similar users; `demo_interactions` simulates people who
watch films: genres and moods, tastes that drift, and films that everybody likes.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.randomness import RNG, streams

BLOCK_PAIRS = 1 << 21
"""Pairs generated at a time; the memory beyond the result is a small multiple of it."""
_USERS, _ITEMS = (0.8, 0.004), (0.75, 0.001)
"""Exponent and offset (as a share of all) of the power laws of users' and items' degrees, near those of public data sets."""
_FINE, _COARSE = 256, 16  # numbers of groups; a fine group lies inside a coarse one
_SHARE_FINE, _SHARE_COARSE = 0.4, 0.2
"""Shares of choices within the fine and the coarse group: six in ten, enough that neighbours beat popularity."""


def generated(n_users: int, n_items: int, n_interactions: int, *, rng: RNG | None = None) -> Interactions:
    """Exactly `n_interactions` distinct pairs, with integer labels and no times.

    Users and items are in random order. The degree of the user, or item, of rank r falls like (r +
    offset)^−exponent; every user has at least one item, an item may have none. Six in ten choices stay within
    a group of users and items, so that the matrix has a decaying spectrum as real ones do. Ten million
    pairs take some seconds.

    Raises `DataError` unless n_users ≤ n_interactions ≤ n_users·n_items/4.
    """
    DataError.unless(
        min(n_users, n_items) >= 1 and n_users <= n_interactions <= n_users * n_items // 4,
        "The number of interactions must lie between the number of users and a quarter of all pairs; "
        f"saw {n_interactions:,} for {n_users:,} users and {n_items:,} items. Change one of the three.",
    )
    chance = streams(rng, "degrees", "labels", "groups", "pairs")
    degrees = chance["degrees"].permutation(_degrees(n_users, n_interactions, most=max(1, n_items // 2)))
    label_of_rank = chance["labels"].permutation(n_items)
    home = chance["groups"].integers(0, _FINE, n_users)
    ends = np.cumsum(degrees)
    columns = np.empty(n_interactions, dtype=np.int32)
    first = 0
    while first < n_users:
        begin = int(ends[first] - degrees[first])
        last = max(first + 1, int(np.searchsorted(ends, begin + BLOCK_PAIRS, side="right")))
        block = _block(degrees[first:last], home[first:last], label_of_rank, chance["pairs"])
        columns[begin : begin + len(block)] = block
        first = last
    indptr = np.concatenate(([0], ends))
    matrix = sparse.csr_array(
        (
            np.ones(n_interactions, dtype=np.float32),
            columns,
            indptr.astype(np.int32 if ends[-1] < 2**31 else np.int64),
        ),
        shape=(n_users, n_items),
    )
    return Interactions(matrix, Vocabulary.range(n_users), Vocabulary.range(n_items))


def _degrees(n: int, total: int, most: int) -> NDArray[np.int64]:
    """`n` whole numbers from 1 to `most`, of the given sum, that fall with their rank by a power law."""
    exponent, offset = _USERS
    weights = (np.arange(n) + offset * n + 1) ** -exponent
    degrees: NDArray[np.int64] = np.minimum(
        1 + np.floor(weights / weights.sum() * (total - n)).astype(np.int64), most
    )
    while left := total - int(degrees.sum()):
        room = np.flatnonzero(degrees < most)
        share, extra = divmod(left, len(room))
        degrees[room] += share + (np.arange(len(room)) < extra)
        degrees = np.minimum(degrees, most)
    return degrees


def _block(
    degrees: NDArray[np.int64],
    home: NDArray[np.int64],
    label_of_rank: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Items for a run of users, user after user, ascending and distinct within each."""
    n_items = len(label_of_rank)
    keys = np.empty(0, dtype=np.int64)
    missing = degrees
    round_ = 0
    while missing.any():
        rows = np.repeat(np.arange(len(degrees)), missing)
        # Users who have nearly all popular items of their group get random items in the end.
        items = (
            label_of_rank[_ranks(home[rows], n_items, random)]
            if round_ < 8
            else random.integers(0, n_items, len(rows))
        )
        drawn = np.sort(rows * n_items + items)
        fresh = drawn[np.concatenate(([True], drawn[1:] != drawn[:-1]))]
        if len(keys):
            places = np.minimum(np.searchsorted(keys, fresh), len(keys) - 1)
            fresh = fresh[keys[places] != fresh]
        keys = np.sort(np.concatenate((keys, fresh)), kind="stable")  # two sorted runs: merged in linear time
        missing = degrees - np.bincount(keys // n_items, minlength=len(degrees))
        round_ += 1
    return np.asarray(keys % n_items)


def _ranks(home: NDArray[np.int64], n_items: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Ranks drawn from the power law, some moved to the user's group at the same level of popularity."""
    ranks = power_law_ranks(random.random(len(home)), n_items, *_ITEMS)
    choice = random.random(len(home))
    for groups, low, high in (
        (_FINE, 0.0, _SHARE_FINE),
        (_COARSE, _SHARE_FINE, _SHARE_FINE + _SHARE_COARSE),
    ):
        moved = ranks // groups * groups + home % groups
        ranks = np.where((choice >= low) & (choice < high) & (moved < n_items), moved, ranks)
    return ranks


def power_law_ranks(
    uniform: NDArray[np.float64], n: int, exponent: float, offset: float
) -> NDArray[np.int64]:
    """Ranks 0 … n − 1 with density ∝ (rank + offset·n)^−exponent, from uniform numbers in [0, 1)."""
    shift = offset * n
    power = 1.0 - exponent
    low, high = shift**power, (n + shift) ** power
    ranks = (low + uniform * (high - low)) ** (1.0 / power) - shift
    return np.asarray(np.minimum(ranks.astype(np.int64), n - 1))


DEMO_SEED = 2304
"""The seed of the demonstration, an arbitrary number; the figures in documents are those of this seed."""
GENRES: dict[str, str] = {
    "documentary": "Harbour Glacier Archive Orchard Factory River Atlas Monastery",
    "thriller": "Witness Alibi Corridor Signal Verdict Cipher Stranger Midnight",
    "comedy": "Wedding Neighbour Holiday Umbrella Landlord Picnic Mistake Elevator",
    "science fiction": "Orbit Colony Android Horizon Reactor Beacon Nebula Machine",
    "romance": "Letter Garden Summer Promise Waltz Lighthouse Kiss Station",
    "western": "Saddle Canyon Sheriff Prairie Whiskey Outlaw Railroad Dust",
    "animation": "Dragon Balloon Fox Lantern Robot Penguin Castle Whale",
    "crime": "Heist Ledger Informer Docks Syndicate Diamond Alley Warrant",
    "fantasy": "Kingdom Sorcerer Oath Raven Crown Labyrinth Prophecy Sword",
    "music": "Overture Jukebox Chorus Piano Encore Vinyl Rhythm Serenade",
    "history": "Empire Cathedral Treaty Regiment Dynasty Voyage Rebellion Portrait",
    "horror": "Cellar Whisper Fog Doll Asylum Mirror Grave Howl",
}
MOODS: dict[str, str] = {
    "calm": "Quiet Gentle Still Slow Patient Distant",
    "dark": "Black Broken Hollow Bitter Hidden Cold",
    "bright": "Golden Sunlit Merry Little Lucky Paper",
    "wild": "Reckless Burning Savage Electric Crooked Roaring",
    "strange": "Crimson Invisible Backward Seventh Velvet Glass",
}
NAMES = tuple(
    word
    for line in (
        "anna ben clara david emma felix greta hugo ida jonas karla leo mia noah olga",
        "paul rosa sven tilda uma viktor wanda xaver yara zeno alma bruno cora dino ella",
    )
    for word in line.split()
)

_START, _DAY = 1_640_995_200, 86_400  # 1 January 2022, and a day, in seconds
_SPAN_DAYS = 730.0
"""Two years."""


def demo_interactions(
    n_users: int = 3000, n_items: int = 1000, *, rng: RNG | None = DEMO_SEED
) -> Interactions:
    """The films that `n_users` people watched, of `n_items`, in two years, with times in seconds since 1970.

    Each person has a few favourite genres when they arrive and others when they leave, one favourite mood in
    each genre, and a number of films that follows a power law (about 35 on average). Within a genre and mood
    a film is chosen by popularity; one choice in ten is by popularity over all films. Labels read
    ``anna-017`` and ``Quiet Monastery (documentary)``. The same `rng` gives the same interactions.

    Raises `DataError` for fewer than 10 users or 60 items.
    """
    DataError.unless(
        n_users >= 10 and n_items >= len(GENRES) * len(MOODS),
        f"The demo needs at least 10 users and {len(GENRES) * len(MOODS)} items; saw {n_users} and "
        f"{n_items}. Ask for more.",
    )
    chance = streams(rng, "items", "users", "choices", "times")
    titles, genre_of, mood_of = _films(n_items, chance["items"])
    random = chance["users"]
    degrees = np.clip(22 * (1 - random.random(n_users)) ** -0.6, 22, min(400, n_items // 4)).astype(np.int64)
    first_taste = _tastes(n_users, random)
    last_taste = _tastes(n_users, random)
    favourite_mood = random.integers(0, len(MOODS), (n_users, len(GENRES)))

    rows = np.repeat(np.arange(n_users), degrees)
    progress, times = _moments(degrees, rows, chance["times"])
    random = chance["choices"]
    # The taste at a moment is a mixture of the first and the last, by the share of the person's time that has passed.
    taste = np.where((random.random(len(rows)) < progress)[:, None], last_taste[rows], first_taste[rows])
    genre = (random.random(len(rows))[:, None] > taste).sum(axis=1)
    mood = np.where(
        random.random(len(rows)) < 0.8,
        favourite_mood[rows, genre],
        random.integers(0, len(MOODS), len(rows)),
    )
    anything = random.random(len(rows)) < 0.1
    draw = random.random(len(rows))
    item = power_law_ranks(draw, n_items, 0.9, 0.01)  # films stand in order of popularity
    for shelf_genre, shelf_mood in np.ndindex(len(GENRES), len(MOODS)):
        shelf = np.flatnonzero((genre_of == shelf_genre) & (mood_of == shelf_mood))
        here = ~anything & (genre == shelf_genre) & (mood == shelf_mood)
        item[here] = shelf[power_law_ranks(draw[here], len(shelf), 0.8, 0.02)]
    people = [f"{NAMES[at % len(NAMES)]}-{at // len(NAMES) + 1:03d}" for at in range(n_users)]
    return Interactions.from_pairs(
        pl.Series(people).gather(rows), pl.Series(titles).gather(item), timestamps=times, duplicates="first"
    )


def _films(n: int, random: np.random.Generator) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct titles in order of popularity, with the number of the genre and of the mood of each."""
    shelves = np.concatenate(
        [random.permutation(len(GENRES) * len(MOODS)) for _ in range(-(-n // (len(GENRES) * len(MOODS))))]
    )[:n]
    genre_of, mood_of = np.divmod(shelves, len(MOODS))
    stock: dict[tuple[int, int], list[str]] = {}
    titles = []
    for genre, mood in zip(genre_of.tolist(), mood_of.tolist(), strict=True):
        if (genre, mood) not in stock:
            stock[genre, mood] = _titles(genre, mood, n, random)
        titles.append(stock[genre, mood].pop())
    return titles, genre_of, mood_of


def _titles(genre: int, mood: int, n: int, random: np.random.Generator) -> list[str]:
    """All titles of a genre and a mood, with sequels as far as `n` films need them, in random order."""
    name = list(GENRES)[genre]
    pairs = [
        f"{adjective} {noun}"
        for adjective in list(MOODS.values())[mood].split()
        for noun in GENRES[name].split()
    ]
    titles: list[str] = []
    for sequel in range(1, -(-n // (len(GENRES) * len(MOODS) * len(pairs))) + 1):
        suffix = "" if sequel == 1 else f" {sequel}"
        titles = [f"{pairs[at]}{suffix} ({name})" for at in random.permutation(len(pairs))] + titles
    return titles


def _tastes(n_users: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(n_users, n_genres − 1) cumulative shares of the genres: a few that are liked, and a little of each."""
    weights = random.random((n_users, len(GENRES))) ** 12 + 0.002
    shares = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    return shares[:, :-1]


def _moments(
    degrees: NDArray[np.int64], rows: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The position of each event between a person's arrival (0) and leaving (1), ascending, and its time."""
    arrival = random.random(len(degrees)) * 0.6 * _SPAN_DAYS
    stay = np.minimum(30 + random.random(len(degrees)) * 0.6 * _SPAN_DAYS, _SPAN_DAYS - arrival)
    progress = random.random(len(rows))
    progress = progress[np.lexsort((progress, rows))]
    return progress, (_START + (arrival[rows] + progress * stay[rows]) * _DAY).astype(np.int64)
