"""The report of pairs: no headline on a marked number, both error rates side by side, readable groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facekd.core.names import NameColumn
from facekd.core.types import Embeddings, PairList, Rate, Scores
from facekd.evaluation.glossary import PAIRS, SEARCH
from facekd.evaluation.judged import JudgedModel
from facekd.evaluation.model_rates import judge_scores
from facekd.evaluation.page import Page
from facekd.evaluation.protocols import ListedPairs
from facekd.evaluation.report import pair_page
from facekd.evaluation.results import Judged, JudgedPairs, PairReport
from facekd.reports.document import Figure, Section, Table, to_markdown


def judged(groups: int = 0, fars: Sequence[float] = (0.1, 0.01)) -> Judged:
    """300 people of two photos, all genuine and 20,000 impostor pairs, in as many groups."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(300), 2)
    left, right = np.triu_indices(600, 1)
    left, right = person[left], person[right]
    other = rng.choice(np.flatnonzero(left != right), 20_000, replace=False)
    kept = np.concatenate([np.flatnonzero(left == right), other])
    left, right = left[kept], right[kept]
    same = left == right
    values = rng.normal(np.where(same, 0.5, 0.0), 0.13)
    names = NameColumn.of([str(k) for k in range(len(kept))])
    columns = {"site": NameColumn.of([f"site {k % groups:02d}" for k in left])} if groups else {}
    fold = (np.arange(len(kept)) % 5).astype(np.int16)
    listed = ListedPairs("l.csv", PairList(names, names, same, fold, columns), frozenset(), (left, right), {})

    def embed(_: object) -> Embeddings:
        raise AssertionError("nothing is embedded")

    model = JudgedModel("m", Path("m.onnx"), "id", embed, None)
    return judge_scores(model, Scores(values, same, names, names, fold), listed, fars)


def report(*models: Judged) -> PairReport:
    return PairReport(JudgedPairs("l.csv", None, "l.csv", {}), models, (), (), (), {})


def tables(sections: Sequence[Section]) -> dict[str, Table]:
    return {block.caption: block for section in sections for block in section.blocks if isinstance(block, Table)}


def test_the_headline_rests_on_no_marked_number_and_has_an_interval() -> None:
    one = judged()
    rate = one.rates.tar[1]
    lead = pair_page(report(one), None, "").lead
    assert f"{100 * rate.low:.2f} to {100 * rate.high:.2f}) at a FAR of 1e-2" in lead

    def worth(rates: tuple[Rate, ...]) -> tuple[Rate, ...]:
        return tuple(replace(each, evidence=5 / each.far_asked) for each in rates)  # bounds each FAR, estimates none

    weak = replace(one, rates=replace(one.rates, tar=worth(one.rates.tar)))
    page = pair_page(report(weak), None, "")
    low, high = one.rates.intervals["eer"]
    assert "too few impostor pairs to estimate any FAR asked" in page.lead
    assert f"the EER of m is {100 * one.rates.eer:.2f} % ({100 * low:.2f} to {100 * high:.2f})" in page.lead
    assert "†" in tables(page.sections)["Rates"].rows[0][1]  # it is in the table, marked


def test_both_error_rates_stand_beside_far_and_tar() -> None:
    one = judged()
    page = pair_page(report(one), None, "")
    found = tables(page.sections)
    assert found["Rates"].columns == ("model", "TAR at FAR 1e-1", "TAR at FAR 1e-2")  # what a narrow screen shows first
    assert found["Over all thresholds"].columns == ("model", "5-fold accuracy", "EER", "AUC", "d′")
    row = found["Operating points"].rows[1]
    rate = one.rates.tar[1]
    assert row[0] == "m"
    assert row[3].startswith(f"{100 * rate.far:.3g} % [")  # FMR reached
    assert row[4].startswith(f"{100 * (1 - rate.tar):.2f} % [{100 * (1 - rate.high):.2f}")  # FNMR
    assert [section.heading for section in page.sections] == ["Rates", "Curves", "Thresholds", "Terms"]
    text = to_markdown(title=page.title, lead=page.lead, sections=page.sections, repeat=_repeat())
    assert "Failure to acquire (FTA): 0 of" in text


def test_forty_groups_are_a_row_each() -> None:
    page = pair_page(report(judged(40)), None, "")
    table = tables(page.sections)["m by site"]
    assert len(table.rows) == 40
    assert table.columns == ("site", "FNMR", "FMR", "people", "genuine", "impostor")
    assert all(row[0].endswith("‡") for row in table.rows)  # seven or eight people each
    plots = [block for section in page.sections for block in section.blocks if isinstance(block, Figure)]
    assert any("FNMR of m by site" in plot.caption for plot in plots)


@pytest.mark.parametrize("terms", [PAIRS, SEARCH])
def test_the_glossary_has_ten_lines(terms: tuple[tuple[str, str], ...]) -> None:
    assert len(terms) == 10
    assert len({term for term, _ in terms}) == 10
    assert all(len(meaning) < 110 for _, meaning in terms)


def _repeat():
    from facekd.reports.document import Repeat

    return Repeat(("facekd verify",), {})


def test_no_name_in_a_report_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "model\x1b[31m\x9b5m"
    shown = Table("Rates", (name, "TAR"), ((name, "1"),), f"{name} is marked")
    page = Page("Verification", f"{name} finds all.", (shown,), (), (), {}, (f"of {name}",))
    page.publish({}, tmp_path, None, None, quiet=False)
    out = capsys.readouterr().out
    assert "is marked" in out
    assert "finds all." in out
    assert not {sign for sign in out if (ord(sign) < 32 and sign != "\n") or 0x7F <= ord(sign) < 0xA0}
