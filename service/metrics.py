"""Every number that the service counts, in Prometheus's text format; the runbook has a line for each."""

from __future__ import annotations

from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

_REQUEST_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_VISIBLE_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.decisions = counter("banditd_decisions_total", "Slates and ad loads answered", ("surface", "mode"))
        self.event_count = counter("banditd_events_total", "Events in the log", ("kind",))
        self.request_seconds = histogram("banditd_request_seconds", "Time of a request", ("route",), buckets=_REQUEST_S)
        self.feedback_to_score = histogram(
            "banditd_feedback_to_score_seconds", "From feedback to the first score with it", buckets=_VISIBLE_S
        )
        self.params_age = gauge("banditd_params_age_seconds", "Since the table was last known to be current")
        self.lost = gauge("banditd_decisions_lost_total", "Gaps below each boot's highest logged ordinal")
        self.lag = gauge("banditd_log_lag", "Frames of the log not folded yet", ("partition",))
        self.nolearn_count = counter("banditd_nolearn_total", "Decisions answered but not logged", ("reason",))
        self.event_id_count = counter("banditd_event_ids_total", "Event ids by what came of them", ("outcome",))
        self.policy_feature_count = counter(
            "banditd_policy_features_total",
            "Features of ad-load requests the policy could not use",
            ("surface", "what"),
        )
        self.refused = counter("banditd_refused_total", "Requests refused", ("status",))
        self.connections = gauge("banditd_connections", "Open connections")
        self.connections_closed = counter("banditd_connections_closed_total", "Connections closed", ("reason",))
        self.clipped_count = counter("banditd_rewards_clipped_total", "Rewards cut to their range", ("surface",))
        self.commit_seconds = histogram("banditd_log_commit_seconds", "Time of an append", buckets=_REQUEST_S)
        self.publish_seconds = histogram(
            "banditd_publish_seconds", "Time scoring stands still for a refresh", buckets=_REQUEST_S
        )
        self.fold_seconds = counter("banditd_fold_seconds_total", "Time spent folding and applying")
        self.folded = gauge("banditd_folded", "What the fold has met since start", ("what",))
        self.retired = counter("banditd_retired_total", "Tables and arms that were retired", ("kind",))
        self.tombstones = gauge("banditd_tombstones", "Retired tables and arms whose receipts may still come")
        self.queued_bytes = gauge("banditd_log_queued_bytes", "Entries waiting for the log")
        self.cells_bytes = gauge("banditd_state_bytes", "Memory of the folded state", ("part",))
        self.without_edge = gauge("banditd_cells_without_edge", "Changed cells that no edge shows", ("surface",))
        self.checkpoints = counter("banditd_checkpoints_total", "Checkpoints of the state", ("outcome",))
        self._children: dict[tuple[str, ...], Counter] = {}

    def decision(self, surface: str, mode: str) -> None:
        key = (surface, mode)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self.decisions.labels(surface, mode)
        child.inc()

    def events(self, impressions: int, rewards: int) -> None:
        if impressions:
            self.event_count.labels("impression").inc(impressions)
        if rewards:
            self.event_count.labels("reward").inc(rewards)

    def nolearn(self, reason: str) -> None:
        self.nolearn_count.labels(reason).inc()

    def event_ids(self, outcome: str, n: int) -> None:
        if n:
            self.event_id_count.labels(outcome).inc(n)

    def policy_features(self, surface: str, missing: int, unknown: int) -> None:
        for what, n in (("missing", missing), ("unknown", unknown)):
            if n:
                self.policy_feature_count.labels(surface, what).inc(n)

    def clipped(self, surface: str) -> None:
        self.clipped_count.labels(surface).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
