"""Numbers as people read them."""

from __future__ import annotations

from facekd.core.printable import percent, percent_small


def test_rates_as_people_read_them() -> None:
    assert [percent(0.98124), percent(0.5, 0), percent(None)] == ["98.12 %", "50 %", "–"]
    assert [percent_small(one) for one in (0, 1.234e-4, 0.0101, 1)] == ["0 %", "0.0123 %", "1.01 %", "100 %"]
    assert [percent_small(one, 2) for one in (0.00834, 0.456, 0.996, 1)] == ["0.83 %", "46 %", "100 %", "100 %"]
