"""Vowpal Wabbit's dsjson, against Vowpal Wabbit itself.

How Vowpal Wabbit 9.11 weighs, found by running it: a line counts 1 / (1 - pdrop), in numerator and denominator; one
with `_skipLearn` is passed over; one without `_label_cost` is an example without a label, which adds its weight but no
loss. Its IPS is therefore sum_loss / weighted_examples, the mean over decisions. The `average loss` that it prints
divides by the weight of labelled examples alone, and is another number as soon as outcomes are missing. With slots
(CCB) it does not multiply the loss by the weight, so that pdrop shrinks its numbers, and counts the action that it
ranks first alone: compared are lines without pdrop under a greedy policy.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import vowpalwabbit

from offline_eval.errors import BadLog
from tests.offline_eval.logs import NOON_US, chunks, left_out, only, records

ACTIONS = 4
EXACT = [0.5, 0.25, 0.125, 0.125]
"""Exact also in Vowpal Wabbit's float32."""


def line(chosen: int, cost: float | None, p: float = 0.5, k: int = 0, **more: Any) -> dict[str, Any]:
    """A decision among four actions, the 0-based chosen one first in `a`."""
    others = [j for j in range(ACTIONS) if j != chosen]
    label = {} if cost is None else {"_label_cost": cost}
    return {
        **label,
        "_label_probability": p,
        "_label_Action": chosen + 1,
        "_labelIndex": chosen,
        "Timestamp": f"2023-11-14T22:13:20.{k:07}Z",
        "Version": "1",
        "EventId": f"e{k}",
        "a": [j + 1 for j in (chosen, *others)],
        "c": {
            "user": {"age": k % 3, "country": f"c{k % 2}"},
            "_multi": [{"_tag": f"i{j}", "item": {f"f{j}": 1}} for j in range(ACTIONS)],
        },
        "p": [p] + [(1 - p) / 3] * 3,
        "VWState": {"m": "N/A"},
        **more,
    }


def random_lines(n: int, seed: int) -> list[dict[str, Any]]:
    """A quarter dropped with 1/2, 1/8 to be skipped, 1/5 without outcome; costs are multiples of 1/8."""
    rng = np.random.default_rng(seed)
    lines = []
    for k in range(n):
        cost = None if rng.random() < 0.2 else -float(rng.integers(0, 17)) / 8
        more: dict[str, Any] = {}
        if rng.random() < 0.25:
            more["pdrop"] = 0.5
        if rng.random() < 0.125:
            more["_skipLearn"] = True
        lines.append(line(int(rng.integers(ACTIONS)), cost, EXACT[int(rng.integers(4))], k, **more))
    return lines


def save(path, lines):
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def wabbit(file, arguments):
    """(sum of losses, weight of examples) of Vowpal Wabbit over a file, and what it says."""
    workspace = vowpalwabbit.Workspace(f"{arguments} --dsjson -t -d {file}", enable_logging=True)
    sums = workspace.get_sum_loss(), workspace.get_weighted_examples()
    workspace.finish()
    return *sums, workspace.get_log()


