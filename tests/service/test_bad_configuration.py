"""Every key of the configuration, wrong in every way: `banditd serve` refuses in one line, and makes nothing."""

from __future__ import annotations

import os
from hashlib import sha256
from resource import RLIM_INFINITY

import httpx
import pytest

from service import cli
from service.commands.serve import most_connections
from service.settings import Entries, Key, Settings, SettingsError, SurfaceSettings, load, members
from tests.service.harness import answered, refused
from tests.service.processes import serving
from tests.service.test_settings import EVERY_KEY, document, out_of_range, wrong_types

TABLES = sorted({path.rpartition(".")[0] for path, _ in EVERY_KEY})
WAYS = {
    "a wrong type": lambda path, key: document(path, wrong_types(key.rule)[0]),
    "another type": lambda path, key: document(path, wrong_types(key.rule)[-1]),
    "a table": lambda path, key: document(path, "{}"),
    "a value out of range": lambda path, key: document(path, [*out_of_range(key.rule), "[[]]"][0]),
    "a misspelled name": lambda path, key: (
        document(f"{path[:-1]}", '"x"') if len(key.name) > 1 else document(f"{path}m", "1")
    ),
    "an upper-case name": lambda path, key: document(f"{path.rpartition('.')[0]}.{key.name.upper()}", '"x"'),
    "a misspelled table": lambda path, key: document(f"{misspelled(path.rpartition('.')[0])}.{key.name}", '"x"'),
}


def misspelled(table):
    """The last part of a table's path with a letter too many."""
    return f"{table.removesuffix('[0]')}x" + ("[0]" if table.endswith("[0]") else "")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No variable of banditd is set, and the default data folder is a temporary one."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BANDITD_")]:
        monkeypatch.delenv(name)


def started(text, capsys):
    """The one line that refuses a configuration."""
    with open("banditd.toml", "w") as file:
        file.write(text)
    assert cli.main(["serve", "--config", "banditd.toml", "--port", "0"]) == 2, text
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("banditd serve: "), text
    assert err.count("\n") == 1
    assert os.listdir() == ["banditd.toml"]
    return err


@pytest.mark.parametrize(("path", "key"), EVERY_KEY, ids=[path for path, _ in EVERY_KEY])
def test_every_key_wrong_in_every_way_refuses_the_start(path, key, capsys):
    for way, text in WAYS.items():
        line = started(text(path, key), capsys)
        table = path.rpartition(".")[0].removesuffix("[0]")
        assert (table if "table" not in way or way == "a table" else misspelled(table)) in line, (way, line)


def sections(section, prefix=""):
    """Every table and the names in it."""
    yield prefix, set(members(section))
    for name, member in members(section).items():
        if isinstance(member, Entries):
            yield from sections(member.entry, f"{prefix}{name}[0].")
        elif not isinstance(member, Key):
            yield from sections(member, f"{prefix}{name}.")


@pytest.mark.parametrize("table", TABLES)
def test_a_key_in_another_table_is_unknown_there(table, tmp_path):
    known = dict([*sections(Settings), *sections(SurfaceSettings, "surfaces.home.")])[f"{table}."]
    strangers = {key.name for _, key in EVERY_KEY} - known
    assert strangers
    for name in sorted(strangers):
        file = tmp_path / "banditd.toml"
        file.write_text(document(f"{table}.{name}", "1"))
        with pytest.raises(SettingsError, match="unknown key") as caught:
            load(str(file), {}, {})
        assert str(caught.value).startswith(f"{table}.{name} = ")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
@pytest.mark.parametrize("by", ["flag", "file", "env"])
def test_a_host_beyond_loopback_without_keys_names_both_ways_out(host, by, monkeypatch, capsys):
    arguments = ["serve", "--port", "0"]
    if by == "flag":
        arguments += ["--host", host]
    elif by == "file":
        with open("banditd.toml", "w") as file:
            file.write(f'[server]\nhost = "{host}"\n')
        arguments += ["--config", "banditd.toml"]
    else:
        monkeypatch.setenv("BANDITD_SERVER__HOST", host)
    assert cli.main(arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "loopback only" in line
    assert "banditd keys new" in line
    assert "--insecure" in line
    assert not os.path.exists("banditd-data")


def test_a_host_beyond_loopback_with_keys_is_served_to_who_has_one(tmp_path):
    file = tmp_path / "banditd.toml"
    file.write_text(f'[[keys]]\nname = "shop"\nsha256 = "{sha256(b"opensesame").hexdigest()}"\nscopes = ["decide"]\n')
    with serving(tmp_path / "data", "--config", str(file), "--host", "0.0.0.0") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1") + "/v1/recommend"
        refused(httpx.post(url, json={"items": ["a"]}), 401)
        answered(httpx.post(url, json={"items": ["a"]}, headers={"x-api-key": "opensesame"}), 200)


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "connections"),
    [
        (1024, 1 << 20, 4352, 4096),
        (1 << 20, 1 << 20, None, 4096),
        (1024, 2048, 2048, 1792),
        (1024, 1024, 1024, 768),
        (64, 64, 64, 1),
        (1024, RLIM_INFINITY, 4352, 4096),
        (RLIM_INFINITY, RLIM_INFINITY, None, 4096),
    ],
)
def test_connections_are_as_many_as_files_may_be_open(soft, hard, raised, connections, monkeypatch):
    """256 files are the server's own; the soft limit is raised to 4,096 + 256, or to the hard one."""
    given = []
    monkeypatch.setattr("resource.getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr("resource.setrlimit", lambda which, limits: given.append(limits))
    assert most_connections(4096) == connections
    assert given == ([] if raised is None else [(raised, hard)])
