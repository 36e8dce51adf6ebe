"""Simulated runs as lines of marks."""

import pytest

from labctl.ui.plot import drawn

NEEDED = [2] * 40 + [8] * 40
LATE = [2] * 44 + [8] * 36


@pytest.mark.parametrize("fancy", [True, False])
def test_needed_then_each_run_with_marks_where_it_had_too_few(fancy):
    needed, exact, late, short, key = drawn(
        NEEDED, {"exact": NEEDED, "late": LATE}, 10, fancy=fancy
    )
    assert needed.split()[0] == "needed"
    assert exact.removeprefix("exact ").strip() == needed.removeprefix("needed").strip()
    assert late.split()[1][0] != late.split()[1][-1]
    assert 1 <= short.count("!") <= 5
    assert short.index("!") == 8 + 36  # where the need begins
    assert key == "0 to 10 nodes; ! too few; 1 decisions a column"
    assert max(map(len, (needed, exact, late, short))) <= 80


def test_a_long_name_leaves_room():
    lines = drawn(NEEDED * 10, {"schedule:rows=[a very long one]": NEEDED * 10}, 10, fancy=False)
    assert {len(line) for line in lines[:2]} == {80}
