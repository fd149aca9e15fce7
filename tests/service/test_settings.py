"""Every key of the configuration: default, rule, precedence, and the line that refuses it."""

from __future__ import annotations

import math
import tomllib
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from bandits.names import generation
from bandits.sampling import MIN_TEMPERATURE, Sampler
from service.rewards import Rewards
from service.settings import (
    Entries,
    Key,
    KeySettings,
    RewardSettings,
    Settings,
    SettingsError,
    SurfaceSettings,
    load,
    members,
    reward_scale,
    rows,
    toml,
    unserved,
)
from service.settings.document import markdown
from service.settings.values import Array, ArrayOrFile, Boolean, Distribution, Integer, Number, Span

DOCUMENTED = Path(__file__).parents[1] / "data" / "configuration.toml"
KEY_ENTRY = f'name = "shop"\nsha256 = "{"ab" * 32}"\nscopes = ["decide"]\n'
UNLISTED = {
    *(f"receipts.{name}" for name in ("secret", "secret_previous", "user_key")),
    *(f"distributed.{name}" for name in ("kafka_sasl_mechanism", "kafka_username", "kafka_password")),
    *(f"distributed.{name}" for name in ("kafka_ca", "redis_ca")),
}


def keys_of(section, prefix=""):
    """Path and key of everything below a section; entries of arrays of tables as path[0]."""
    for name, member in members(section).items():
        if isinstance(member, Key):
            yield prefix + name, member
        elif isinstance(member, Entries):
            yield from keys_of(member.entry, f"{prefix}{name}[0].")
        else:
            yield from keys_of(member, f"{prefix}{name}.")


EVERY_KEY = [*keys_of(Settings), *keys_of(SurfaceSettings, "surfaces.home.")]


def document(path, text):
    """TOML that gives one key a value; the rest of a [[keys]] entry is filled in."""
    table, _, name = path.rpartition(".")
    header = f"[[{table.removesuffix('[0]')}]]" if table.endswith("[0]") else f"[{table}]"
    rest = [line for line in KEY_ENTRY.splitlines() if not line.startswith(f"{name} =")]
    return "\n".join([header, *(rest if table == "keys[0]" else []), f"{name} = {text}"])


@pytest.fixture
def refusal(tmp_path):
    """The one line that refuses a document (and environment, and flags)."""

    def read(text=None, environ=None, flags=None):
        file = tmp_path / "banditd.toml"
        if text is not None:
            file.write_text(text)
        with pytest.raises(SettingsError) as caught:
            load(str(file) if text is not None else None, environ or {}, flags or {})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return read


@pytest.fixture
def loaded(tmp_path):
    """What a document, an environment and flags load as."""

    def read(text="", environ=None, flags=None):
        file = tmp_path / "banditd.toml"
        file.write_text(text)
        return load(str(file), environ or {}, flags or {})

    return read


def wrong_types(rule):
    """TOML values of types that the rule does not read."""
    if isinstance(rule, Integer):
        return ['"7"', "7.0", "true", "[7]", "{}", "2026-01-02"]
    if isinstance(rule, Number):
        return ['"0.5"', "true", "[0.5]", "nan", "inf"]
    if isinstance(rule, Boolean):
        return ['"true"', "1", "0.0"]
    if isinstance(rule, (Array, Span, Distribution)):
        return ['"text"', "1", "true", "[[1]]", "[{}]", "{}"]
    if isinstance(rule, ArrayOrFile):
        return ["1", "true", "[[1]]", "[{}]", "{}"]
    return ["1", "true", '["text"]', "{}", "2026-01-02"]


def out_of_range(rule):
    """TOML values of the right type just beyond the rule."""
    if isinstance(rule, Integer):
        return [str(rule.low - 1), str(rule.high + 1), str(10**30)]
    if isinstance(rule, Number):
        return [repr(math.nextafter(rule.low, -math.inf)), repr(math.nextafter(rule.high, math.inf))]
    if isinstance(rule, Boolean):
        return []
    if isinstance(rule, Span):
        return ["[1.0, 1.0]", "[1, 0]", "[0.0]", "[0, 1, 2]", "[0.0, 2e12]", "[nan, 1.0]", "[-inf, 1.0]"]
    if isinstance(rule, Distribution):
        return ["[]", "[0.5, 0.4]", "[1.5, -0.5]", "[0.5, 0.5, 0.1]"]
    if isinstance(rule, ArrayOrFile):
        return ['""', '[""]', '["a", "a"]', f'["{"x" * 129}"]']
    if isinstance(rule, Array):
        return ["[1, 1]"] if isinstance(rule.each, Integer) else ['["admin", "admin"]', '[""]']
    return ['"two\\nlines"', f'"{"x" * 4097}"']


def test_every_key_is_tried():
    """server 11, receipts 5, API keys 3, distributed 13; of a surface 9, its sections 3 + 2 + 4 + 9 + 3, rewards 4."""
    assert len(EVERY_KEY) == len({path for path, _ in EVERY_KEY}) == 66


