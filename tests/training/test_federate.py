"""Training across sites: the average by its definition, and what sites can do wrong. Carried by hand, no Flower."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import contract_file, onnx_of, tiny_net, write_store

from facekd.core.run import read_metrics
from facekd.core.types import Array
from facekd.engines.answers import Ask, SiteAnswer
from facekd.errors import UserError
from facekd.nets.saved import MODEL
from facekd.recipes.federate import MOST, assign, average, by_site, federate_rounds
from facekd.recipes.site import TRAIN, Assignment, SiteFiles, do, place_crops, site_crops
from facekd.settings.federation import SharedStudent, SharedTeacher, SiteOptimization, Sites
from facekd.training.checkpoint import LAST

SITES = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SiteFiles:
    folder = tmp_path_factory.mktemp("sites")
    store = write_store(folder / "crops", people=8, photos=5)
    teacher = onnx_of(tiny_net(), folder / "net.onnx", batch=1)
    contract = contract_file(folder / "contract.yaml", dim=8, size=32)
    return SiteFiles((store,), teacher, contract, held_out=0.25, dealt_to=SITES)


@pytest.fixture(scope="module")
def assignment(place: SiteFiles) -> Assignment:
    sites = Sites(simulate=SITES, data=list(place.data), rounds=3, steps=2)
    shared = SharedTeacher(teacher=place.teacher, contract=place.contract)
    return assign(sites, shared, SharedStudent(net="mobilefacenet-half"), SiteOptimization(batch=4, lr=0.01), seed=0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by_hand(
    place: SiteFiles,
    assignment: Assignment,
    who: range,
    changed: Callable[[SiteAnswer, str, int], SiteAnswer | None] | None = None,
) -> Ask:
    """The sites one after another; `changed` does to an answer what a site, or the way to it, may do."""

    def ask(asked: str, arrays: Mapping[str, Array], step: int) -> list[SiteAnswer]:
        answers = []
        for number in who:
            try:
                found = do(asked, assignment.to_json(), step, arrays, place, number)
                answer: SiteAnswer | None = SiteAnswer(f"site {number + 1}", *found)
            except UserError as error:
                answer = SiteAnswer(f"site {number + 1}", problem=str(error))
            if changed is not None and number == SITES - 1 and answer is not None:
                answer = changed(answer, asked, step)
            if answer is not None:
                answers.append(answer)
        return answers

    return ask


def run(ask: Ask, assignment: Assignment, out: Path, least: int = 2) -> bytes:
    federate_rounds(ask, assignment, lambda net: {}, out, {"of": assignment.to_json()}, least, False)
    return (out / MODEL).read_bytes()


@pytest.fixture(scope="module")
def without(place: SiteFiles, assignment: Assignment, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The student of the first two sites."""
    out = tmp_path_factory.mktemp("without")
    return run(by_hand(place, assignment, range(SITES - 1)), assignment, out)


def test_the_average_is_each_sites_weights_by_its_crops() -> None:
    random = np.random.default_rng(0)
    counts = [100, 150, 250]
    before = {"net.w": random.normal(size=(3, 4)).astype(np.float32)}
    answers = [
        SiteAnswer(
            f"site {n}", {"net.w": before["net.w"] + random.normal(size=(3, 4)).astype(np.float32)}, {"crops": n}
        )
        for n in counts
    ]
    expected = sum(n / 500 * one.arrays["net.w"].astype(np.float64) for n, one in zip(counts, answers, strict=True))
    np.testing.assert_allclose(average(answers, before)["net.w"], expected, atol=1e-7)
    np.testing.assert_allclose(average(answers)["net.w"], expected, atol=1e-7)


def test_a_site_that_says_it_has_a_million_crops_counts_for_three_medians() -> None:
    zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    answers = [SiteAnswer("a", {"w": zero}, {"crops": 100.0}), SiteAnswer("b", {"w": zero}, {"crops": 100.0}),
               SiteAnswer("c", {"w": one}, {"crops": 1e6})]  # fmt: skip
    np.testing.assert_allclose(average(answers)["w"], MOST / (2 + MOST))


def test_a_site_moves_the_weights_three_medians_at_most() -> None:
    before = {"net.w": np.zeros(1, np.float32)}
    answers = [
        SiteAnswer(str(i), {"net.w": np.array([d], np.float32)}, {"crops": 1.0}) for i, d in enumerate((1, 1, 1000))
    ]
    np.testing.assert_allclose(average(answers, before)["net.w"], (1 + 1 + MOST) / 3)


