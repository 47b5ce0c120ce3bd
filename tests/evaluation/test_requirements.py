"""--require: its grammar, the bound that decides, groups, and thresholds fixed before with their drift."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facekd.core.types import Array, Embeddings, PairList, Scores
from facekd.errors import UserError
from facekd.evaluation.fixed import Fixed, drift, fixed_thresholds, judge_fixed
from facekd.evaluation.judged import JudgedModel
from facekd.evaluation.model_rates import judge_scores
from facekd.evaluation.protocols import ListedPairs
from facekd.evaluation.requirements import check, check_groups, checks
from facekd.evaluation.results import ModelRates
from facekd.settings.evaluation import AskedRates
from facekd.settings.requirements import Requirement


@pytest.fixture(scope="module")
def pairs() -> tuple[Array, Array, Array, Array]:
    """40 people of 4 photos: all genuine pairs, 4,000 impostor pairs, overlapping a little."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 4)
    left, right = np.triu_indices(160, 1)
    left, right = person[left], person[right]
    kept = np.concatenate(
        [np.flatnonzero(left == right), rng.choice(np.flatnonzero(left != right), 4000, replace=False)]
    )
    left, right = left[kept], right[kept]
    same = left == right
    return rng.normal(np.where(same, 0.5, 0.0), 0.13), same, left, right


@pytest.fixture(scope="module")
def rates(pairs: tuple[Array, Array, Array, Array]) -> ModelRates:
    values, same, left, right = pairs
    names = tuple(map(str, range(len(values))))
    fold = (np.arange(len(values)) % 5).astype(np.int16)
    sex = tuple("odd" if one % 2 else "even" for one in left)
    listed = ListedPairs("l.csv", PairList(names, names, same, fold, {"sex": sex}), frozenset(), (left, right), {})

    def embed(_: object) -> Embeddings:
        raise AssertionError("nothing is embedded")

    fixed = [Fixed("0.3", 0.3), Fixed("1e-2", 0.31, 1e-2, (0.01, 0.008, 0.013))]
    model = JudgedModel("m", Path("m.onnx"), "id", embed, None)
    return judge_scores(model, Scores(values, same, names, names, fold), listed, [0.1, 0.01], fixed=fixed).rates


@pytest.mark.parametrize(
    ("text", "rate", "sense", "limit", "far", "fixed", "rank", "group"),
    [
        ("tar@1e-3>=0.95", "tar", ">=", 0.95, 1e-3, None, 0, None),
        (" FNMR @ 1e-4 <= 0.05 ", "fnmr", "<=", 0.05, 1e-4, None, 0, None),
        ("eer<=0.02", "eer", "<=", 0.02, None, None, 0, None),
        ("auc>=0.99", "auc", ">=", 0.99, None, None, 0, None),
        ("accuracy>=1", "accuracy", ">=", 1.0, None, None, 0, None),
        ("fmr@T<=1e-3", "fmr", "<=", 1e-3, None, "", 0, None),
        ("fnmr@T0.35<=0.1", "fnmr", "<=", 0.1, None, "0.35", 0, None),
        ("tar@1e-3:sex=female>=0.9", "tar", ">=", 0.9, 1e-3, None, 0, ("sex", "female")),
        ("fmr@1e-3:age band=0 to 2<=0.9", "fmr", "<=", 0.9, 1e-3, None, 0, ("age band", "0 to 2")),
        ("tpir@1e-2>=0.9", "tpir", ">=", 0.9, 1e-2, None, 0, None),
        ("fnir@1e-2<=0.1", "fnir", "<=", 0.1, 1e-2, None, 0, None),
        ("rank1>=0.9", "rank", ">=", 0.9, None, None, 1, None),
        ("rank20>=0.9", "rank", ">=", 0.9, None, None, 20, None),
        ("fpir@T0.4<=0.01", "fpir", "<=", 0.01, None, "0.4", 0, None),
    ],
)
def test_the_grammar(text, rate, sense, limit, far, fixed, rank, group) -> None:
    found = Requirement.parse(text)
    assert (found.rate, found.sense, found.limit, found.far, found.fixed, found.rank) == (
        rate, sense, limit, far, fixed, rank,
    )  # fmt: skip
    assert (found.column, found.value) == (group or (None, None))


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("fnmr@1e-3>=0.05", "'fnmr@1e-4<=0.05'"),
        ("fnmr<=0.05", "'fnmr@1e-4<=0.05'"),
        ("fnmr@1e-3<=0", "'fnmr@1e-4<=0.05'"),
        ("eer@1e-3<=0.05", "'eer<=0.02'"),
        ("eer>=0.05", "'eer<=0.02'"),
        ("auc<=0.99", "'auc>=0.99'"),
        ("fmr@1e-3<=1e-3", "'fmr@T0.35<=1e-3'"),
        ("fpir@1e-3<=1e-3", "'fpir@T0.35<=0.01'"),
        ("rank>=0.9", "'rank1>=0.95'"),
        ("rank0>=0.9", "'rank1>=0.95'"),
        ("tpir>=0.9", "'tpir@1e-2>=0.95'"),
        ("tar@1e-3:sex>=0.9", "'tar@1e-3>=0.95'"),
        ("tar@nan>=0.9", "'tar@1e-3>=0.95'"),
        ("precision>=0.9", "'tar@1e-3>=0.95'"),
    ],
)
def test_what_is_none_is_told_with_an_example(text: str, example: str) -> None:
    with pytest.raises(UserError, match="not a requirement") as refused:
        Requirement.parse(text)
    assert example in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_bound_decides_and_is_said(rates: ModelRates) -> None:
    tar = rates.tar[1]
    low, high = rates.intervals["eer"]
    for text, bound in (
        ("tar@1e-2>={}", tar.low), ("fnmr@1e-2<={}", 1 - tar.low), ("eer<={}", high),
        ("auc>={}", rates.intervals["auc"][0]), ("accuracy>={}", rates.intervals["accuracy"][0]),
        ("fmr@T0.3<={}", rates.fixed[0].false[2]), ("fnmr@T1e-2<={}", rates.fixed[1].missed[2]),
    ):  # fmt: skip
        least = ">=" in text
        for limit, met in ((bound * (0.999 if least else 1.001), True), (bound * (1.001 if least else 0.999), False)):
            found = check(Requirement.parse(text.format(f"{limit:.9f}")), rates)
            assert found.met is met, found.line
            assert ("lower bound" if least else "upper bound") in found.line
            assert (found.low if least else found.high) == pytest.approx(bound)
    assert low < rates.eer < high


