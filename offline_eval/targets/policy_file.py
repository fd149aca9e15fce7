"""A target given as an ad-load policy file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bandits.ad_load import AdLoadPolicy, PolicyError
from bandits.ad_load import load as load_policy
from bandits.arrays import F64
from bandits.errors import UsageError
from offline_eval.actions import Actions
from offline_eval.batches import Batch
from offline_eval.targets.base import Dense, allowed_of


@dataclass(frozen=True)
class PolicyFileTarget(Dense):
    """Probabilities of the loads in a policy file, over the loads each row allows.

    columns  intp (L,) of the file's loads among the log's actions
    """

    name: str
    policy: AdLoadPolicy
    columns: NDArray[np.intp]

    def learned_from(self, first: int, last: int) -> bool:
        """Whether the rows it was learned from lie, by their times, among those of [first, last], microseconds."""
        start, stop = (np.datetime64(text.removesuffix("Z"), "us").astype(np.int64) for text in self.policy.window)
        return bool(start <= last and first <= stop)

    def probabilities(self, batch: Batch) -> F64:
        allowed = allowed_of(batch)[:, self.columns]
        if not allowed.any(axis=1).all():
            row = int(np.argmin(allowed.any(axis=1)))
            raise UsageError(f"--policy {self.name}: has none of the loads allowed at {batch.chunk.place.of(row)}")
        features = self.policy.aligned(batch.context, batch.frame.columns)
        whole = np.zeros((len(batch), batch.n_actions))
        whole[:, self.columns] = self.policy.probabilities(features, allowed)
        return whole


def read(path: Path) -> AdLoadPolicy:
    """The policy of a file named by --policy. Raises UsageError where it is malformed."""
    try:
        return load_policy(path.read_bytes())
    except OSError as fault:
        raise UsageError(f"--policy {path}: {fault.strerror}") from fault
    except PolicyError as fault:
        raise UsageError(f"--policy {path}: {fault}") from fault


def load(path: Path, actions: Actions) -> PolicyFileTarget:
    """The policy of a file. Raises UsageError where it is malformed or has loads that the log never names."""
    policy = read(path)
    columns = [actions.column(one) for one in policy.loads]
    for one, column in zip(policy.loads, columns, strict=True):
        if column is None:
            known = ", ".join(map(str, actions.ids[:10]))
            raise UsageError(f"--policy {path}: its load {one} is no action of the log, which has {known}")
    return PolicyFileTarget(str(path), policy, np.array(columns, np.intp))
