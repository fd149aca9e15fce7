"""The checks by name, in the order they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from service.doctor import files, log, server, state
from service.doctor.directory import Directory
from service.doctor.server import Server

DIRECTORY: Mapping[str, Callable[[Directory], str]] = {
    "files": files.files,
    "permissions": files.permissions,
    "owner": files.owner,
    "disk": files.disk,
    "clock": files.clock,
    "versions": files.versions,
    "generations": files.generations,
    "graphs": files.graphs,
    "policies": files.policies,
    "snapshots": files.snapshots,
    "halts": files.halts,
    "log": log.log,
    "state": state.state,
}
SERVER: Mapping[str, Callable[[Server], str]] = {
    "live": server.live,
    "ready": server.ready,
    "degraded": server.degraded,
    "halted": server.halted,
    "clock": server.clock,
}
