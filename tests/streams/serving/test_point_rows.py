"""A lookup by sorted array answers as a dictionary would."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.serving import point_rows
from streams.serving.point_rows import PointRows

points = st.integers(0, 30)
changes = st.lists(
    st.tuples(points, st.integers(0, 9)) | st.lists(st.tuples(points, st.integers(1, 9)))
)


@settings(max_examples=200)
@given(changes, st.lists(points))
def test_it_answers_as_a_dictionary_would(changes, asked):
    """Whatever was put one by one, put together, moved, or taken out."""
    rows, known = PointRows(), {}
    for change in changes:
        if isinstance(change, tuple):
            rows.put(*change)
            known |= [change]
        else:
            rows.put_many([point for point, _ in change], [row for _, row in change])
            known |= change

    assert rows.rows(asked).tolist() == [known.get(point, 0) for point in asked]


def test_many_newcomers_are_sorted_in_and_still_found(monkeypatch):
    """Uploads never make the lookup slow for long."""
    monkeypatch.setattr(point_rows, "MAX_NEW", 3)
    rows = PointRows()
    for point in range(10):
        rows.put(point * 7, point + 1)

    assert rows.rows([63, 0, 1]).tolist() == [10, 1, 0]
