"""Diag-LinUCB: answers worked out by hand, and the laws of its sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits import DiagLinUCB
from bandits.diag_linucb import Variant
from bandits.full_linucb import FullLinUCB

N_ARMS, N_SLOTS = 3, 5
VARIANTS: tuple[Variant, ...] = ("published", "centred", "weights")

weights = st.floats(-2, 2, allow_subnormal=False)
events = st.lists(
    st.tuples(
        st.integers(0, N_ARMS - 1),
        st.permutations(range(N_SLOTS)).map(lambda order: order[:2]),
        st.tuples(weights, weights),
        st.floats(-1, 1, allow_subnormal=False),
    ),
    max_size=12,
)
Events = list[tuple[int, list[int], tuple[float, float], float]]


def learned(rows: Events, **options: Any) -> DiagLinUCB:
    learner = DiagLinUCB(N_ARMS, N_SLOTS, **options)
    for row in rows:
        learner.update(*row)
    return learner


def all_scores(learner: DiagLinUCB) -> np.ndarray[Any, Any]:
    return learner.scores(range(N_SLOTS), [0.4, 0.3, 0.2, 0.05, 0.05])


def test_published_by_hand():
    """Two impressions at w = .5, r = 1 and 0: d = 1.5, b = .5; at w = 1: mean 1/3, var 2/3. Unseen arm: 0 and 1."""
    learner = DiagLinUCB(2, 1, alpha=2.0)
    learner.update(0, [0], [0.5], 1.0)
    learner.update(0, [0], [0.5], 0.0)
    mean, variance = learner.posterior([0], [1.0])
    np.testing.assert_allclose(mean, [1 / 3, 0.0])
    np.testing.assert_allclose(variance, [2 / 3, 1.0])
    np.testing.assert_allclose(learner.scores([0], [1.0]), [1 / 3 + 2 * np.sqrt(2 / 3), 2.0])


def test_centred_by_hand():
    """r = 1 on arm 0, 0 on arm 1, w = 1: m = .5, theta = +-.5 / 2; means .75, .25 and, unseen, .5."""
    learner = DiagLinUCB(3, 1, variant="centred")
    learner.update(0, [0], [1.0], 1.0)
    learner.update(1, [0], [1.0], 0.0)
    mean, variance = learner.posterior([0], [1.0])
    np.testing.assert_allclose(mean, [0.75, 0.25, 0.5])
    np.testing.assert_allclose(variance, [0.5, 0.5, 1.0])


def test_weights_by_hand():
    """Arm 0 has both edges, W = 1: mean (.5 + .5) * .4, var 2 * .25 / 1.25. Arm 1 has one, W = .5: var .25 / .25."""
    learner = DiagLinUCB(2, 2, variant="weights", edges=[[True, True], [True, False]])
    learner.update(0, [0, 1], [0.5, 0.5], 1.0)
    mean, variance = learner.posterior([0, 1], [0.5, 0.5])
    np.testing.assert_allclose(mean, [0.4, 0.0])
    np.testing.assert_allclose(variance, [0.4, 1.0])


def test_weights_that_cancel_leave_the_published_score():
    published, divided = (DiagLinUCB(1, 2, variant=variant) for variant in ("published", "weights"))
    for learner in (published, divided):
        learner.update(0, [0], [1.0], 1.0)
    np.testing.assert_array_equal(divided.scores([0, 1], [1.0, -1.0]), published.scores([0, 1], [1.0, -1.0]))


@pytest.mark.parametrize(
    ("variant", "mean", "variance"), [("published", 0.0, 0.4), ("centred", 1.0, 0.4), ("weights", 0.0, 0.625)]
)
def test_arm_without_active_edge_scores_as_unseen(variant: Variant, mean: float, variance: float):
    """Weights .6 and .2 on a prior of 1: var .36 + .04, over (.6 + .2) squared .625; the running mean is 1."""
    learner = DiagLinUCB(2, 3, variant=variant, edges=[[True, True, False], [False, False, True]])
    learner.update(0, [0, 1], [0.6, 0.2], 1.0)
    got_mean, got_variance = learner.posterior([0, 1], [0.6, 0.2])
    assert (got_mean[1], got_variance[1]) == pytest.approx((mean, variance))


def test_slots_without_an_edge_are_not_learned():
    learner = DiagLinUCB(1, 2, edges=[[True, False]])
    learner.update(0, [0, 1], [0.5, 0.5], 1.0)
    assert learner.weight_sq_sum.tolist() == [[0.25, 0.0]]


def test_prior_is_the_precision_of_an_unseen_cell():
    """prior 4: unseen var 1/4; after w = 1, r = 1: d = 5, mean .2, var .2."""
    learner = DiagLinUCB(1, 1, prior=4.0)
    assert learner.posterior([0], [1.0])[1][0] == pytest.approx(0.25)
    learner.update(0, [0], [1.0], 1.0)
    mean, variance = learner.posterior([0], [1.0])
    assert (mean[0], variance[0]) == pytest.approx((0.2, 0.2))


def test_alpha_zero_scores_the_mean():
    learner = DiagLinUCB(2, 1, alpha=0.0)
    learner.update(1, [0], [1.0], 1.0)
    np.testing.assert_allclose(learner.scores([0], [1.0]), [0.0, 0.5])


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.floats(0.1, 2), st.floats(-1, 1)), max_size=30),
    st.sampled_from([0.25, 1.0, 7.0]),
)
def test_one_hot_contexts_give_full_linucb(rows: list[tuple[int, int, float, float]], prior: float):
    diagonal, full = DiagLinUCB(N_ARMS, N_SLOTS, prior=prior), FullLinUCB(N_ARMS, N_SLOTS, prior=prior)
    for arm, slot, weight, reward in rows:
        diagonal.update(arm, [slot], [weight], reward)
        full.update(arm, [slot], [weight], reward)
    for slot in range(N_SLOTS):
        np.testing.assert_allclose(diagonal.scores([slot], [1.0]), full.scores([slot], [1.0]), atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=40)
@given(rows=events, data=st.data())
def test_order_of_updates_does_not_matter(variant: Variant, rows: Events, data: st.DataObject):
    shuffled = data.draw(st.permutations(rows))
    np.testing.assert_allclose(
        all_scores(learned(rows, variant=variant)), all_scores(learned(shuffled, variant=variant)), atol=1e-9
    )


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=40)
@given(first=events, second=events)
def test_merging_two_learners_equals_learning_their_union(variant: Variant, first: Events, second: Events):
    merged = learned(first, variant=variant)
    merged.merge(learned(second, variant=variant))
    np.testing.assert_allclose(all_scores(merged), all_scores(learned(first + second, variant=variant)), atol=1e-9)


@settings(max_examples=40)
@given(rows=events.filter(bool))
def test_a_batch_is_the_sum_of_its_rows(rows: Events):
    edges = np.arange(N_ARMS * N_SLOTS).reshape(N_ARMS, N_SLOTS) % 3 > 0
    batch = DiagLinUCB(N_ARMS, N_SLOTS, variant="centred", edges=edges)
    batch.update_many(*(list(column) for column in zip(*rows, strict=True)))
    np.testing.assert_allclose(all_scores(batch), all_scores(learned(rows, variant="centred", edges=edges)), atol=1e-9)


@given(rows=events)
def test_a_late_reward_is_simply_added(rows: Events):
    late = learned([(arm, slots, w, 0.0) for arm, slots, w, _ in rows], variant="centred")
    for row in rows:
        late.add_reward(*row)
    np.testing.assert_allclose(all_scores(late), all_scores(learned(rows, variant="centred")), atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, [0], [1.0], 1.0), r"arm must lie in \[0, 2\), got 2"),
        ((-1, [0], [1.0], 1.0), r"arm must lie in \[0, 2\), got -1"),
        ((0, [0, 3], [1.0, 1.0], 1.0), r"slot must lie in \[0, 3\), got 3 at position 1"),
        ((0, [-1], [1.0], 1.0), r"slot must lie in \[0, 3\), got -1 at position 0"),
        ((0, [0.5], [1.0], 1.0), "slots must be integers, got float64"),
        ((0, [1, 1], [1.0, 1.0], 1.0), "slots of a context must differ, got 1 twice"),
        ((0, [0, 1], [1.0], 1.0), r"one shape \(K,\), got \(2,\) and \(1,\)"),
        ((0, [0], [16.5], 1.0), "weight must be finite and at most 16 in magnitude, got 16.5 at position 0"),
        ((0, [0], [float("nan")], 1.0), "weight must be finite"),
        ((0, [0], [1.0], float("inf")), "reward must be finite, got inf"),
    ],
)
def test_bad_updates_say_what_is_wrong_and_change_nothing(arguments: tuple[Any, ...], message: str):
    learner = DiagLinUCB(2, 3)
    with pytest.raises(ValueError, match=message):
        learner.update(*arguments)
    assert learner.impressions == 0
    assert not learner.weight_sq_sum.any()


def test_a_batch_with_one_bad_row_names_it_and_changes_nothing():
    learner = DiagLinUCB(2, 3)
    with pytest.raises(ValueError, match="got 3 at position 0 of row 1"):
        learner.update_many([0, 1], [[0], [3]], [[1.0], [1.0]], [1.0, 1.0])
    with pytest.raises(ValueError, match="reward must be finite, got nan at row 1"):
        learner.update_many([0, 1], [[0], [1]], [[1.0], [1.0]], [1.0, float("nan")])
    assert learner.impressions == 0
    assert not learner.weight_sq_sum.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "diagonal"}, "variant must be one of published, centred, weights, got 'diagonal'"),
        ({"prior": 0.0}, "prior must be finite and > 0"),
        ({"alpha": -0.1}, "alpha must be finite and >= 0"),
        ({"edges": [[True]]}, r"edges must be bool of shape \(3, 5\), got bool \(1, 1\)"),
        ({"edges": np.ones((3, 5))}, "edges must be bool"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        DiagLinUCB(N_ARMS, N_SLOTS, **options)


def test_learners_of_different_shape_or_edges_do_not_merge():
    with pytest.raises(ValueError, match="cannot merge 3 arms x 4 slots into 3 x 5"):
        DiagLinUCB(3, 5).merge(DiagLinUCB(3, 4))
    with pytest.raises(ValueError, match="edges differ"):
        DiagLinUCB(1, 1).merge(DiagLinUCB(1, 1, edges=[[True]]))
