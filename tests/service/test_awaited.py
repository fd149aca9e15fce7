"""What waits to be seen is observed once, in order, and bounded."""

from service.awaited import MAX_AWAITED, Awaited


def test_feedback_is_observed_once_the_scores_hold_its_offset():
    seen: list[float] = []
    awaited = Awaited(2, seen.append)
    awaited.add(0, 5, 10.0)
    awaited.add(1, 0, 11.0)
    awaited.published([5, 1].__getitem__, 12.0)
    assert seen == [1.0]
    awaited.published([6, 1].__getitem__, 14.0)
    assert seen == [1.0, 4.0]


def test_a_fold_that_stands_does_not_let_it_grow_for_ever():
    seen: list[float] = []
    awaited = Awaited(1, seen.append)
    for offset in range(MAX_AWAITED + 10):
        awaited.add(0, offset, 0.0)
    awaited.published(lambda partition: 2 * MAX_AWAITED, 1.0)
    assert len(seen) == MAX_AWAITED
