"""Ad loads learned from logs: against the truth of simulated worlds, and around the whole loop over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow.parquet as pq

from bandits.ad_load import AdLoadPolicy
from bandits.arrays import F64
from bandits.simulation.ad_load import AdLoadWorld
from load_tests.client import Client
from load_tests.report import Cell
from load_tests.server import serve
from load_tests.traffic import check
from offline_eval.learning import Learned, Options, learn
from offline_eval.learning.play import BETA, as_log, fetches, of_policy, truth, uniform
from offline_eval.learning.reward import mixed

SEEDS = tuple(range(1000, 1020))
"""Worlds that nothing was tuned on."""
OTHER_USERS = 500_000
FLOOR = 0.02
CONFIG = f"""
[surfaces.ads]
policy = "ad_load"
[surfaces.ads.ad_load]
loads = [0, 1, 2, 3]
logging = [0.25, 0.25, 0.25, 0.25]
floor = {FLOOR}
[[surfaces.ads.rewards]]
name = "satisfaction"
range = [0.0, 1.0]
[[surfaces.ads.rewards]]
name = "revenue"
range = [0.0, 1000.0]
clip = true
"""
POSTED_AT_ONCE = 1000
KEPT = "logging policy"


class Row(TypedDict):
    """What was learned from one world's log, in truth: expected r_beta of a fetch on other users under logging.

    r_beta = .7 z(satisfaction) + .3 z(revenue), with the log's means and standard deviations.

    logging, learned, best  the logging policy, the policy that was chosen (by the lower end of its gain; the logging
                            policy where there is none of which it is above 0), and the best given the features
    gap_closed              (learned - logging) / (best - logging)
    gain_low                lower end of the gain that it was chosen by
    to_logging_percent      learned's r_beta relative to logging's, both counted from no satisfaction and no revenue
    to_logging_sd           learned - logging in standard deviations of a fetch's r_beta
    top_to_logging_percent  as to_logging_percent, of the policy of the highest estimate, however sure
    """

    world: int
    logging: float
    learned: float
    best: float
    gap_closed: float
    gain_low: float
    to_logging_percent: float
    to_logging_sd: float
    top_to_logging_percent: float
    chosen: str


class Loop(TypedDict):
    """The loop closed once over HTTP; means per fetch, expected in truth of the loads that were served.

    rows                                         in the exported log
    before                                       r_beta of the surface's logging distribution while it was logged
    same_fetches                                 r_beta of that distribution on the fetches of the learned policy
    after, satisfaction, revenue                 of the learned policy
    logging_satisfaction, logging_revenue        of the logging distribution on the same fetches
    gain                                         after - same_fetches
    predicted, predicted_low                     the gain as learning estimated it, and its lower end
    evaluated, evaluated_low, evaluated_high     the same by `banditd evaluate` on later rows, with its interval for the
                                                 value, standardised on them; before the policy is served
    """

    rows: int
    before: float
    same_fetches: float
    after: float
    gain: float
    predicted: float
    predicted_low: float
    evaluated: float
    evaluated_low: float
    evaluated_high: float
    satisfaction: float
    logging_satisfaction: float
    revenue: float
    logging_revenue: float


class CommandFailed(Exception):
    """A command ended with another status than 0; the message holds its stderr."""


def worlds_table(
    seeds: Sequence[int] = SEEDS, rows: int = 50_000, progress: Callable[[str], None] = lambda line: None
) -> list[Row]:
    """Learn from `rows` fetches of each world's logging policy, all settings at their defaults."""
    found = []
    for seed in seeds:
        found.append(_world(seed, rows))
        progress(f"adload, world {seed}, {rows:,} fetches: {found[-1]['gap_closed']:.2f} of the gap closed")
    return found


