"""Which rules are known to put the chord above a lower slope that only jumps."""

from pathlib import Path

import pytest

from absolver import domains

HEAD = "domain d\n  lower <= x <= upper over neurons\n"


@pytest.mark.parametrize(
    ("rule", "known"),
    [
        ("relu: upper slope chord; lower slope if u > -l then 1 else 0", True),
        ("relu: upper slope chord; lower slope parameter a in [0, 1] start 0", True),
        ("relu: both slope chord", True),
        ("relu: upper slope chord; lower slope if u > -l then chord else 0", False),
        ("relu: upper slope chord; lower slope parameter a in [0, 1] start u / (u - l)", False),
        ("relu: upper slope 1; lower slope 0", False),
    ],
)
def test_a_chord_is_known_where_the_lower_slope_does_not_move_with_the_bounds(
    tmp_path: Path, rule: str, known: bool
) -> None:
    file = tmp_path / "d.dom"
    file.write_text(f"{HEAD}  {rule}\n")
    assert ("relu" in domains.load(str(file)).chords) is known
