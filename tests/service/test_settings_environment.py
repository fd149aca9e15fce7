"""The environment as a source of settings, and secrets, which never print."""

from __future__ import annotations

from hashlib import sha256

import pytest

from service.settings import SettingsError, load, rows

SECRET = "5ec7e7" * 11
OWN_VARIABLES = {
    "secret": "BANDITD_RECEIPT_SECRET",
    "secret_previous": "BANDITD_RECEIPT_SECRET_PREVIOUS",
    "user_key": "BANDITD_USER_KEY",
}


def refused(environ):
    with pytest.raises(SettingsError) as caught:
        load(None, environ, {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_values_are_toml():
    environ = {
        "BANDITD_SERVER__MAX_ITEMS": "1_000",
        "BANDITD_SERVER__HOSTS": '["a.example", "b.example:8080"]',
        "BANDITD_SERVER__DATA": '"/var/lib/banditd"',
    }
    server = load(None, environ, {}).settings.server
    assert (server.max_items, server.data, server.hosts) == (1000, "/var/lib/banditd", ("a.example", "b.example:8080"))


@pytest.mark.parametrize("text", ["0.0.0.0", "localhost", "::1"])
def test_text_that_is_no_toml_value_is_a_string(text):
    assert load(None, {"BANDITD_SERVER__HOST": text}, {}).settings.server.host == text


@pytest.mark.parametrize("text", ["5", "true", '"open', "a\nb", "1\nworkers = 2"])
def test_toml_of_another_type_and_broken_quotes_are_refused(text):
    assert refused({"BANDITD_SERVER__HOST": text}).startswith("server.host = ")


def test_surfaces_are_made_by_their_variables():
    environ = {"BANDITD_SURFACES__HOME__POLICY": "uniform", "BANDITD_SURFACES__A__B___SAMPLER__M": "3"}
    result = load(None, environ, {})
    surfaces = result.settings.surfaces
    assert surfaces["home"].policy == "uniform"
    assert surfaces["a__b_"].sampler.m == 3
    assert len(surfaces) == 2
    assert result.sources["surfaces.a__b_.sampler.m"] == "env"


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("BANDITD_SERVER__PROT", "did you mean BANDITD_SERVER__PORT?"),
        ("BANDITD_SURFACES__HOME__SAMPLER__MM", "did you mean BANDITD_SURFACES__HOME__SAMPLER__M?"),
        ("BANDITD_SURFACES__HOME__REWARDS", "arrays of tables"),
        ("BANDITD_SURFACES__HOME__REWARDS__0__WEIGHT", "arrays of tables"),
        ("BANDITD_KEYS__0__NAME", "arrays of tables"),
        ("BANDITD_RECEIPT_SECRETS", "did you mean BANDITD_RECEIPT_SECRET?"),
        ("BANDITD_SERVER__HOST_FILE", "BANDITD_SERVER__HOST"),
        ("BANDITD_SERVER", "no variable of banditd"),
        ("BANDITD_PORT", "no variable of banditd"),
        ("BANDITD_SURFACES__", "no variable of banditd"),
    ],
)
def test_an_unknown_variable_is_refused_without_its_value(variable, words):
    message = refused({variable: SECRET})
    assert message.startswith(variable)
    assert words in message
    assert SECRET not in message


def test_variables_of_kubernetes_and_of_clients_are_left_alone():
    environ = {
        "BANDITD_PORT": "tcp://10.0.0.7:8080",
        "BANDITD_SERVICE_HOST": "10.0.0.7",
        "BANDITD_SERVICE_PORT_HTTP": "8080",
        "BANDITD_PORT_8080_TCP_ADDR": "10.0.0.7",
        "BANDITD_KEY": "a client's key",
        "HOME": "/root",
    }
    assert load(None, environ, {}).settings == load(None, {}, {}).settings


@pytest.mark.parametrize(("name", "variable"), OWN_VARIABLES.items())
def test_a_secret_comes_from_its_variable_its_path_or_a_file_and_never_prints(name, variable, tmp_path):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "banditd.toml").write_text(f'[receipts]\n{name} = "{SECRET}"')
    by_path = f"BANDITD_RECEIPTS__{name.upper()}"
    for file, environ in (
        (None, {variable: SECRET}),
        (None, {f"{variable}_FILE": str(tmp_path / "secret")}),
        (None, {by_path: SECRET}),
        (None, {f"{by_path}_FILE": str(tmp_path / "secret")}),
        (str(tmp_path / "banditd.toml"), {}),
    ):
        result = load(file, environ, {})
        assert getattr(result.settings.receipts, name) == SECRET
        assert SECRET not in repr(result)
        assert SECRET not in "".join(row.line for row in rows(result))
        assert {row.value for row in rows(result) if row.path == f"receipts.{name}"} == {"***"}


