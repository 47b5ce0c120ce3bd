"""facekd enroll refuses photos without detail; a gallery of before goes on without the limit."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from people import contents
from PIL import Image

from facekd.commands.enroll import enroll
from facekd.core.contract import Contract
from facekd.core.types import Array
from facekd.enrollment.gate import MIN_DETAIL
from facekd.gallery.meta import read_meta
from facekd.nets import build
from facekd.nets.saved import MODEL, save_model
from facekd.photos.synth import person, render


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_model(folder / MODEL, "mobilefacenet-half", build("mobilefacenet-half", dim=32), Contract(dim=32))
    return folder


def drawn(number: int) -> Array:
    return np.asarray(render(person(0, number), 0, 0).pixels)


def blown_up(pixels: Array) -> Array:
    """As from a photo a twelfth as wide."""
    small = cv2.resize(pixels, None, fx=1 / 12, fy=1 / 12, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC))


def save(path: Path, pixels: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two people with a sharp photo each; of one there is a bad one too, of a third only bad ones."""
    folder = tmp_path / "people"
    for number in range(2):
        save(folder / f"p{number}" / "sharp.png", drawn(number))
    save(folder / "p1" / "blown up.png", blown_up(drawn(1)))
    save(folder / "p2" / "blown up.png", blown_up(drawn(2)))
    return folder


def rows(gallery: Path) -> dict[str, dict[str, object]]:
    return {row["source"]: row for row in pq.read_table(gallery / "ledger.parquet").to_pylist()}


def test_photos_without_detail_are_refused_in_a_sentence(people: Path, model: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    found = enroll(people, gallery, model=model, accept_suspects=True, quiet=True)
    assert (found.new, found.not_enrolled, found.exit_code) == (("p0", "p1"), ("p2",), 1)
    assert found.statuses == {"ok": 2, "low_quality": 2}
    ledger = rows(gallery)
    for source in ("p1/blown up.png", "p2/blown up.png"):
        row = ledger[source]
        assert row["status"] == "low_quality"
        assert isinstance(row["detail"], float)
        assert row["detail"] < MIN_DETAIL
        assert row["reason"] == (
            f"no detail in the face ({row['detail']:.1f}, under 4): the photo was blown up, is smeared or out of "
            "focus; take one in which the face is sharp"
        )
    assert all(float(str(ledger[f"p{number}/sharp.png"]["detail"])) > 1.5 * MIN_DETAIL for number in range(2))
    assert (read_meta(gallery).gate or {})["min_detail"] == MIN_DETAIL
    assert contents(gallery)["p1"][1] == ("p1/sharp.png",)
    again = enroll(people, gallery, model=model, accept_suspects=True, quiet=True)
    assert (again.embedded, again.unchanged) == (0, 2)
    # A milder limit judges them again.
    mild = enroll(people, gallery, model=model, min_detail=0.0, change=True, accept_suspects=True, quiet=True)
    assert (mild.embedded, mild.new, mild.changed) == (2, ("p2",), ("p1",))


def test_a_gallery_of_before_goes_on_without_the_limit(people: Path, model: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    enroll(people, gallery, model=model, min_detail=0.0, accept_suspects=True, quiet=True)
    meta = json.loads((gallery / "gallery.json").read_text())
    del meta["gate"]["min_detail"]
    (gallery / "gallery.json").write_text(json.dumps(meta))
    ledger = pq.read_table(gallery / "ledger.parquet")
    pq.write_table(ledger.drop_columns(["detail"]), gallery / "ledger.parquet")
    save(people / "p3" / "blown up.png", blown_up(drawn(3)))
    found = enroll(people, gallery, model=model, accept_suspects=True, quiet=True)
    assert (found.new, found.statuses, found.embedded) == (("p3",), {"ok": 5}, 1)
    assert "min_detail" not in (read_meta(gallery).gate or {})
    asked = enroll(people, gallery, model=model, min_detail=4.0, accept_suspects=True, quiet=True)
    assert asked.statuses == {"ok": 2, "low_quality": 3}
    assert (read_meta(gallery).gate or {})["min_detail"] == 4.0


def test_crops_are_judged_where_that_is_asked(model: Path, tmp_path: Path) -> None:
    blank = np.full((112, 112, 3), 120, np.uint8)
    save(tmp_path / "people" / "blank" / "0.png", blank)
    taken = enroll(tmp_path / "people", tmp_path / "g", model=model, detector="none", quiet=True)
    assert taken.new == ("blank",)
    refused = enroll(tmp_path / "people", tmp_path / "h", model=model, detector="none", min_detail=4.0, quiet=True)
    assert (refused.not_enrolled, rows(tmp_path / "h")["blank/0.png"]["detail"]) == (("blank",), 0.0)
