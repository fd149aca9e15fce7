"""Classification turned into logs whose truth is known: how far each estimator, and each choice of lambda, lies off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bandits.arrays import F64
from bandits.moments import Moments
from offline_eval.dataset import BanditLog
from offline_eval.estimators import ESTIMATORS, Estimator, Shrunk
from offline_eval.intervals.base import Bounds
from offline_eval.reward_models.folds import assign_folds
from offline_eval.reward_models.ridge import RidgeMoments, mrdr_weight
from offline_eval.rounds import Rounds
from offline_eval.selection import METHODS, select

DATA = MappingProxyType({"digits": load_digits, "wine": load_wine, "cancer": load_breast_cancer})
PLAIN = ("dm", "ips", "snips", "dr", "sndr", "mrdr")
FAMILIES = ("cips", "sg-ips", "switch-dr", "dros", "drps", "sg-dr")
FOLDS = 5
EXPLORED, SOFTENED = 0.25, 0.1
"""Uniform share of the logging and of the target policy."""
WEAK_COLUMNS, WEAK_ROWS = 4, 40
"""What the logging policy's classifier sees of the training half: the columns that vary most for their size."""


@dataclass(frozen=True)
class Population:
    """Contexts with every action's reward and both policies, float64 (N, d) and (N, K).

    A log draws its contexts from these with replacement, so that `truth` is exact.
    """

    context: F64
    reward: F64
    logging: F64
    target: F64

    @property
    def truth(self) -> float:
        """Mean reward of a round under the target."""
        return float((self.target * self.reward).sum(axis=1).mean())

    @property
    def largest_weight(self) -> float:
        return float((self.target / self.logging).max())

    def rounds(self, n: int, seed: int) -> Rounds:
        """A log of n rounds with cross-fitted reward models."""
        random = np.random.default_rng(seed)
        row = random.integers(len(self.context), size=n)
        logging, target = self.logging[row], self.target[row]
        action = (logging.cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=logging.shape[1] - 1)
        each = np.arange(n)
        log = BanditLog(self.context[row], action, self.reward[row, action], logging[each, action], logging.shape[1])
        rounds = Rounds(log, target[each, action], target)
        fold = assign_folds(n, FOLDS, seed)
        models = {"plain": _predicted(log, fold, None), "mrdr": _predicted(log, fold, mrdr_weight(rounds))}
        return Rounds(log, rounds.target_action, target, models)


