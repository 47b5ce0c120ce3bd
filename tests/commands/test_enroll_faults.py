"""Enrollment under kills, beside another, on a full or read-only disk: no gallery is torn, nobody is lost or twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from people import NEAR, pattern, save, write_model, write_people
from reviewed import cases, saved

from facekd.cli import run
from facekd.commands.enroll import enroll
from facekd.errors import UserError
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.photos import PhotoTable

PEOPLE, PHOTOS = 30, 4
KILLS = 56

# Loads facekd once and forks: a fork begins to work at once, so that kills fall into the work and not into imports.
# The parent opens no gallery: LanceDB's threads would not come along.
KILLER = """
import json, os, random, signal, sys, time, traceback, warnings
from pathlib import Path
warnings.filterwarnings("ignore", message="lancedb fork support")
import facekd.deploy.thresholds, facekd.engines.local, facekd.faces.cropped, facekd.faces.turned, facekd.gallery.photos
import facekd.gallery.gallery, facekd.nets.files, onnxruntime, pyarrow.parquet, scipy.cluster.hierarchy
from facekd.commands import enroll
from facekd.enrollment import photos as enroll_photos
enroll_photos.PART, enroll_photos.GROUP, enroll.WRITTEN = 16, 20, 4
people, model, root, kills = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
random.seed(5)

def work(gallery):
    child = os.fork()
    if child == 0:
        try:
            os._exit(enroll.enroll(people, gallery, model=model, detector="none", quiet=True).exit_code)
        except BaseException:
            traceback.print_exc()
            os._exit(70)
    return child

def until_done(gallery):
    start = time.perf_counter()
    _, status = os.waitpid(work(gallery), 0)
    assert os.waitstatus_to_exitcode(status) == 1, status  # some photos are bad
    return time.perf_counter() - start

whole = until_done(root / "whole")
again = until_done(root / "whole")
killed = number = 0
while killed < kills:
    gallery = root / f"killed-{number}"
    for _ in range(9):
        child = work(gallery)
        time.sleep(random.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    until_done(gallery)
    number += 1
print(json.dumps({"kills": killed, "galleries": number, "whole": whole, "again": again}))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", {1e-3: NEAR})


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """People, some bad photos, some equal, one photo in the wrong folder, one person twice."""
    folder = write_people(tmp_path / "people", PEOPLE, PHOTOS)
    for number in range(0, PEOPLE, 7):
        (folder / f"p{number:02d}" / "bad.png").write_bytes(b"no photo")
        save(folder / f"p{number:02d}" / "same.png", pattern(number, 0))
    save(folder / "p03" / "stray.png", pattern(9, 90))
    save(folder / "twin" / "0.png", pattern(4, 90))
    return folder


def contents(where: Path) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """Everybody, every photo and the ledger; a person who is there twice is an error."""
    home = GalleryTable.open(where)
    everyone = [person for some in home.everyone() for person in some]
    ids = [person.person_id for person in everyone]
    assert len(set(ids)) == len(ids), "one person twice"
    people = {one.person_id: (one.template.tobytes(), one.sources, one.quality, dict(one.metadata)) for one in everyone}
    table = PhotoTable(home.place, home.meta.contract.dim).table.to_arrow()
    photos = sorted(table.to_pylist(), key=lambda row: (row["person_id"], row["source"]))
    rows = sorted(home.ledger().to_pylist(), key=lambda row: (row["person"] or "", row["source"]))
    return people, photos, rows


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_at_random_moments(people: Path, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLER, str(people), str(model), str(tmp_path), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert report["kills"] >= 50
    expected = contents(tmp_path / "whole")
    assert len(expected[0]) == PEOPLE - 1  # p04 and its twin are held back, and p03 is not
    assert len(expected[1]) == sum(len(list(one.iterdir())) for one in people.iterdir())
    for number in range(report["galleries"]):
        assert contents(tmp_path / f"killed-{number}") == expected, number


@pytest.mark.slow
def test_two_enrollments_at_once_lose_nobody(model: Path, tmp_path: Path) -> None:
    halves = [write_people(tmp_path / f"half-{first}", 20, 3, first=first) for first in (0, 20)]
    command = [sys.executable, "-m", "facekd", "enroll"]
    how = ["--model", str(model), "--detector", "none", "--quiet"]
    running = [
        subprocess.Popen([*command, half, tmp_path / "g", *how], stderr=subprocess.PIPE, text=True) for half in halves
    ]
    for half, process in zip(halves, running, strict=True):
        _, said = process.communicate(timeout=60)
        assert process.returncode in (0, 2), said
        if process.returncode == 2:
            assert "run this again" in said
            assert run(["enroll", str(half), str(tmp_path / "g"), *how]) == 0
    assert sorted(contents(tmp_path / "g")[0]) == [f"p{number:02d}" for number in range(40)]


def test_who_comes_second_is_told_to_retry(people: Path, model: Path, tmp_path: Path) -> None:
    enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)
    before = contents(tmp_path / "g")
    with (
        GalleryTable.open(tmp_path / "g").writing(),
        pytest.raises(UserError, match="another command is writing it; run this again when it is done"),
    ):
        enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)
    assert contents(tmp_path / "g") == before


