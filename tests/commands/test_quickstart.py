"""The whole line on a few people, as a user runs it."""

from __future__ import annotations

import html
import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from facekd.commands.quickstart import quickstart
from facekd.commands.synth import synth
from facekd.core.types import Rate
from facekd.errors import UserError
from facekd.evaluation.quickstart import headline
from facekd.rates.retention import Closed

pytestmark = pytest.mark.slow

PEOPLE, PHOTOS = 14, 6
VIEWS = {"teacher_views": 128, "student_views": 64}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip with a folder for each person, and one photo that shows nobody."""
    folder = tmp_path_factory.mktemp("people")
    synth(folder, people=PEOPLE, photos=PHOTOS, seed=3, quiet=True)
    (folder / "photos" / "person-0001" / "broken.jpg").write_bytes(b"no image")
    path = folder / "people.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for photo in sorted((folder / "photos").rglob("*.jpg")):
            archive.write(photo, Path("people") / photo.relative_to(folder / "photos"))
    return path


def command(people: Path, out: Path) -> list[str | Path]:
    """A process of its own, as a user has: how many threads this one computes with is up to the tests before."""
    views = [f"--{name.replace('_', '-')}={value}" for name, value in VIEWS.items()]
    return [sys.executable, "-m", "facekd", "quickstart", "--photos", people, "--out", out, "--quiet", *views]


@pytest.fixture(scope="module")
def finished(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "quick"
    told = subprocess.run(
        [word for word in command(people, out) if word != "--quiet"], check=True, stderr=subprocess.PIPE, text=True
    )
    (out.parent / "told.txt").write_text(told.stderr)
    return out


def test_summary_has_four_rows_with_rates_and_costs(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary["rows"]) == ["teacher", "student_alone", "student", "student_onnx"]
    for row in summary["rows"].values():
        assert {"eer", "auc", "accuracy", "tar", "parameters", "macs", "bytes", "seconds"} <= set(row)
        assert 0 <= row["eer"] <= 1
        assert row["seconds"] > 0
    student, exported = summary["rows"]["student"], summary["rows"]["student_onnx"]
    assert student["parameters"] == pytest.approx(0.993e6, rel=1e-3)
    assert student["macs"] == pytest.approx(221e6, rel=1e-2)
    assert exported["auc"] == pytest.approx(student["auc"], abs=1e-4)
    assert summary["total_seconds"] == pytest.approx(sum(summary["seconds"].values()))
    assert summary["align"] == {"ok": PEOPLE * PHOTOS, "unreadable": 1}


def test_the_headline_is_the_reports_and_has_intervals_where_the_people_show_the_rate(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    page = html.unescape((finished / "report.html").read_text())
    assert " ".join(summary["headline"].split()) in " ".join(page.split())  # some of the page's spaces don't break
    rates = {name: {rate["far_asked"]: rate for rate in row["tar"]} for name, row in summary["rows"].items()}
    at = summary["gap_closed"]["far_asked"]
    for row in rates.values():
        if row[at]["tar"] is not None:
            shown = f"{100 * row[at]['tar']:.1f} % ({100 * row[at]['low']:.1f} to {100 * row[at]['high']:.1f})"
            assert shown in summary["headline"]


def test_a_headline_gives_each_rate_and_the_share_of_the_gap_with_its_interval() -> None:
    def rates(tar: float, low: float, high: float) -> Any:
        return SimpleNamespace(tar=[Rate(0.01, 0.01, tar, 0.5, 300, 3000, low, high)])

    models = {"teacher": rates(0.8, 0.7, 0.88), "student_alone": rates(0.4, 0.3, 0.5), "student": rates(0.7, 0.6, 0.8)}
    closed = Closed(0.01, 0.4, 0.2, 0.6, 0.75, 0.5, 1.02)
    told = headline(models, closed, 30)
    assert "On 30 people" in told
    assert "accepts 70.0 % (60.0 to 80.0) of genuine pairs at FAR 1e-2" in told
    assert "40.0 % (30.0 to 50.0), the teacher 80.0 % (70.0 to 88.0): 75 % of the gap is closed (50 to 102)." in told
    nothing = headline(models, replace(closed, share=None, low=None, high=None), 30)
    assert nothing.endswith("These people can't tell the teacher's lead from nothing.")


def test_each_step_is_announced_with_its_number(finished: Path) -> None:
    told = (finished.parent / "told.txt").read_text()
    numbers = [line.split("]")[0] for line in told.splitlines() if line.startswith("[")]
    assert numbers == [f"[{step} of 7" for step in range(1, 8)]  # the photos are given, so none are drawn


def test_nobody_is_both_trained_on_and_judged(finished: Path) -> None:
    from facekd.crops.read import read_crops
    from facekd.nets.heads import HEAD, load_head

    crops = read_crops(finished / "crops")
    who = dict(zip(crops.ids, crops.identities, strict=True))
    lines = (finished / "pairs.csv").read_text().splitlines()[1:]
    judged = {who[crop] for line in lines for crop in line.split(",")[:2]}
    trained = set(load_head(finished / "teacher" / HEAD).identities)
    assert judged
    assert trained
    assert judged | trained == set(who.values())
    assert not judged & trained


def test_second_run_does_nothing_and_says_so(finished: Path, people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    start = time.monotonic()
    quickstart(photos=people, out=finished, **VIEWS)
    assert "nothing has changed" in capsys.readouterr().err
    assert time.monotonic() - start < 10
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")} == before


def test_other_settings_do_not_enter_a_finished_run(finished: Path, people: Path) -> None:
    with pytest.raises(UserError, match="student_views was 64 and is 96"):
        quickstart(photos=people, out=finished, teacher_views=128, student_views=96, quiet=True)


def test_new_photos_do_not_enter_a_finished_run(finished: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "quick"
    shutil.copytree(finished, out)
    more = tmp_path / "people.zip"
    shutil.copy(people, more)
    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr("people/person-0002/more.jpg", b"no image either")
    config = yaml.safe_load((out / "run.yaml").read_text())
    (out / "run.yaml").write_text(yaml.safe_dump({**config, "photos": str(more)}))
    with pytest.raises(UserError, match="1 photos are new"):
        quickstart(photos=more, out=out, quiet=True, **VIEWS)


def test_a_killed_run_ends_as_an_undisturbed_one(finished: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "quick"
    process = subprocess.Popen(command(people, out))
    deadline = time.monotonic() + 120
    while not (out / "teacher" / "model.safetensors").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "summary.json").exists()
    subprocess.run(command(people, out), check=True)
    killed, whole = (json.loads((path / "summary.json").read_text())["rows"] for path in (out, finished))
    for name in ("teacher", "student_alone", "student"):
        assert killed[name]["model_id"] == whole[name]["model_id"], name
        assert killed[name]["tar"] == whole[name]["tar"], name
