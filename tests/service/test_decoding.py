"""What is wrong with a body is found by its path, whatever its size, without a tree of it and beside other work."""

from __future__ import annotations

import asyncio
import json
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import decoding
from service.decoding import FAULTS, LARGE_BYTES, explain, explained
from service.schemas import FeedbackRequest, RecommendBatch, RecommendRequest

SPACE = b" " * LARGE_BYTES
CASES = [
    (RecommendRequest, b'{"n":"x"}', "n: expected `int | null`, got `str`"),
    (RecommendRequest, b'{"colour":1}', "colour: unknown field"),
    (RecommendRequest, b'{"items":[{}]}', "items[0].id: needed"),
    (RecommendRequest, b'{"features":{"a":1,"b c":[2]}}', 'features["b c"]: expected `float`, got `array`'),
    (RecommendBatch, b'{"requests":[{},{"features":{"a":null}}]}', 'requests[1].features["a"]: expected `float`'),
    (
        RecommendBatch,
        b'{"requests":[{"items":[{"id":"a","features":{"x":"1"}}]}]}',
        'requests[0].items[0].features["x"]',
    ),
    (RecommendRequest, b'{"colour":{"a b":[0,1e999]}}', 'colour["a b"][1]: number out of range'),
    (RecommendRequest, b'{"n":"x","user":"\xff"}', "$: not JSON (byte"),
    (RecommendRequest, b'{"n":"x","embedding":[NaN]}', "no such number"),
    (RecommendRequest, b'{"n":"x","embedding":[-Infinity]}', "no such number"),
    (RecommendRequest, b'{"n":"x"', "$: not JSON (byte"),
    (RecommendRequest, b'{"n":"x",}', "$: not JSON (byte"),
    (RecommendRequest, b'{"n":"x","user":"\\ud800"}', "$: not JSON (byte"),
    (RecommendRequest, b'{"n":' + b"[" * 5000, "nested too deep"),
    (FeedbackRequest, b"[]", "$: expected `object`, got `array`"),
]


def wrong(kind, body):
    """The problem of a body that msgspec refuses."""
    with pytest.raises(FAULTS) as refused:
        msgspec.json.decode(body, type=kind)
    return explain(body, refused.value)


@pytest.mark.parametrize(("kind", "body", "says"), CASES)
@pytest.mark.parametrize("before", [b"", SPACE])
def test_a_fault_is_told_alike_in_a_small_and_in_a_large_body(monkeypatch, kind, body, says, before):
    """A large one never goes through Python's parser, which stops everything for as long as it takes."""
    parsed, loads = [], json.loads

    def noting(text, **given):
        parsed.append(len(text))
        return loads(text, **given)

    monkeypatch.setattr(json, "loads", noting)
    problem = wrong(kind, before + body)
    assert says in problem.detail
    assert problem.status == 422
    assert len(problem.errors) == 1
    assert max(parsed, default=0) <= LARGE_BYTES


@pytest.mark.parametrize("number", ["1e309", "-1E+309", "9" * 309, "0.01e0311", "1" + "0" * 300 + "e9", "2E308"])
def test_each_form_of_a_number_beyond_a_double(number):
    body = f'{{"user":"1e999 \\" 1e999","embedding":[1e308,-0.5e-400,{number}]}}'.encode()
    assert wrong(RecommendRequest, body).detail == "embedding[2]: number out of range"


def test_a_body_without_such_a_number_is_not_searched_for_one(monkeypatch):
    monkeypatch.setattr("service.decoding._infinite", None)
    body = b'{"batch":[{"receipt":"1e+5 2e","events":[{"value":123456789.125e-7}]}]}'
    assert wrong(FeedbackRequest, body).detail == "batch[0].events[0].kind: needed"
    with pytest.raises(TypeError):
        wrong(FeedbackRequest, body.replace(b"e-7", b"e77"))


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), names),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=12,
)


@given(trees, trees, names, st.integers(0, 3))
def test_a_number_out_of_range_is_found_wherever_it_stands(first, last, name, depth):
    """Beside any other value, and inside of lists and objects by turns."""
    value, path = "1e999", ""
    for i in range(depth):
        if i % 2:
            value, path = f"[{json.dumps(first)},{value}, {json.dumps(last)}]", f"[1]{path}"
        else:
            value, path = f'{{"\\u00ffx":{json.dumps(first)} ,"y y" : {value}}}', f'["y y"]{path}'
    body = f'{{"before":{json.dumps(first)},"n":{value},"after":{json.dumps(last)}}}'
    assert wrong(RecommendBatch, body.encode()).errors[0].path == f"n{path}"


def test_a_name_that_stands_twice_is_no_fault_of_the_server():
    body = b'{"items":[],"features":{"a":"x"},"features":5}'
    assert wrong(RecommendRequest, body).status == 422


@pytest.mark.parametrize(("size", "elsewhere"), [(LARGE_BYTES, False), (LARGE_BYTES + 1, True)])
def test_a_large_body_is_explained_beside_the_loop(monkeypatch, size, elsewhere):
    threads = []

    def noting(body, fault):
        threads.append(threading.get_ident())
        return explain(body, fault)

    monkeypatch.setattr(decoding, "explain", noting)
    body = b'{"n":"x"}'.ljust(size)
    fault = msgspec.ValidationError("Expected `int`, got `str` - at `$.n`")
    assert asyncio.run(explained(body, fault)).detail == "n: expected `int`, got `str`"
    assert (threads[0] != threading.get_ident()) == elsewhere
