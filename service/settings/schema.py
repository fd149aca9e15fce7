"""The whole configuration as frozen dataclasses: every key with its default, rule and meaning."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.settings.keys import entries, required, setting
from service.settings.surface import YEARS_10_S, SurfaceSettings
from service.settings.values import Array, Choice, Hex, Integer, Text

HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
PORT = r":[0-9]{1,5}"
REDIS = rf"rediss?://(?:[^@/?#\s,]*@)?{HOST}(?:{PORT})?(?:/[0-9]+)?"
SECRET = Hex(32, 1024, empty=True)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The HTTP server and its data directory."""

    host: str = setting("127.0.0.1", Text("a host name or address", r"[A-Za-z0-9._:%-]{1,255}"), "Address to listen on")
    port: int = setting(8080, Integer(0, 65_535), "TCP port; 0 takes a free one")
    workers: int = setting(1, Integer(1, 1024), "Server processes", served=(1,))
    refresh_ms: int = setting(
        20, Integer(1, 60_000), "How often learned values reach scoring; with distributed.redis its default is 100"
    )
    partitions: int = setting(8, Integer(1, 1024), "Partitions of the log, embedded too; fixed for the log's life")
    retention_s: int = setting(2_592_000, Integer(1, YEARS_10_S), "How long log, graphs, policies and plans are kept")
    max_items: int = setting(1000, Integer(1, 100_000), "Explicit items of one request")
    data: str = setting(
        "./banditd-data",
        Text("the name of a folder", r".+"),
        "Log, state, secret, graphs and policies; one owner at a time",
    )
    hosts: tuple[str, ...] = setting(
        (),
        Array(Text("a host name with or without a port", rf"{HOST}(?:{PORT})?"), 0, 1000),
        "Further Host names that are answered; loopback names always are",
    )
    max_body_mib: int = setting(1, Integer(1, 1024), "Largest body of the JSON routes, in MiB")
    max_batch_body_mib: int = setting(
        16, Integer(1, 1024), "Largest body of /v1/feedback and of the batch routes, in MiB"
    )


@dataclass(frozen=True, slots=True)
class ReceiptSettings:
    """Receipts, replies kept by event_id, and the secrets of both."""

    ttl_s: int = setting(86_400, Integer(1, 2_592_000), "How long a receipt is accepted")
    event_ttl_s: int = setting(7200, Integer(1, 2_592_000), "How long a reply is kept for its event_id")
    secret: str = setting(
        "",
        SECRET,
        "Signs receipts; made once in the data folder where none is given; distributed: required, the same everywhere",
        secret="never",
        variable="BANDITD_RECEIPT_SECRET",
    )
    secret_previous: str = setting(
        "",
        SECRET,
        "Still accepted while the secret is rotated",
        secret="never",
        variable="BANDITD_RECEIPT_SECRET_PREVIOUS",
    )
    user_key: str = setting(
        "",
        SECRET,
        "Hashes user ids; made once beside the secret where none is given, the same on all servers, never rotated",
        secret="never",
        variable="BANDITD_USER_KEY",
    )


@dataclass(frozen=True, slots=True)
class KeySettings:
    """One API key, known by its hash. Without any, loopback only, with every scope."""

    name: str = required(Text("1 to 64 of A-Z a-z 0-9 _ . -", r"[A-Za-z0-9_.-]{1,64}"), "Whose key it is")
    sha256: str = required(Hex(32, 32), "SHA-256 of the key, as `banditd keys new` prints it", secret="wrong")
    scopes: tuple[str, ...] = required(
        Array(Choice(("decide", "feedback", "admin")), 1, 3), "What it may do; admin includes both others"
    )


@dataclass(frozen=True, slots=True)
class DistributedSettings:
    """Kafka as the log and Redis as the store; both empty: embedded."""

    kafka: str = setting(
        "",
        Text("host:port[,host:port] or empty", rf"(?:{HOST}{PORT}(?:,{HOST}{PORT})*)?"),
        "Kafka brokers",
        served=("",),
    )
    redis: str = setting(
        "",
        Text(
            "redis[s]://[user:password@]host:port/db, several with commas for a cluster, or empty",
            rf"(?:{REDIS}(?:,{REDIS})*)?",
        ),
        "Redis server, or nodes of a cluster",
        secret="url",
        served=("",),
    )
    namespace: str = setting(
        "banditd",
        Text("1 to 200 of A-Z a-z 0-9 _ . -", r"[A-Za-z0-9_.-]{1,200}"),
        "Names the keys {NAMESPACE:p}, the topic NAMESPACE.log and the consumer group NAMESPACE.updater",
        served=(),
    )
    replication: int = setting(1, Integer(1, 100), "Replicas of the topic, where it is made", served=())
    session_timeout_s: int = setting(
        6, Integer(1, 1800), "Silence after which a worker's partitions go to others", served=()
    )
    snapshots: str = setting(
        "", Text("the name of a folder, or empty"), "Folder of snapshots; empty: none are written", served=()
    )
    snapshot_every_s: int = setting(600, Integer(1, 2_592_000), "How often a partition's owner writes one", served=())
    kafka_security: str = setting(
        "PLAINTEXT", Choice(("PLAINTEXT", "SSL", "SASL_SSL")), "Protocol to the brokers", served=()
    )
    kafka_sasl_mechanism: str = setting(
        "", Choice(("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")), "SASL mechanism; needed with SASL_SSL", served=()
    )
    kafka_username: str = setting("", Text("printable text"), "SASL user", served=())
    kafka_password: str = setting("", Text("printable text"), "SASL password", secret="never", served=())
    kafka_ca: str = setting("", Text("the name of a file, or empty"), "Certificates that sign the brokers'", served=())
    redis_ca: str = setting(
        "", Text("the name of a file, or empty"), "Certificates that sign the Redis servers'", served=()
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration; surfaces in order of appearance, the first being the default one."""

    server: ServerSettings = ServerSettings()
    receipts: ReceiptSettings = ReceiptSettings()
    keys: tuple[KeySettings, ...] = entries((), KeySettings, 0, 1000, "API keys; none: loopback only, every scope")
    distributed: DistributedSettings = DistributedSettings()
    surfaces: dict[str, SurfaceSettings] = field(default_factory=lambda: {"default": SurfaceSettings()})
