"""Every fault of a policy file is named by its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bandits.ad_load import PolicyError, load
from bandits.ad_load.document import MAX_BYTES
from tests.bandits.ad_load_policies import FILE, TREE_FILE, changed, without

TREE = ("model", "trees", 0)
SAID: list[tuple[dict[str, Any], tuple[str | int, ...], object, str, str]] = [
    (FILE, ("version",), 2, "version", "invalid enum value 2"),
    (FILE, ("version",), True, "version", "expected `int`, got `bool`"),
    (FILE, ("kind",), "slate", "kind", "invalid enum value 'slate'"),
    (FILE, ("colour",), 1, "colour", "unknown field"),
    (FILE, ("model", "colour"), 1, "model.colour", "unknown field"),
    (FILE, ("loads",), [], "loads", "must be 1 to 64 loads, got 0"),
    (FILE, ("loads",), [0, 0], "loads[1]", "must be larger than the load before it, 0, got 0"),
    (FILE, ("loads",), [2, 0], "loads[1]", "must be larger than the load before it, 2, got 0"),
    (FILE, ("loads",), [-1, 0], "loads[0]", "must be an integer from 0 to 2147483647, got -1"),
    (FILE, ("loads",), [0, 10**30], "loads[1]", "must be an integer from 0"),
    (FILE, ("loads", 1), 2.0, "loads[1]", "expected `int`, got `float`"),
    (FILE, ("loads",), [0, 1, 2], "model.weights", "must have 3 rows, got 2"),
    (FILE, ("features", 0, "name"), "", "features[0].name", "must be 1 to 128 printable characters, got ''"),
    (FILE, ("features", 1, "name"), "hour", "features[1].name", "must differ from the names before it"),
    (FILE, ("features", 1, "scale"), 0, "features[1].scale", "must be a number from 1e-09 to 1e+12, got 0"),
    (FILE, ("features", 1, "scale"), -1, "features[1].scale", "must be a number from 1e-09 to 1e+12, got -1"),
    (FILE, ("features", 0, "mean"), "12", "features[0].mean", "expected `float`, got `str`"),
    (FILE, ("features", 0, "mean"), 1e13, "features[0].mean", "must be a number from -1e+12 to 1e+12, got 1e+13"),
    (FILE, ("features",), [], "model.weights[0]", "must have 0 entries, got shape (2,)"),
    (FILE, ("features",), FILE["features"] * 129, "features", "must be at most 256 features, got 258"),
    (FILE, ("model", "type"), "mlp", "model.type", "invalid value 'mlp'"),
    (FILE, ("model", "weights", 1), [1.0], "model.weights[1]", "must have 2 entries, got shape (1,)"),
    (FILE, ("model", "weights", 1, 0), None, "model.weights[1][0]", "expected `float`, got `null`"),
    (FILE, ("model", "bias"), [0.0], "model.bias", "must have 2 entries, got shape (1,)"),
    (FILE, ("temperature",), 0, "temperature", "must be a number from 1e-09"),
    (FILE, ("floor",), 0.6, "floor", "must be a number from 0 to 0.5, got 0.6"),
    (FILE, ("floor",), 0.3, "logging[1]", "must be at least the floor 0.3, got 0.25"),
    (FILE, ("logging",), [0.7, 0.2], "logging", "must sum to 1, got 0.9"),
    (FILE, ("logging",), [1.5, -0.5], "logging[0]", "must be a number from 0 to 1, got 1.5"),
    (FILE, ("logging",), [1.0], "logging", "must have 2 entries, got shape (1,)"),
    (FILE, ("window", 0), "yesterday", "window[0]", "must be a UTC time such as 2026-01-31T00:00:00Z, got 'yesterday'"),
    (FILE, ("window", 0), "2026-02-30T00:00:00Z", "window[0]", "must be a UTC time"),
    (FILE, ("window", 1), "2025-12-31T00:00:00Z", "window[1]", "must not lie before 2026-01-01T00:00:00Z"),
    (FILE, ("window",), ["2026-01-01T00:00:00Z"], "window", "expected `array` of length 2"),
    (FILE, ("estimate", "interval"), [1, 0], "estimate.interval[1]", "must be at least the lower end 1, got 0"),
    (FILE, ("estimate", "n"), -1, "estimate.n", "must be a number from 0"),
    (FILE, ("estimate", "estimator"), "x" * 1001, "estimate.estimator", "must be 1 to 1000 characters, got 1001"),
    (FILE, ("reward", "beta"), 1e13, "reward.beta", "must be a number"),
    (FILE, ("reward", "beta"), [], "reward", "expected `float | str`, got `array`"),
    (FILE, ("objective",), "x" * 1001, "objective", "must be at most 1000 characters, got 1001"),
    (TREE_FILE, ("model", "trees"), [], "model.trees", "must be 1 to 1024 trees, got 0"),
    (TREE_FILE, (*TREE, "feature"), [], "model.trees[0].threshold", "must have 0 entries"),
    (TREE_FILE, (*TREE, "feature", 2), 2, "model.trees[0].feature[2]", "must be an integer from -1 to 1, got 2"),
    (TREE_FILE, (*TREE, "feature", 2), -2, "model.trees[0].feature[2]", "must be an integer from -1"),
    (TREE_FILE, (*TREE, "left", 2), 0, "model.trees[0].left[2]", "must be a later node than its parent 2, got 0"),
    (TREE_FILE, (*TREE, "left", 2), 2, "model.trees[0].left[2]", "must be a later node than its parent 2, got 2"),
    (TREE_FILE, (*TREE, "right", 2), 3, "model.trees[0].right[2]", "must be a node without another parent, got 3"),
    (TREE_FILE, (*TREE, "right", 2), 5, "model.trees[0].right[2]", "must be an integer from -1 to 4, got 5"),
    (TREE_FILE, (*TREE, "left", 1), 4, "model.trees[0].left[1]", "must be -1 at a leaf, got 4"),
    (TREE_FILE, (*TREE, "feature", 2), -1, "model.trees[0].left[2]", "must be -1 at a leaf, got 3"),
    (TREE_FILE, (*TREE, "value", 3), [0], "model.trees[0].value[3]", "must have 2 entries, got shape (1,)"),
    (TREE_FILE, (*TREE, "threshold"), [0.0], "model.trees[0].threshold", "must have 5 entries"),
    (TREE_FILE, (*TREE, "threshold", 1), 1e300, "model.trees[0].threshold[1]", "must be a number"),
    (TREE_FILE, (*TREE, "gain"), [1.0], "model.trees[0].gain", "unknown field"),
]


def said(data: bytes) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load(data)
    assert "\n" not in str(caught.value)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.message}"
    return caught.value


@pytest.mark.parametrize(("file", "place", "value", "path", "rule"), SAID)
def test_a_changed_value_is_named(file, place, value, path, rule):
    fault = said(changed(file, place, value))
    assert fault.path == path
    assert fault.message.startswith(rule)


@pytest.mark.parametrize("field", sorted(FILE.keys() - {"reward"}))
def test_a_missing_field_is_named(field):
    fault = said(without(FILE, (field,)))
    assert (fault.path, fault.message) == (field, "missing")


@pytest.mark.parametrize("place", [("model", "type"), ("model", "bias"), ("estimate", "ess")])
def test_a_missing_inner_field_is_named(place):
    fault = said(without(FILE, place))
    assert (fault.path, fault.message) == (".".join(place), "missing")


SOUND = json.dumps(FILE).encode()
DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("data", "path", "rule"),
    [
        (b"", "policy", "must be JSON"),
        (b"\xff\xfe", "policy", "must be JSON"),
        (SOUND[:-1], "policy", "must be JSON"),
        (SOUND + b"x", "policy", "must be JSON"),
        (SOUND.replace(b": 2.0", b": NaN"), "policy", "must be JSON"),
        (SOUND.replace(b": 2.0", b": Infinity"), "policy", "must be JSON"),
        (SOUND.replace(b": 2.0", b": 1e999"), "temperature", "number out of range"),
        (SOUND.replace(b'"hour"', b'"h\xff"'), "policy", "must be JSON"),
        (SOUND.replace(b'"hour"', b'"\\ud800"'), "policy", "must be JSON"),
        (b"[]", "policy", "expected `object`, got `array`"),
        (DEEP, "policy", "expected `object`, got `array`"),
        (SOUND.replace(b"[0, 2]", DEEP), "loads[0]", "expected `int`, got `array`"),
        (SOUND.replace(b'"kind"', b'"x": ' + DEEP + b', "kind"'), "x", "unknown field"),
        (SOUND.replace(b'"kind"', b'"floor": 0.1, "kind"'), "policy", "must give each field once, got 'floor' twice"),
        (SOUND + b" " * MAX_BYTES, "policy", f"must be at most {MAX_BYTES} bytes"),
    ],
)
def test_bytes_that_are_no_policy_are_named(data, path, rule):
    fault = said(data)
    assert fault.path == path
    assert fault.message.startswith(rule)


def test_a_tree_may_be_64_deep_and_not_deeper():
    def chain(depth: int) -> bytes:
        """Inner nodes 0, 2, 4, ..; each has a leaf on its left, the next inner node on its right."""
        m = 2 * depth + 1
        inner = [i % 2 == 0 and i < m - 1 for i in range(m)]
        tree = {
            "feature": [0 if one else -1 for one in inner],
            "threshold": [0.0] * m,
            "left": [i + 1 if one else -1 for i, one in enumerate(inner)],
            "right": [i + 2 if one else -1 for i, one in enumerate(inner)],
            "value": [[0.0, 0.0]] * m,
        }
        return changed(TREE_FILE, TREE, tree)

    assert len(load(chain(64)).matrix([None])) == 1
    fault = said(chain(65))
    assert (fault.path, fault.message) == ("model.trees[0].left[128]", "must lie at depth <= 64, got 65")


def test_a_sound_file_with_whole_numbers_and_line_breaks_is_read():
    pretty = json.dumps(FILE, indent=2).replace("2.0", "2").encode() + b"\n"
    assert load(pretty).temperature == 2.0
