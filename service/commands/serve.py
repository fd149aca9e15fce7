"""banditd serve: the HTTP service."""

from __future__ import annotations

import argparse
import ipaddress
import os
import resource
import signal
import socket
import sys

from bandits.errors import UsageError

HELP = "answer recommendation requests over HTTP and learn from their feedback"
EXAMPLE = "banditd serve --port 8080 --data ./banditd-data"

SWITCH_S = 0.0001
"""How long a thread may keep the others from the interpreter: at 0.5 ms the fold of a saturated server falls behind."""
GRACE_S = 10
BACKLOG = 2048
OWN_FILES = 256
"""Open files of the server itself and of connections that are being refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from service.commands.flags import add_server_flags

    add_server_flags(parser)
    parser.add_argument(
        "--insecure", action="store_true", help="listen beyond loopback although there are no keys to ask for"
    )


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import uvicorn

    from service.app import create_app
    from service.commands.flags import load_settings
    from service.connection import Connection
    from service.node import Node
    from service.updater import Halt

    settings = load_settings(args).settings
    host = settings.server.host
    if not (settings.keys or args.insecure or _is_loopback(host)):
        raise UsageError(
            f"server.host = {host!r}: without API keys the server listens on loopback only; make one by "
            "`banditd keys new NAME --scopes decide,feedback`, or let everybody in by --insecure"
        )
    sys.setswitchinterval(SWITCH_S)
    node = Node(settings)
    config = uvicorn.Config(
        create_app(node),
        loop="uvloop",
        http=Connection.of(node.metrics, max_connections=most_connections(Connection.max_connections)),
        ws="none",
        proxy_headers=False,
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = uvicorn.Server(config)
    node.on_end = lambda: setattr(server, "should_exit", True)
    with listen(host, settings.server.port) as listening:
        # uvicorn raises a caught signal again once it has stopped: these make that a good end.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listening.getsockname()[1]}"
        node.on_ready = lambda: print(f"banditd serves on {url}", file=sys.stderr, flush=True)
        server.run(sockets=[listening])
    if isinstance(node.fault, Halt):
        print(node.fault, file=sys.stderr)
        return 4
    if node.fault is not None:
        raise node.fault
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; UsageError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as fault:
        listening.close()
        raise UsageError(f"cannot listen on {host}:{port}: {fault.strerror}; choose another by --port") from fault
    return listening


def most_connections(wanted: int) -> int:
    """wanted, or as many as the limit on open files allows; the limit is raised for them as far as that may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - OWN_FILES))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
