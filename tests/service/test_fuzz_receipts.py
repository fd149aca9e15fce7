"""Damaged receipts: 400 or 422 and no trace, also where the damage was signed with the right key."""

from __future__ import annotations

import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter

from service.receipts import Signer
from service.secret_files import secret
from tests.bandits.fuzz_fold import damaged
from tests.service.harness import Server, running

TOKEN_HEAD, TOKEN_MAC = 5, 16
EVENTS = [{"kind": "impression"}, {"kind": "reward", "item": "a", "value": 0.5}]


def unsealed(token: str) -> bytes:
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))


def decide(server: Server, rng: random.Random) -> str:
    features = {f"f{i}": 1.0 for i in range(rng.randrange(4))}
    items = rng.sample("abcdef", rng.randrange(1, 5))
    receipt: str = server.recommend(items=items, features=features, n=4, deferred=rng.random() < 0.3)["receipt"]
    return receipt


def test_a_damaged_receipt_is_refused_and_leaves_no_trace(tmp_path, pytestconfig):
    rng = random.Random(1)
    with running(tmp_path / "data") as server:
        tokens = [decide(server, rng) for _ in range(20)]
        frames = len(server.frames())
        for _ in range(pytestconfig.getoption("cases") // 2):
            token = unsealed(rng.choice(tokens))
            changed = damaged(rng, token)
            if changed == token:
                continue
            body = {"receipt": urlsafe_b64encode(changed).rstrip(b"=").decode(), "events": EVENTS[:1]}
            response = server.post("/v1/feedback", body)
            assert response.status_code == 400, (response.text, body)
        assert len(server.frames()) == frames
        server.feedback(tokens[0], EVENTS[0])


def test_damage_under_a_sound_signature_is_refused_or_counted_and_the_server_goes_on(tmp_path, pytestconfig):
    rng, statuses, accepted = random.Random(2), Counter[int](), 0
    with running(tmp_path / "data") as server:
        signer = Signer([secret(tmp_path / "data" / "receipt_secret")])
        tokens = [decide(server, rng) for _ in range(20)]
        for _ in range(pytestconfig.getoption("cases") // 2):
            receipt = damaged(rng, unsealed(rng.choice(tokens))[TOKEN_HEAD:-TOKEN_MAC])
            body = {"receipt": signer.seal(receipt), "events": EVENTS[: rng.randrange(3)]}
            response = server.post("/v1/feedback", body)
            statuses[response.status_code] += 1
            accepted += response.json().get("accepted", 0) - response.json().get("not_learned", 0)
        assert set(statuses) <= {202, 400, 422}, statuses
        assert min(statuses[202], statuses[400]) > 0
        assert sum(len(entry.events) for entry in server.entries()) == accepted
        assert server.get("/v1/surfaces/default/cells?all").status_code == 200
        server.recommend(items=["a", "b"])