@pytest.mark.parametrize(("path", "key"), EVERY_KEY, ids=[path for path, _ in EVERY_KEY])
def test_a_wrong_value_is_one_line_with_path_value_and_rule(path, key, refusal):
    for text in [*wrong_types(key.rule), *out_of_range(key.rule)]:
        message = refusal(document(path, text))
        assert message.startswith(f"{path} = "), text
        assert f"must be {key.rule.allowed} (" in message
        assert "banditd.toml" in message
        if not key.secret and not text.startswith(("[", "{", '"two', '"xxx')):
            value = tomllib.loads(f"v = {text}")["v"]
            assert f" = {toml(value)}: " in message


@pytest.mark.parametrize(("path", "key"), EVERY_KEY, ids=[path for path, _ in EVERY_KEY])
def test_a_misspelled_neighbour_is_refused_with_the_key_that_was_meant(path, key, refusal):
    message = refusal(document(f"{path}z", "1"))
    assert message.startswith(f"{path}z = ")
    assert f"unknown key; did you mean {key.name}?" in message


@pytest.mark.parametrize("path", ["servers", "server.a.b", "surfaces.home.sampler.x.y", "default"])
def test_an_unknown_table_is_refused(path, refusal):
    assert "unknown key" in refusal(f"[{path}]\nvalue = 1")


def test_every_documented_default_is_the_default():
    documented = tomllib.loads(DOCUMENTED.read_text())
    described = {"surfaces.live.policy", "surfaces.ads.policy"}
    default = {path: key for path, key in EVERY_KEY if not path.startswith("keys[0]")}

    def compare(table, path):
        for name, value in table.items():
            here = f"{path}{name}"
            if isinstance(value, dict):
                compare(value, f"{here}.")
            elif name == "rewards":
                compare(value[0], f"{here}[0].")
            elif name != "keys" and here not in described:
                parts = here.split(".")
                key = default.pop(".".join(["surfaces", "home", *parts[2:]]) if parts[0] == "surfaces" else here)
                assert key.rule.read(value) == key.default, here

    compare(documented, "")
    assert set(default) == UNLISTED


def test_the_documented_file_loads_as_the_defaults_beside_its_key():
    settings = load(str(DOCUMENTED), {}, {}).settings
    bare = load(None, {}, {}).settings
    assert settings.keys == (KeySettings("shop", sha256(b"foo").hexdigest(), ("decide", "feedback")),)
    assert (settings.server, settings.receipts, settings.distributed) == (
        bare.server,
        bare.receipts,
        bare.distributed,
    )
    assert settings.surfaces["home"] == bare.surfaces["default"] == SurfaceSettings()
    assert list(settings.surfaces) == ["home", "live", "ads"]


def test_nothing_is_read_without_a_file_and_there_is_one_surface(tmp_path, monkeypatch):
    (tmp_path / "banditd.toml").write_text("[server]\nport = 1")
    monkeypatch.chdir(tmp_path)
    result = load(None, {}, {})
    assert result.settings == Settings()
    assert list(result.settings.surfaces) == ["default"]
    assert set(result.sources.values()) == {"default"}


def test_flags_win_over_the_environment_and_the_environment_over_the_file(loaded):
    text = "[server]\nport = 1\nworkers = 2\nmax_items = 3"
    environ = {"BANDITD_SERVER__PORT": "10", "BANDITD_SERVER__WORKERS": "20"}
    result = loaded(text, environ, {"server.port": 100})
    server = result.settings.server
    assert (server.port, server.workers, server.max_items, server.partitions) == (100, 20, 3, 8)
    names = ("port", "workers", "max_items", "partitions")
    assert [result.sources[f"server.{name}"] for name in names] == ["flag", "env", "file", "default"]


def test_a_wrong_value_is_refused_where_another_source_overrides_it(refusal):
    environ, flags = {"BANDITD_SERVER__PORT": "2"}, {"server.port": 3}
    assert "(BANDITD_SERVER__PORT)" in refusal(environ={"BANDITD_SERVER__PORT": "x"}, flags=flags)
    assert "server.port = -1" in refusal("[server]\nport = -1", environ, flags)
    assert refusal(flags={"server.port": "x"}) == 'server.port = "x": must be an integer from 0 to 65,535 (--port)'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[surfaces.a]\nrewards = [{name = "x"}, {name = "x"}]', "rewards[1].name"),
        ("[surfaces.a]\nrewards = [{weight = 0.0}]", "weight"),
        ("[surfaces.a]\nrewards = []", "an array of 1 to 4 tables"),
        ("[surfaces.a]\nrewards = [{}, {}, {}, {}, {}]", "an array of 1 to 4 tables"),
        ("[surfaces.a]\nrewards = [1]", "rewards[0] = 1: must be a table"),
        ("[surfaces.a.ad_load]\nloads = [0, 1]", "one probability for each of the 2 loads [0, 1]"),
        ("[surfaces.a.ad_load]\nfloor = 0.3", "must be at most 0.25"),
        ('[surfaces.a]\npolicy = "periodic"\nrecovering = {reserved = 1}', "recovering.reserved = 1"),
        ("[surfaces.Home]", "a-z 0-9 _"),
        ('[surfaces."a.b"]', "a-z 0-9 _"),
        ("[surfaces]\nhome = 3", "surfaces.home = 3: must be a table"),
        ("surfaces = 3", "surfaces = 3: must be a table"),
        ("[[server]]", "server = [{..}]: must be a table"),
        ('[[keys]]\nname = "shop"', "keys[0].sha256 is missing: must be 64 hexadecimal digits"),
        (f"[[keys]]\n{KEY_ENTRY}[[keys]]\n{KEY_ENTRY}", "keys[1].name"),
    ],
)
def test_rules_between_keys(text, words, refusal):
    assert words in refusal(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[server]\nport = = 1", "line 2, column 8"),
        ("[server]\nport =", "line 2, column 7"),
        ("a = [\n", "line 2, column 1"),
    ],
)
def test_a_syntax_error_names_file_line_and_column(text, place, refusal):
    message = refusal(text)
    assert "banditd.toml" in message
    assert place in message


