"""Kills, a full disk and two commands at once: a store is never torn, and going on equals an undisturbed run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facekd.commands.align import align
from facekd.crops.read import read_crops
from facekd.crops.store import CropStore
from facekd.errors import UserError

PHOTOS = 240
KILLS = 32

# Loads facekd once and forks: a fork begins to work at once, so that kills fall into the work and not into imports.
KILLER = """
import json, os, random, resource, signal, sys, time
from pathlib import Path
import cv2, numpy, pyarrow.parquet, facekd.crops.store, facekd.engines.local, facekd.faces.align, facekd.faces.cropped
import facekd.faces.turned, facekd.photos.decode, facekd.photos.find
from facekd.commands import align
align.PART = 16
photos, root, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
random.seed(4)

def work(out):
    child = os.fork()
    if child == 0:
        os._exit(align.align(photos, out, detector="none", quiet=True).exit_code)
    return child

def until_done(out):
    start = time.perf_counter()
    _, status = os.waitpid(work(out), 0)
    assert os.waitstatus_to_exitcode(status) == 1, status  # some photos are bad
    return time.perf_counter() - start

whole = until_done(root / "whole")
report, number = [], 0
while sum(map(len, report)) < kills:
    out, killed = root / f"killed-{number}", []
    for _ in range(8):
        child = work(out)
        time.sleep(random.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed.append(len(facekd.crops.store.CropStore(out).parts()))
    until_done(out)
    report.append(killed)
    number += 1
print(json.dumps(report))
"""


def png(seed: int, size: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(PHOTOS):
        path = folder / f"{number:03d}.png"
        if number % 40 == 7:
            path.write_bytes(b"no photo")
        else:
            png(0 if number % 9 == 0 else number).save(path)  # some are the same
    return folder


def contents(out: Path) -> tuple[list, list]:
    """What a store says, without how long it took and which part it stands in."""
    store = CropStore.open(out)
    return store.ledger().drop_columns(["seconds", "part"]).to_pylist(), store.crops().to_pylist()


@pytest.mark.slow
def test_kills_at_random_moments(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLER, str(photos), str(tmp_path), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout)
    kills = [parts for killed in rounds for parts in killed]
    print(len(kills), "kills; whole parts left behind:", rounds)
    assert len(kills) >= KILLS
    assert sum(0 < parts < PHOTOS // 16 for parts in kills) >= 5, "too few fell between the first part and the last"
    expected = contents(tmp_path / "whole")
    assert len(expected[0]) == PHOTOS
    for number in range(len(rounds)):
        out = tmp_path / f"killed-{number}"
        assert contents(out) == expected
        assert not list(out.rglob("*.part")), "a torn file was left"


FULL = """
import resource, sys
from pathlib import Path
from facekd.cli import run
from facekd.commands import align
align.PART = 60
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
sys.exit(run(["align", sys.argv[1], sys.argv[2], "--detector", "none", "--quiet"]))
"""


@pytest.mark.parametrize("limit", [1, 3_000, 50_000])
def test_a_file_that_can_not_grow_ends_the_run_with_a_sentence(photos: Path, tmp_path: Path, limit: int) -> None:
    """The system refuses to write more than `limit` bytes into a file, as a full disk refuses."""
    out = tmp_path / "crops"
    command = [sys.executable, "-c", FULL, str(photos), str(out), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "can't be written (File too large); free space or choose another --out" in done.stderr
    assert not list(out.rglob("*.part"))
    if (out / "store.json").exists():
        assert len(CropStore.open(out).crops()) == 0
    align(photos, out, detector="none", quiet=True)  # space is there again
    align(photos, tmp_path / "whole", detector="none", quiet=True)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_full_disk(photos: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(UserError, match=r"can't be written \(No space left on device\); free space"):
            align(photos, disk / "crops", detector="none", quiet=True)
        assert not list(disk.rglob("*.part"))
        assert len(CropStore.open(disk / "crops").crops()) == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_commands_do_not_write_one_store(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    align(photos, out, detector="none", quiet=True)
    before = contents(out)
    with (
        CropStore.writing(out, CropStore.open(out).settings),
        pytest.raises(UserError, match="another command is writing it; run this again when it is done"),
    ):
        align(photos, out, detector="none", quiet=True)
    png(999).save(photos / "new.png")
    assert align(photos, out, detector="none", quiet=True).new == 1  # it was let go
    assert len(read_crops(out)) == len(before[1]) + 1
