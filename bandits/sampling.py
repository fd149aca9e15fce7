"""Drawing a slate from scores, with the exact probability of each position given the earlier ones.

plackett_luce  softmax of score / temperature over what is left (Plackett, 1975; what the Gumbel top-n trick draws)
top_m_uniform  uniform over the m best of what is left, like the draw in Yi et al., RecSys 2023, arXiv 2307.15893; items
               tied at the border share its s seats evenly (ours): each of g has probability s / (g * m)
greedy         the best, the lowest index among ties; its propensity is 1 and epsilon does not apply
uniform        uniform over what is left

The first two mix in the uniform law: p = (1 - epsilon) * p of the kind + epsilon / candidates left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F32, F64, I64
from bandits.kernels.sample import BLOCK, draw_plackett_luce, draw_uniform, position_plackett_luce
from bandits.kernels.sample_top import draw_greedy, draw_top_m, position_top_m

Kind: TypeAlias = Literal["plackett_luce", "top_m_uniform", "greedy", "uniform"]
KINDS: tuple[Kind, ...] = ("plackett_luce", "top_m_uniform", "greedy", "uniform")
MIN_TEMPERATURE = 1e-9


@dataclass(frozen=True, slots=True)
class Sampler:
    """A law over slates without replacement.

    temperature  of plackett_luce, in units of the score, >= 1e-9
    m            of top_m_uniform, >= 1
    epsilon      uniform share at every position, in [0, 1]

    >>> import numpy as np
    >>> sampler = Sampler("plackett_luce", temperature=1.0, epsilon=0.0)
    >>> score = np.log(np.array([1.0, 3.0], np.float32))
    >>> sampler.first_position(score).round(6).tolist()
    [0.25, 0.75]
    >>> index, propensity = sampler.draw(score, 2, np.array([[0.9, 0.2], [0.9, 0.2]]))
    >>> index.tolist(), propensity.round(6).tolist()
    ([0, 1], [0.25, 1.0])
    """

    kind: Kind = "plackett_luce"
    temperature: float = 0.02
    m: int = 20
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not MIN_TEMPERATURE <= self.temperature < np.inf:
            raise ValueError(f"temperature must be a finite number >= {MIN_TEMPERATURE}, got {self.temperature}")
        if self.m < 1:
            raise ValueError(f"m must be >= 1, got {self.m}")
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must be in [0, 1], got {self.epsilon}")

    def draw(self, score: F32, n: int, uniform: F64) -> tuple[I64, F64]:
        """Draw min(n, A) of A candidates, in order.

        score    float32 (A,)
        uniform  float64 (n, 2), independent in [0, 1): all the randomness there is
        Returns int64 indices and float64 propensities, of each position given the earlier ones.

        Raises ValueError when a score is not finite, n is negative or uniform has too few rows.
        """
        size = len(score)
        n = min(n, size)
        if n < 0 or len(uniform) < n or uniform.shape[1:] != (2,):
            raise ValueError(f"n must be >= 0 and uniform (n, 2), got n = {n} and {uniform.shape}")
        index, propensity = np.empty(n, np.int64), np.empty(n)
        if n == 0:
            return index, propensity
        score = np.ascontiguousarray(score, np.float32)
        taken = np.empty(n, np.int64)
        epsilon = float(self.epsilon)
        finite = True
        if self.kind == "plackett_luce":
            weight, block = _scratch(size)
            finite = draw_plackett_luce(
                score, 1.0 / self.temperature, epsilon, uniform, weight, block, taken, index, propensity
            )
        elif self.kind == "top_m_uniform":
            member = np.empty(size, np.int64)
            finite = draw_top_m(score, self.m, epsilon, uniform, member, taken, index, propensity)
        elif self.kind == "greedy":
            finite = draw_greedy(score, np.empty(size, np.int64), index, propensity)
        else:
            draw_uniform(size, uniform, taken, index, propensity)
        if not finite:
            raise ValueError(_not_finite(score))
        return index, propensity

    def first_position(self, score: F32) -> F64:
        """Probability of each candidate at the first position, float64 (A,)."""
        return self.position(score, ())

    def position(self, score: F32, taken: Sequence[int] | NDArray[np.integer]) -> F64:
        """Probability of each candidate after those in taken were drawn in that order, float64 (A,); theirs is 0.

        Exactly what draw would record. Raises ValueError when a score is not finite, or taken repeats an index or holds
        one outside [0, A).
        """
        score = np.ascontiguousarray(score, np.float32)
        earlier = np.array(taken, np.int64)
        left = len(score) - len(earlier)
        if len(set(earlier.tolist())) < len(earlier) or not np.all((earlier >= 0) & (earlier < len(score))):
            raise ValueError(f"taken must be different indices in [0, {len(score)}), got {earlier.tolist()}")
        if self.kind != "uniform" and not np.isfinite(score).all():
            raise ValueError(_not_finite(score))
        probability = np.zeros(len(score))
        if left == 0:
            return probability
        if self.kind == "plackett_luce":
            weight, block = _scratch(len(score))
            position_plackett_luce(
                score, 1.0 / self.temperature, earlier, weight, block, np.empty_like(earlier), probability
            )
        elif self.kind == "top_m_uniform":
            position_top_m(score, self.m, earlier, np.empty(len(score), np.int64), probability)
        elif self.kind == "greedy":
            rest = score.copy()
            rest[earlier] = -np.inf
            probability[rest.argmax()] = 1.0
        else:
            probability[:] = 1.0 / left
        if self.kind in ("plackett_luce", "top_m_uniform"):
            probability = (1.0 - self.epsilon) * probability + self.epsilon / left
        probability[earlier] = 0.0
        return probability


class Uniforms:
    """Independent numbers in [0, 1) for `Sampler.draw`, made 4,096 pairs at a time: each call of a Generator lets go
    of the interpreter, which costs a request 15 us beside a busy thread.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._at, self._pairs = rng, 0, np.empty((0, 2))

    def take(self, n: int) -> F64:
        """float64 (n, 2), used nowhere else."""
        start, self._at = self._at, self._at + n
        if self._at > len(self._pairs):
            self._pairs = self._rng.random((max(n, 4096), 2))
            start, self._at = 0, n
        return self._pairs[start : self._at]


def warm() -> None:
    """Compile every kernel for the types that a server uses."""
    score, uniform = np.zeros(2, np.float32), np.zeros((1, 2))
    for kind in KINDS:
        Sampler(kind).draw(score, 1, uniform)
        Sampler(kind).position(score, (0,))


def _scratch(n_candidates: int) -> tuple[F32, F64]:
    return np.empty(n_candidates, np.float32), np.empty(-(-n_candidates // BLOCK))


def _not_finite(score: F32) -> str:
    i = int(np.flatnonzero(~np.isfinite(score))[0])
    return f"scores must be finite, got {score[i]} at candidate {i}"