FULL = """
import resource, sys
from facekd.cli import run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
sys.exit(run(["enroll", sys.argv[1], sys.argv[2], "--model", sys.argv[3], "--detector", "none", "--quiet"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 3_000, 20_000])
def test_a_file_that_can_not_grow_ends_the_run_with_a_sentence(
    people: Path, model: Path, tmp_path: Path, limit: int
) -> None:
    """The system refuses to write more than `limit` bytes into a file, as a full disk refuses."""
    command = [sys.executable, "-c", FULL, str(people), str(tmp_path / "g"), str(model), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "can't be written" in done.stderr
    assert "File too large" in done.stderr
    enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)  # space is there again
    enroll(people, tmp_path / "whole", model=model, detector="none", quiet=True)
    assert contents(tmp_path / "g") == contents(tmp_path / "whole")


@pytest.fixture
def disk(tmp_path: Path) -> Any:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(people: Path, model: Path, tmp_path: Path, disk: Path) -> None:
    with pytest.raises(UserError, match=r"can't be written.*No space left on device"):
        enroll(people, disk / "g", model=model, detector="none", quiet=True)
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    enroll(people, disk / "g", model=model, detector="none", quiet=True)
    enroll(people, tmp_path / "whole", model=model, detector="none", quiet=True)
    assert contents(disk / "g") == contents(tmp_path / "whole")


def test_a_read_only_gallery(people: Path, model: Path, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    enroll(people, disk / "g", model=model, detector="none", quiet=True)
    before = contents(disk / "g")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(UserError, match="can't be written"):
        enroll(people, disk / "g", model=model, detector="none", quiet=True)
    with pytest.raises(UserError, match="can't be"):
        enroll(people, disk / "new", model=model, detector="none", quiet=True)
    assert enroll(people, disk / "g", model=model, detector="none", dry_run=True, quiet=True).unchanged == PEOPLE - 1
    assert contents(disk / "g") == before


@pytest.mark.parametrize("left", [[], ["contract.json"], [".gallery.json.12ab34cd.part"], ["contract.json", "lock"]])
def test_what_a_kill_at_the_very_beginning_leaves_is_gone_on_with(
    people: Path, model: Path, tmp_path: Path, left: list[str]
) -> None:
    (tmp_path / "g").mkdir()
    for name in left:
        (tmp_path / "g" / name).write_text("{")
    assert enroll(people, tmp_path / "g", model=model, detector="none", quiet=True).written == PEOPLE - 1


def test_models_that_are_none_or_another(people: Path, model: Path, tmp_path: Path) -> None:
    enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)
    before = contents(tmp_path / "g")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[:150])
    other = write_model(tmp_path / "other.onnx", {1e-3: NEAR}, weights="others")
    no_contract = tmp_path / "contract.yaml"
    no_contract.write_text("dim: 48\nsize: 112\n")
    for gallery in ("g", "new"):
        with pytest.raises(UserError, match=r"cut\.onnx: not an ONNX network"):
            enroll(people, tmp_path / gallery, model=cut, detector="none", quiet=True)
        with pytest.raises(UserError, match="known to want size: 32"):
            enroll(people, tmp_path / gallery, model=model, contract=no_contract, detector="none", quiet=True)
    assert not (tmp_path / "new").exists()
    for dry in (True, False):
        with pytest.raises(UserError, match="can't be compared"):
            enroll(people, tmp_path / "g", model=other, detector="none", dry_run=dry, quiet=True)
    assert contents(tmp_path / "g") == before


def test_a_model_that_changes_under_its_name_is_noticed(people: Path, model: Path, tmp_path: Path) -> None:
    enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)
    write_model(model, weights="others")
    with pytest.raises(UserError, match="can't be compared"):
        enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)


def test_photos_that_go_or_can_not_be_read_meanwhile(people: Path, model: Path, tmp_path: Path) -> None:
    (people / "p00" / "folder.png").mkdir()
    (people / "p01" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(people / "p02" / "pipe.png")
    found = enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)
    failed = {source: status for source, status, _ in found.failed}
    assert failed["p01/gone.png"] == failed["p02/pipe.png"] == "unreadable"
    again = enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)
    assert again.embedded == 2  # they may be there by now
    assert again.statuses == found.statuses


# Decisions that are taken, remembered and done in several steps: the same gallery, copied, is killed within them.
DECIDER = (
    KILLER.split("whole = until_done")[0].replace(
        "quiet=True)", 'decisions=root / "decisions.csv", review=root / f"{gallery.name}.html", quiet=True)'
    )
    + """
