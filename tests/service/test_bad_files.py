"""Bad files: a wrong graph leaves the old one, a wrong file of the data directory refuses the start untouched."""

from __future__ import annotations

import io
import os
import pickle
import sqlite3
import zipfile
from contextlib import closing
from hashlib import sha256

import numpy as np
import pytest

from bandits.errors import UsageError
from bandits.graph_file import digest
from tests.bandits.graphs import graph as small_graph
from tests.bandits.graphs import parts
from tests.service.harness import answered, refused, running
from tests.service.processes import serve, serving
from tests.service.raw import head, listening

FILES = ("log.sqlite", "state.sqlite", "replies.sqlite")
GOOD = small_graph()


def npz(compress=False, **changed):
    """A file of the small graph's parts, whatever is wrong with them."""
    file = io.BytesIO()
    members = {name: np.asarray(value) for name, value in parts(**changed).items()}
    (np.savez_compressed if compress else np.savez)(file, **members)
    return file.getvalue()


def pickled():
    """A member that runs a command where it is unpickled."""

    class Touch:
        def __reduce__(self):
            return os.mkdir, ("unpickled",)

    return npz(items=np.array([Touch(), "b", "c", "d"], object))


def with_member(name, content):
    """The good graph with one member's bytes replaced."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(GOOD.to_bytes())) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, content if entry.filename == name else old.read(entry))
    return file.getvalue()


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def centroids(*values):
    return np.array(values, np.float32).reshape(3, 2)


WHOLE = GOOD.to_bytes()
GRAPHS = {
    "nothing": (b"", "npz"),
    "no zip": (b"\0" * 5000, "npz"),
    "a zip of other things": (with_member("items.npy", b"hello"), "items"),
    "cut in half": (WHOLE[: len(WHOLE) // 2], "npz"),
    "cut by a byte": (WHOLE[:-1], "npz"),
    "a flipped bit in a member": (flipped(WHOLE, WHOLE.index(GOOD.centroids.tobytes())), "CRC"),
    "a pickled member": (pickled(), "pickled objects are never read"),
    "a bare pickle": (pickle.dumps([1, 2]), "npz"),
    "a member missing": (npz(tau=None)[:0] or with_member("tau.npy", b""), "tau"),
    "centroids of one dimension": (npz(centroids=np.zeros(6, np.float32)), "centroids"),
    "centroids of another type": (npz(centroids=np.zeros((3, 2))), "centroids"),
    "rows that do not fit": (npz(row_start=np.array([0, 2, 5], np.int64)), "row_start"),
    "an item that is not there": (npz(row_item=np.array([0, 2, 1, 2, 4], np.int32)), "row_item"),
    "an item twice": (npz(items=["a", "b", "c", "a"]), "items"),
    "an item that does not print": (npz(items=["a", "b\n", "c", "d"]), "items"),
    "a NaN centroid": (npz(centroids=centroids(1, 0, np.nan, 1, -1, 0)), "centroids"),
    "an infinite centroid": (npz(centroids=centroids(1, 0, np.inf, 1, -1, 0)), "centroids"),
    "tau of zero": (npz(tau=0.0), "tau"),
    "more slots than clusters": (npz(top_k=4), "top_k"),
    "a bomb": (npz(compress=True, centroids=np.zeros((1 << 20, 2), np.float32)), "unpacked size must be at most"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a good graph, for which 2 MiB unpacked are the most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.graphs.MAX_UNPACKED_BYTES", 2 << 20)
        with listening(tmp_path_factory.mktemp("graphs") / "data") as server:
            answered(server.upload(WHOLE), 200)
            yield server


class TestGraphs:
    def served(self, server):
        """The old graph is served, alone on disk, and nothing was learned or logged."""
        described = answered(server.get("/v1/surfaces/default"), 200)
        assert described["graph_version"] == GOOD.version
        kept = {path.name for path in (server.node.data.path / "graphs").iterdir()}
        assert kept == {f"{GOOD.version}.npz", "current.json"}
        frames = len(server.frames())
        decision = server.recommend(embedding=[1.0, 0.0])
        assert decision["graph_version"] == GOOD.version
        assert {item["id"] for item in decision["items"]} <= set("abcd")
        return frames, described["generations"]

    @pytest.mark.parametrize("name", GRAPHS)
    def test_a_wrong_one_is_told_and_the_old_one_stays(self, server, name):
        content, says = GRAPHS[name]
        frames, generations = self.served(server)
        assert says in refused(server.upload(content), 422, "$")["detail"]
        assert self.served(server) == (frames + 1, generations)

    def test_one_that_is_cut_off_with_its_connection(self, server):
        frames, generations = self.served(server)
        lines = ["content-type: application/octet-stream", f"content-length: {len(WHOLE)}"]
        with server.outliving(), server.raw() as raw:
            raw.send(head("PUT", "/v1/surfaces/default/graph", *lines), WHOLE[:-1])
        while len(list((server.node.data.path / "graphs").iterdir())) > 2:
            answered(server.get("/livez"), 200)
        assert self.served(server) == (frames + 1, generations)

    def test_a_disk_without_room_is_told(self, server, monkeypatch):
        def full(*given, **named):
            raise OSError(28, "No space left on device")

        for called in ("os.fsync", "service.content_files.NamedTemporaryFile"):
            with monkeypatch.context() as patch:
                patch.setattr(called, full)
                response = server.upload(npz(tau=0.25))
            assert "No space left on device; the previous one stays" in refused(response, 503)["detail"]
            assert response.headers["retry-after"]
            self.served(server)
        assert not os.path.exists("unpickled")


def content_of(folder):
    """Digest of every file that was there, but for the lock and SQLite's own shared memory."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The bytes of a data directory with some decisions and rewards."""
    folder = tmp_path_factory.mktemp("good") / "data"
    with running(folder) as server:
        for i in range(40):
            features = {f"f={i}-{k}": 1.0 for k in range(20)}
            server.reward(server.recommend(items=[f"a{i}", "b"], features=features, n=1), 1.0)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def foreign(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")


def swapped(path):
    """Another file of ours."""
    path.write_bytes(path.with_name(FILES[FILES.index(path.name) - 1]).read_bytes())


def damaged(path):
    """All but the first page in ruins."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def one_page_damaged(path):
    content = path.read_bytes()
    at = len(content) // 2 // 4096 * 4096
    path.write_bytes(content[:at] + b"\xa5" * 4096 + content[at + 4096 :])


def shortened(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 // 4096 * 4096])


HARM = {
    "text": lambda path: path.write_text("hello\n" * 1000),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 64),
    "header only": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "no whole page": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "half": shortened,
    "damaged": damaged,
    "one page damaged": one_page_damaged,
    "foreign": foreign,
    "the other": swapped,
}
HARMED = [(name, harm) for name in FILES for harm in HARM if (name, harm) != ("replies.sqlite", "one page damaged")]
"""Replies are read one by one, as they are asked for."""
READ_ONLY_WHEN_FOLDED = {"one page damaged"}
"""Harm to a log that a start meets only where its frames have to be folded again."""


class TestDataDirectory:
    @pytest.mark.parametrize(("name", "harm"), HARMED)
    def test_a_wrong_file_refuses_the_start_and_is_left_alone(self, tmp_path, data, name, harm):
        folder = tmp_path / "data"
        folder.mkdir()
        for each, content in data.items():
            (folder / each).write_bytes(content)
            (folder / each).chmod(0o600)
        if harm in READ_ONLY_WHEN_FOLDED and name == "log.sqlite":
            (folder / "state.sqlite").unlink()
        HARM[harm](folder / name)
        before = content_of(folder)
        with pytest.raises(UsageError) as caught, running(folder):
            pass
        assert f"{folder / name}: " in str(caught.value)
        assert "restore" in str(caught.value)
        assert "\n" not in str(caught.value)
        after = content_of(folder)
        assert {each: after.get(each) for each in before} == before

    @pytest.mark.parametrize("name", FILES)
    def test_the_process_says_so_in_one_line_and_ends_with_status_2(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"hello")
        ended = serve("--port", "0", "--data", str(tmp_path))
        assert ended.returncode == 2
        assert ended.stderr.startswith("banditd serve: ")
        assert name in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert (tmp_path / name).read_bytes() == b"hello"

    def test_a_second_server_is_refused_and_the_first_one_goes_on(self, tmp_path):
        with serving(tmp_path / "data") as first:
            for _ in range(3):
                ended = serve("--port", "0", "--data", str(tmp_path / "data"))
                assert ended.returncode == 2
                assert "another server owns this data directory" in ended.stderr
            decision = answered(first.post("/v1/recommend", {"items": ["a"]}), 200)
            event = {"kind": "reward", "value": 1.0}
            answered(first.post("/v1/feedback", {"receipt": decision["receipt"], "events": [event]}), 202)


def test_the_small_graph_is_what_it_says():
    """Else every refusal here could have another reason."""
    assert digest(GOOD.members) == GOOD.version