def test_a_file_that_cannot_be_read_is_named(tmp_path, refusal):
    for path, words in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=words):
            load(str(path), {}, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsError, match="byte 5 is not UTF-8"):
        load(str(binary), {}, {})
    assert "nested too deeply" in refusal("a = " + "[" * 5000)


def test_the_least_temperature_and_prior_are_those_of_sampler_and_learner(loaded):
    text = "[surfaces.a]\nsampler = {temperature = 1e-9}\ndiag_linucb = {prior = 1e-9}"
    surface = loaded(text).settings.surfaces["a"]
    assert surface.sampler.temperature == MIN_TEMPERATURE == Sampler(temperature=MIN_TEMPERATURE).temperature
    assert np.isfinite(np.float32(1.0 / surface.diag_linucb.prior))


UNSERVED = {
    "server.workers = 2": "1",
    'distributed.kafka = "a:1"': '""',
    'surfaces.a.policy = "periodic"': '"diag_linucb" or "ad_load" or "uniform"',
    'surfaces.a.policy = "index"': '"diag_linucb" or "ad_load" or "uniform"',
    "surfaces.a.half_life_s = 60": "0",
    "surfaces.a.recovering.reserved = 1": "0",
}


@pytest.mark.parametrize(("line", "rest"), UNSERVED.items())
def test_a_value_that_this_version_would_ignore_is_one_line(line, rest, loaded):
    assert unserved(loaded(line).settings) == [f"{line}: not in this version; leave it at {rest}"]


def test_passwords_of_what_is_unserved_do_not_print(loaded):
    text = f'distributed.redis = "redis://me:hunter2@db:1/0"\n[[keys]]\n{KEY_ENTRY}'
    assert unserved(loaded(text).settings) == [
        'distributed.redis = "redis://***@db:1/0": not in this version; leave it at ""',
    ]


def test_every_default_is_served():
    assert unserved(load(None, {}, {}).settings) == []
    for path, key in EVERY_KEY:
        assert not key.served or key.default in key.served, path


def test_the_document_marks_what_is_not_in_this_version():
    page = markdown()
    sections = dict(section.split("`\n", 1) for section in page.split("\n## `")[1:])
    rows = {
        (name, line.split("`")[1]): line
        for name, text in sections.items()
        for line in text.splitlines()
        if line.startswith("| `")
    }
    marked = {place for place, line in rows.items() if "**Not in this version**" in line}
    whole = {"[distributed]", "[surfaces.NAME.recovering]"}
    of_surface = "policy", "half_life_s"
    assert marked == {place for place in rows if place[0] in whole} | {
        ("[server]", "workers"),
        *(("[surfaces.NAME]", name) for name in of_surface),
    }
    assert rows["[server]", "workers"].endswith("Server processes. **Not in this version**: values other than `1` |")


def test_reward_scale_by_hand():
    """|-2| * max(|-3|, 1) + 0.5 * max(0, 4) = 8."""
    rewards = (RewardSettings("a", (-3.0, 1.0), -2.0), RewardSettings("b", (0.0, 4.0), 0.5))
    assert reward_scale(rewards) == Rewards(rewards).scale == 8.0


def test_a_generation_does_not_depend_on_how_numbers_are_written(loaded):
    def of(text):
        surface = loaded(f"[[surfaces.a.rewards]]\n{text}").settings.surfaces["a"]
        return generation("slots", Rewards(surface.rewards).generation_spec, surface.half_life_s)

    assert of("range = [0, 1]\nweight = 1") == of("range = [-0.0, 1.0]\nclip = true") == of("")
    assert of("range = [0, 2]") != of("")


def test_every_line_of_the_settings_has_a_source():
    result = load(str(DOCUMENTED), {}, {})
    listed = {row.path: row.source for row in rows(result)}
    assert listed.keys() == result.sources.keys()
    assert listed["surfaces.home.rewards[0].weight"] == listed["keys[0].name"] == "file"
    assert listed["surfaces.live.sampler.m"] == listed["surfaces.live.rewards[0].clip"] == "default"
