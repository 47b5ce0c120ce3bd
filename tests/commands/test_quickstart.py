"""The whole line on a few people, as a user runs it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from facekd.commands.quickstart import quickstart
from facekd.commands.synth import synth
from facekd.errors import UserError

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
    subprocess.run(command(people, out), check=True)
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
