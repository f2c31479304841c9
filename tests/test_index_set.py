"""Compares `IndexSet` with a list."""

from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.index_set import IndexSet


@given(st.integers(1, 5000), st.data())
def test_pages_are_those_of_a_sorted_list(total: int, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, total - 1)))
    indexes = IndexSet(total)
    indexes.add(chosen)
    if data.draw(st.booleans()):
        indexes.invert()
        chosen = {*range(total)} - chosen
    first, limit = data.draw(st.integers(0, total)), data.draw(st.integers(1, 60))

    assert indexes.page(first, limit) == sorted(chosen)[first : first + limit]
    assert len(indexes) == len(chosen)
