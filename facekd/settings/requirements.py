"""What a model has to show: the grammar of --require."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from facekd.errors import UserError

Sense = Literal[">=", "<="]

SENSES: dict[str, Sense] = {
    "tar": ">=", "auc": ">=", "accuracy": ">=", "tpir": ">=", "rank": ">=",
    "fnmr": "<=", "fmr": "<=", "eer": "<=", "fnir": "<=", "fpir": "<=",
}  # fmt: skip
SEARCHED = ("tpir", "fnir", "fpir", "rank")  # measured by --identification, the others of pairs
AT = ("tar", "fnmr", "fmr", "tpir", "fnir", "fpir")  # that are read at a FAR, at a FPIR or at a threshold
FORM = re.compile(
    r"\s*(?P<rate>[a-z]+)(?P<rank>\d*)\s*(?:@\s*(?P<fixed>T?)(?P<at>[0-9.eE+-]*))?\s*"
    r"(?::(?P<column>[^=<>]+)=(?P<value>.+?))?\s*(?P<sense>>=|<=)\s*(?P<limit>[0-9.eE+-]+)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """The least or the most that a rate may be; its lower or its upper bound has to hold it."""

    text: str
    rate: str  # a key of SENSES
    sense: Sense
    limit: float
    far: float | None = None  # or FPIR, at whose threshold it is read
    fixed: str | None = None  # the name of a --threshold at which it is read; empty where there is one only
    rank: int = 0  # of "rank"
    column: str | None = None  # of a group
    value: str | None = None  # "*" of each group of the column

    @property
    def searched(self) -> bool:
        """Whether --identification measures it."""
        return self.rate in SEARCHED

    def held_by(self, bound: float | None) -> bool:
        """Whether the bound that decides holds it."""
        if bound is None:
            return False
        return bound >= self.limit if self.sense == ">=" else bound <= self.limit

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """The requirement in ``tar@1e-3>=0.95``, ``fnmr@1e-4:sex=female<=0.05``, ``fmr@T0.35<=1e-3`` or ``eer<=0.02``.

        Raises:
            UserError: another form, a rate that is held the wrong way round, or rates outside (0, 1].
        """
        found = FORM.fullmatch(text)
        rate = found["rate"].lower() if found else ""
        if found is None or rate not in SENSES or (rate == "rank") != bool(found["rank"]):
            raise _refused(text, _example(rate))
        sense, at, fixed = SENSES[rate], found["at"], bool(found["fixed"])
        try:
            limit = float(found["limit"])
            number = float(at) if at else None
        except ValueError:
            raise _refused(text, _example(rate)) from None
        rank = int(found["rank"] or 0)
        asked = number is not None and 0 < number <= 1
        proper = (asked or fixed) if rate in AT else at is None and not fixed
        group = found["column"] is not None
        if rate in ("fmr", "fpir") and not fixed:
            proper = proper and group and rate == "fmr"  # at its own list's threshold a FMR is what was asked
        if found["sense"] != sense or not 0 < limit <= 1 or not proper or (rate == "rank" and rank < 1):
            raise _refused(text, _example(rate))
        if group and rate not in ("tar", "fnmr", "fmr"):
            raise UserError(f"--require {text!r}: {rate} is not measured by groups; write tar, fnmr or fmr")
        column, value = (found["column"].strip(), found["value"].strip()) if group else (None, None)
        return cls(
            text.strip(), rate, sense, limit, None if fixed else number, at if fixed else None, rank, column, value
        )


def _refused(text: str, example: str) -> UserError:
    return UserError(f"--require {text!r}: not a requirement; {example}")


def _example(rate: str) -> str:
    others = {
        "fnmr": "the most that a FNMR may be at a FAR, as 'fnmr@1e-4<=0.05'",
        "fmr": "the most that a FMR may be at a --threshold or in a group, as 'fmr@T0.35<=1e-3', 'fmr@1e-3:a=*<=2e-3'",
        "eer": "the most that the EER may be, as 'eer<=0.02'",
        "auc": "the least that the AUC may be, as 'auc>=0.99'",
        "accuracy": "the least that the accuracy may be, as 'accuracy>=0.99'",
        "tpir": "the least TPIR at a FPIR, as 'tpir@1e-2>=0.95'",
        "fnir": "the most that a FNIR may be at a FPIR, as 'fnir@1e-2<=0.05'",
        "fpir": "the most that a FPIR may be at a --threshold, as 'fpir@T0.35<=0.01'",
        "rank": "the least share found up to a rank, as 'rank1>=0.95'",
    }
    return f"write {others.get(rate, 'the least TAR at a FAR')}" + ("" if rate in others else " as 'tar@1e-3>=0.95'")
