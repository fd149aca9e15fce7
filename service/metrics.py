"""Every number that the service counts, in Prometheus's text format; the runbook has a line for each."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bandits.records import IMPRESSION, Event

_REQUEST_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_VISIBLE_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.decisions = Counter("banditd_decisions_total", "Slates answered", ("surface", "mode"), registry=r)
        self.event_count = Counter("banditd_events_total", "Events in the log", ("kind",), registry=r)
        self.request_seconds = Histogram(
            "banditd_request_seconds", "Time of a request", ("route",), buckets=_REQUEST_S, registry=r
        )
        self.feedback_to_score = Histogram(
            "banditd_feedback_to_score_seconds",
            "From feedback to the first score with it",
            buckets=_VISIBLE_S,
            registry=r,
        )
        self.params_age = Gauge(
            "banditd_params_age_seconds", "Since the table was last known to be current", registry=r
        )
        self.lost = Gauge("banditd_decisions_lost_total", "Gaps below each boot's highest logged ordinal", registry=r)
        self.lag = Gauge("banditd_log_lag", "Frames of the log not folded yet", ("partition",), registry=r)
        self.nolearn_count = Counter(
            "banditd_nolearn_total", "Decisions answered but not logged", ("reason",), registry=r
        )
        self.refused = Counter("banditd_refused_total", "Requests refused", ("status",), registry=r)
        self.clipped_count = Counter(
            "banditd_rewards_clipped_total", "Rewards clipped to their range", ("surface",), registry=r
        )
        self.commit_seconds = Histogram(
            "banditd_log_commit_seconds", "Time of one append to the log", buckets=_REQUEST_S, registry=r
        )
        self.publish_seconds = Histogram(
            "banditd_publish_seconds", "Time scoring stands still for a refresh", buckets=_REQUEST_S, registry=r
        )
        self.fold_seconds = Counter("banditd_fold_seconds_total", "Time spent folding and applying", registry=r)
        self.folded = Gauge("banditd_folded", "What the fold has met since start", ("what",), registry=r)
        self.queued_bytes = Gauge("banditd_log_queued_bytes", "Entries waiting for the log", registry=r)
        self.cells_bytes = Gauge("banditd_state_bytes", "Memory of the folded state", ("part",), registry=r)
        self.without_edge = Gauge(
            "banditd_cells_without_edge", "Changed cells that no edge shows", ("surface",), registry=r
        )
        self.checkpoints = Counter("banditd_checkpoints_total", "Checkpoints of the state", ("outcome",), registry=r)
        self._children: dict[tuple[str, ...], Counter] = {}

    def decision(self, surface: str, mode: str) -> None:
        key = (surface, mode)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self.decisions.labels(surface, mode)
        child.inc()

    def events(self, events: Sequence[Event]) -> None:
        impressions = sum(event.kind == IMPRESSION for event in events)
        if impressions:
            self.event_count.labels("impression").inc(impressions)
        if len(events) > impressions:
            self.event_count.labels("reward").inc(len(events) - impressions)

    def nolearn(self, reason: str) -> None:
        self.nolearn_count.labels(reason).inc()

    def clipped(self, surface: str) -> None:
        self.clipped_count.labels(surface).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
