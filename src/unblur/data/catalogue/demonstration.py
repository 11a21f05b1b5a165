"""The embedded default: people who watch films, by genre and mood, with tastes that drift and favourites of
all."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unblur.data.catalogue.generation import power_law_ranks
from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.randomness import RNG, streams

DEMO_SEED = 2304
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


def demo_interactions(
    n_users: int = 3000, n_items: int = 1000, *, rng: RNG | None = DEMO_SEED
) -> Interactions:
    """What `n_users` people watched of `n_items` films in two years, with times in seconds since 1970.

    Each person has a few favourite genres when they arrive and others when they leave, one favourite mood in
    each genre, and a number of films that follows a power law (about 35 on average). Within a genre and mood
    a film is chosen by popularity; one choice in ten is by popularity over all films. Labels read
    ``anna-017`` and ``Quiet Monastery (documentary)``. The same `rng` gives the same interactions.

    Raises `DataError` for fewer than 10 users or 60 items.
    """
    if n_users < 10 or n_items < len(GENRES) * len(MOODS):
        raise DataError(
            f"The demo needs at least 10 users and {len(GENRES) * len(MOODS)} items; saw {n_users} and "
            f"{n_items}. Ask for more."
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
    # The taste at a moment is a mixture of the first and the last, in proportion to how far the person has
    # come.
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
    for shelf_genre in range(len(GENRES)):
        for shelf_mood in range(len(MOODS)):
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
    wanted = -(-n // (len(GENRES) * len(MOODS)))
    made: list[str] = []
    sequel = 1
    while len(made) < wanted:
        suffix = "" if sequel == 1 else f" {sequel}"
        made = [f"{pairs[at]}{suffix} ({name})" for at in random.permutation(len(pairs))] + made
        sequel += 1
    return made


def _tastes(n_users: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(n_users, n_genres − 1) cumulative shares of the genres: a few that are liked, and a little of each."""
    weights = random.random((n_users, len(GENRES))) ** 12 + 0.002
    shares = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    return shares[:, :-1]


def _moments(
    degrees: NDArray[np.int64], rows: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How far each event lies between a person's arrival (0) and leaving (1), ascending; and its time."""
    arrival = random.random(len(degrees)) * 0.6 * _SPAN_DAYS
    stay = np.minimum(30 + random.random(len(degrees)) * 0.6 * _SPAN_DAYS, _SPAN_DAYS - arrival)
    progress = random.random(len(rows))
    progress = progress[np.lexsort((progress, rows))]
    return progress, (_START + (arrival[rows] + progress * stay[rows]) * _DAY).astype(np.int64)