def ips(found, pi):
    """Mean reward under pi, a function of the row, as evaluation weighs it."""
    rows = records(found)
    total = sum(row["count"] * pi(row) / row["propensity"] * row["reward"] for row in rows)
    return total / sum(row["count"] for row in rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_value_of_always_the_first_action_is_vowpal_wabbits(tmp_path, seed):
    """Untrained and greedy it takes the first action."""
    file = save(tmp_path / "log.dsjson", random_lines(400, seed))
    loss, weight, said = wabbit(file, "--cb_explore_adf --first 0")
    found = chunks(file, rows=77)
    assert left_out(found)["_skipLearn"] > 20
    assert ips(found, lambda row: float(row["action"] == "i0")) == pytest.approx(-loss / weight, abs=1e-9)
    assert sum(row["count"] for row in records(found)) == weight
    assert "warning" not in " ".join(said)


@pytest.mark.parametrize("seed", range(5))
def test_the_value_of_uniform_is_vowpal_wabbits(tmp_path, seed):
    """Untrained scores are all tied, and epsilon-greedy shares ties evenly: 1/4, exact in float32."""
    file = save(tmp_path / "log.dsjson", random_lines(400, seed))
    loss, weight, _ = wabbit(file, "--cb_explore_adf --epsilon 0")
    assert ips(chunks(file), lambda row: 1 / len(row["candidates"])) == pytest.approx(-loss / weight, abs=1e-9)


def test_the_value_of_a_trained_policy_is_vowpal_wabbits(tmp_path):
    """Greedy with probability 1; the doubly robust model of the loss is left out by --cb_type ips."""
    train, file = (
        save(tmp_path / "train.dsjson", random_lines(300, 7)),
        save(tmp_path / "log.dsjson", random_lines(500, 8)),
    )
    model, chosen = tmp_path / "model", tmp_path / "chosen"
    learner = vowpalwabbit.Workspace(f"--cb_explore_adf --first 0 --cb_type ips -q ui --dsjson -d {train} -f {model}")
    learner.finish()
    loss, weight, _ = wabbit(file, f"-i {model} -p {chosen}")
    laws = [dict(one.split(":") for one in law.split(",")) for law in chosen.read_text().split("\n\n") if law.strip()]
    found = chunks(file)
    rows = records(found)
    assert len(laws) == len(rows)
    law = {row["index"]: {f"i{k}": float(p) for k, p in laws[i].items()} for i, row in enumerate(rows)}
    taken = {max(one, key=one.__getitem__) for one in law.values()}
    assert len(taken) > 1
    assert ips(found, lambda row: law[row["index"]][row["action"]]) == pytest.approx(-loss / weight, abs=1e-9)


def slots(outcomes, k=0, **more):
    """A decision of several slots among three actions."""
    return {
        "Timestamp": "2023-11-14T22:13:20.0000000Z",
        "Version": "1",
        "EventId": f"e{k}",
        "c": {
            "_multi": [{"_tag": f"i{j}", "item": {f"f{j}": 1}} for j in range(3)],
            "_slots": [{"_id": f"s{j}", "slot": {"j": j}} for j in range(len(outcomes))],
        },
        "_outcomes": [
            {"_id": f"s{j}", "_a": actions, "_p": law, **({} if cost is None else {"_label_cost": cost})}
            for j, (cost, actions, law) in enumerate(outcomes)
        ],
        "VWState": {"m": "N/A"},
        **more,
    }


def test_rows_of_slots_by_hand(tmp_path):
    """Actions are 0-based; the second slot has the first one's action no longer; its outcome is missing."""
    lines = [
        slots([(-1.0, [2, 0, 1], [0.5, 0.25, 0.25]), (None, [0, 1], [0.75, 0.25])], pdrop=0.75),
        slots([(-1.0, [2, 0, 1], [0.5, 0.25, 0.25])], _skipLearn=True),
        slots([(0.5, [1, 0], [0.5, 0.5])], 2),
    ]
    found = chunks(save(tmp_path / "log.dsjson", lines), default_reward=0.25)
    assert left_out(found) == {"_skipLearn": 1}
    names = ("place", "index", "action", "reward", "propensity", "count", "position", "candidates")
    assert [tuple(row[name] for name in names) for row in records(found)] == [
        ("line 1", 0, "i2", 1.0, 0.5, 4.0, 0, [("i2", 0.5), ("i0", 0.25), ("i1", 0.25)]),
        ("line 1", 1, "i0", 0.25, 0.75, 4.0, 1, [("i0", 0.75), ("i1", 0.25)]),
        ("line 3", 3, "i1", -0.5, 0.5, 1.0, 0, [("i1", 0.5), ("i0", 0.5)]),
    ]


def test_the_value_of_two_slots_under_a_trained_policy_is_vowpal_wabbits(tmp_path):
    """Summed over slots, by event; greedy, so that the action that each slot's prediction names first has all of it."""
    rng = np.random.default_rng(2)

    def lines(n):
        for k in range(n):
            order = rng.permutation(3).tolist()
            first = (-float(rng.integers(9)) / 8 * (order[0] == 1), order, [0.5, 0.25, 0.25])
            yield slots([first, (-float(rng.integers(9)) / 8, order[1:], [0.5, 0.5])], k)

    train, file = save(tmp_path / "train.dsjson", lines(300)), save(tmp_path / "log.dsjson", lines(300))
    model, chosen = tmp_path / "model", tmp_path / "chosen"
    rules = "--ccb_explore_adf --epsilon 0 --all_slots_loss --cb_type ips -q ::"
    learner = vowpalwabbit.Workspace(f"{rules} --dsjson -d {train} -f {model}")
    learner.finish()
    loss, weight, _ = wabbit(file, f"--all_slots_loss -i {model} -p {chosen}")
    laws = [one for one in chosen.read_text().split("\n") if one]
    rows = records(chunks(file))
    assert len(laws) == len(rows) == 2 * weight
    picked = [f"i{law.partition(':')[0]}" for law in laws]
    assert {law.partition(",")[0].partition(":")[2] for law in laws} == {"1"}
    total = sum(
        row["reward"] / row["propensity"] for row, one in zip(rows, picked, strict=True) if row["action"] == one
    )
    assert total / weight == pytest.approx(-loss / weight, abs=1e-9)
    assert total > 0


def test_a_line_by_hand(tmp_path):
    one = line(2, -1.5, 0.5, 7, pdrop=0.5)
    (row,) = only(save(tmp_path / "log.json", [one]))
    assert row.pop("fingerprint") > 0
    sixth = 1 / 6
    assert row == {
        "place": "line 1",
        "index": 0,
        "action": "i2",
        "reward": 1.5,
        "propensity": 0.5,
        "count": 2.0,
        "timestamp": NOON_US,
        "position": 0,
        "segment position": 0,
        "segment hour": 22,
        "candidates": [("i0", sixth), ("i1", sixth), ("i2", 0.5), ("i3", sixth)],
        "context": {"user.age": 1.0, "user.country=c1": 1.0},
    }


def test_without_tags_actions_are_their_numbers_and_without_outcome_the_default_counts(tmp_path):
    one = line(2, None)
    one["c"] = {"x": [1, 2.5], "deep": [{"a": True}, {"b": "t"}], "_text": 3, "_multi": [{}, {}, {}, {}]}
    bare = {name: one[name] for name in ("a", "p", "c")}
    for given in (one, bare):
        (row,) = only(save(tmp_path / "log.dsjson", [given]), default_reward=-0.25)
        assert (row["action"], row["reward"], row["propensity"], row["count"]) == ("3", -0.25, 0.5, 1.0)
        assert [name for name, _ in row["candidates"]] == ["1", "2", "3", "4"]
        assert row["context"] == {"x[0]": 1.0, "x[1]": 2.5, "deep.a": 1.0, "deep.b=t": 1.0}


def test_a_law_of_some_actions_is_unknown_unless_it_is_whole(tmp_path):
    part = line(1, -1.0) | {"a": [2], "p": [0.5]}
    whole = line(1, -1.0) | {"a": [2, 1], "p": [0.5, 0.5]}
    found = only(save(tmp_path / "log.dsjson", [part, whole]))
    assert [[p for _, p in row["candidates"]] for row in found] == [[None] * 4, [0.5, 0.5, 0.0, 0.0]]


def test_duplicates_share_a_fingerprint(tmp_path):
    """By the event's id; without one by the whole line, which then needs a time."""
    lines = [line(0, -1.0, k=k) for k in (0, 1, 0)]
    assert [row["fingerprint"] for row in only(save(tmp_path / "log.dsjson", lines))][0::2] == 2 * [
        only(tmp_path / "log.dsjson")[0]["fingerprint"]
    ]
    nameless = [{name: value for name, value in one.items() if name != "EventId"} for one in lines]
    prints = [row["fingerprint"] for row in only(save(tmp_path / "log.dsjson", nameless))]
    assert (prints[0] == prints[2], len(set(prints))) == (True, 2)
    del nameless[1]["Timestamp"]
    assert "fingerprint" not in only(save(tmp_path / "log.dsjson", nameless))[0]


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_any_size_of_chunks_gives_the_same_rows(tmp_path, monkeypatch, rows):
    file = save(tmp_path / "log.dsjson", random_lines(60, 3))
    whole = chunks(file)
    monkeypatch.setattr("offline_eval.formats.text.BLOCK", 3000)
    found = chunks(file, rows=rows)
    assert max(map(len, found)) <= rows
    assert records(found) == records(whole)
    assert left_out(found) == left_out(whole)


DAMAGED: list[tuple[dict[str, Any], str]] = [
    ({"_label_cost": "1"}, "_label_cost: got '1', expected float | null, got str"),
    ({"_label_probability": 0}, "_label_probability: got 0.0, must lie in (0, 1]"),
    ({"_label_probability": 1.5}, "_label_probability: got 1.5, must lie in (0, 1]"),
    ({"_labelIndex": 4, "_label_Action": 5}, "_labelIndex: got 4, must be one of the 4 actions"),
    ({"_label_Action": 4}, "_label_Action: got 4, must be _labelIndex + 1, 2"),
    ({"a": [2, 1, 3, 9]}, "a[3]: got 9, must lie in [1, 5)"),
    ({"a": [2, 2, 3, 4]}, "a: got [2, 2, 3, 4], must not repeat an action"),
    ({"p": [0.5, 0.5]}, "p: got [0.5, 0.5], must have 4 numbers, as a"),
    ({"p": [0.5, 0.5, 0.5, 0.5]}, "sum of p: got 2.0, must be 1"),
    ({"p": [1.5, -0.5, 0.0, 0.0]}, "p[0]: got 1.5, must be a probability"),
    ({"pdrop": 1.0}, "pdrop: got 1.0, must lie in [0, 1)"),
    ({"c": {}}, "c._multi: got None, must be the list of actions"),
    ({"c": {"_multi": [{"_tag": 1}]}}, "c._multi[0]._tag: got 1, must be text, of an action that is an object"),
    (
        {"c": {"_multi": [{"_tag": "x"}, {"_tag": "x"}]}},
        "c._multi[1]._tag: got 'x', must differ from the other actions'",
    ),
    ({"Timestamp": "noon"}, "Timestamp: got 'noon', must be a time such as 2023-11-14T22:13:20Z, or an integer of"),
    ({"c": 1}, "c: got 1, expected object, got int"),
    ({"_outcomes": [{"_a": [], "_p": []}]}, "_outcomes[0]._a: got [], must hold the chosen action first"),
    ({"_outcomes": [{"_a": [4], "_p": [1.0]}]}, "_outcomes[0]._a[0]: got 4, must lie in [0, 4)"),
    ({"_outcomes": [{"_a": [0]}]}, "_outcomes[0]._p: got None, must not be missing"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED, ids=[message for _, message in DAMAGED])
def test_a_damaged_line(tmp_path, damage, message):
    """The second one; the third is worse, and not told."""
    lines = [line(0, -1.0), line(1, -1.0, k=1) | damage, {"c": 5}]
    with pytest.raises(BadLog) as caught:
        chunks(save(tmp_path / "log.dsjson", lines))
    assert str(caught.value).startswith(f"{tmp_path}/log.dsjson: line 2: {message}")
