"""Doubly robust replay: a learning policy on a log that was not chosen uniformly."""

from __future__ import annotations

import math

import numpy as np

from bandits.arrays import F64
from offline_eval.accumulate import Sums
from offline_eval.estimators.base import Split
from offline_eval.replay.compiled import Compiled
from offline_eval.replay.model import RunningModel
from offline_eval.replay.player import Path, Player
from offline_eval.replay.quantile import RunningQuantile
from offline_eval.replay.rows import Rows


class DoublyRobust:
    """Every row counts by its doubly robust term; the policy learns from those that rejection sampling takes.

    With w = pi(a|x, history) / pi0(a|x) and q a reward model: R = sum_a pi(a|x, history) q(x, a) + w (r - q(x, a)).
    The row enters the history with probability min(1, c w). Value: sum of c R / sum of c. After each row taken c
    becomes the smaller of c_max and the q-th quantile of all 1 / w so far.

    Dudik, Erhan, Langford & Li, "Sample-efficient nonstationary policy evaluation for contextual bandits", UAI 2012,
    algorithm 1 (DR-ns). Assumes rows independent of each other, pi0 known and positive wherever pi is. R is unbiased
    for the policy's value given its history, whatever q; the history is the policy's own wherever c w <= 1, and at
    most a share q of rows breaks this: the bias (theorem 3.1 there) comes from these alone. They are the ones that the
    policy wants most: lost / met is the share of its history that it goes without, and learns the worse for.
    Variance: that of the terms c R over (sum of c)**2, rows being differences of a martingale.
    Ours: the quantile is kept to 0.2 % in fixed memory, and q(x, a) is fitted on all earlier rows of the log, not
    only on those taken, which the argument allows.

    c_max     largest multiplier, in (0, 1]
    quantile  q, in [0, 1); None for a policy that does not learn, whose history does not matter: c stays c_max, nothing
              is drawn, and rows with w > 0 count as matched
    clipped   rows with c w > 1
    met       sum of c: how many rows the policy would have met
    lost      sum of c - min(1, c w): how many of them it could not learn from; lost_sq is the sum of the squares
    rewarded  rows with w > 0 and a reward other than 0
    largest_term   largest c w |r - q(x, a)|
    """

    method = "dr replay"

    def __init__(
        self,
        player: Player,
        model: RunningModel,
        rng: np.random.Generator,
        *,
        c_max: float = 1.0,
        quantile: float | None = 0.05,
    ) -> None:
        if not 0.0 < c_max <= 1.0:
            raise ValueError(f"c_max must lie in (0, 1], got {c_max:g}")
        if quantile is not None and not 0.0 <= quantile < 1.0:
            raise ValueError(f"quantile must lie in [0, 1), got {quantile:g}")
        self._player = player
        self._model = model
        self.model_name = model.name
        self._rng = rng
        self.quantile = quantile
        self._inverse_weights = RunningQuantile(c_max)
        self._c = c_max
        self.sums = Sums()
        self.matched = 0
        self.clipped = 0
        self.met = self.lost = self.lost_sq = 0.0
        self.rewarded = 0
        self.largest_weight = 0.0
        self.largest_term = 0.0

    def play(self, rows: Rows) -> None:
        """Play the next rows of the log."""
        n, coin = len(rows), self._rng.random(len(rows))
        path = self._walk(rows, coin)
        self._c = path.next_c
        predicted = self._model.play(rows)
        start = rows.entries[0][:-1]
        base = np.add.reduceat(path.probability * predicted, start) if n else np.empty(0)
        error = rows.reward - predicted[start + rows.place]
        c = path.c if rows.count is None else path.c * rows.count
        self.sums.add(Split(base, path.weight, error), c, None, None)
        self.matched += int((path.taken if self.quantile is not None else path.weight > 0.0).sum())
        share = path.c * path.weight
        self.clipped += int((share > 1.0).sum())
        self.met += float(path.c.sum())
        lost = path.c - np.minimum(share, 1.0)
        self.lost += float(lost.sum())
        self.lost_sq += float(lost @ lost)
        self.rewarded += int(((rows.reward != 0.0) & (path.weight > 0.0)).sum())
        self.largest_weight = max(self.largest_weight, float(path.weight.max(initial=0.0)))
        self.largest_term = max(self.largest_term, float(np.abs(c * path.weight * error).max(initial=0.0)))

    def _walk(self, rows: Rows, coin: F64) -> Path:
        compiled = Compiled.of(self._player)
        if compiled is not None and self.quantile is not None:
            return compiled.robust(rows, coin, self._c, self.quantile, self._inverse_weights)
        n, start = len(rows), rows.entries[0].tolist()
        path = Path(np.empty(start[-1]), np.empty(n), np.empty(n), np.zeros(n, bool), self._c)
        coins, reward, propensity = (column.tolist() for column in (coin, rows.reward, rows.propensity))
        for i, (request, place) in enumerate(rows.requests()):
            probability = self._player.probabilities(request)
            path.probability[start[i] : start[i + 1]] = probability
            path.c[i] = path.next_c
            w = path.weight[i] = float(probability[place]) / propensity[i]
            if self.quantile is None:
                continue
            self._inverse_weights.add(1.0 / w if w > 0.0 else math.inf)
            if coins[i] < path.next_c * w:
                path.taken[i] = True
                self._player.learn(request, int(request.candidates[place]), reward[i])
                path.next_c = self._inverse_weights.at(self.quantile)
        return path
