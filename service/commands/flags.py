"""The flags that stand for keys of the configuration, shared by serve, config and worker."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from service.settings import Loaded, load

FLAGS = {
    "server.host": ("--host", "HOST", "address to listen on (127.0.0.1)"),
    "server.port": ("--port", "PORT", "TCP port (8080); 0 takes a free one"),
    "server.workers": ("--workers", "N", "server processes (1)"),
    "server.data": ("--data", "DIR", "folder of log, state and secret (./banditd-data)"),
    "distributed.kafka": ("--kafka", "HOST:PORT,..", "Kafka brokers"),
    "distributed.redis": ("--redis", "URL,..", "redis[s]://[user:password@]host:port/db"),
    "distributed.namespace": ("--namespace", "NAME", "name of topic, keys and group (banditd)"),
}
WHOLE_NUMBERS = ("server.port", "server.workers")


def add_server_flags(parser: argparse.ArgumentParser, paths: Iterable[str] = tuple(FLAGS)) -> None:
    """Add --config and the flags of the keys at paths."""
    parser.add_argument("--config", metavar="FILE", help="TOML configuration; without it no file is read")
    for path in paths:
        flag, metavar, text = FLAGS[path]
        kind = _whole_number if path in WHOLE_NUMBERS else str
        parser.add_argument(flag, dest=path, type=kind, metavar=metavar, help=text)


def flags_from(args: argparse.Namespace) -> dict[str, object]:
    """Path -> value of the flags that were given."""
    return {path: value for path, value in vars(args).items() if path in FLAGS and value is not None}


def load_settings(args: argparse.Namespace) -> Loaded:
    """The configuration that the parsed arguments, the process's environment and --config give."""
    return load(args.config, os.environ, flags_from(args))


def _whole_number(text: str) -> int | str:
    """The number, or the text as it is: the key's rule then refuses it with what is allowed."""
    try:
        return int(text)
    except ValueError:
        return text