def population(name: str) -> Population:
    """One of DATA: policies from one half of the rows, contexts from the other; reward 1 for the row's own class.

    logging  softmax of logistic regression on 4 columns and 40 rows, and a quarter uniform
    target   softmax of logistic regression on all columns of the half, and a tenth uniform
    """
    context, label = DATA[name](return_X_y=True)
    train, test, known, hidden = train_test_split(context, label, test_size=0.5, stratify=label, random_state=0)
    classes = np.unique(label)
    few = np.argsort(-np.var(train / (np.abs(train).max(axis=0) + 1e-12), axis=0), kind="stable")[:WEAK_COLUMNS]
    rows = np.concatenate([np.flatnonzero(known == one)[: -(-WEAK_ROWS // len(classes))] for one in classes])
    weak = _classifier().fit(train[np.ix_(rows, few)], known[rows]).predict_proba(test[:, few])
    good = _classifier().fit(train, known).predict_proba(test)
    k = len(classes)
    return Population(
        np.asarray(test, np.float64),
        (hidden[:, None] == classes[None, :]).astype(np.float64),
        (1 - EXPLORED) * weak + EXPLORED / k,
        (1 - SOFTENED) * good + SOFTENED / k,
    )


class Row(TypedDict):
    """Root mean squared error over the repetitions of each estimator, on one data set."""

    data: str
    rounds: int
    repetitions: int
    truth: float
    w_max: float
    dm: float
    ips: float
    snips: float
    dr: float
    sndr: float
    mrdr: float


class Chosen(TypedDict):
    """Of one family on one data set: RMSE of the best fixed lambda and of each choice.

    slope_x, mse_x  the choice's mean squared error over that of the best fixed lambda
    """

    data: str
    family: str
    seeds: int
    best_lam: str
    best: float
    slope: float
    slope_x: float
    mse: float
    mse_x: float


def conversions_table(
    repetitions: int = 500, n: int = 1_000, progress: Callable[[str], None] = lambda line: None
) -> list[Row]:
    """Every data set's logs of n rounds, seeds 0 .. repetitions - 1."""
    rows: list[Row] = []
    for name in DATA:
        world = population(name)
        errors = {kind: np.empty(repetitions) for kind in PLAIN}
        for seed in range(repetitions):
            rounds = world.rounds(n, seed)
            for kind in PLAIN:
                estimator = ESTIMATORS[kind]()
                errors[kind][seed] = estimator.value(_moments(estimator, rounds)) - world.truth
        rows.append(_row(name, world, n, errors))
        progress(f"conversions, {name}: RMSE of dr {rows[-1]['dr']:.4f}, of ips {rows[-1]['ips']:.4f}")
    return rows


def selection_table(
    seeds: int = 200, n: int = 1_000, progress: Callable[[str], None] = lambda line: None
) -> list[Chosen]:
    """The choices of lambda on every data set's logs of n rounds, seeds 0 .. seeds - 1."""
    chosen: list[Chosen] = []
    for name in DATA:
        world = population(name)
        logs = [world.rounds(n, seed) for seed in range(seeds)]
        for kind in FAMILIES:
            chosen.append(_chosen(name, kind, [trial(kind, rounds, world) for rounds in logs], world.truth))
            ratios = f"slope {chosen[-1]['slope_x']:.2f}, mse {chosen[-1]['mse_x']:.2f}"
            progress(f"selection, {name}, {kind}: MSE over that of the best fixed lambda: {ratios}")
    return chosen


@dataclass(frozen=True)
class Trial:
    """A family on one log: its members' lambdas and estimates, and the estimate that each method chose."""

    lam: Sequence[float]
    value: Sequence[float]
    chosen: Mapping[str, float]


def trial(kind: str, rounds: Rounds, world: Population) -> Trial:
    """Every member of a family on a log."""
    family = ESTIMATORS[kind]
    assert issubclass(family, Shrunk)
    members = family.grid(world.largest_weight, len(rounds))
    moments = [_moments(one, rounds) for one in members]
    bounds = Bounds(world.largest_weight, (0.0, 1.0))
    picked = {method: select(method, members, moments, bounds) for method in METHODS}
    return Trial(
        [one.strength for one in members],
        [one.value(its) for one, its in zip(members, moments, strict=True)],
        {method: one.value(its) for method, (one, its, _) in picked.items()},
    )


def worst_ratios(chosen: Sequence[Chosen]) -> dict[str, float]:
    """Of each method the largest MSE over that of the best fixed lambda."""
    return {
        "slope_x_worst": max(one["slope_x"] for one in chosen),
        "mse_x_worst": max(one["mse_x"] for one in chosen),
    }


def _row(name: str, world: Population, n: int, errors: Mapping[str, F64]) -> Row:
    rmse = {kind: float(np.sqrt((error**2).mean())) for kind, error in errors.items()}
    return Row(
        data=name,
        rounds=n,
        repetitions=len(errors["dr"]),
        truth=world.truth,
        w_max=world.largest_weight,
        dm=rmse["dm"],
        ips=rmse["ips"],
        snips=rmse["snips"],
        dr=rmse["dr"],
        sndr=rmse["sndr"],
        mrdr=rmse["mrdr"],
    )


def _chosen(name: str, kind: str, trials: Sequence[Trial], truth: float) -> Chosen:
    fixed = ((np.array([one.value for one in trials]) - truth) ** 2).mean(axis=0)
    best = int(fixed.argmin())
    error = {method: float(np.mean([(one.chosen[method] - truth) ** 2 for one in trials])) for method in METHODS}
    return Chosen(
        data=name,
        family=kind,
        seeds=len(trials),
        best_lam=f"{trials[0].lam[best]:.3g}",
        best=float(np.sqrt(fixed[best])),
        slope=float(np.sqrt(error["slope"])),
        slope_x=error["slope"] / float(fixed[best]),
        mse=float(np.sqrt(error["mse"])),
        mse_x=error["mse"] / float(fixed[best]),
    )


def _moments(estimator: Estimator, rounds: Rounds) -> Moments:
    moments = Moments.zero(3)
    moments.add(estimator.split(rounds).columns())
    return moments


def _predicted(log: BanditLog, fold: NDArray[np.intp], weight: F64 | None) -> F64:
    moments = RidgeMoments(log.n_actions, 0 if log.context is None else log.context.shape[1], FOLDS)
    moments.add(log.context, log.action, log.reward, fold, weight)
    return moments.fit().predict(log.context, fold)


def _classifier() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
