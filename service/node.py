"""One embedded server, put together: log, updaters, store, replica, recommender, and their start and stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets as random_bytes
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from bandits.errors import UsageError
from bandits.graph import Graph
from bandits.kernels.fold import COUNTERS
from bandits.records import encode_frame
from bandits.sampling import Uniforms
from bandits.tables import GraphTable
from bandits.warm import warm
from service.ad_load_decisions import AdLoadDecisions
from service.answers import Answers
from service.awaited import Awaited
from service.cells_view import Learned, surface_totals
from service.data_directory import DataDirectory
from service.decision_ids import DecisionIds
from service.decisions import Decisions
from service.event_ids import EventIds
from service.feedback import Feedback
from service.graphs import GraphFiles
from service.log import Appended, LogUnavailable
from service.log_writer import LogWriter
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.policies import PolicyFiles
from service.receipts import Signer
from service.recommender import Recommender
from service.replica import Changes, Replica
from service.retention import Retention
from service.retirement import Retirement
from service.rewards import Generation, Generations
from service.secret_files import secret
from service.settings import Settings, unserved
from service.snapshots import remedy
from service.store import StoreUnavailable
from service.surface import Surface
from service.tables import Tables
from service.updater import Halt, Updater

logger = logging.getLogger(__name__)

MAX_QUEUED_BYTES = 64 << 20
MAX_CLOCK_LEAD_S = 300.0
GC_THRESHOLD = (20_000, 20, 50)
"""A request makes some fifty objects and no cycles: the default would look for cycles every tenth request."""
STORED_DEDUPE_BYTES = 64 + 80 + 52
"""A key, a value and its share of a dictionary, for each chunk of dedupe bits that the store in memory holds."""
GATHER_S, OFFER_GATHER_S = 0.002, 0.02


class Node:
    """Everything behind the routes, used on the event loop's thread.

    `run` starts and stops it on a thread of its own, so that the server answers that it is not ready meanwhile.
    """

    def __init__(self, settings: Settings) -> None:
        if lines := unserved(settings):
            raise UsageError(lines[0])
        self.settings = settings
        self.metrics = Metrics()
        self.surfaces = {name: Surface(name, s, settings.server.max_items) for name, s in settings.surfaces.items()}
        self.fault: Exception | None = None
        """Why the server ends: a refused start, or a halt."""
        self.ready = False
        self.on_ready: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """The life of a server: a start that fails leaves its reason in `fault` and asks for the end."""
        starting = asyncio.create_task(self._start(asyncio.get_running_loop()))
        try:
            yield
        finally:
            await starting
            if self.ready:
                self.ready = False
                self._housekeeping.cancel()
                await asyncio.to_thread(self.stop)

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await asyncio.to_thread(self.start, loop)
        except OSError as fault:
            where = fault.filename or self.settings.server.data
            self.fault = UsageError(f"{where}: {fault.strerror}; see to it, or name another folder by --data")
        except (LogUnavailable, StoreUnavailable) as fault:
            self.fault = UsageError(f"{fault}; see to the disk, or restore the file from a backup or a snapshot")
        except Exception as fault:
            self.fault = fault
        if self.fault is not None:
            self.on_end()
            return
        self._housekeeping = asyncio.create_task(self.event_ids.keep_house())
        self.ready = True
        self.on_ready()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the data directory, bring the state up to the log's end and begin to follow it.

        Raises UsageError where the start is refused, Halt where log and state do not belong together.
        """
        warm()
        chosen = self.settings.server
        self.data = DataDirectory(Path(chosen.data), chosen.partitions)
        try:
            self._open(loop)
        except BaseException:
            self.data.close()
            raise

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        chosen, data = self.settings.server, self.data
        self.generations = Generations(data.path / "generations.json")
        self.graph_files, self.policy_files = GraphFiles(data.graphs), PolicyFiles(data.policies)
        self.updaters = [
            Updater(data.log, data.store, partition, newest_snapshot=lambda: remedy(data.path, data.log.topic_id))
            for partition in range(chosen.partitions)
        ]
        self.replica = Replica(data.store, chosen.partitions)
        self.tables = Tables(self.replica, self.surfaces, self.metrics)
        self.awaited = Awaited(chosen.partitions, self.metrics.feedback_to_score.observe)
        self._catch_up()
        for name, surface in self.surfaces.items():
            try:
                graph = self.graph_files.current(name)
                self.policy_files.serve_kept(surface)
            except ValueError as fault:
                raise UsageError(str(fault)) from fault
            if graph is not None:
                surface.use_graph(*surface.graph_table(graph))
            self._announce(name, surface.generations)
            self.generations.use(name, surface.generations)
        self.retirement = Retirement(
            data.log,
            self.generations,
            [self.graph_files, self.policy_files],
            self.surfaces,
            lambda: self.replica.cells,
            self.metrics,
            retention_s=chosen.retention_s,
            ttl_s=self.settings.receipts.ttl_s,
        )
        if self.retirement.keep_house():
            self._catch_up()
        self.tables.refresh(None)
        signer, user_key = self._keys(data.path)
        self.retention = Retention(data.path, data.log, data.store, chosen.retention_s)
        self.pipeline = Pipeline(
            data.log,
            self.updaters,
            self.replica,
            data.store,
            loop,
            self.metrics,
            refresh_s=chosen.refresh_ms / 1000,
            trim=self.retention.trim,
            publish=self._publish,
            halted=self._halted,
            retire=self.retirement.keep_house,
        )
        self.writer = LogWriter(
            data.log,
            encode_frame,
            max_queued_bytes=MAX_QUEUED_BYTES,
            gather_s=GATHER_S,
            offer_gather_s=OFFER_GATHER_S,
            loop=loop,
            on_commit=self.pipeline.committed,
            observe_commit_s=self.metrics.commit_seconds.observe,
        )
        decisions = Decisions(
            self.writer,
            signer,
            DecisionIds(chosen.partitions, idle_us=self.settings.receipts.ttl_s * 10**6),
            self.metrics,
            n_partitions=chosen.partitions,
            user_key=user_key,
            ttl_s=self.settings.receipts.ttl_s,
        )
        uniforms = Uniforms(np.random.default_rng(random_bytes.randbits(128)))
        self.recommender = Recommender(
            self.surfaces, self.replica, decisions, age_s=lambda: self.pipeline.age_s, uniforms=uniforms
        )
        self.ad_loads = AdLoadDecisions(self.surfaces, self.replica, decisions, self.metrics, uniforms=uniforms)
        self.event_ids = EventIds(
            data.replies, self.metrics, surfaces=list(self.surfaces), ttl_s=self.settings.receipts.event_ttl_s
        )
        self.answers = Answers(self.recommender, decisions, self.event_ids)
        self.ad_load_answers = Answers(self.ad_loads, decisions, self.event_ids)
        self.feedback = Feedback(
            signer,
            self.writer,
            self.generations,
            self.metrics,
            self.event_ids,
            surfaces=list(self.surfaces),
            partitions=chosen.partitions,
            clock_fault=lambda: self.clock_fault,
        )
        if any(updater.cleared_halt for updater in self.updaters):
            # Else the file would say until the next checkpoint that they are halted.
            data.store.checkpoint()
        self.pipeline.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)

    def _catch_up(self) -> None:
        """Fold to the log's end, and take all of it into the sums."""
        for updater in self.updaters:
            while updater.step():
                pass
        self.replica.publish(self.replica.poll())

    def _announce(self, surface: str, current: list[Generation]) -> None:
        """Say that a changed configuration begins a generation, which knows nothing yet."""
        known = {g.key for g in self.generations.of(surface, every=True)}
        if known and any(g.key not in known for g in current):
            logger.warning(
                "surface %s: its rewards, context or graph have changed, so a new generation begins without what was "
                "learned; receipts that are out still count for the old one, which is kept",
                surface,
            )

    def _keys(self, folder: Path) -> tuple[Signer, bytes]:
        given = self.settings.receipts
        current = bytes.fromhex(given.secret) if given.secret else secret(folder / "receipt_secret")
        previous = [bytes.fromhex(given.secret_previous)] if given.secret_previous else []
        user_key = bytes.fromhex(given.user_key) if given.user_key else secret(folder / "user_key")
        return Signer([current, *previous]), user_key

    def stop(self) -> None:
        """Append what is queued, fold it, checkpoint, and let the data directory go."""
        self.event_ids.close()
        self.writer.close()
        self.pipeline.stop()
        self.data.close()
        gc.unfreeze()

    def _publish(self, changes: list[Changes]) -> None:
        started = time.perf_counter()
        self.tables.refresh(self.replica.publish(changes))
        now = time.perf_counter()
        self.metrics.publish_seconds.observe(now - started)
        self.awaited.published(self.replica.next_of, now)

    def note_feedback(self, appended: list[Appended], received_s: float) -> None:
        """Measure when feedback, received at a perf_counter time, reaches the scores."""
        for at in appended:
            self.awaited.add(at.partition, at.offset, received_s)
        self.awaited.published(self.replica.next_of, time.perf_counter())

    @property
    def clock_fault(self) -> str:
        """What is wrong with this machine's clock beside the log's append times; empty where nothing is."""
        lead_s = max(u.meta.watermark for u in self.updaters) / 1e6 - time.time()
        if lead_s <= MAX_CLOCK_LEAD_S:
            return ""
        return f"this machine's clock is {lead_s:.0f} s behind the newest append time of the log: set it right"

    def _halted(self, halt: Halt) -> None:
        self.fault = halt
        self.on_end()

    async def use_graph(self, surface: Surface, path: str) -> tuple[Generation, Graph]:
        """Serve an uploaded graph: read and made durable on a thread, then swapped in between two requests.

        Raises GraphError where it is wrong; the previous one stays.
        """
        async with self.graph_files.changing:
            generation, table = await asyncio.to_thread(self._keep_graph, surface, path)
            surface.use_graph(generation, table)
            self.tables.refresh_surface(surface)
            try:
                await asyncio.to_thread(self.generations.use, surface.name, surface.generations)
            except OSError as fault:
                logger.warning(
                    "surface %s: the replaced graph counts as current until the next: %s", surface.name, fault
                )
            if appended := await asyncio.to_thread(self.retirement.generations, surface):
                self.pipeline.committed(appended)
        return generation, table.graph

    def _keep_graph(self, surface: Surface, path: str) -> tuple[Generation, GraphTable]:
        graph = self.graph_files.load(path)
        generation, table = surface.graph_table(graph)
        # Known before anything points to it: receipts may name it from the swap on.
        self.generations.prepare(generation)
        try:
            self.graph_files.keep(path, graph, surface.name)
        except BaseException:
            self.generations.take_back(generation)
            raise
        return generation, table

    def describe(self, surface: Surface) -> dict[str, object]:
        """A surface as GET /v1/surfaces shows it."""
        chosen, graph = surface.settings, surface.graph
        sampler = chosen.sampler
        return {
            "name": surface.name,
            "policy": chosen.policy,
            "variant": chosen.diag_linucb.variant,
            "alpha": chosen.diag_linucb.alpha,
            "prior": chosen.diag_linucb.prior,
            "sampler": {
                "kind": sampler.kind,
                "temperature": sampler.temperature,
                "m": sampler.m,
                "epsilon": sampler.epsilon,
            },
            "rewards": surface.rewards.generation_spec,
            "graph_version": None if graph is None else graph.graph.version,
            "policy_version": None if surface.ad_load is None else surface.ad_load.version,
            **({} if surface.ad_load is None else {"ad_load": surface.ad_load.describe()}),
            "generations": [g.key for g in surface.generations],
            "arms": len(surface.arms),
            **surface_totals(self.replica.totals, surface.name, surface.generations),
            "params_version": self.replica.version,
        }

    def learned(self, surface: Surface) -> Learned:
        """What scoring has seen so far, for people to look at."""
        log = self.data.log
        partitions = [
            {
                "partition": u.partition,
                "next": self.replica.next_of(u.partition),
                "end": log.bounds(u.partition)[1],
                "topic_id": log.topic_id.hex(),
            }
            for u in self.updaters
        ]
        replica = self.replica
        return Learned(replica.cells, replica.totals, replica.names, partitions, surface.feature)

    @property
    def degraded(self) -> list[str]:
        """What does not work as it should while requests are answered."""
        if not self.ready:
            return []
        failing = ["log: appends fail, feedback is answered with 503"] if self.writer.failing else []
        if self.event_ids.failing:
            failing.append("event ids: replies cannot be kept, requests with an event_id are answered with 503")
        return failing + [f"clock: {fault}" for fault in [self.clock_fault] if fault]

    def measure(self) -> None:
        """Bring the gauges up to date, before they are read."""
        metrics = self.metrics
        metrics.params_age.set(self.pipeline.age_s)
        metrics.lost.set(sum(u.mirror.lost for u in self.updaters))
        metrics.queued_bytes.set(self.writer.queued_bytes)
        metrics.cells_bytes.labels("mirror").set(sum(u.mirror.nbytes for u in self.updaters))
        metrics.cells_bytes.labels("dedupe").set(
            sum(u.mirror.dedupe_nbytes + STORED_DEDUPE_BYTES * u.mirror.dedupe_chunks for u in self.updaters)
        )
        metrics.cells_bytes.labels("replica").set(self.replica.nbytes)
        metrics.tombstones.set(max(u.mirror.tombstones for u in self.updaters))
        for what in COUNTERS:
            metrics.folded.labels(what).set(sum(u.mirror.counts[what] for u in self.updaters))
        for updater in self.updaters:
            lag = self.data.log.bounds(updater.partition)[1] - updater.meta.next
            metrics.lag.labels(str(updater.partition)).set(lag)
