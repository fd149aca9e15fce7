"""Ad-load surfaces, and policy files for them."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.service.harness import Server

ADS = """
[surfaces.ads]
policy = "ad_load"
[surfaces.ads.ad_load]
logging = [0.4, 0.3, 0.2, 0.1]
[[surfaces.ads.rewards]]
name = "satisfaction"
range = [-1.0, 1.0]
[[surfaces.ads.rewards]]
name = "revenue"
range = [0.0, 10.0]
weight = 0.1
[surfaces.home]
"""
"""Surface ads with loads 0 to 3 and two rewards, and another surface beside it."""
FEATURES = {"tolerance": 0.7, "since_ad_s": 3600.0}


def document(**changes: Any) -> dict[str, Any]:
    """A linear policy over loads 0 to 3 and two features; changes replace fields, None takes them away."""
    whole = {
        "version": 1,
        "kind": "ad_load",
        "loads": [0, 1, 2, 3],
        "features": [
            {"name": "tolerance", "mean": 0.5, "scale": 0.25},
            {"name": "since_ad_s", "mean": 600.0, "scale": 1200.0},
        ],
        "model": {
            "type": "linear",
            "weights": [[-1.0, -0.5], [-0.2, 0.1], [0.3, 0.2], [0.9, 0.4]],
            "bias": [0.2, 0.1, 0.0, -0.1],
        },
        "temperature": 0.5,
        "floor": 0.02,
        "logging": [0.4, 0.3, 0.2, 0.1],
        "window": ["2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z"],
        "estimate": {"estimator": "dr", "value": 0.1, "interval": [0.05, 0.15], "ess": 900.0, "n": 1000},
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def content(**changes: Any) -> bytes:
    """The bytes of such a file."""
    return json.dumps(document(**changes)).encode()


def put(server: Server, body: bytes, surface: str = "ads", kind: str = "application/json") -> httpx.Response:
    return server.request("PUT", f"/v1/surfaces/{surface}/policy", content=body, headers={"content-type": kind})


def ask(server: Server, **body: Any) -> httpx.Response:
    return server.post("/v1/ad-load", {"surface": "ads"} | body)
