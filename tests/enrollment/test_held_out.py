"""The quickstart's gallery: it keeps its own promise, and nobody is named by a threshold of one comparison."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import save_run, write_store

from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.enrollment.held_out import name_people
from facekd.enrollment.identification import known_threshold
from facekd.gallery.gallery import GalleryTable
from facekd.rates.open_set import Tail

PEOPLE, PHOTOS = 8, 4
CALIBRATED = {0.1: 0.5, 0.01: 0.7, 0.001: 0.8}


def test_the_gallery_keeps_a_promise_as_identify_does(tmp_path: Path) -> None:
    crops = write_store(tmp_path / "crops", PEOPLE, PHOTOS)
    embedder, held = CropEmbedder.load(save_run(tmp_path / "net")), read_crops(crops)
    found = name_people(tmp_path / "people.gallery", embedder, held, crops, CALIBRATED)
    home = GalleryTable.open(tmp_path / "people.gallery")
    tail = Tail.of(CALIBRATED)
    assert tail is not None
    assert len(home) == found["people"] == PEOPLE // 2
    assert home.meta.threshold is None
    # One search through four people makes four comparisons: 1 - (1 - FAR)^4 = FPIR.
    assert found["threshold"] == pytest.approx(min(float(tail.cosine(1 - 0.99 ** (1 / 4))), 1), abs=1e-9)
    assert found["threshold"] > CALIBRATED[0.01]
    assert found["threshold"] == known_threshold(None, home, tmp_path / "people.gallery", quiet=True).threshold
    assert found["probes_of_enrolled"] == PEOPLE // 2 * PHOTOS // 2
    assert found["probes_of_strangers"] == PEOPLE // 2 * PHOTOS
    assert "a stranger is named in 1 % of searches through 4 people" in found["said"]


def test_of_people_with_one_photo_nobody_can_be_enrolled(tmp_path: Path) -> None:
    write_store(tmp_path / "crops", people=2, photos=1)
    embedder, held = CropEmbedder.load(save_run(tmp_path / "net")), read_crops(tmp_path / "crops")
    found = name_people(tmp_path / "people.gallery", embedder, held, tmp_path / "crops", CALIBRATED)
    assert "too few impostor pairs, or people to enroll" in found["skipped"]
