"""Pages of cells: whatever their size, together they are every cell once, in order, at one look each."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bandits.cells import CellTable, decode
from service.cells_view import CellsPage, Learned, cells_page, choose
from service.rewards import Generation, Rewards
from service.settings.surface import RewardSettings

REWARDS = Rewards([RewardSettings("click")])
TABLES = (3, 2**64 - 1)
GENERATIONS = [Generation("home", "diag_linucb", str(table), table, table, REWARDS) for table in TABLES]
places = st.sets(
    st.tuples(
        st.sampled_from([*TABLES, 9]),
        st.sampled_from([0, 7, 8, 2**63, 2**64 - 1]),
        st.integers(0, 200) | st.just(2**32 - 1),
    ),
    max_size=80,
)


def table_of(found):
    cells = CellTable(rows=1, cells=65)
    for table, arm, slot in found:
        cells.add(table, arm, slot, weight_sq=slot + 1, weight=1, reward=0)
    return cells


def learned(cells):
    return Learned(
        cells, lambda totals: (0, 0), {7: "seven"}, [], lambda table, slot: f"f{slot}" if table == 3 else None
    )


def page(cells, limit, cursor):
    made = CellsPage(cells, "home", GENERATIONS, limit, cursor)
    made.choose()
    made.read(learned(cells))
    return made.document()


def place(cell):
    arm = 7 if cell["arm"] == "seven" else int(cell["arm"], 16)
    return int(cell["table"], 16), arm, cell["slot"]


@given(places, st.integers(1, 90))
def test_pages_make_up_every_cell_of_the_tables_in_order(found, limit):
    cells, shown, cursor = table_of(found), [], None
    while not shown or cursor is not None:
        one = page(cells, limit, cursor)
        shown += one["cells"]
        cursor = one["cursor"]
        assert len(one["cells"]) == limit if cursor else len(one["cells"]) <= limit
        if not shown:
            break
    assert [place(cell) for cell in shown] == sorted(one for one in found if one[0] != 9)
    assert all(cell["weight_sq_sum"] == (cell["slot"] + 1) * 2.0**-30 for cell in shown)
    assert all(cell["feature"] == (f"f{cell['slot']}" if place(cell)[0] == 3 else None) for cell in shown)
    assert shown == cells_page(learned(cells), "home", GENERATIONS)["cells"]


def test_a_page_takes_only_the_chunks_that_it_needs():
    """Of 1000 chunks of one cell a page of 10 copies 11: those, and one that shows that there are more."""
    cells = table_of([(3, arm, 5) for arm in range(1000)])
    keys = cells.arrays.keys.rows[: cells.n_chunks]
    rows, more = choose(keys, TABLES, (3, 499, 5), limit=10)
    assert (keys[rows, 1].tolist(), more) == (list(range(500, 511)), True)
    assert choose(keys, TABLES, (3, 999, 5), limit=10)[0].size == 0


def test_cells_that_come_while_a_page_is_chosen_do_not_lengthen_it():
    cells = table_of([(3, 1, 0), (3, 1, 1)])
    made = CellsPage(cells, "home", GENERATIONS, limit=2)
    made.choose()
    for slot in (2, 3, 200):
        cells.add(3, 1, slot, weight_sq=slot + 1, weight=1, reward=0)
    made.read(learned(cells))
    first = made.document()
    rest = page(cells, 10, first["cursor"])
    assert [cell["slot"] for cell in first["cells"] + rest["cells"]] == [0, 1, 2, 3, 200]


def test_what_is_sent_is_the_document():
    for n in (0, 1, 2500):
        cells = table_of([(3, arm, 70) for arm in range(n)])
        made = CellsPage(cells, "home", GENERATIONS, 10_000)
        made.choose()
        made.read(learned(cells))
        assert json.loads(made.to_json()) == made.document()
        assert len(made.document()["cells"]) == n


def test_chunks_are_what_their_stored_values_decode_to():
    cells = table_of([(3, arm, slot) for arm in range(5) for slot in (1, 63, 64, 500)])
    rows = np.arange(cells.n_chunks, dtype=np.int32)[::-1].copy()
    for copied, decoded in zip(cells.chunks(rows), decode(cells.values(rows)), strict=True):
        assert copied.tobytes() == decoded.tobytes()
