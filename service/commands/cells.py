"""banditd cells: what was learned."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bandits.errors import UsageError
from service.client_key import key_headers

HELP = "show what was learned: the sums of every arm and slot"
EXAMPLE = "banditd cells --data ./banditd-data --json"

_SHOWN = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--data", metavar="DIR", default="./banditd-data", help="data directory; also beside a running server"
    )
    source.add_argument("--url", metavar="URL", help="a running server; its key in BANDITD_KEY")
    parser.add_argument("--surface", metavar="S", help="surface to show (the first one)")
    parser.add_argument("--all", action="store_true", help="cells of older generations too")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    document = _from_url(args) if args.url else _from_data(args)
    if args.json:
        print(json.dumps(document))
    else:
        _print(document)
    return 0


def _from_data(args: argparse.Namespace) -> dict[str, Any]:
    from service.cells_view import cells_page
    from service.rewards import Generations
    from service.stored_state import open_stored, stored_state

    folder = Path(args.data)
    with open_stored(folder) as (log, store):
        learned = stored_state(log, store)
    generations = Generations(folder / "generations.json")
    surface = _choose(args.surface, generations.surfaces)
    page = cells_page(learned, surface, generations.of(surface, every=args.all))
    return {key: page[key] for key in ("surface", "partitions", "cells")}


def _from_url(args: argparse.Namespace) -> dict[str, Any]:
    import httpx

    headers = key_headers()
    document: dict[str, Any] | None = None
    try:
        with httpx.Client(base_url=args.url, headers=headers, timeout=60, trust_env=False) as client:
            names = [surface["name"] for surface in _get(client, "/v1/surfaces", {})["surfaces"]]
            path = f"/v1/surfaces/{_choose(args.surface, names)}/cells"
            query = {"limit": "100000", "all": str(args.all).lower()}
            while True:
                page = _get(client, path, query)
                if document is None:
                    document = {key: page[key] for key in ("surface", "partitions", "cells")}
                else:
                    document["cells"] += page["cells"]
                if page["cursor"] is None:
                    return document
                query["cursor"] = page["cursor"]
    except httpx.HTTPError as fault:
        raise UsageError(f"{args.url}: {fault}; is `banditd serve` running there?") from fault


def _get(client: Any, path: str, query: dict[str, str]) -> dict[str, Any]:
    reply = client.get(path, params=query)
    if reply.status_code != 200:
        raise UsageError(f"{client.base_url}: {path} answered {reply.status_code}: {reply.text}")
    document: dict[str, Any] = reply.json()
    return document


def _choose(surface: str | None, names: list[str]) -> str:
    if surface is None and names:
        return names[0]
    if surface not in names:
        raise UsageError(f"--surface {surface}: unknown; there are {', '.join(names) or 'none'}")
    return surface


def _print(document: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from bandits.terminal import Terminal

    surface, cells = document["surface"], document["cells"]
    console = Terminal()
    mean = surface["reward"] / surface["impressions"] if surface["impressions"] else 0.0
    console.print(
        f"surface [bold]{escape(surface['name'])}[/]: {surface['impressions']:,} impressions, "
        f"reward {surface['reward']:,.6g}, mean {mean:.4g}; {len(cells):,} cells"
    )
    table = Table("arm", "slot", "feature", box=None, header_style="bold")
    for column in ("weight_sq_sum", "weight_sum", "reward_sum"):
        table.add_column(column, justify="right")
    heaviest = sorted(cells, key=lambda cell: -cell["weight_sq_sum"])[:_SHOWN]
    for cell in heaviest:
        sums = (f"{cell[name]:.6g}" for name in ("weight_sq_sum", "weight_sum", "reward_sum"))
        table.add_row(Text(cell["arm"]), str(cell["slot"]), Text(cell["feature"] or ""), *sums)
    console.print(table)
    if len(cells) > _SHOWN:
        console.print(f"the {_SHOWN} heaviest of {len(cells):,}; --json gives all", style="dim")
