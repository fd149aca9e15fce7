"""`banditd config` and `banditd keys`: what they print, and that it can be read again."""

from __future__ import annotations

import json
import re
import tomllib
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import cli
from service.commands import config, keys
from service.settings import Entries, Key, Settings, SurfaceSettings, load, members, rows, toml
from service.settings.document import markdown
from service.settings.values import Array, ArrayOrFile, Boolean, Choice, Distribution, Integer, Number, Span

REFERENCE = Path(__file__).parents[2] / "docs" / "configuration.md"
SHARES = st.sampled_from([(1.0,), (0.5, 0.5), (0.1, 0.2, 0.7), (0.25, 0.25, 0.25, 0.25)])
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
TEXTS = {
    "host": st.sampled_from(["0.0.0.0", "::1", "localhost"]),
    "namespace": st.from_regex(r"[a-z.-]{1,9}", fullmatch=True),
    "kafka": st.sampled_from(["", "a:1", "a:1,[::1]:2"]),
    "redis": st.sampled_from(["", "redis://a:1/0", "rediss://a:1,rediss://b:2"]),
}
SECRETS = ("secret", "secret_previous", "user_key", "kafka_password")


class Stub:
    """An entry point whose module is at hand."""

    def __init__(self, name, module):
        self.name, self.module = name, module

    def load(self):
        return self.module


@pytest.fixture(autouse=True)
def known_commands(monkeypatch):
    known = {"config": Stub("config", config), "keys": Stub("keys", keys)}
    monkeypatch.setattr(cli, "commands", lambda: known)
    for name in ("BANDITD_SERVER__PORT", "BANDITD_KEYS"):
        monkeypatch.delenv(name, raising=False)


def values_of(key):
    """Strategy of the values that a key may hold, as TOML decodes them."""
    rule = key.rule
    if key.name in SECRETS:
        return st.just("")
    if isinstance(rule, Integer):
        return st.integers(rule.low, rule.high)
    if isinstance(rule, Number):
        return st.floats(rule.low, rule.high)
    if isinstance(rule, Boolean):
        return st.booleans()
    if isinstance(rule, Choice):
        return st.sampled_from(rule.words)
    if isinstance(rule, Span):
        return st.tuples(st.floats(-1e9, 1e9), st.floats(0.5, 1e9)).map(lambda pair: [pair[0], pair[0] + pair[1]])
    if isinstance(rule, Distribution):
        return SHARES.map(list)
    if isinstance(rule, ArrayOrFile):
        return st.lists(PRINTABLE, max_size=3, unique=True) | PRINTABLE
    if isinstance(rule, Array):
        each = st.integers(0, 9) if isinstance(rule.each, Integer) else st.sampled_from(["decide", "feedback"])
        return st.lists(each, min_size=rule.least, max_size=2, unique=True)
    return TEXTS.get(key.name, PRINTABLE)


def tables_of(section):
    """Strategy of tables that give some keys of a section."""
    optional = {}
    for name, member in members(section).items():
        if isinstance(member, Key):
            optional[name] = values_of(member)
        elif isinstance(member, Entries):
            optional[name] = st.lists(tables_of(member.entry), min_size=member.least, max_size=2)
        else:
            optional[name] = tables_of(member)
    if "sha256" in optional:
        return st.fixed_dictionaries(
            {**optional, "sha256": st.just("ab" * 32), "name": st.from_regex(r"[a-z]{1,9}", fullmatch=True)}
        )
    return st.fixed_dictionaries({}, optional=optional)


def coherent(tree):
    """The tree changed so that the rules between keys hold."""
    for surface in tree["surfaces"].values():
        if "ad_load" in surface:
            shares = surface["ad_load"].get("logging", [0.25] * 4)
            surface["ad_load"].update(loads=list(range(len(shares))), floor=min(shares) / 2)
        for i, reward in enumerate(surface.get("rewards", [])):
            weight = reward.get("weight", 1.0)
            reward.update(name=f"r{i}", weight=weight if abs(weight) > 1e-9 else 1.0)
        if surface.get("policy", "diag_linucb") != "diag_linucb":
            surface.get("recovering", {}).pop("reserved", None)
    for i, entry in enumerate(tree.get("keys", [])):
        entry["name"] += str(i)
    return tree


SURFACE_TABLES = st.dictionaries(
    st.from_regex(r"[a-z0-9_]{1,9}", fullmatch=True), tables_of(SurfaceSettings), min_size=1, max_size=2
)
TREES = st.builds(lambda table, surfaces: {**table, "surfaces": surfaces}, tables_of(Settings), SURFACE_TABLES).map(
    coherent
)


def written(tree):
    """A tree of tables as a TOML document."""
    return "\n".join(f"{name} = {toml(value)}" for name, value in tree.items())


