"""facekd same: a verdict about two photos, or a photo and an enrolled person, by exit code and in a line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from people import NEAR, pattern, save, write_model, write_people

from facekd import Embedder
from facekd.cli import run
from facekd.commands.enroll import enroll
from facekd.commands.same import same
from facekd.enrollment.comparison import one_in
from facekd.errors import UserError
from facekd.faces.yunet import WEIGHTS
from facekd.gallery.audit import read
from facekd.gallery.place import Place
from facekd.photos.decode import decode
from facekd.photos.synth import jpeg, person, render


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", {1e-1: 0.2, 1e-2: 0.5, 1e-3: NEAR, 1e-6: 0.99})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Crops: p00/0.png, p00/1.png, p01/0.png and so on."""
    return write_people(tmp_path / "people")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of one drawn person, one of another, both of them side by side, and a wall."""
    place = tmp_path_factory.mktemp("photos")
    shots = {"a1": render(person(0, 0), 0, 0), "a2": render(person(0, 0), 1, 0), "b1": render(person(0, 1), 0, 0)}
    for name, pixels in shots.items():
        (place / f"{name}.jpg").write_bytes(jpeg(pixels))
    pair = [decode(jpeg(shots[name]), name).pixels for name in ("a1", "b1")]
    height = min(pixels.shape[0] for pixels in pair)
    save(place / "two.png", np.concatenate([pixels[:height] for pixels in pair], axis=1))
    save(place / "wall.png", np.full((120, 160, 3), 128, np.uint8))
    (place / "torn.jpg").write_bytes((place / "a1.jpg").read_bytes()[:300])
    return place


def process(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facekd", "same", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def crops(*words: object, **flags: object) -> list[str]:
    return ["same", *map(str, words), "--detector", "none"]


def test_two_photos_by_facekd_s_own_network_in_a_process_of_its_own(photos: Path) -> None:
    alike = process(photos / "a1.jpg", photos / "a2.jpg")
    assert (alike.returncode, alike.stderr) == (0, "")
    verdict, promise = alike.stdout.splitlines()
    assert verdict.startswith("the same person: score 0.")
    assert promise.startswith("where it was measured, at most 1 in 1,000 pairs of strangers reach this threshold")
    assert "children" in promise
    # Drawn strangers are more alike than photographed ones.
    other = process(photos / "a1.jpg", photos / "b1.jpg", "--json", "--threshold", "0.7")
    assert (other.returncode, other.stderr) == (1, "")
    answer = json.loads(other.stdout)
    assert answer["same"] is False
    assert answer["score"] < answer["threshold"] == 0.7
    assert (answer["far"], answer["a"]["faces"], answer["b"]["faces"]) == (None, 1, 1)
    one, two = Embedder.load(answer["model"]).embed_photos([photos / "a1.jpg", photos / "b1.jpg"])
    assert answer["score"] == pytest.approx(float(one.vectors[0] @ two.vectors[0]), abs=1e-6)
    np.testing.assert_allclose(answer["a"]["box"], one.boxes[0], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wall.png", "no_face, the detector found no face; give a photo that shows a face"),
        ("torn.jpg", "unreadable, "),
        ("absent.jpg", "no such photo; check the path"),
        ("", "a folder, where a photo is wanted"),
    ],
)
def test_what_gives_no_face_is_a_mistake_on_either_side(photos: Path, name: str, said: str) -> None:
    for pair in ((photos / name, photos / "a1.jpg"), (photos / "a1.jpg", photos / name)):
        done = process(*pair)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.count("; ") == 1  # one remedy


def test_of_several_faces_it_says_which_was_taken(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["same", str(photos / "a2.jpg"), str(photos / "two.png"), "--choose", "largest"]) in (0, 1)
    said = capsys.readouterr().err
    assert said.startswith(f"{photos}/two.png: 2 faces; took ")
    assert "--choose largest" in said
    found = same(photos / "a2.jpg", photos / "two.png", quiet=True)
    assert (found.a.faces, found.b.faces) == (1, 2)


def test_the_same_file_twice_is_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(photos / "a1.jpg", photos / "copy.jpg")
    assert run(["same", str(photos / "a1.jpg"), str(photos / "copy.jpg")]) == 0
    shown = capsys.readouterr()
    assert "score 1.0000" in shown.out
    assert shown.err == "both are the same file: the score says nothing about the person\n"


def test_the_threshold_is_given_or_one_of_the_networks(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = (folder / name for name in ("p00/0.png", "p00/1.png", "p01/0.png"))

    def asked(*words: object, model: Path = model) -> tuple[int, str]:
        code = run(crops(*words, "--model", model))
        shown = capsys.readouterr()
        return code, shown.out if code < 2 else shown.err

    code, shown = asked(a, b)
    assert code == 0
    assert "threshold 0.8000\n" in shown
    assert "1 in 1,000 pairs" in shown
    code, shown = asked(a, b, "--far", "1e-6")
    assert "threshold 0.9900\n" in shown
    assert "1 in 1,000,000 pairs" in shown
    assert asked(a, c, "--threshold", "-1") == (0, asked(a, c, "--threshold", "-1")[1])
    assert "pairs" not in asked(a, c, "--threshold", "0.5")[1]
    assert asked(a, c)[0] == 1
    assert asked(a, c, "--quiet") == (1, "")
    for words, said in {
        ("--threshold", "2"): "is no cosine",
        ("--threshold", "0.5", "--far", "0.1"): "give one of them",
        ("--far", "2"): "FAR 2: is no share of pairs; give one between 0 and 1",
        ("--far", "nan"): "FAR nan: is no share of pairs",
        ("--far", "0"): "FAR 0: is no share of pairs",
        ("--far", "0.25"): "carries thresholds at FAR 1e-06, 0.001, 0.01, 0.1",
    }.items():
        code, shown = asked(a, b, *words)
        assert code == 2
        assert said in shown
    plain = write_model(tmp_path / "plain.onnx")
    code, shown = asked(a, b, model=plain)
    assert code == 2
    assert "carries no threshold" in shown
    assert "or give --threshold here" in shown
    assert asked(a, b, "--threshold", "0.5", model=plain)[0] == 0
    # Where it has none so strict as 0.001, the strictest.
    assert "threshold 0.5000\n" in asked(a, b, model=write_model(tmp_path / "loose.onnx", {1e-1: 0.2, 1e-2: 0.5}))[1]


def test_a_photo_and_a_person_of_a_gallery(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = tmp_path / "staff.gallery"
    assert enroll(folder, gallery, model=model, detector="none", quiet=True).exit_code == 0
    probe = save(tmp_path / "probe.png", pattern(1, 77))
    assert run(["same", str(probe), str(gallery), "--person", "p01"]) == 0
    assert "the same person: score 0." in capsys.readouterr().out
    assert run(["same", str(probe), str(gallery), "--person", "p02", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["b"] == {"name": "p02", "faces": None, "box": None, "sha256": None}
    assert answer["threshold"] == NEAR
    events = [entry for entry in read(Place.of(gallery)).entries if entry["event"] == "same"]
    assert [(entry["same"], entry["photos"]) for entry in events] == [(True, 1), (False, 1)]
    assert "p01" not in str(events)
    for words, said in {
        (): "say with --person whom of it to compare",
        ("--person", "nobody"): "nobody called nobody is enrolled",
        ("--person", "p01", "--detector", "none"): "looks for faces as at the enrollment; leave --detector out",
        ("--person", "p01", "--min-face", "30"): "leave --min-face out",
        ("--person", "p01", "--contract", "c.yaml"): "keeps its network's own; leave --contract out",
        ("--person", "p01", "--far", "0.3"): "carries thresholds at FAR",
        (
            "--person",
            "p01",
            "--model",
            str(write_model(tmp_path / "other.onnx", weights="circles")),
        ): "can't be compared",
    }.items():
        assert run(["same", str(probe), str(gallery), *words]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    for no_gallery in (tmp_path, probe):
        assert run(["same", str(probe), str(no_gallery), "--person", "p01"]) == 2
        assert f"{no_gallery}: no gallery" in capsys.readouterr().err
    assert run(["same", str(gallery), str(probe), "--person", "p01"]) == 2
    assert f"{gallery}: a gallery, where a photo is wanted; give the photo first" in capsys.readouterr().err
    assert run(["same", str(gallery), str(probe)]) == 2
    assert "a folder, where a photo is wanted" in capsys.readouterr().err


def test_a_gallery_whose_detector_has_changed(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yunet = tmp_path / "yunet.onnx"
    shutil.copy(WEIGHTS, yunet)
    for name in ("a1", "b1"):
        (tmp_path / "people" / name).mkdir(parents=True)
        shutil.copy(photos / f"{name}.jpg", tmp_path / "people" / name)
    gallery, probe = tmp_path / "staff.gallery", str(photos / "a2.jpg")
    enroll(tmp_path / "people", gallery, weights=yunet, accept_suspects=True, quiet=True)
    asked = {"same": [probe, str(gallery), "--person", "a1"], "identify": [str(gallery), probe]}
    for command, words in asked.items():
        assert run([command, *words]) == 0
        assert "other weights" not in capsys.readouterr().err
    file = onnx.load(str(yunet))
    file.producer_name = "another"
    onnx.save(file, str(yunet))
    for command, words in asked.items():
        assert run([command, *words]) == 0
        assert "were enrolled with other weights of yunet than those at hand" in capsys.readouterr().err
    yunet.unlink()
    for command, words in asked.items():
        assert run([command, *words]) == 2
        said = capsys.readouterr().err
        assert f"were enrolled with are no longer at {yunet}; put them back there" in said


def test_from_python(folder: Path, model: Path) -> None:
    found = same(folder / "p00/0.png", folder / "p01/0.png", model=model, detector="none", quiet=True)
    assert not found.same
    assert str(found).startswith(f"different people: score {found.score:.4f}, threshold 0.8000\n")
    with pytest.raises(UserError, match="no such photo"):
        same(folder / "p00/0.png", folder / "gone.png", model=model, detector="none")


def test_a_far_in_words() -> None:
    assert [one_in(far) for far in (1e-6, 1e-3, 0.003, 0.1, 0.7)] == [
        "1 in 1,000,000",
        "1 in 1,000",
        "1 in 333",
        "1 in 10",
        "70 in 100",
    ]


def test_it_loads_little(folder: Path, model: Path) -> None:
    """Neither torch, which a detector of crops does not need, nor what other commands need."""
    code = (
        "import sys; from facekd.cli import run; run(sys.argv[1:]);"
        "print([n for n in ('torch', 'lancedb', 'scipy', 'matplotlib', 'accelerate') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code, *crops(folder / "p00/0.png", folder / "p00/1.png", "--model", model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
