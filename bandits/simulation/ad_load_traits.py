"""What a fetch of the ad-load world shows, and what differs between its worlds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

LOADS: Final = (0, 1, 2, 3)
FEATURES: Final = (
    "engagement_7d",
    "ad_affinity_7d",
    "ad_hides_7d",
    "ads_seen_7d",
    "fetch_index",
    "minutes_since_ad",
    "hour_sin",
    "hour_cos",
    "mobile",
    "new_user",
)
COLUMN: Final = {name: i for i, name in enumerate(FEATURES)}
MAX_FETCHES: Final = 16
MAX_MINUTES: Final = 60.0
FEW_ADS: Final = 3.8
"""log(1 + ads seen in seven days) that costs no tolerance; fewer add some."""
FLOOR: Final = 0.05
"""Least probability of an allowed load under the logging policy."""

SIGNAL: Final = np.array([[0.9, 0.2], [0.1, 1.2], [-1.1, 0.1]])
SIGNAL_MEAN: Final = np.array([5.0, 3.0, 2.0])
SIGNAL_SCALE: Final = np.array([1.5, 1.0, 0.75])


@dataclass(frozen=True, slots=True)
class Traits:
    """What differs between worlds. Tolerance t and appetite v of a user are standard normal, with a correlation.

    correlation  of t and v
    noise        s.d. of the noise in the three signals of t and v that the features show
    calm         probit of the satisfaction without ads
    crowding     what a load takes from that probit, per squared load
    ease         what each ad adds to it, per unit of tolerance
    spread       s.d. of the noise of that probit
    fatigue      tolerance lost in a long session, two thirds of it by the fifth fetch; twice that on a mobile device
    pressure     tolerance lost right after an ad, and regained within some `rest` minutes
    exposure     tolerance lost per unit of log(1 + ads seen in the last seven days)
    evening      tolerance gained at `peak` o'clock and lost twelve hours later
    mobile       tolerance lost on a mobile device
    newness      tolerance lost of a new user
    click        probit of a click on a fetch's first ad
    slope        what a unit of appetite adds to it
    dilution     what each ad before it takes
    touch        what a mobile device adds
    price        mean of the logarithm of a click's revenue
    tail         s.d. of it
    premium      added to `price` at `peak` o'clock, taken twelve hours later
    quit         probit of leaving after a fetch without ads
    overload     added to it per unit of what the load takes from the probit of the satisfaction
    """

    correlation: float
    noise: float
    calm: float
    crowding: float
    ease: float
    spread: float
    fatigue: float
    pressure: float
    rest: float
    exposure: float
    evening: float
    peak: float
    mobile: float
    newness: float
    click: float
    slope: float
    dilution: float
    touch: float
    price: float
    tail: float
    premium: float
    quit: float
    overload: float


RANGES: Final = {
    "correlation": (0.1, 0.4),
    "noise": (0.8, 1.2),
    "calm": (1.2, 1.5),
    "crowding": (0.015, 0.03),
    "ease": (0.13, 0.18),
    "spread": (0.7, 0.9),
    "fatigue": (0.25, 0.5),
    "pressure": (0.25, 0.5),
    "rest": (4.0, 10.0),
    "exposure": (0.2, 0.5),
    "evening": (0.1, 0.4),
    "peak": (18.0, 22.0),
    "mobile": (0.1, 0.4),
    "newness": (0.2, 0.6),
    "click": (-0.75, -0.5),
    "slope": (0.3, 0.5),
    "dilution": (0.1, 0.25),
    "touch": (-0.2, 0.2),
    "price": (-0.2, 0.2),
    "tail": (1.0, 1.25),
    "premium": (0.0, 0.4),
    "quit": (-1.4, -1.1),
    "overload": (0.5, 0.8),
}
"""Each trait of a world is drawn uniformly from its range."""
