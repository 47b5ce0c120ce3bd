"""Photos aligned together are aligned as each alone, however many pixels wait for each other."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekd.ingest import alignment
from facekd.ingest.alignment import align_batch, detector_of
from facekd.photos.find import find_photos
from facekd.settings.photos import FaceSearch


@pytest.mark.parametrize("together", [0, 20_000, 2**21])
def test_together_as_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(7):
        side = 60 + 20 * number
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 256, (side, side + 9, 3), np.uint8))
    (tmp_path / "3.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "5.png"), np.zeros((8, 8, 3), np.uint8))
    files = find_photos(tmp_path).photos
    make_detector = partial(detector_of, FaceSearch(detector="none"))
    some = partial(align_batch, make_detector=make_detector, choose="best", min_face=20, size=112)
    alone = [some([file])[0] for file in files]
    monkeypatch.setattr(alignment, "TOGETHER", together)
    found = some(files)
    assert [record.status for record in found] == ["ok", "ok", "ok", "unreadable", "ok", "too_small", "ok"]
    assert all(record.seconds > 0 for record in found)
    for record in (*alone, *found):
        record.seconds = 0
    assert [asdict(record) for record in found] == [asdict(record) for record in alone]