def tree_of(listed):
    """The tree that a list of {path, value} describes."""
    tree = {}
    for one in listed:
        *tables, name = re.findall(r"[^.\[\]]+|\[\d+\]", one["path"])
        here = tree
        for table, below in pairwise([*tables, name]):
            if table.startswith("["):
                while len(here) <= int(table[1:-1]):
                    here.append({})
                here = here[int(table[1:-1])]
            else:
                here = here.setdefault(table, [] if below.startswith("[") else {})
        here[name] = one["value"]
    return tree


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES)
def test_printed_settings_read_again_are_the_same(tmp_path_factory, tree):
    file = tmp_path_factory.mktemp("settings") / "banditd.toml"
    file.write_text(written(tree), "utf-8")
    first = load(str(file), {}, {})
    listed = json.loads(json.dumps([{"path": row.path, "value": row.value} for row in rows(first)]))
    file.write_text(written(tree_of(listed)), "utf-8")
    second = load(str(file), {}, {})
    assert second.settings == first.settings
    assert set(second.sources.values()) == {"file"}


@given(
    st.recursive(
        st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False), lambda x: st.lists(x, max_size=3)
    )
)
def test_toml_text_reads_back_as_the_value(value):
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value


def test_the_reference_is_current():
    assert REFERENCE.read_text("utf-8") == markdown()


def test_config_prints_value_and_source_of_every_key(tmp_path, monkeypatch, capsys):
    file = tmp_path / "banditd.toml"
    file.write_text("[server]\nport = 1\n[surfaces.home.sampler]\nm = 7")
    monkeypatch.setenv("BANDITD_SURFACES__HOME__POLICY", "uniform")
    assert cli.main(["config", "--config", str(file), "--namespace", "shop", "--port", "9000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "server.port = 9000  # flag" in lines
    assert "server.workers = 1  # default" in lines
    assert 'distributed.namespace = "shop"  # flag' in lines
    assert "surfaces.home.sampler.m = 7  # file" in lines
    assert 'surfaces.home.policy = "uniform"  # env' in lines
    assert "surfaces.home.rewards[0].range = [0.0, 1.0]  # default" in lines
    assert "keys = []  # default" in lines
    assert len(lines) == 66 - 3 + 1


def test_every_flag_of_the_server_shows_as_flag(capsys):
    flags = {
        "server.host": ("--host", "0.0.0.0", "0.0.0.0"),
        "server.port": ("--port", "1", 1),
        "server.workers": ("--workers", "2", 2),
        "server.data": ("--data", "5", "5"),
        "distributed.kafka": ("--kafka", "a:1,b:2", "a:1,b:2"),
        "distributed.redis": ("--redis", "redis://u:hunter2@a:1/0", "redis://***@a:1/0"),
        "distributed.namespace": ("--namespace", "n", "n"),
    }
    given_flags = [word for flag, text, _ in flags.values() for word in (flag, text)]
    assert cli.main(["config", "--json", *given_flags]) == 0
    listed = {one["path"]: one for one in json.loads(capsys.readouterr().out)}
    for path, (_, _, value) in flags.items():
        assert listed[path] == {"path": path, "value": value, "source": "flag"}
    assert {one["source"] for path, one in listed.items() if path not in flags} == {"default"}


def test_a_refused_configuration_is_one_line_and_status_2(capsys):
    assert cli.main(["config", "--json", "--port", "abc"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == 'banditd config: server.port = "abc": must be an integer from 0 to 65,535 (--port)\n'


def test_config_prints_the_reference(capsys):
    assert cli.main(["config", "--markdown"]) == 0
    assert capsys.readouterr().out == markdown()


def test_a_new_key_is_printed_once_with_an_entry_that_admits_it(tmp_path, capsys):
    assert cli.main(["keys", "new", "shop", "--scopes", "decide,admin"]) == 0
    secret, _, entry = capsys.readouterr().out.partition("\n\n")
    file = tmp_path / "banditd.toml"
    file.write_text(entry)
    (key,) = load(str(file), {}, {}).settings.keys
    assert (key.name, key.scopes) == ("shop", ("decide", "admin"))
    assert key.sha256 == sha256(secret.encode()).hexdigest()
    assert len(secret) > 40
    assert secret not in entry
    assert load(None, {"BANDITD_KEYS": f"shop:decide+admin:{secret}"}, {}).settings.keys == (key,)


def test_a_new_key_as_json_and_every_key_is_another(capsys):
    made = []
    for _ in range(2):
        assert cli.main(["keys", "new", "shop", "--json"]) == 0
        made.append(json.loads(capsys.readouterr().out))
    assert made[0]["key"] != made[1]["key"]
    assert made[0].keys() == {"key", "name", "sha256", "scopes"}
    assert made[0]["scopes"] == ["decide", "feedback"]


@pytest.mark.parametrize("words", [["a b"], ["shop", "--scopes", "decide,write"], ["shop", "--scopes", ""], []])
def test_a_wrong_name_or_scope_makes_no_key(words, capsys):
    assert cli.main(["keys", "new", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("banditd keys: ")
    assert err.count("\n") == 1