def test_of_each_group_one_answer(rates: ModelRates) -> None:
    found = checks(Requirement.parse("tar@1e-1:sex=*>=0.5"), rates)
    assert [one.group for one in found] == ["sex even", "sex odd"]
    groups = rates.groups["sex"]
    assert [one.low for one in found] == [groups[name].tar[0].low for name in ("even", "odd")]
    assert all(one.line.endswith(" (marked: 20 people, fewer than 30)") for one in found)
    (one,) = checks(Requirement.parse("fmr@1e-1:sex=odd<=0.5"), rates)
    assert one.high == groups["odd"].tar[0].far_high
    assert "sex odd" in one.line
    (one,) = checks(Requirement.parse("fnmr@T0.3:sex=odd<=0.5"), rates)
    assert one.high == groups["odd"].fixed[0].missed[2]


@pytest.mark.parametrize("text", ["tar@1e-1:age=1>=0.5", "tar@1e-1:sex=x>=0.5"])
def test_groups_that_are_not_there_are_refused(rates: ModelRates, text: str) -> None:
    with pytest.raises(UserError, match=r"sex|even, odd"):
        check_groups([Requirement.parse(text)], rates.groups)


def test_a_fixed_threshold_counts_what_it_accepts(pairs: tuple[Array, Array, Array, Array], rates: ModelRates) -> None:
    values, same, _, _ = pairs
    one = rates.fixed[0]
    assert one.false[0] == (values[~same] >= 0.3).mean()
    assert one.missed[0] == pytest.approx((values[same] < 0.3).mean())
    assert one.false[1] < one.false[0] < one.false[2]
    assert one.missed[1] < one.missed[0] < one.missed[2]
    assert (one.asked, one.drift) == (None, None)
    (alone,) = judge_fixed([Fixed("0.3", 0.3)], values, same, None)
    assert alone.false[0] == one.false[0]


def test_drift_is_told_where_it_is_more_than_chance() -> None:
    there = (0.01, 0.008, 0.0125)
    assert drift(there, (0.011, 0.009, 0.0135)) == "agrees"
    assert drift(there, (0.02, 0.016, 0.025)) == "higher"
    assert drift(there, (0.004, 0.003, 0.0055)) == "lower"
    assert drift((0.01, 0.01, 0.01), (0.012, 0.0101, 0.014)) == "higher"  # where only what was asked is known


def test_a_number_or_the_file_of_a_run(tmp_path: Path) -> None:
    assert fixed_thresholds(0.35, ["any"], "thresholds") == [Fixed("0.35", 0.35)]
    path = tmp_path / "t.json"
    entry = {"threshold": 0.4, "low": 0.38, "high": 0.42, "far": 0.001, "support": "estimate"}
    models = {"id": {"name": "m", "thresholds": {"1e-3": entry, "1e-1": entry}, "fpir": {"1e-2": {"threshold": 0.6}}}}
    path.write_text(json.dumps({"pairs": {}, "models": models}))
    first, second = fixed_thresholds(path, ["id"], "thresholds")
    assert (first.name, second) == ("1e-1", Fixed("1e-3", 0.4, 1e-3, (0.001, 0.001, 0.001)))
    assert fixed_thresholds(path, ["id"], "fpir") == [Fixed("1e-2", 0.6, 1e-2, None)]
    first, _ = fixed_thresholds(path, ["flipped", "id"], "thresholds")
    assert first.name == "1e-1 without --flip"
    with pytest.raises(UserError, match=r"holds no threshold of model other, only of m \(id\)"):
        fixed_thresholds(path, ["other"], "thresholds")
    for text in ('{"models": 3}', '[1]', '{"models": {"id": {"thresholds": {"x": {}}}}}',
                 '{"models": {"id": {"thresholds": {"1e-3": {"threshold": null}}}}}',
                 '{"models": {"id": 3}}', '{"models": {"id": {"thresholds": {"2": {"threshold": 1}}}}}'):  # fmt: skip
        path.write_text(text)
        with pytest.raises(UserError, match=r"not a thresholds\.json"):
            fixed_thresholds(path, ["id"], "thresholds")
    path.write_text('{"models": {"id": {"thresholds": {}}}}')
    with pytest.raises(UserError, match=r"holds no threshold by FPIR; .* --identification"):
        fixed_thresholds(path, ["id"], "fpir")


def test_a_fixed_threshold_has_to_be_given() -> None:
    with pytest.raises(UserError, match="give it with --threshold"):
        AskedRates(require=["fmr@T<=0.1"])
    assert AskedRates(require=["fmr@T<=0.1"], threshold=0.4).threshold == 0.4
    assert AskedRates(threshold="t.json").threshold == Path("t.json")
    with pytest.raises(UserError, match="is no score"):
        AskedRates(threshold=float("nan"))