def _world(seed: int, rows: int) -> Row:
    world = AdLoadWorld.make(seed)
    log = as_log(fetches(world, seed, rows))
    learned = learn(log, Options(beta=BETA))
    if learned.study is None or learned.judge is None:
        raise ValueError(f"world {seed}: {learned.reasons[0]}")
    others = fetches(world, seed + OTHER_USERS, rows)
    expected = mixed(truth(others, learned.study.scale), BETA)

    def worth(policy: AdLoadPolicy | None) -> float:
        act = of_policy(policy, world) if policy is not None else world.logging
        return _mean(act(others.features, others.allowed), expected)

    logging, value = worth(None), worth(learned.policy)
    judge = learned.judge
    top = max(learned.everyone, key=lambda one: judge.reward(one.gain, BETA).value)
    best = float(np.where(others.allowed, expected, -np.inf).max(axis=1).mean())
    from_zero = logging - float(mixed(np.array(learned.study.scale.zero), BETA))
    sd = float(mixed(learned.study.scale.z(log), BETA).std())
    return Row(
        world=seed,
        logging=logging,
        learned=value,
        best=best,
        gap_closed=(value - logging) / (best - logging),
        gain_low=_gain(learned)[1],
        to_logging_percent=100 * (value - logging) / from_zero,
        to_logging_sd=(value - logging) / sd,
        top_to_logging_percent=100 * (worth(top.policy) - logging) / from_zero,
        chosen=KEPT if learned.chosen is None else learned.everyone[learned.chosen].name,
    )


def worlds_figures(rows: Sequence[Row]) -> dict[str, Cell]:
    """What all worlds come to."""
    closed = [row["gap_closed"] for row in rows]
    return {
        "mean share of the gap closed": sum(closed) / len(closed),
        "least change to logging, percent": min(row["to_logging_percent"] for row in rows),
        "least change to logging of the top, percent": min(row["top_to_logging_percent"] for row in rows),
        "worlds where logging was kept": sum(row["chosen"] == KEPT for row in rows),
    }


def _gain(learned: Learned) -> tuple[float, float]:
    """Estimate and lower end of the gain over the logging policy; 0 of itself."""
    if learned.chosen is None or learned.judge is None:
        return 0.0, 0.0
    found = learned.judge.reward(learned.everyone[learned.chosen].gain, BETA)
    return found.value, found.low


def _mean(distribution: F64, expected: F64) -> float:
    return float((distribution * expected).sum(axis=1).mean())


@dataclass(frozen=True)
class Served:
    """n fetches over HTTP: what was expected of the load served, of every load, and which were allowed.

    served   float64 (n, 2)     satisfaction and revenue
    logging  float64 (n, 2)     of the even distribution over the allowed loads
    """

    served: F64
    logging: F64


def drive(client: Client, world: AdLoadWorld, seed: int, rows: int) -> Served:
    """Sessions of users who fetch from the surface `ads`, both rewards of each posted, for at least `rows` fetches."""
    served: list[F64] = []
    logging: list[F64] = []
    done, round_number = 0, 0
    while done < rows:
        sessions = world.start(np.random.default_rng([seed, round_number]), 250)
        while len(sessions.fetches.user):
            shown = sessions.fetches
            names = [f"{seed}-{round_number}-{user}" for user in shown.user.tolist()]
            decisions = [
                _ask(client, name, x, allowed)
                for name, x, allowed in zip(names, shown.features.tolist(), shown.allowed, strict=True)
            ]
            action = np.array([one["ad_load"] for one in decisions])
            outcomes = sessions.step(action)
            _post(client, decisions, outcomes.satisfaction.tolist(), outcomes.revenue.tolist())
            expected = np.stack(world.expected(shown.features), axis=2)
            served.append(expected[np.arange(len(action)), action])
            logging.append(np.einsum("nl,nlc->nc", uniform(shown.features, shown.allowed), expected))
            done += len(action)
        round_number += 1
    return Served(np.concatenate(served), np.concatenate(logging))


def _ask(client: Client, user: str, x: Sequence[float], allowed: F64) -> Any:
    features = dict(zip(AdLoadWorld.feature_names, x, strict=True))
    body = {"surface": "ads", "user": user, "features": features, "allowed": np.flatnonzero(allowed).tolist()}
    return check(client.post("/v1/ad-load", body), 200)


