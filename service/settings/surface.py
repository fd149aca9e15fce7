"""Settings of one surface."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.settings.keys import entries, setting
from service.settings.values import (
    Array,
    ArrayOrFile,
    Boolean,
    Choice,
    Distribution,
    Integer,
    Number,
    Span,
    Text,
)

POLICIES = ("diag_linucb", "periodic", "index", "ad_load", "uniform")
SERVED_POLICIES = ("diag_linucb", "ad_load", "uniform")
MIN_TEMPERATURE = MIN_PRIOR = 1e-9
YEARS_10_S = 315_360_000
ITEM_ID = Text("1 to 128 printable characters", r".{1,128}")


@dataclass(frozen=True, slots=True)
class DiagLinUCBSettings:
    """The learner of contexts."""

    variant: str = setting(
        "centred", Choice(("published", "centred", "weights")), "How a cell's sums become a mean and a variance"
    )
    alpha: float = setting(
        0.3,
        Number(0.0, 1e6),
        "Size of the exploration bonus, in posterior standard deviations of rewards divided by the reward scale",
    )
    prior: float = setting(1.0, Number(MIN_PRIOR, 1e6), "Prior precision of every cell")


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How named features become slots, on surfaces without a graph."""

    hash_bits: int = setting(18, Integer(1, 32), "Slots are hashes modulo 2**hash_bits")
    salt: str = setting("", Text("at most 128 printable characters", r".{0,128}"), "Put before every name, then hashed")


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How a slate is drawn from scores; every policy but periodic's schedule."""

    kind: str = setting(
        "plackett_luce", Choice(("plackett_luce", "top_m_uniform", "greedy")), "Distribution of each position"
    )
    temperature: float = setting(
        0.02,
        Number(MIN_TEMPERATURE, 1e6),
        "Of plackett_luce: odds are exp(score / temperature), scores being of rewards divided by the reward scale",
    )
    m: int = setting(20, Integer(1, 1_000_000), "Of top_m_uniform: the m best of what is left, at every position")
    epsilon: float = setting(
        0.01, Number(0.0, 1.0), "Uniform share at every position: no propensity falls below epsilon / candidates left"
    )


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """One named reward, in the client's units."""

    name: str = setting("reward", ITEM_ID, "Name that feedback gives; without one the first reward is meant")
    range: tuple[float, float] = setting((0.0, 1.0), Span(1e12), "Values beyond it are refused, or clipped and counted")
    weight: float = setting(
        1.0,
        Number(-1e6, 1e6),
        "Its weight in the sum that the learner maximises; the reward scale is the sum of |weight| * max(|lo|, |hi|)",
    )
    clip: bool = setting(False, Boolean(), "Clip values beyond the range instead of refusing them")


def reward_scale(rewards: Sequence[RewardSettings]) -> float:
    """Sum over rewards of |weight| * max(|lo|, |hi|): the weighted sum divided by it lies in [-1, 1]."""
    return math.fsum(abs(one.weight) * max(map(abs, one.range)) for one in rewards)


@dataclass(frozen=True, slots=True)
class RecoveringSettings:
    """Arms whose reward recovers with idle time; policies periodic and index, or reserved positions."""

    clock: str = setting(
        "broadcast",
        Choice(("broadcast", "per_user")),
        "Idle time counts ticks of tick_s, or the user's own fetches",
        served=(),
    )
    tick_s: int = setting(60, Integer(1, 86_400), "Length of a tick of the broadcast clock, in seconds", served=())
    k: int = setting(5, Integer(1, 100), "Arms per tick", served=())
    arms: tuple[str, ...] | str = setting(
        (),
        ArrayOrFile(Array(ITEM_ID, 0, 1_000_000)),
        "The arms, or a file of them; or PUT /v1/surfaces/NAME/arms",
        served=(),
    )
    max_idle: int = setting(
        64, Integer(1, 1_000_000), "Idle time at which an arm counts as recovered, ticks or fetches", served=()
    )
    bins: int = setting(15, Integer(1, 1000), "Geometric bins of idle time", served=())
    replan_every: int = setting(20, Integer(1, 1_000_000), "Ticks or fetches between two plans", served=())
    curves: str = setting(
        "", Text("the name of a file, or empty"), "A file of known curves: nothing of them is learned", served=()
    )
    reserved: int = setting(
        0, Integer(0, 100), "Positions of a diag_linucb slate given to the recovering arms; 0 elsewhere", served=(0,)
    )


@dataclass(frozen=True, slots=True)
class AdLoadSettings:
    """How many advertisements a user's page carries; policy ad_load, asked by POST /v1/ad-load."""

    loads: tuple[int, ...] = setting((0, 1, 2, 3), Array(Integer(0, 1000), 1, 100), "The loads to choose among")
    logging: tuple[float, ...] = setting(
        (0.25, 0.25, 0.25, 0.25),
        Distribution(100),
        "Probability of each load until a policy is uploaded, scaled to sum to 1 over the allowed ones",
    )
    floor: float = setting(
        0.05,
        Number(0.0, 1.0),
        "A served policy is mixed with its file's logging distribution until no allowed load that it knows is less "
        "probable than this, or than the file's own floor; at most the least probability in logging",
    )


@dataclass(frozen=True, slots=True)
class SurfaceSettings:
    """One place where items are recommended: its policy, learner, sampler and rewards."""

    policy: str = setting("diag_linucb", Choice(POLICIES), "What chooses", served=SERVED_POLICIES)
    holdout_share: float = setting(
        0.0, Number(0.0, 1.0), "Share of users, taken first, that get the uniform policy: the hold-out"
    )
    explore_share: float = setting(1.0, Number(0.0, 1.0), "Share of the other users that explore; the rest exploit")
    max_arms: int = setting(
        1_000_000,
        Integer(1, 1_000_000_000),
        "Arms with state; decisions that serve a further unseen one are not learned",
    )
    arm_ttl_s: int = setting(
        0,
        Integer(0, YEARS_10_S),
        "Seconds without being served, since the server's start at the earliest, that retire an arm: what is reported "
        "for it after that does not count, so let it exceed receipts.ttl_s; 0: never",
    )
    generations_kept: int = setting(
        2, Integer(1, 1000), "Generations that are kept beside the current ones; older ones are retired"
    )
    wait_window_s: int = setting(
        3600,
        Integer(0, YEARS_10_S),
        "Export and evaluation: age at which a decision without reward takes the default",
    )
    default_reward: float = setting(
        0.0,
        Number(-1e18, 1e18),
        "Reward of a decision that got none in wait_window_s; may lie outside the range",
    )
    half_life_s: int = setting(
        0, Integer(0, YEARS_10_S), "Seconds in which what was learned fades by half; 0: never", served=(0,)
    )
    diag_linucb: DiagLinUCBSettings = DiagLinUCBSettings()
    context: ContextSettings = ContextSettings()
    sampler: SamplerSettings = SamplerSettings()
    rewards: tuple[RewardSettings, ...] = entries(
        (RewardSettings(),), RewardSettings, 1, 4, "The rewards that feedback carries, 1 to 4 with different names"
    )
    recovering: RecoveringSettings = RecoveringSettings()
    ad_load: AdLoadSettings = AdLoadSettings()
