"""banditd simulate: regret of a policy against a world's known truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TypedDict

from rich.table import Table

from bandits.errors import UsageError
from bandits.simulation import WORLDS, Policy, Simulation, Uniform, parse_policy, simulate
from bandits.simulation.encoding import Encoder
from bandits.terminal import Terminal

AD_LOAD = "adload"
HELP = "play a policy in a world whose truth is known, and print its regret"
EXAMPLE = """example:
  banditd simulate clusters --policy diag_linucb:alpha=1,variant=published --rounds 20000 --seed 1
  banditd simulate adload --policy learned --seed 1
  banditd simulate adload --policy logging --rounds 50000 --write-log ads.parquet

Rewards of adload are .7 z(satisfaction) + .3 z(revenue), z as in a log of its logging policy: 0 is what that brings.
Its default policy is learned from such a log of 50,000 fetches and other users."""


class Outcome(TypedDict):
    reward: float
    regret: float


class Report(Outcome):
    """What --json prints: reward and upper_bound are means of a round, regret is the sum over all rounds."""

    world: str
    policy: str
    rounds: int
    upper_bound: float
    baselines: dict[str, Outcome]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("world", metavar="WORLD", help=" | ".join([*WORLDS, AD_LOAD]))
    parser.add_argument(
        "--policy",
        help="uniform | diag_linucb[:alpha=.3,variant=centred,prior=1] | full_linucb[:alpha=.3,prior=1], "
        "served through a surface's default sampler; of adload: learned | logging | uniform | constant:K | FILE.json "
        "(default: diag_linucb; adload: learned)",
    )
    parser.add_argument("--rounds", type=int, default=20_000, metavar="N", help="requests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of world and play (default: %(default)s)")
    parser.add_argument(
        "--refresh",
        type=int,
        metavar="N",
        help="requests between two updates of the parameters (default: 1); not of adload",
    )
    parser.add_argument(
        "--write-log",
        type=Path,
        metavar="FILE",
        help="of adload: also write the policy's fetches as a Parquet table that evaluate and learn read",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Simulate, print, and return exit status 0. Raises UsageError."""
    report = _report(args.world, args.policy, args.rounds, args.seed, args.refresh)
    if args.write_log is not None:
        _write_log(args.world, report, args.seed, args.write_log)
    if args.json:
        print(json.dumps(report))
    else:
        Terminal(highlight=False).print(_table(report))
    return 0


def _report(world_name: str, policy: str | None, rounds: int, seed: int, refresh: int | None) -> Report:
    if world_name not in (*WORLDS, AD_LOAD):
        raise UsageError(f"WORLD must be one of {', '.join([*WORLDS, AD_LOAD])}, got {world_name!r}")
    for option, value, low in (("--rounds", rounds, 1), ("--refresh", refresh, 1), ("--seed", seed, 0)):
        if value is not None and value < low:
            raise UsageError(f"{option} must be >= {low}, got {value}")
    if world_name == AD_LOAD:
        return _ad_load(policy or "learned", rounds, seed, refresh)
    return _items(world_name, policy or "diag_linucb", rounds, seed, refresh or 1)


def _items(world_name: str, policy: str, rounds: int, seed: int, refresh: int) -> Report:
    world = WORLDS[world_name](seed)
    encoder = Encoder(world)

    def play(policy: Policy) -> Simulation:
        return simulate(world, policy, rounds, seed, refresh, encoder=encoder)

    try:
        learner = parse_policy(policy, len(world.item_ids), encoder.n_slots, encoder.edges)
    except ValueError as error:
        raise UsageError(f"--policy: {error}") from error
    outcome, random = play(learner), play(Uniform())
    return Report(
        world=world_name,
        policy=policy,
        rounds=rounds,
        reward=outcome.reward,
        regret=outcome.regret,
        upper_bound=outcome.upper_bound,
        baselines={"random": Outcome(reward=random.reward, regret=random.regret)},
    )


def _ad_load(policy: str, rounds: int, seed: int, refresh: int | None) -> Report:
    from offline_eval.learning.play import regrets

    if refresh is not None:
        raise UsageError("--refresh: the policies of adload do not learn while they are played")
    played = regrets(policy, rounds, seed)
    outcomes = {name: Outcome(reward=one.mean, regret=one.regret) for name, one in played.items()}
    chosen = outcomes.pop("policy")
    return Report(
        world=AD_LOAD,
        policy=policy,
        rounds=rounds,
        reward=chosen["reward"],
        regret=chosen["regret"],
        upper_bound=played["policy"].upper_bound,
        baselines=outcomes,
    )


def _write_log(world_name: str, report: Report, seed: int, path: Path) -> None:
    from offline_eval.learning.play import write_table

    if world_name != AD_LOAD:
        raise UsageError(f"--write-log: not of {world_name}; serve it and export the log instead")
    write_table(report["policy"], report["rounds"], seed, path)


def _table(report: Report) -> Table:
    table = Table(title=f"{report['world']}, {report['rounds']:,} rounds", title_justify="left")
    table.add_column("policy")
    table.add_column("mean reward", justify="right")
    table.add_column("regret", justify="right")
    rows: dict[str, Outcome] = {report["policy"]: report, **report["baselines"]}
    for name, outcome in rows.items():
        table.add_row(name, f"{outcome['reward']:.4f}", f"{outcome['regret']:,.1f}")
    table.add_row("upper bound", f"{report['upper_bound']:.4f}", "0.0")
    return table