import shutil
shutil.copytree(root / "first", root / "whole")
whole = until_done(root / "whole")
killed = number = 0
while killed < kills:
    gallery = root / f"killed-{number}"
    shutil.copytree(root / "first", gallery)
    for _ in range(8):
        child = work(gallery)
        time.sleep(random.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    until_done(gallery)
    number += 1
print(json.dumps({"kills": killed, "galleries": number, "whole": whole}))
"""
)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_kills_while_decisions_are_taken(people: Path, model: Path, tmp_path: Path) -> None:
    """Two ids that are one person, of which one was enrolled; photos left out and let in; an id that changed hands."""
    for number in (10, 11):  # they are enrolled, and their photos are another's in the night that follows
        save(people / f"p{number}" / "new.png", pattern(number, 95))
    save(people / "zed" / "0.png", pattern(73, 1))
    enroll(people, tmp_path / "first", model=model, detector="none", quiet=True)
    erased = contents(tmp_path / "first")[0]["zed"][0][:24]
    for photo in range(2):
        save(people / "again" / f"{photo}.png", pattern(6, 91 + photo))  # p06 again
        save(people / "other" / f"{photo}.png", pattern(7, 91 + photo))  # p07 again
    save(people / "p08" / "stray.png", pattern(70, 1))
    save(people / "p09" / "stray.png", pattern(71, 1))
    for path in (people / "p10").glob("*.png"):
        save(path, pattern(72, int(path.stem) if path.stem.isdecimal() else 95))
    save(people / "zed" / "0.png", pattern(12, 91))  # p12 again, both of them enrolled
    page = tmp_path / "review.html"
    enroll(people, tmp_path / "first", model=model, detector="none", review=page, quiet=True)
    choices = {"p03": "wrong", "p04": "same", "again": "same", "other": "different", "p08": "different", "p09": "same",
               "p10": "different", "zed": "same"}  # fmt: skip
    rows = cases(page)
    assert {row["person"] for row in rows} == set(choices)
    saved([{**row, "choice": choices[row["person"]]} for row in rows], tmp_path / "decisions.csv")
    command = [sys.executable, "-c", DECIDER, str(people), str(model), str(tmp_path), "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert report["kills"] >= 64
    assert any(erased in path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file())
    expected, decided = contents(tmp_path / "whole"), GalleryTable.open(tmp_path / "whole").decisions()
    assert decided.aliases() == {"twin": "p04", "again": "p06", "zed": "p12"}
    assert len(decided.rows) == 9
    assert {"twin", "again", "zed"}.isdisjoint(expected[0])
    assert "other" in expected[0]
    assert cases(tmp_path / "whole.html") == []
    for number in range(report["galleries"]):
        gallery = tmp_path / f"killed-{number}"
        assert contents(gallery) == expected, number
        assert GalleryTable.open(gallery).decisions() == decided, number
        assert not any(erased in path.read_bytes() for path in gallery.rglob("*") if path.is_file()), number
        assert (tmp_path / f"killed-{number}.html").read_bytes() == (tmp_path / "whole.html").read_bytes()
