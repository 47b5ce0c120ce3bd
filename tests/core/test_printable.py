"""Numbers as people read them."""

from __future__ import annotations

import pytest

from facekd.core.printable import percent, percent_small, without_keys


def test_rates_as_people_read_them() -> None:
    assert [percent(0.98124), percent(0.5, 0), percent(None)] == ["98.12 %", "50 %", "–"]
    assert [percent_small(one) for one in (0, 1.234e-4, 0.0101, 1)] == ["0 %", "0.0123 %", "1.01 %", "100 %"]
    assert [percent_small(one, 2) for one in (0.00834, 0.456, 0.996, 1)] == ["0.83 %", "46 %", "100 %", "100 %"]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("s3://user:secret@bucket/x: no", "s3://…@bucket/x: no"),
        ("s3:/KEY:sec/ret@bucket/x", "s3:/…@bucket/x"),
        ("see 'https://u:secret@host/a?token=secret' there", "see 'https://…@host/a?…' there"),
        ("http://127.0.0.1:1/a?sig=secret", "http://127.0.0.1:1/a?…"),
        ("C:/photos/me@home?.jpg and a@b", "C:/photos/me@home?.jpg and a@b"),
    ],
)
def test_no_password_of_an_address_is_shown(told: str, shown: str) -> None:
    assert without_keys(told) == shown
