"""banditd bench: every comparison that the documents quote, made anew and written down."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from bandits.errors import UsageError
from load_tests.report import Cell, Document, Result, Rows, machine, show, write

HELP = "measure this version and write the tables down"
EXAMPLE = """example:
  banditd bench
  banditd bench throughput --json
  banditd bench digits --quick"""


def run_throughput(quick: bool) -> Result:
    """Requests a second beside a bare FastAPI + pydantic endpoint, decision logging on."""
    from load_tests.throughput import throughput

    report = throughput(pairs=3, requests=500, n_clusters=32, n_items=20_000) if quick else throughput()
    return Result(rows=_plain(report["rows"]), figures=_figures(report))


def run_kernels(quick: bool) -> Result:
    """A scored Plackett-Luce top 10 of 5,120 edges beside reading the same rows once."""
    from load_tests.kernels import measure

    return Result(rows=[measure(n_sets=5, rounds=3) if quick else measure()], figures={})


def run_visibility(quick: bool) -> Result:
    """From posting a reward to the first answer whose scores show it."""
    from load_tests.visibility import visibility

    report = visibility(rewards=10, n_clusters=32, n_items=20_000) if quick else visibility()
    return Result(rows=_plain(report["rows"]), figures=_figures(report))


def run_delay(quick: bool) -> Result:
    """Simulated worlds with scores frozen for 2,000 requests at a time, in process."""
    from load_tests.delay import delay_table

    return Result(
        rows=_plain(delay_table([0], rounds=2000, delay=500) if quick else delay_table([0, 1, 2])), figures={}
    )


def run_conversions(quick: bool) -> Result:
    """Root mean squared error of estimators on bundled classification sets turned into logs of known truth."""
    from load_tests.conversions import conversions_table

    rows = conversions_table(repetitions=5, progress=_say) if quick else conversions_table(progress=_say)
    return Result(rows=_plain(rows), figures={})


def run_selection(quick: bool) -> Result:
    """Lambdas chosen on the log beside the best fixed one, on the same sets: RMSE, and MSE over that of the best."""
    from load_tests.conversions import selection_table, worst_ratios

    rows = selection_table(seeds=5, progress=_say) if quick else selection_table(progress=_say)
    return Result(rows=_plain(rows), figures=_plain([worst_ratios(rows)])[0])


def run_digits(quick: bool) -> Result:
    """Learning on scanned digits over HTTP, beside full LinUCB and random choice."""
    from load_tests.digits import digits_table

    found = digits_table(1, 500, progress=_say) if quick else digits_table(progress=_say)
    note = "diag_linucb weights is left out: on graphs with softmax weights, as this one, it equals published"
    return Result(rows=_plain(found), figures={"note": note})


def run_worlds(quick: bool) -> Result:
    """Simulated worlds over HTTP, beside random choice and the best possible."""
    from load_tests.worlds import worlds_table

    found = worlds_table(seeds=(0,), requests=640, progress=_say) if quick else worlds_table(progress=_say)
    return Result(rows=_plain(found), figures={})


def run_delay_http(quick: bool) -> Result:
    """The delay comparison over HTTP."""
    from load_tests.worlds import delay_over_http

    found = delay_over_http(requests=500, delay=250, progress=_say) if quick else delay_over_http(progress=_say)
    return Result(rows=_plain(found), figures={})


def run_growth(quick: bool) -> Result:
    """Memory under half load for 20 minutes after a warm-up of 7, beside the dedupe bits, which grow by design."""
    from load_tests.growth import growth

    report = growth(minutes=3, warm_up=1, minute_s=2.0, progress=_say) if quick else growth(progress=_say)
    return Result(rows=_plain(report["rows"]), figures=_figures(report))


def run_coverage(quick: bool) -> Result:
    """How often nominal 95 % intervals cover the truth, on 500 simulated logs a row."""
    from load_tests.coverage import coverage_table, least_coverage

    rows = coverage_table((500, 2000), 20, progress=_say) if quick else coverage_table(progress=_say)
    figures: dict[str, Cell] = {
        "lowest coverage of cressie-read": least_coverage(rows, "cressie-read"),
        "two standard errors of a coverage of .93": 0.0228,
        "heavy": "one weight of 510 or none; spread: weights from 1 to 510",
        "flagged": "share of the intervals that say that they may be too narrow, or that the log has no weight at all",
        "left out": "snips with cressie-read and confseq, which give it the interval that they give ips",
    }
    return Result(rows=_plain(rows), figures=figures)


def run_ope(quick: bool) -> Result:
    """Off-policy evaluation of rounds over 10 actions: time, rate and peak memory, on one core a process."""
    from load_tests.ope import ope

    rows = ope(20_000, (20_000, 50_000), 1, progress=_say) if quick else ope(progress=_say)
    return Result(rows=_plain(rows), figures={})


def run_adload(quick: bool) -> Result:
    """Ad loads learned from 50,000 fetches, against each world's truth; below, the loop closed once over HTTP."""
    from load_tests.ad_load import SEEDS, closed_loop, worlds_figures, worlds_table

    seeds = SEEDS[:1] if quick else SEEDS
    rows, small = worlds_table(seeds, progress=_say), worlds_table(seeds, 5_000, _say)
    loop = closed_loop(rows=10_000, rows_after=1_000, alpha=0.2) if quick else closed_loop()
    figures: dict[str, Cell] = {
        **worlds_figures(rows),
        **{f"from 5,000 fetches: {name}": cell for name, cell in worlds_figures(small).items()},
        "values": "r_beta = .7 z(satisfaction) + .3 z(revenue) per fetch, expected in truth, on other users",
        "gap": "between the logging policy and the best policy given the features",
        "percent": "of the logging policy's r_beta, counted from no satisfaction and no revenue",
        "top": "the policy of the highest estimate, however sure; chosen: of the highest lower end of its gain",
        **{f"HTTP {name}": cell for name, cell in _figures(loop).items()},
    }
    return Result(rows=_plain(rows), figures=figures)


