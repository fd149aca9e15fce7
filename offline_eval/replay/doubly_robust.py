"""Doubly robust replay: a learning policy on a log that was not chosen uniformly."""

from __future__ import annotations

import math

import numpy as np

from bandits.simulation.policy import Request
from offline_eval.accumulate import Sums
from offline_eval.estimators.base import Split
from offline_eval.replay.model import RunningModel
from offline_eval.replay.player import Player
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
    most a share q of rows breaks this: the bias (theorem 3.1 there) comes from these alone. Variance: that of the
    terms c R over (sum of c)**2, rows being differences of a martingale.
    Ours: the quantile is kept to 0.2 % in fixed memory, and q(x, a) is fitted on all earlier rows of the log, not
    only on those taken, which the argument allows.

    c_max     largest multiplier, in (0, 1]
    quantile  q, in [0, 1); None for a policy that does not learn, whose history does not matter: c stays c_max, nothing
              is drawn, and rows with w > 0 count as matched
    clipped   rows with c w > 1
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
        self.largest_weight = 0.0

    def play(self, rows: Rows) -> None:
        """Play the next rows of the log."""
        n = len(rows)
        base, weight, error, c = (np.empty(n) for _ in range(4))
        coin, reward, propensity = (column.tolist() for column in (self._rng.random(n), rows.reward, rows.propensity))
        for i, (request, place) in enumerate(rows.requests()):
            probability = self._player.probabilities(request)
            predicted = self._model.predict(request)
            action, w = int(request.candidates[place]), float(probability[place]) / propensity[i]
            base[i], weight[i], error[i], c[i] = probability @ predicted, w, reward[i] - predicted[place], self._c
            if self.quantile is None:
                self.matched += w > 0.0
            else:
                self._sample(request, action, reward[i], w, coin[i], self.quantile)
            self._model.learn(request, action, reward[i])
        self.largest_weight = max(self.largest_weight, float(weight.max(initial=0.0)))
        self.sums.add(Split(base, weight, error), c if rows.count is None else c * rows.count, None, None)

    def _sample(self, request: Request, action: int, reward: float, w: float, coin: float, q: float) -> None:
        """Let the row into the history, or not."""
        self._inverse_weights.add(1.0 / w if w > 0.0 else math.inf)
        self.clipped += self._c * w > 1.0
        if coin < self._c * w:
            self.matched += 1
            self._player.learn(request, action, reward)
            self._c = self._inverse_weights.at(q)
