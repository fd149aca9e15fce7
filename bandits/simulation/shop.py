"""A small shop: named features as context, categories of items, and new items that arrive while it runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandits.simulation.world import TableWorld, sigmoid

CATEGORIES = ("books", "games", "garden", "kitchen", "music", "shoes", "sport", "toys")
COUNTRIES = ("BR", "DE", "FR", "IN", "JP", "US")
GENRES = ("classical", "electronic", "folk", "hiphop", "jazz", "metal", "pop", "rock")
DEVICES = ("desktop", "mobile", "tablet")
Floats = NDArray[np.float64]


def shop(seed: int = 0, n_users: int = 4096, n_items: int = 240, n_new: int = 40) -> TableWorld:
    """A shop whose items belong to one of eight categories.

    A user has country=.., device=.. (1 each), age (0..1) and two or three genre=.. affinities (.2..1). The logit of a
    click is -2.2, plus the item's appeal N(0, .5), plus for each feature its value times the taste N(0, 1) of that
    feature for the item's category and N(0, .4) for the item itself. The last n_new items arrive one by one: the
    k-th of them can be served from request 100 * k on, k = 1, 2, ..
    """
    rng = np.random.default_rng(seed)
    names = (
        tuple(f"country={one}" for one in COUNTRIES)
        + tuple(f"device={one}" for one in DEVICES)
        + ("age",)
        + tuple(f"genre={one}" for one in GENRES)
    )
    users = _users(rng, n_users)
    category = rng.permutation(np.arange(n_items) % len(CATEGORIES))
    taste = rng.normal(0.0, 1.0, (len(CATEGORIES), len(names)))[category] + rng.normal(0.0, 0.4, (n_items, len(names)))
    appeal = rng.normal(0.0, 0.5, n_items)
    ids = tuple(f"{CATEGORIES[kind]}-{item:03d}" for item, kind in enumerate(category))
    arrival = np.zeros(n_items, np.int64)
    arrival[n_items - n_new :] = 100 * np.arange(1, n_new + 1)
    truth = sigmoid(-2.2 + appeal + users.astype(np.float64) @ taste.T)
    return TableWorld("shop", ids, users, truth, arrival, feature_names=names)


def _users(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    country = np.eye(len(COUNTRIES))[rng.choice(len(COUNTRIES), n, p=(0.1, 0.15, 0.1, 0.25, 0.1, 0.3))]
    device = np.eye(len(DEVICES))[rng.choice(len(DEVICES), n, p=(0.3, 0.6, 0.1))]
    age = rng.random((n, 1))
    favourites = rng.random((n, len(GENRES))).argsort(axis=1).argsort(axis=1) < rng.integers(2, 4, (n, 1))
    genre = np.where(favourites, rng.uniform(0.2, 1.0, (n, len(GENRES))), 0.0)
    return np.hstack([country, device, age, genre]).astype(np.float32)