def _post(client: Client, decisions: Sequence[Any], satisfaction: Sequence[float], revenue: Sequence[float]) -> None:
    batch = [
        {
            "receipt": one["receipt"],
            "events": [
                {"kind": "reward", "name": "satisfaction", "value": liked},
                {"kind": "reward", "name": "revenue", "value": paid},
            ],
        }
        for one, liked, paid in zip(decisions, satisfaction, revenue, strict=True)
    ]
    for start in range(0, len(batch), POSTED_AT_ONCE):
        check(client.post("/v1/feedback", {"batch": batch[start : start + POSTED_AT_ONCE]}), 202)


def closed_loop(seed: int = 1000, rows: int = 15_000, rows_after: int = 5_000, alpha: float = 0.05) -> Loop:
    """Log through HTTP with an even logging distribution, export, learn, evaluate on later rows, upload, serve.

    Every step has other users. On the log that it was learned from a policy looks better than it is.

    Only what anyone has: HTTP and the commands. Raises CommandFailed, also where learning keeps the logging policy.
    """
    world = AdLoadWorld.make(seed)
    with tempfile.TemporaryDirectory(prefix="banditd-") as scratch:
        folder = Path(scratch)
        data, policy = folder / "data", folder / "policy.json"
        log, later = folder / "ads.parquet", folder / "later.parquet"
        with serve(data, CONFIG) as server, Client(server.url) as client:
            logged = drive(client, world, seed, rows)
            command("export", "--data", data, "--surface", "ads", "-o", log)
            flags = ["--beta", BETA, "--floor", FLOOR, "--alpha", alpha, "-o", policy]
            learned = command("learn", "ad-load", log, *flags)
            drive(client, world, seed + OTHER_USERS, rows_after)
            command("export", "--data", data, "--surface", "ads", "-o", later)
            _leave_out(later, pq.read_metadata(log).num_rows)
            flags = ["--beta", BETA, "--cluster", "user", "--estimators", "dr"]
            evaluated = command("evaluate", later, "--policy", policy, *flags)
            check(client.put("/v1/surfaces/ads/policy", policy.read_bytes(), "application/json"), 200)
            after = drive(client, world, seed + 2 * OTHER_USERS, rows_after)
    return _loop(learned, evaluated, logged, after)


def _leave_out(path: Path, rows: int) -> None:
    """Drop the first rows of an export, which is in order of time."""
    pq.write_table(pq.read_table(path).slice(rows), path)


def _loop(learned: Any, evaluated: Any, logged: Served, after: Served) -> Loop:
    made, gain = learned["reward"], learned["chosen"]["gain"]
    estimate, baseline = evaluated["estimates"][0], evaluated["baseline"]
    mean = [made["satisfaction_mean"], made["revenue_mean"]]
    sd = [made["satisfaction_sd"], made["revenue_sd"]]
    before, same, value = (
        float(mixed((one - mean) / sd, BETA).mean()) for one in (logged.served, after.logging, after.served)
    )
    satisfaction, revenue = after.served.mean(axis=0).tolist()
    logging_satisfaction, logging_revenue = after.logging.mean(axis=0).tolist()
    return Loop(
        rows=learned["n"],
        before=before,
        same_fetches=same,
        after=value,
        gain=value - same,
        predicted=gain["value"],
        predicted_low=gain["interval"][0],
        evaluated=estimate["value"] - baseline["value"],
        evaluated_low=estimate["interval"][0] - baseline["value"],
        evaluated_high=estimate["interval"][1] - baseline["value"],
        satisfaction=satisfaction,
        logging_satisfaction=logging_satisfaction,
        revenue=revenue,
        logging_revenue=logging_revenue,
    )


def command(*arguments: object) -> Any:
    """The JSON that a banditd command prints. Raises CommandFailed."""
    line = [sys.executable, "-m", "service.cli", *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"banditd {arguments[0]} ended with {done.returncode}: {done.stderr or done.stdout[:2000]}")
    return json.loads(done.stdout)
