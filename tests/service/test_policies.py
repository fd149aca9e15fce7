"""PUT /v1/surfaces/{surface}/policy: validated, kept whole, served after restarts, checked by doctor, swept."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import httpx
import pytest

from bandits.ad_load import load
from bandits.errors import UsageError
from service import policies
from service.policies import PolicyFiles
from tests.service.ad_policies import ADS, FEATURES, ask, content, document, put
from tests.service.directories import diagnosed
from tests.service.harness import JSON, answered, refused, running
from tests.service.processes import serving


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "data", ADS) as server:
        yield server


def kept(server):
    return {path.name for path in server.node.data.policies.iterdir()}


def model(**changes):
    return document()["model"] | changes


def test_a_good_policy_is_kept_by_its_bytes_and_described(server):
    body = content()
    version = sha256(body).hexdigest()
    reply = answered(put(server, body), 200)
    assert (reply["policy_version"], reply["loads"]) == (version, [0, 1, 2, 3])
    assert (reply["features"], reply["estimate"]["ess"]) == (["tolerance", "since_ad_s"], 900.0)
    assert kept(server) == {f"{version}.json", "current.json"}
    assert (server.node.data.policies / f"{version}.json").read_bytes() == body
    shown = answered(server.get("/v1/surfaces/ads"), 200)
    assert (shown["policy"], shown["policy_version"]) == ("ad_load", version)
    assert shown["ad_load"] == {
        "loads": [0, 1, 2, 3],
        "logging": [0.4, 0.3, 0.2, 0.1],
        "floor": 0.05,
        "policy": reply,
    }
    assert answered(server.get("/v1/surfaces/home"), 200)["policy_version"] is None


WRONG = {
    "no JSON": (b"{", "$"),
    "nothing": (b"", "$"),
    "invalid UTF-8": (b'{"kind": "\xff"}', "$"),
    "a list": (b"[]", "$"),
    "NaN": (content().replace(b"0.5", b"NaN", 1), "$"),
    "beyond a double": (content().replace(b'"mean": 0.5', b'"mean": 1e999', 1), "features[0].mean"),
    "a field twice": (content()[:-1] + b', "version": 1}', "$"),
    "an unknown field": (content(colour="red"), "colour"),
    "another version": (content(version=2), "version"),
    "another kind": (content(kind="graph"), "kind"),
    "no model": (content(model=None), "model"),
    "a row of weights too short": (content(model=model(weights=[[0.0, 0.0]] * 3 + [[0.0]])), "model.weights[3]"),
    "a bias as text": (content(model=model(bias=[0.0, 0.0, 0.0, "1"])), "model.bias[3]"),
    "a floor above logging": (content(floor=0.2), "logging[3]"),
    "logging that sums to more": (content(logging=[0.4, 0.4, 0.4, 0.4]), "logging"),
    "logging below the surface's floor": (content(logging=[0.5, 0.3, 0.16, 0.04]), "logging[3]"),
    "a load that the surface lacks": (content(loads=[0, 1, 2, 4]), "loads[3]"),
    "no window": (content(window=None), "window"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_is_told_where_and_the_old_one_stays(server, name):
    body, path = WRONG[name]
    served = answered(put(server, content()), 200)["policy_version"]
    files, expected = kept(server), answered(ask(server, features=FEATURES, explain=True), 200)["distribution"]
    refused(put(server, body), 422, path)
    assert kept(server) == files
    decision = answered(ask(server, features=FEATURES, explain=True), 200)
    assert (decision["policy_version"], decision["distribution"]) == (served, expected)


def test_other_faults_have_their_status(server, monkeypatch):
    refused(put(server, content(), "nowhere"), 404)
    refused(put(server, content(), kind="application/octet-stream"), 415)
    refused(server.request("POST", "/v1/surfaces/ads/policy", json={}), 405)
    monkeypatch.setattr("service.routes.surfaces.MAX_POLICY_BYTES", 100)
    refused(put(server, content()), 413)
    assert kept(server) == set()


def test_a_disk_without_room_is_told_and_the_old_one_stays(server, monkeypatch):
    served = answered(put(server, content()), 200)["policy_version"]

    def full(*given, **named):
        raise OSError(28, "No space left on device")

    for called in ("os.fsync", "service.content_files.NamedTemporaryFile", "service.content_files.replace_file"):
        with monkeypatch.context() as patch:
            patch.setattr(called, full)
            response = put(server, content(temperature=0.7))
        assert "No space left on device; the previous one stays" in refused(response, 503)["detail"]
        assert not [name for name in kept(server) if name.startswith(".")]
        assert answered(ask(server), 200)["policy_version"] == served
        assert server.node.policy_files.pointers() == {"ads": served}


def test_a_policy_survives_a_restart_and_what_it_says_is_the_same(tmp_path):
    body = {"features": FEATURES, "explain": True}
    with running(tmp_path / "data", ADS) as server:
        answered(put(server, content()), 200)
        before = answered(ask(server, **body), 200)
    (tmp_path / "data" / "policies" / ".incoming-abc").write_bytes(b"{")
    with running(tmp_path / "data", ADS) as server:
        after = answered(ask(server, **body), 200)
        assert [after[name] for name in ("policy_version", "distribution")] == [
            before[name] for name in ("policy_version", "distribution")
        ]
        assert not [name for name in kept(server) if name.startswith(".")]


def test_a_damaged_policy_refuses_the_start_and_says_how_to_mend_it(tmp_path):
    data = tmp_path / "data"
    with running(data, ADS) as server:
        version = answered(put(server, content()), 200)["policy_version"]
    path, pointers = data / "policies" / f"{version}.json", data / "policies" / "current.json"
    path.write_bytes(content(temperature=0.7))
    assert f"{path}: the policy of surface ads was changed" in diagnosed(data)["policies"].detail
    with pytest.raises(UsageError, match="the policy file was changed; restore it, or take ads"), running(data, ADS):
        pass
    path.unlink()
    assert "is gone" in diagnosed(data)["policies"].detail
    with pytest.raises(UsageError, match="is gone; restore it, or take ads out of current.json"), running(data, ADS):
        pass
    pointers.write_text("{")
    assert "remove it and upload the policies anew" in diagnosed(data)["policies"].detail
    with pytest.raises(UsageError, match=r"policies/current\.json: must name the policy"), running(data, ADS):
        pass
    pointers.write_text("{}")
    with running(data, ADS) as server:
        assert answered(ask(server), 200)["policy_version"] is None
        answered(put(server, content()), 200)
    assert diagnosed(data)["policies"].detail == "ads: each has the policy that it serves"


@pytest.mark.parametrize(
    ("change", "says"),
    [("loads = [0, 1, 2, 5]\n", r"loads\[3\]: must be one of"), ("floor = 0.1\n", r"logging\[3\]: must be at least")],
)
def test_settings_that_the_kept_policy_does_not_fit_refuse_the_start(tmp_path, change, says):
    data, later = tmp_path / "data", ADS.replace("logging =", f"{change}logging =")
    fits = content(logging=[0.4, 0.3, 0.25, 0.05]) if "floor" in change else content()
    with running(data, ADS) as server:
        answered(put(server, fits), 200)
    with pytest.raises(UsageError, match=says + ".*set surfaces.ads.ad_load back, or take ads"), running(data, later):
        pass
    with running(data, ADS.replace('policy = "ad_load"', 'policy = "uniform"')) as server:
        server.recommend(surface="ads", items=["0", "1"])


def test_uploads_that_meet_leave_one_of_them_on_disk_and_in_service(server):
    bodies = [content(temperature=0.1 * (k + 1)) for k in range(6)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        replies = list(pool.map(lambda body: put(server, body), bodies))
    assert [answered(reply, 200)["policy_version"] for reply in replies] == [load(body).version for body in bodies]
    served = answered(ask(server), 200)["policy_version"]
    assert server.node.policy_files.pointers() == {"ads": served}


def test_others_are_answered_while_a_policy_is_read(server, monkeypatch):
    """The upload waits in its thread until another request has been answered."""
    meanwhile = threading.Event()

    def waiting(body):
        assert meanwhile.wait(30)
        return load(body)

    monkeypatch.setattr(policies, "load", waiting)
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(put, server, content())
        answered(ask(server), 200)
        meanwhile.set()
        answered(upload.result(), 200)


def test_policies_are_deleted_when_no_surface_has_served_them_for_the_retention(tmp_path):
    files = PolicyFiles(tmp_path)
    bodies = [content(temperature=0.1 * (k + 1)) for k in range(3)]
    paths = [tmp_path / f"{sha256(body).hexdigest()}.json" for body in bodies]
    for body in bodies:
        files.put(body, load(body), "ads")
    assert files.sweep(3600) == []
    for path in (*paths, tmp_path / "current.json"):
        os.utime(path, (0, 0))
    assert files.sweep(3600) == sorted(path.stem for path in paths[:2])
    assert json.loads((tmp_path / "current.json").read_text()) == {"ads": paths[2].stem}
    current = files.current("ads")
    assert current is not None
    assert current.temperature == pytest.approx(0.3)


def test_a_killed_server_serves_the_policy_it_confirmed_last_or_the_one_after_it(tmp_path):
    """kill -9 while uploads come one after the other; nothing is half-written, and doctor finds nothing."""
    file, data = tmp_path / "banditd.toml", tmp_path / "data"
    file.write_text(ADS)
    may_serve: list[str | None] = [None]
    sent = 0
    for confirmed in (1, 2, 4):
        with serving(data, "--config", str(file)) as process, ThreadPoolExecutor(1) as pool:
            url = f"{process.url}/v1/surfaces/ads"
            assert httpx.get(url).json()["policy_version"] in may_serve
            for _ in range(confirmed):
                sent += 1
                reply = httpx.put(f"{url}/policy", json=document(temperature=0.01 * sent))
            may_serve = [answered(reply, 200)["policy_version"]]
            sent += 1
            body = content(temperature=0.01 * sent)
            may_serve.append(load(body).version)
            upload = pool.submit(httpx.put, f"{url}/policy", content=body, headers=JSON)
            process.end(signal.SIGKILL)
            assert upload.exception() is not None or upload.result().status_code == 200
        assert diagnosed(data)["policies"].ok
    with running(data, ADS) as server:
        assert answered(ask(server), 200)["policy_version"] in may_serve
