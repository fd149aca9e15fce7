"""Worlds whose truth is known, and the loop that plays a policy in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bandits.simulation.clusters import clusters
from bandits.simulation.digits import digits
from bandits.simulation.policy import Learning, Oracle, Policy, Request, Uniform, parse_policy
from bandits.simulation.run import Simulation, simulate
from bandits.simulation.shop import shop
from bandits.simulation.world import TableWorld, Users, World

WORLDS: Mapping[str, Callable[[int], World]] = MappingProxyType({"digits": digits, "shop": shop, "clusters": clusters})
"""World factories by name; each takes the seed of the world."""

__all__ = [
    "WORLDS",
    "Learning",
    "Oracle",
    "Policy",
    "Request",
    "Simulation",
    "TableWorld",
    "Uniform",
    "Users",
    "World",
    "clusters",
    "digits",
    "parse_policy",
    "shop",
    "simulate",
]