def test_of_two_sites_neither_moves_the_weights_as_it_likes() -> None:
    """The median of two would be what the greedier of them says."""
    before = {"net.w": np.zeros(1, np.float32)}
    answers = [
        SiteAnswer("a", {"net.w": np.array([1], np.float32)}, {"crops": 10.0}),
        SiteAnswer("b", {"net.w": np.array([-1e30], np.float32)}, {"crops": 1e30}),
    ]
    share = MOST / (1 + MOST)
    np.testing.assert_allclose(average(answers, before)["net.w"], (1 - share) - share * MOST)


def test_what_norms_saw_is_bounded_apart_from_the_weights() -> None:
    """A site that moves no weight may still send what no norm ever saw."""
    before = {"net.w": np.zeros(1, np.float32), "net.n.running_mean": np.zeros(1, np.float32)}
    answers = [
        SiteAnswer(str(i), {"net.w": np.ones(1, np.float32), "net.n.running_mean": np.array([m], np.float32)},
                   {"crops": 1.0})
        for i, m in enumerate((1, 1, 1e30))
    ]  # fmt: skip
    found = average(answers, before, {"net.w"})
    np.testing.assert_allclose(found["net.w"], 1)
    np.testing.assert_allclose(found["net.n.running_mean"], (1 + 1 + MOST) / 3)


def lying(answer: SiteAnswer, asked: str, step: int) -> SiteAnswer:
    """Finite, and of the right shapes: weights, and what norms saw."""
    return replace(answer, arrays={name: np.full_like(value, 1e18 if "mean" in name else 1e37)
                                   for name, value in answer.arrays.items()})  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("who", [range(SITES), range(1, SITES)])
def test_a_site_that_sends_huge_numbers_spoils_no_student(
    place: SiteFiles, assignment: Assignment, tmp_path: Path, who: range
) -> None:
    run(by_hand(place, assignment, who, lying), assignment, tmp_path)
    told = load_file(tmp_path / MODEL)
    assert max(float(value.abs().max()) for value in told.values()) < 1e4
    assert read_metrics(tmp_path)[-1]["sites"] == len(who)


def test_each_person_is_at_one_site_and_nobody_is_lost(place: SiteFiles) -> None:
    parts = [site_crops(place, number).train for number in range(SITES)]
    people = [set(part.identities) for part in parts]
    assert all(one.isdisjoint(other) for i, one in enumerate(people) for other in people[:i])
    assert sorted(sum((part.ids for part in parts), ())) == sorted(place_crops(place).train.ids)
    assert max(map(len, people)) - min(map(len, people)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda answer, asked, step: None, ""),
        (lambda answer, asked, step: SiteAnswer(answer.site, problem="it broke"), "site 3 is left out: it broke"),
        (
            lambda answer, asked, step: replace(answer, arrays={**answer.arrays, "net.bad": np.zeros(1, np.float32)}),
            "site 3 is left out: its weights are of another network",
        ),
        (
            lambda answer, asked, step: replace(
                answer, arrays={name: value[..., None] for name, value in answer.arrays.items()}
            ),
            "site 3 is left out: its weights are of another network",
        ),
        (
            lambda answer, asked, step: replace(
                answer, arrays={name: np.full_like(value, np.nan) for name, value in answer.arrays.items()}
            ),
            "site 3 is left out: its weights are no finite numbers",
        ),
        (
            lambda answer, asked, step: replace(answer, numbers={**answer.numbers, "crops": -4.0}),
            "site 3 is left out: it says that it has -4 crops",
        ),
        (
            lambda answer, asked, step: replace(answer, numbers={**answer.numbers, "loss": math.nan}),
            "site 3 is left out: of what it measured, loss is nan, no number",
        ),
        (
            lambda answer, asked, step: replace(answer, numbers={**answer.numbers, "held_out_tar@0.01": 7.0}),
            "site 3 is left out: of what it measured, held_out_tar@0.01 is 7.0, not within 0 and 1",
        ),
        (
            lambda answer, asked, step: replace(
                answer, arrays={n: -abs(v) - 1 if "running_var" in n else v for n, v in answer.arrays.items()}
            ),
            "site 3 is left out: of what its norms saw, a variance is below zero",
        ),
        (
            lambda answer, asked, step: replace(answer, numbers={**answer.numbers, "loss": 1.7e308}),
            "site 3 is left out: it measured something else than it was asked for",
        ),
        (
            lambda answer, asked, step: replace(answer, numbers={**answer.numbers, "held_out\x1b[31m": 0.5}),
            "site 3 is left out: it measured something else than it was asked for",
        ),
    ],
)  # fmt: skip
def test_a_site_that_answers_amiss_is_as_one_that_is_not_there(
    place: SiteFiles, assignment: Assignment, without: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    changed: Any, said: str,
) -> None:  # fmt: skip
    assert run(by_hand(place, assignment, range(SITES), changed), assignment, tmp_path / "amiss") == without
    lines = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert all(line.startswith(said) for line in lines)
    assert bool(lines) == bool(said)
    assert [row["sites"] for row in read_metrics(tmp_path / "amiss")] == [2, 2, 2]


