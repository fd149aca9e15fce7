"""From a log to the ad-load policy that it can vouch for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bandits.ad_load import AdLoadPolicy, Estimate
from bandits.arrays import F64
from bandits.errors import UsageError
from offline_eval.learning import support
from offline_eval.learning.candidates import Candidate, Kind, candidates
from offline_eval.learning.judge import Judge, Judged, best, best_within, judged, logging_policy
from offline_eval.learning.log import AdLoadLog
from offline_eval.learning.study import Study, split

SWEEP = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MULTIPLIERS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Of the constraint on satisfaction, in a reward z(revenue) + multiplier * z(satisfaction)."""
FLOOR = 0.02
FLOOR_SHARE = 0.25
UNJUDGED = Estimate("none", 0.0, (0.0, 0.0), 0.0, 0)


@dataclass(frozen=True)
class Options:
    """What to learn.

    beta        weight of satisfaction in r_beta
    constraint  most that satisfaction may fall, as a share of the logging policy's, for more revenue; None: r_beta
    sweep       beside the policy for beta, those of SWEEP
    model       linear, tree, or auto for both
    floor       least probability of an allowed load as served; None: FLOOR, or a quarter of the rarest load's share in
                `logging` where that is less
    logging     distribution that policies are mixed with; None: the log's average
    alpha       all intervals of one run hold together with probability 1 - alpha
    min_ess     policies of a lower effective sample size are not chosen
    """

    beta: float = 0.7
    constraint: float | None = None
    sweep: bool = False
    model: Kind = "auto"
    seed: int = 0
    floor: float | None = None
    logging: Sequence[float] | None = None
    alpha: float = 0.05
    min_ess: float = 100.0


@dataclass(frozen=True)
class Learned:
    """What came of it.

    policy   None: the logging policy is kept, `reasons` say why
    study    how the log was split, and what rewards were scaled by; None where it was refused before
    judge    of all of `everyone`; None likewise
    logging  the logging policy as judged
    everyone all candidates
    chosen   which of them `policy` is
    front    with a sweep, for each beta the candidate of the surest gain, None: the logging policy
    """

    policy: AdLoadPolicy | None
    reasons: tuple[str, ...] = ()
    study: Study | None = None
    judge: Judge | None = None
    logging: Judged | None = None
    everyone: tuple[Judged, ...] = ()
    chosen: int | None = None
    front: dict[float, int | None] = field(default_factory=dict)


def learn(
    log: AdLoadLog, options: Options | None = None, advance: Callable[[int], None] = lambda rows: None
) -> Learned:
    """Fit candidates on two thirds of the users and choose on the others, by the lower end of the gain over logging.

    The gain is the paired difference to the logging policy, which is a candidate itself with a gain of exactly 0: a
    policy is returned only where its lower end is above that, so that with probability 1 - alpha it is better than
    what is served today. Candidates are judged as served, mixed with logging by the floor. Selecting on the rows that
    estimate is paid for by a union bound over the candidates; the estimate in the policy file is the same one. One
    seed gives one policy.

    advance  called with the rows of the log after every fit, of which there are `n_fits(options)`

    Raises UsageError for options that do not fit the log.
    """
    options = Options() if options is None else options
    refused = support.reasons(log)
    if refused:
        return Learned(None, tuple(refused))
    logging = _logging(log, options)
    study, floor = split(log, options.seed), _floor(options, logging)
    everyone: list[Judged] = []
    for beta in _betas(options):
        for one in candidates(study.learning.task(beta), beta, options.model, options.seed, few=_few(options)):
            policy = _policy(log, one, floor, logging)
            everyone.append(judged(study.judging, one.name, beta, policy))
        advance(len(log))
    return _chosen(study, everyone, options)


def n_fits(options: Options) -> int:
    """Values of beta that candidates are fitted for."""
    return len(_betas(options))


def _betas(options: Options) -> list[float]:
    """A Lagrangian z(revenue) + m z(satisfaction) is r_beta of beta = m / (1 + m), times 1 + m."""
    betas = {m / (1.0 + m) for m in MULTIPLIERS} if options.constraint is not None else {options.beta}
    return sorted(betas | (set(SWEEP) if options.sweep else set()))


def _few(options: Options) -> bool:
    return options.sweep or options.constraint is not None