BENCHMARKS: Mapping[str, Callable[[bool], Result]] = MappingProxyType(
    {
        "kernels": run_kernels,
        "delay": run_delay,
        "conversions": run_conversions,
        "selection": run_selection,
        "coverage": run_coverage,
        "adload": run_adload,
        "ope": run_ope,
        "digits": run_digits,
        "delay_http": run_delay_http,
        "worlds": run_worlds,
        "visibility": run_visibility,
        "throughput": run_throughput,
        "growth": run_growth,
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help=f"{' | '.join(BENCHMARKS)}; without it all of them, one after another"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works; writes nothing")


def run(args: argparse.Namespace) -> int:
    """Measure, print, write the results and return exit status 0. Raises UsageError for an unknown name."""
    names = list(BENCHMARKS) if args.name is None else [args.name]
    if names[0] not in BENCHMARKS:
        raise UsageError(f"{names[0]!r} is no benchmark; they are {', '.join(BENCHMARKS)}")
    documents = {}
    for name in names:
        _say(f"bench {name}: {_about(name)}")
        result = BENCHMARKS[name](args.quick)
        document = Document(name=name, about=_about(name), machine=machine(), **result)
        documents[name] = document
        if not args.json:
            show(document)
        if not args.quick:
            for path in write(document):
                _say(f"bench {name}: wrote {path}")
    if args.json:
        print(json.dumps(documents[names[0]] if args.name else documents))
    return 0


def _figures(report: Mapping[str, object]) -> dict[str, Cell]:
    return {key: value for key, value in report.items() if isinstance(value, Cell)}


def _about(name: str) -> str:
    return BENCHMARKS[name].__doc__ or ""


def _plain(rows: Sequence[Mapping[str, object]]) -> Rows:
    return [{key: value for key, value in row.items() if isinstance(value, Cell)} for row in rows]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
