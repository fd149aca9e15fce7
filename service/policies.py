"""Ad-load policies: as they are uploaded, and on disk as policies/SHA256.json."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from bandits.ad_load import AdLoadPolicy, PolicyError, load
from bandits.ad_load.document import MAX_BYTES
from service.ad_load_decisions import ad_loads_of
from service.content_files import ContentFiles
from service.decoding import FAULTS, explain
from service.problems import Problem, invalid
from service.surface import Surface

MAX_UPLOAD_BYTES = MAX_BYTES


class PolicyFiles(ContentFiles[AdLoadPolicy]):
    """The policies of all surfaces."""

    suffix, noun, nouns = ".json", "policy", "policies"

    def load(self, path: str) -> AdLoadPolicy:
        """Read and validate a policy file; PolicyError says what is wrong with it."""
        return load(Path(path).read_bytes())

    async def serve(self, surface: Surface, body: bytes) -> AdLoadPolicy:
        """Serve an uploaded policy, once it is durable; where it raises Problem or OSError, the previous one stays."""
        ads = ad_loads_of(surface)
        async with self.changing:
            policy = await asyncio.to_thread(_read, body)
            try:
                ads.fit(policy)
            except PolicyError as fault:
                raise _problem(fault) from fault
            await asyncio.to_thread(self.put, body, policy, surface.name)
            ads.policy = policy
        return policy

    def serve_kept(self, surface: Surface) -> None:
        """Serve what an ad-load surface's pointer names; ValueError where that is damaged or does not fit any more."""
        ads = surface.ad_load
        policy = None if ads is None else self.current(surface.name)
        if ads is not None and policy is not None:
            try:
                ads.fit(policy)
            except PolicyError as fault:
                mend = f"set surfaces.{surface.name}.ad_load back, or take {surface.name} out of current.json beside it"
                raise ValueError(f"{self.path(policy.version)}: {fault}; {mend}") from fault
            ads.policy = policy


def _read(body: bytes) -> AdLoadPolicy:
    try:
        msgspec.json.decode(body)
    except FAULTS as fault:
        raise explain(body, fault) from fault
    try:
        return load(body)
    except PolicyError as fault:
        raise _problem(fault) from fault


def _problem(fault: PolicyError) -> Problem:
    return invalid("$" if fault.path == "policy" else fault.path, fault.message)
