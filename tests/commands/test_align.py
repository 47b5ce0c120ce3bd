"""Align on real files: every photo has one row, the good ones pass, and no kill changes the outcome."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from facekd import cli
from facekd.commands.align import align
from facekd.crops.read import read_crops
from facekd.crops.records import PhotoRecord
from facekd.crops.store import CropStore
from facekd.errors import UserError
from facekd.faces.refine import WEIGHTS as ONET
from facekd.faces.yunet import WEIGHTS as YUNET
from facekd.ingest.corpus import AlignSummary, unfinished
from facekd.photos.find import PhotoFile
from facekd.photos.synth import jpeg, person, render


def noise(seed: int, size: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def put(root: Path, **photos: bytes) -> Path:
    for name, data in photos.items():
        path = root / (name.replace("__", "/") + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def run(photos: Path, out: Path, **options: object) -> AlignSummary:
    return align(photos, out, detector="none", quiet=True, **options)


def rows(out: Path) -> dict[str, dict]:
    return {row["source"]: row for row in CropStore.open(out).ledger().to_pylist()}


def contents(out: Path) -> tuple[list, list]:
    """What a store says, without how long it took and which part it stands in."""
    store = CropStore.open(out)
    return store.ledger().drop_columns(["seconds", "part"]).to_pylist(), store.crops().to_pylist()


def test_photos_that_are_crops_pass_unchanged(tmp_path: Path) -> None:
    photos = put(tmp_path / "photos", Ann__1=png(noise(1)), Bob__1=png(noise(2)))
    summary = run(photos, tmp_path / "crops")
    assert (summary.photos, summary.new, summary.statuses) == (2, 2, {"ok": 2})
    assert summary.exit_code == 0
    crops = read_crops(tmp_path / "crops")
    assert crops.identities == ("Ann", "Bob")
    assert np.abs(crops.pixels(0).astype(int) - noise(1)).mean() < 8  # JPEG of noise
    row = rows(tmp_path / "crops")["Ann/1.png"]
    assert (row["width"], row["height"], row["reason"]) == (112, 112, "")
    assert row["boxes"] == [[0, 0, 112, 112]]
    assert row["chosen"] == [0]
    config = yaml.safe_load((tmp_path / "crops" / "run.yaml").read_text())
    assert config["photos"] == str(photos)
    assert config["detector"] == "none"


def test_a_larger_photo_is_scaled_about_its_corner(tmp_path: Path) -> None:
    big = np.repeat(np.repeat(noise(3, 28), 8, axis=0), 8, axis=1)  # 224
    run(put(tmp_path / "p", a=png(big)), tmp_path / "crops", size=112)
    expected = big.reshape(112, 2, 112, 2, 3).mean(axis=(1, 3))
    assert np.abs(read_crops(tmp_path / "crops").pixels(0) - expected).mean() < 5


def test_faces_are_found_in_photos(tmp_path: Path) -> None:
    for index in range(3):
        for shot in range(2):
            path = tmp_path / "photos" / f"p{index}" / f"{shot}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(render(person(1, index), 1, shot)))
    grey = png(np.full((200, 200, 3), 128, np.uint8))
    put(tmp_path / "photos", p0__nobody=grey, p0__tiny=png(noise(1, 12)))
    summary = align(tmp_path / "photos", tmp_path / "crops", quiet=True)
    assert summary.statuses == {"ok": 6, "no_face": 1, "too_small": 1}
    assert summary.exit_code == 1
    store = CropStore.open(tmp_path / "crops").crops()
    for crop in store.to_pylist():
        landmarks = np.array(crop["landmarks"]).reshape(5, 2)
        matrix = np.array(crop["matrix"]).reshape(2, 3)
        placed = landmarks @ matrix[:, :2].T + matrix[:, 2]
        template = [[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]]
        assert np.abs(placed - template).max() < 15
        assert crop["score"] > 0.8
        assert 25 < crop["eyes"] < 60  # of faces drawn into photos of 200 to 256 pixels
        assert crop["eyes"] == pytest.approx(np.linalg.norm(landmarks[1] - landmarks[0]), rel=1e-5)
        assert crop["roll"] == pytest.approx(np.arctan2(*(landmarks[1] - landmarks[0])[::-1]), abs=1e-5)
        assert abs(crop["yaw"]) < 1
        assert abs(crop["pitch"]) < 1
        assert crop["quality"] > 1


def test_a_photo_on_its_side_is_turned_when_asked_for(tmp_path: Path) -> None:
    pixels = np.ascontiguousarray(render(person(8, 1), 8, 0).pixels[:, 10:])  # not square
    photos = put(tmp_path / "p", lying=png(np.rot90(pixels)), upright=png(pixels), empty=png(0 * pixels))
    without, out = tmp_path / "without", tmp_path / "turned"
    align(photos, without, quiet=True)
    assert rows(without)["lying.png"]["status"] == "no_face"
    with pytest.raises(UserError, match="turn=False"):
        align(photos, without, turn=True, quiet=True)
    align(photos, out, turn=True, quiet=True)
    found = rows(out)
    assert {name: row["status"] for name, row in found.items()} == {
        "lying.png": "ok", "upright.png": "ok", "empty.png": "no_face",
    }  # fmt: skip
    assert {name: row["turned"] for name, row in found.items()} == {"lying.png": 270, "upright.png": 0, "empty.png": 0}
    assert "however the photo was turned" in found["empty.png"]["reason"]
    crops = read_crops(out)
    assert np.abs(crops.pixels(0).astype(int) - crops.pixels(1)).mean() < 2
    lying, upright = CropStore.open(out).crops().to_pylist()
    assert lying["roll"] == pytest.approx(upright["roll"] - np.pi / 2, abs=0.02)
    # The matrix takes the landmarks of the photo as it is to where those of the upright one go.
    placed = [
        np.array(crop["landmarks"]).reshape(5, 2) @ np.array(crop["matrix"]).reshape(2, 3)[:, :2].T
        + np.array(crop["matrix"]).reshape(2, 3)[:, 2]
        for crop in (lying, upright)
    ]
    assert np.abs(placed[0] - placed[1]).max() < 0.5


def test_a_store_keeps_the_detector_that_it_was_begun_with(tmp_path: Path) -> None:
    photos = put(tmp_path / "p", a=png(noise(1)))
    align(photos, tmp_path / "before", detector="mtcnn", quiet=True)
    align(put(tmp_path / "p", b=png(noise(2))), tmp_path / "before", quiet=True)
    assert CropStore.open(tmp_path / "before").settings["detector"] == "mtcnn"
    align(photos, tmp_path / "new", quiet=True)
    assert CropStore.open(tmp_path / "new").settings["detector"] == "yunet"
    with pytest.raises(UserError, match="detector='mtcnn'"):
        align(photos, tmp_path / "before", detector="yunet", quiet=True)


def test_other_weights_are_another_setting(tmp_path: Path) -> None:
    photos = put(tmp_path / "p", a=png(noise(1)))
    align(photos, tmp_path / "crops", detector="yunet", weights=YUNET, quiet=True)
    settings = CropStore.open(tmp_path / "crops").settings
    files = " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in (YUNET, ONET))
    assert settings["weights_sha256"] == hashlib.sha256(files.encode()).hexdigest()
    other = tmp_path / "other.onnx"
    other.write_bytes(YUNET.read_bytes() + b"\x7a\x00")  # an empty field that nobody reads
    with pytest.raises(UserError, match="weights_sha256"):
        align(photos, tmp_path / "crops", detector="yunet", weights=other, quiet=True)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(YUNET.read_bytes())
    assert align(photos, tmp_path / "crops", detector="yunet", weights=copy, quiet=True).new == 0
    with pytest.raises(UserError, match="--detector none needs no weights"):
        run(photos, tmp_path / "o", weights=copy)


def bad_photos(root: Path) -> Path:
    good = png(noise(5))
    put(
        root,
        Ann__1=good,
        Ann__2=b"no image",
        Ann__3=good[:-2000],
        Ann__4=b"",
        Ann__5=png(noise(6, 1)),
        Bob__1=png(noise(7)),
    )
    (root / "Bob" / "2.ppm").write_bytes(b"P6 30000 30000 255\n" + bytes(100))
    (root / "Bob" / "3.png").symlink_to("nowhere")
    (root / "Bob" / "4.png").mkdir()
    (root / "Bob" / "4.png" / "5.png").write_bytes(png(noise(8)))
    (root / "readme.txt").write_text("hello")
    return root


def test_every_bad_photo_is_one_row_and_the_good_ones_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = bad_photos(tmp_path / "photos")
    summary = align(photos, tmp_path / "crops", detector="none")
    found = {source: row["status"] for source, row in rows(tmp_path / "crops").items()}
    assert found == {
        "Ann/1.png": "ok", "Ann/2.png": "unreadable", "Ann/3.png": "unreadable", "Ann/4.png": "unreadable",
        "Ann/5.png": "too_small", "Bob/1.png": "ok", "Bob/2.ppm": "too_large", "Bob/3.png": "unreadable",
        "Bob/4.png/5.png": "ok",
    }  # fmt: skip
    assert all(
        row["reason"] and "\n" not in row["reason"]
        for row in rows(tmp_path / "crops").values()
        if row["status"] != "ok"
    )
    assert summary.others == 1
    assert summary.exit_code == 1
    assert len(read_crops(tmp_path / "crops")) == 3
    shown = capsys.readouterr()
    assert "Ann/2.png: unreadable, no image that can be read; replace the file" in shown.err
    assert "… and 1 more" in shown.err
    assert "1 other files were passed over" in shown.err
    assert run(photos, tmp_path / "crops").new == 0  # and all of them are done


def test_bad_members_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"../p/{i}.png", png(noise(i)))
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x03\x04", 10)
    data[first + 200 : first + 230] = bytes(30)  # in the second photo's bytes
    path.write_bytes(data)
    assert run(path, tmp_path / "crops").statuses == {"ok": 3, "unreadable": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "crops"]


def test_running_again_does_only_what_is_new(tmp_path: Path) -> None:
    photos = put(tmp_path / "p", a=png(noise(1)), b=png(noise(2)))
    run(photos, tmp_path / "crops")
    before = contents(tmp_path / "crops")
    again = run(photos, tmp_path / "crops")
    assert (again.new, again.photos) == (0, 2)
    assert contents(tmp_path / "crops") == before
    put(photos, c=png(noise(3)))
    third = run(photos, tmp_path / "crops")
    assert (third.new, third.photos) == (1, 3)
    assert len(read_crops(tmp_path / "crops")) == 3


def test_a_replaced_photo_is_noticed_by_its_bytes(tmp_path: Path) -> None:
    photos = put(tmp_path / "p", a=png(noise(1)), b=png(noise(2)))
    run(photos, tmp_path / "crops")
    stamp = (photos / "a.png").stat()
    put(photos, a=png(noise(9)))
    os.utime(photos / "a.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (photos / "b.png").touch()
    assert run(photos, tmp_path / "crops").new == 1
    run(photos, tmp_path / "fresh")
    assert contents(tmp_path / "crops") == contents(tmp_path / "fresh")


def test_a_replaced_photo_in_an_archive_is_noticed(tmp_path: Path) -> None:
    for seeds in ((1, 2), (1, 3)):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for i, seed in enumerate(seeds):
                archive.writestr(f"{i}.png", png(noise(seed)))
        summary = run(tmp_path / "a.zip", tmp_path / "crops")
    assert summary.new == 1


def test_duplicates_point_to_the_first(tmp_path: Path) -> None:
    same = png(noise(1))
    photos = put(tmp_path / "p", b=same, c=same, d=png(noise(2)))
    summary = run(photos, tmp_path / "crops")
    assert summary.statuses == {"ok": 2, "duplicate": 1}
    assert summary.exit_code == 0
    found = rows(tmp_path / "crops")
    assert found["c.png"]["reason"] == "the same bytes as b.png"
    assert found["c.png"]["crop_ids"] == found["b.png"]["crop_ids"]
    assert len(read_crops(tmp_path / "crops")) == 2
    put(photos, a=same)  # found in a later run
    run(photos, tmp_path / "crops")
    assert rows(tmp_path / "crops")["a.png"]["crop_ids"] == found["b.png"]["crop_ids"]
    assert len(read_crops(tmp_path / "crops")) == 2


def test_a_duplicate_whose_first_photo_changes_gets_its_own_crop(tmp_path: Path) -> None:
    same = png(noise(1))
    photos = put(tmp_path / "p", a=same, b=same, c=same)
    run(photos, tmp_path / "crops")
    put(photos, a=b"no longer an image")
    run(photos, tmp_path / "crops")
    found = rows(tmp_path / "crops")
    assert {name: row["status"] for name, row in found.items()} == {
        "a.png": "unreadable", "b.png": "ok", "c.png": "duplicate",
    }  # fmt: skip
    assert read_crops(tmp_path / "crops").ids == tuple(found["c.png"]["crop_ids"])


def test_another_setting_needs_another_folder(tmp_path: Path) -> None:
    photos = put(tmp_path / "p", a=png(noise(1)))
    run(photos, tmp_path / "crops")
    with pytest.raises(UserError, match="size=112"):
        run(photos, tmp_path / "crops", size=96)


@pytest.mark.parametrize("size", [-1, 0, 15, 5000])
def test_a_size_out_of_range_is_refused_before_anything_is_written(tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match="--size"):
        run(put(tmp_path / "p", a=png(noise(1))), tmp_path / "crops", size=size)
    assert not (tmp_path / "crops").exists()


def test_what_ray_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = put(tmp_path / "p", a=png(noise(1)))
    with pytest.raises(UserError, match=r"--address x:1 is of a Ray cluster; add --engine ray"):
        run(photos, tmp_path / "crops", address="x:1")
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "facekd.engines.ray", raising=False)
    monkeypatch.delattr("facekd.engines.ray", raising=False)
    with pytest.raises(UserError, match=r"pip install 'facekd\[ray\]'"):
        run(photos, tmp_path / "crops", engine="ray")
    assert not (tmp_path / "crops").exists()


def test_names_that_would_steer_a_terminal_are_printed_as_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = "\x1b]0;title\x07\x1b[31mred"
    put(tmp_path / "photos", **{f"{bad}/bad\x1b[2J\nx": b"no image", f"{bad}/1": png(noise(1))})
    align(tmp_path / "photos", tmp_path / "out\x1b[31m", detector="none")
    printed = "".join(capsys.readouterr())
    assert "\\x1b]0;title\\x07\\x1b[31mred/bad\\x1b[2J\\nx.png: unreadable" in printed
    assert "\x1b" not in printed


def test_the_cost_of_duplicates_without_their_first_photo_grows_with_their_number(tmp_path: Path) -> None:
    """By how often a name is looked up, whatever the machine."""
    looked_up = 0

    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal looked_up
            looked_up += 1
            return super().__hash__()

    count = 200
    (tmp_path / "x.jpg").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    names = [Name(f"{number}.jpg") for number in range(count)]
    store = CropStore.create(tmp_path / "store", {})
    store.append([PhotoRecord(name, None, "duplicate", sha256=digest) for name in names])
    todo, _ = unfinished([PhotoFile(tmp_path, "x.jpg", name, None) for name in names], store)
    assert len(todo) == count
    assert looked_up < 10 * count


def test_text_is_taken_for_a_path(tmp_path: Path) -> None:
    put(tmp_path / "photos", a=png(noise(1)))
    summary = align(str(tmp_path / "photos"), str(tmp_path / "crops"), detector="none", quiet=True)
    assert summary.statuses == {"ok": 1}
    assert summary.out == tmp_path / "crops"


def test_a_store_goes_on_under_either_spelling_of_the_middle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store of before says centre, and so does its run.yaml."""
    put(tmp_path / "photos", a=png(noise(1)))
    flags = [str(tmp_path / "photos"), str(tmp_path / "crops"), "--detector", "none", "--quiet"]
    assert cli.run(["align", *flags, "--choose", "center"]) == 0
    path = tmp_path / "crops" / "store.json"
    assert '"choose": "center"' in path.read_text()
    path.write_text(path.read_text().replace('"center"', '"centre"'))
    put(tmp_path / "photos", b=png(noise(2)))
    for spelling in ("centre", "center"):
        assert cli.run(["align", *flags, "--choose", spelling]) == 0
    (tmp_path / "run.yaml").write_text("choose: centre\n")
    assert cli.run(["align", *flags, "--config", str(tmp_path / "run.yaml")]) == 0
    for command, choices in (("align", "largest, center, best, all"), ("same", "largest, center, best")):
        capsys.readouterr()
        assert cli.run([command, "a", "b", "--choose", "middle"]) == 2
        assert capsys.readouterr().err.replace('"', "").endswith(f"middle for --choose. Choose from: {choices}.\n")
    with pytest.raises(UserError, match="there is no such value; choose from largest, center, best, all"):
        align("photos", "crops", choose="middle")
    assert CropStore.open(tmp_path / "crops").settings["choose"] == "center"
    assert len(read_crops(tmp_path / "crops")) == 2