def test_a_secret_of_digits_alone_is_not_a_number():
    assert load(None, {"BANDITD_USER_KEY": "7" * 64}, {}).settings.receipts.user_key == "7" * 64
    assert load(None, {"BANDITD_DISTRIBUTED__KAFKA_PASSWORD": "12"}, {}).settings.distributed.kafka_password == "12"


@pytest.mark.parametrize("wrong", [SECRET[:-1], SECRET[:62], f"{SECRET}zz"])
def test_a_refused_secret_does_not_print(wrong):
    for variable in OWN_VARIABLES.values():
        message = refused({variable: wrong})
        assert message.startswith("receipts.")
        assert wrong not in message
        assert wrong not in refused({f"{variable}_FILE": wrong})


def test_a_secret_given_twice_is_refused(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    twice = {"BANDITD_USER_KEY": SECRET, "BANDITD_USER_KEY_FILE": str(tmp_path / "secret")}
    assert "given twice" in refused(twice)
    assert "given twice" in refused({"BANDITD_KEYS": "a:decide:x", "BANDITD_KEYS_FILE": "x"})


def test_api_keys_of_the_environment_take_the_place_of_the_files(tmp_path):
    file = tmp_path / "banditd.toml"
    file.write_text(f'[[keys]]\nname = "old"\nsha256 = "{"00" * 32}"\nscopes = ["admin"]')
    result = load(str(file), {"BANDITD_KEYS": "shop:decide+feedback:s3:cret, ops:admin:x"}, {})
    shop, ops = result.settings.keys
    assert (shop.name, shop.scopes, shop.sha256) == ("shop", ("decide", "feedback"), sha256(b"s3:cret").hexdigest())
    assert (ops.name, ops.scopes) == ("ops", ("admin",))
    assert result.sources["keys[1].scopes"] == "env"
    assert load(str(file), {"BANDITD_KEYS": ""}, {}).settings.keys[0].name == "old"


@pytest.mark.parametrize(
    "text", ["hunter2", "a:decide", "a:decide:", "hunter2:x:decide", "a:hunter2:decide", ":decide:x"]
)
def test_nothing_of_a_wrong_api_key_prints(text):
    message = refused({"BANDITD_KEYS": f"ok:decide:secret,{text}"})
    assert message.startswith("BANDITD_KEYS entry 1: must be NAME:SCOPE[+SCOPE]:SECRET")
    assert "hunter2" not in message


def test_a_key_put_where_its_hash_belongs_does_not_print(tmp_path):
    file = tmp_path / "banditd.toml"
    for entry in ('sha256 = "hunter2"', 'secret = "hunter2"', 'value = "hunter2"'):
        file.write_text(f"[[keys]]\n{entry}")
        with pytest.raises(SettingsError) as caught:
            load(str(file), {}, {})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://app:hunter2@db:6379", "rediss://***@db:6379"),
        ("redis://:hunter2@a:1/0,redis://b:2/0", "redis://***@a:1/0,redis://b:2/0"),
    ],
)
def test_the_password_of_redis_does_not_print_and_the_poll_is_slower(url, shown, tmp_path):
    result = load(None, {"BANDITD_DISTRIBUTED__REDIS": url}, {})
    assert result.settings.distributed.redis == url
    assert result.settings.server.refresh_ms == 100
    assert result.sources["server.refresh_ms"] == "default"
    assert {row.path: row.value for row in rows(result)}["distributed.redis"] == shown
    assert "hunter2" not in repr(result)
    (tmp_path / "url").write_text(url)
    assert load(None, {"BANDITD_DISTRIBUTED__REDIS_FILE": str(tmp_path / "url")}, {}).settings == result.settings


@pytest.mark.parametrize("url", ["redis//app:hunter2@db", "redis://db?password=hunter2", "redis://a:hunter2@db:port"])
def test_a_refused_redis_url_does_not_print_its_password(url):
    for message in (refused({"BANDITD_DISTRIBUTED__REDIS": url}), refused({"BANDITD_DISTRIBUTED__REDIS_URL": url})):
        assert "hunter2" not in message