def _chosen(study: Study, everyone: list[Judged], options: Options) -> Learned:
    # A constrained choice reads two intervals of each candidate, a front three.
    each = 3 if options.sweep else 2 if options.constraint is not None else 1
    judge = Judge(study.judging, study.scale, each * len(everyone), options.alpha)
    fit = [i for i, one in enumerate(everyone) if one.ess >= options.min_ess]

    def pick(indices: list[int], beta: float | None) -> int | None:
        some = [everyone[i] for i in indices]
        lost = (options.constraint or 0.0) * abs(study.scale.mean[0])
        at = best_within(judge, some, lost) if beta is None else best(judge, some, beta)
        return None if at is None else indices[at]

    def of(beta: float) -> list[int]:
        return [i for i in fit if everyone[i].beta == beta]

    front = {beta: pick(of(beta), beta) for beta in SWEEP} if options.sweep else {}
    chosen = pick(fit, None) if options.constraint is not None else pick(of(options.beta), options.beta)
    whole = Learned(None, (), study, judge, logging_policy(study.judging), tuple(everyone), chosen, front)
    if chosen is None:
        return replace(whole, reasons=(_why_none(judge, everyone, fit, options),))
    return replace(whole, policy=_estimated(whole, everyone[chosen], options))


def _why_none(judge: Judge, everyone: list[Judged], fit: list[int], options: Options) -> str:
    if not fit:
        most = max(one.ess for one in everyone)
        return f"the effective sample size is at most {most:.0f}, below {options.min_ess:g}"
    if options.constraint is not None:
        return (
            f"no policy surely gains revenue and surely keeps satisfaction within {options.constraint:.3%} of the "
            "logging policy's: it is kept"
        )
    gains = [judge.reward(everyone[i].gain, options.beta) for i in fit if everyone[i].beta == options.beta]
    top = max(gains, key=lambda one: one.low)
    return (
        f"no policy surely beats the logging policy, which is kept: the surest gain is {top.value:.4f} "
        f"in [{top.low:.4f}, {top.high:.4f}] standard deviations of reward; a longer log narrows it"
    )


def _estimated(whole: Learned, one: Judged, options: Options) -> AdLoadPolicy:
    assert whole.judge is not None
    assert whole.study is not None
    assert one.policy is not None
    study, judge = whole.study, whole.judge
    constrained = options.constraint is not None
    found = judge.raw(one.terms, 1) if constrained else judge.reward(one.terms, options.beta)
    aim = (
        f"most revenue with satisfaction surely at least {-(options.constraint or 0.0):+.3%} of logging's"
        if constrained
        else f"r_beta of beta {options.beta:g}"
    )
    objective = (
        f"{aim}; {one.name}; learned from {len(study.learning)} rows, judged on {len(study.judging)} rows of other "
        f"users; interval of {1 - options.alpha:.0%} together over {judge.comparisons} comparisons"
    )
    estimate = Estimate("dr", found.value, (found.low, found.high), one.ess, len(study.judging))
    words = study.scale.words(one.beta or 0.0) | ({"estimate": "revenue"} if constrained else {})
    return replace(one.policy, estimate=estimate, objective=objective, reward=words)


def _policy(log: AdLoadLog, one: Candidate, floor: float, logging: F64) -> AdLoadPolicy:
    return AdLoadPolicy(log.loads, log.used, one.model, one.temperature, floor, logging, log.window, UNJUDGED, one.name)


def _logging(log: AdLoadLog, options: Options) -> F64:
    if options.logging is None:
        return log.average_logging
    given = np.asarray(options.logging, np.float64)
    if given.shape != (len(log.loads),) or not (given >= 0).all() or abs(given.sum() - 1.0) > 1e-6:
        raise UsageError(
            f"--logging must be a probability for each of the loads {list(log.loads)}, summing to 1, got "
            f"{', '.join(f'{one:g}' for one in given.ravel()[:8])}"
        )
    share: F64 = given / given.sum()
    return share


def _floor(options: Options, logging: F64) -> float:
    least = float(logging.min())
    if options.floor is None:
        return min(FLOOR, FLOOR_SHARE * least)
    if not 0.0 <= options.floor <= least:
        raise UsageError(
            f"--floor must lie in [0, {least:.4g}], the rarest load's share in the logging distribution, "
            f"got {options.floor:g}"
        )
    return options.floor