@pytest.mark.slow
def test_a_site_that_leaves_midway_or_changes_its_number_of_crops(
    place: SiteFiles, assignment: Assignment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        by_hand(place, assignment, range(SITES), lambda a, _, step: a if step == 0 else None),
        assignment,
        tmp_path / "l",
    )
    assert [row["sites"] for row in read_metrics(tmp_path / "l")] == [3, 2, 2]

    def grown(answer: SiteAnswer, asked: str, step: int) -> SiteAnswer:
        return replace(answer, numbers={**answer.numbers, "crops": answer.numbers["crops"] + step})

    run(by_hand(place, assignment, range(SITES), grown), assignment, tmp_path / "g")
    assert [row["sites"] for row in read_metrics(tmp_path / "g")] == [3, 2, 2]
    assert "site 3 is left out: it said that it has 10 crops, and now says 12" in capsys.readouterr().err


def test_a_round_says_how_each_site_does(
    place: SiteFiles, assignment: Assignment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As real sites do, each holds people of its own out; a sum of sites says nothing of one."""
    own = replace(place, dealt_to=0)
    run(by_hand(own, assignment, range(2)), replace(assignment, rounds=1), tmp_path / "own")
    first, *lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"round 1 of 1: 2 sites, loss [\d.]+, held out: (TAR .* at FAR 0.01, )?EER [\d.]+ %", first)
    for line, name in zip(lines, ("site 1", "site 2"), strict=False):
        assert re.fullmatch(rf"  {name}: 30 crops, loss [\d.]+, its own held out: .*EER [\d.]+ %", line)
    together = SiteAnswer("the sum", numbers={"crops": 20.0, "loss": 3.0}, sites=3)
    assert by_site([together], []) == []


@pytest.mark.slow
def test_too_few_sites_end_the_run_and_the_same_command_goes_on(
    place: SiteFiles, assignment: Assignment, tmp_path: Path
) -> None:
    whole = run(by_hand(place, assignment, range(SITES)), assignment, tmp_path / "whole")
    ask = by_hand(place, assignment, range(SITES))
    with pytest.raises(UserError, match=r"round 2 has usable weights of 0 of the 2 sites .* goes on after round 1"):
        run(lambda asked, arrays, step: ask(asked, arrays, step) if step == 0 else [], assignment, tmp_path / "cut")
    assert run(ask, assignment, tmp_path / "cut") == whole
    assert [row["step"] for row in read_metrics(tmp_path / "cut")] == [1, 2, 3]
    with pytest.raises(UserError, match="is of another run"):
        run(ask, replace(assignment, seed=1), tmp_path / "cut")


def test_a_site_refuses_what_it_can_not_do(place: SiteFiles, assignment: Assignment) -> None:
    def ask(text: str, place: SiteFiles = place) -> None:
        do(TRAIN, text, 0, {}, place)

    with pytest.raises(UserError, match="speaks form 2 of federated training and this site form 1"):
        ask(replace(assignment, form=2).to_json())
    with pytest.raises(UserError, match=r"is model .*, and all sites learn from model 0123"):
        ask(replace(assignment, teacher="0123").to_json())
    with pytest.raises(UserError, match="the weights that came are of another network"):
        ask(assignment.to_json())


def test_an_app_says_what_each_side_runs_and_holds_what_all_do(
    place: SiteFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("flwr", reason="Flower is not installed: pip install 'facekd[federated]'")
    from facekd.commands.federate import federate

    federate(app=tmp_path / "app", teacher=place.teacher, contract=place.contract, rounds=7, out=tmp_path / "run")
    said = capsys.readouterr().err
    for words in (
        "flower-superlink",
        "flower-supernode",
        "[superlink.sites], address =",
        "flwr run",
        " sites --stream",
    ):
        assert words in said
    project = tomllib.loads((tmp_path / "app" / "pyproject.toml").read_text())
    config = project["tool"]["flwr"]["app"]["config"]
    assert Assignment.from_json(config["assignment"]).rounds == 7
    assert config["out"] == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"simulate": 3, "app": "app", "data": ["c"]}, "plays sites here, --app app is for real ones"),
        ({"simulate": 3}, "deals out the people of --data"),
        ({"app": "app", "data": ["c"]}, "real sites name their own crops"),
        ({"simulate": 2, "data": ["c"], "secure": True}, "three or more"),
        ({"simulate": 4, "data": ["c"], "secure": True, "least": 2}, "with --secure use 3 or more"),
        ({"simulate": 2, "data": ["c"], "least": 3}, "is more than the 2 sites"),
        ({"simulate": 2, "data": ["c"], "rounds": 0}, "--rounds 0"),
        ({"simulate": 0, "data": ["c"]}, "--simulate 0: use 2 or more"),
        ({"app": "app", "sites": -1}, "--sites -1: use 2 or more"),
    ],
)
def test_settings_that_can_not_be(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Sites(**asked)


def test_a_term_on_labels_is_refused(place: SiteFiles) -> None:
    shared = SharedTeacher(teacher=place.teacher, contract=place.contract)
    with pytest.raises(UserError, match="--term labels: needs head, labels"):
        assign(Sites(), shared, SharedStudent(), SiteOptimization(term=["labels=1"]), seed=0)


@pytest.fixture(scope="module")
def whole(place: SiteFiles, assignment: Assignment, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The student of all sites, carried by hand."""
    return run(by_hand(place, assignment, range(SITES)), assignment, tmp_path_factory.mktemp("whole"))


def flags(place: SiteFiles, rounds: int = 3) -> list[str]:
    words = (
        f"--simulate {SITES} --held-out 0.25 --net mobilefacenet-half --rounds {rounds} --steps 2 --batch 4 --lr 0.01"
    )
    return [*words.split(), "--data", str(place.data[0]), "--teacher", str(place.teacher), "--contract",
            str(place.contract)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's and Flower's own
def test_flower_carries_the_same_and_a_killed_run_goes_on(place: SiteFiles, whole: bytes, tmp_path: Path) -> None:
    pytest.importorskip("flwr", reason="Flower is not installed: pip install 'facekd[federated]'")
    line = [sys.executable, "-m", "facekd", "federate", *flags(place), "--out", str(tmp_path / "run")]
    job = subprocess.Popen(line, stderr=subprocess.PIPE)
    while job.poll() is None and not (tmp_path / "run" / LAST).exists():
        time.sleep(0.05)
    assert job.poll() is None, job.stderr and job.stderr.read()
    job.kill()
    job.communicate()
    done = len(read_metrics(tmp_path / "run"))
    assert 1 <= done < 3
    again = subprocess.run(line, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "goes on after round" in again.stderr
    assert (tmp_path / "run" / MODEL).read_bytes() == whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_secure_aggregation_gives_nearly_the_same(place: SiteFiles, assignment: Assignment, tmp_path: Path) -> None:
    """Here each site has as many crops, so that they count alike either way; one round, for later ones enlarge what
    rounding leaves."""
    once = replace(assignment, rounds=1)
    whole = run(by_hand(place, once, range(SITES)), once, tmp_path / "whole")
    pytest.importorskip("flwr", reason="Flower is not installed: pip install 'facekd[federated]'")
    (tmp_path / "whole.safetensors").write_bytes(whole)
    line = [sys.executable, "-m", "facekd", "federate", *flags(place, 1), "--secure", "--out", str(tmp_path / "run")]
    subprocess.run(line, capture_output=True, text=True, check=True)
    ours, plain = load_file(tmp_path / "run" / MODEL), load_file(tmp_path / "whole.safetensors")
    assert ours.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(
            ours[name], value, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
