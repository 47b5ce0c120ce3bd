"""Bad input at the command line: one clear sentence and exit code 2, or a ledger row; the good goes through."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from facekd.cli import run
from facekd.crops.store import CropStore
from facekd.photos.synth import jpeg, person, render


def photo(person_number: int = 0, shot: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(render(person(5, person_number), 5, shot)))).convert("RGB")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sentence(tokens: list[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that the user got wrong."""
    assert run([str(token) for token in tokens]) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("facekd: ")
    assert "Traceback" not in shown.err
    assert len(lines[0]) < 600
    return lines[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two people with three photos each, already cropped to 112 pixels."""
    for number in range(2):
        (tmp_path / "people" / f"p{number}").mkdir(parents=True)
        for shot in range(3):
            path = tmp_path / "people" / f"p{number}" / f"{shot}.png"
            photo(number, shot).resize((112, 112)).save(path)
    return tmp_path / "people"


@pytest.fixture
def crops(folder: Path, tmp_path: Path) -> Path:
    assert run(["align", str(folder), str(tmp_path / "crops"), "--detector", "none", "--quiet"]) == 0
    return tmp_path / "crops"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An ONNX embedder that a person can follow: the means of 16 squares of each channel."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 48])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    (tmp_path / "contract.yaml").write_text("dim: 48\n")
    return path


def pair_list(path: Path, *rows: str) -> Path:
    path.write_text("a,b,same\n" + "\n".join(rows) + "\n")
    return path


GOOD_PAIRS = ["p0/0,p0/1,1", "p0/1,p0/2,1", "p1/0,p1/1,1", "p0/0,p1/0,0", "p0/1,p1/1,0", "p0/2,p1/2,0"]


def test_kinds_of_photos_that_must_pass_and_those_that_must_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    exif = Image.Exif()
    exif[274] = 6
    good = {
        "gray.jpg": saved(photo(0).convert("L"), "JPEG"),
        "rgba.png": saved(photo(1).convert("RGBA"), "PNG"),
        "cmyk.jpg": saved(photo(2).convert("CMYK"), "JPEG"),
        "turned.jpg": saved(photo(3).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif),
        "good.jpg": saved(photo(4), "JPEG"),
    }
    bad = {
        "text.jpg": (b"not an image", "unreadable"),
        "cut.jpg": (saved(photo(5), "JPEG")[:-2000], "unreadable"),
        "dot.png": (saved(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        "huge.ppm": (b"P6 30000 30000 255\n" + bytes(1000), "too_large"),
        "empty.jpg": (b"", "unreadable"),
    }
    for name, data in {**good, **{name: data for name, (data, _) in bad.items()}}.items():
        (root / name).write_bytes(data)
    out = tmp_path / "crops"
    assert run(["align", str(root), str(out)]) == 1  # done, but some photos gave no crop
    rows = {row["source"]: row for row in CropStore.open(out).ledger().to_pylist()}
    assert {name: rows[name]["status"] for name in good} == dict.fromkeys(good, "ok")
    assert {name: rows[name]["status"] for name in bad} == {name: status for name, (_, status) in bad.items()}
    assert len(rows) == 10
    shown = capsys.readouterr().err
    for name in bad:
        assert f"  {name}: {rows[name]['status']}, {rows[name]['reason']}" in shown
    assert "Traceback" not in shown
    # The crop of the turned photo is that of the upright one.
    upright = tmp_path / "upright"
    upright.mkdir()
    (upright / "turned.jpg").write_bytes(saved(photo(3), "JPEG"))
    assert run(["align", str(upright), str(tmp_path / "crops2"), "--quiet"]) == 0
    turned = CropStore.open(out).crops().to_pylist()
    (matrix,) = (crop["matrix"] for crop in turned if crop["source"] == "turned.jpg")
    assert matrix == pytest.approx(CropStore.open(tmp_path / "crops2").crops().to_pylist()[0]["matrix"], abs=1.5)


def test_places_without_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.jpg").write_bytes(b"not an image")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    for place, words in [
        ("missing", "no such file or folder; check the path"),
        ("empty", "holds no photo"),
        ("x.jpg", "neither a folder nor a zip or tar"),
        ("cut.zip", "neither a folder nor a zip or tar"),
    ]:
        line = sentence(["align", tmp_path / place, out], capsys)
        assert words in line
        assert str(tmp_path / place) in line
    assert not out.exists()


def test_a_place_that_can_not_be_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    command = ["align", folder, tmp_path / "file" / "crops", "--detector", "none"]
    assert "can't be written" in sentence(command, capsys)
    assert "holds files but no crop store" in sentence(["align", folder, folder, "--detector", "none"], capsys)


def test_detector_weights(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.onnx").write_text("nothing")
    command = ["align", folder, tmp_path / "o", "--detector", "yunet"]
    assert "missing.onnx" in sentence([*command, "--weights", tmp_path / "missing.onnx"], capsys)
    assert "w.onnx" in sentence([*command, "--weights", tmp_path / "w.onnx"], capsys)
    assert not (tmp_path / "o").exists()


def test_identities_with_one_photo_teach_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        (tmp_path / "photos" / f"p{number}").mkdir(parents=True)
        photo(number).resize((112, 112)).save(tmp_path / "photos" / f"p{number}" / "1.png")
    assert run(["align", str(tmp_path / "photos"), str(tmp_path / "crops"), "--detector", "none", "--quiet"]) == 0
    line = sentence(["train-teacher", "--data", tmp_path / "crops", "--out", tmp_path / "t"], capsys)
    assert "fewer than two identities have 2 crops; give more photos of each person" in line
    assert not (tmp_path / "t").exists()


def test_crops_without_identities_teach_no_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(4):
        photo(number).resize((112, 112)).save(tmp_path / "photos" / f"{number}.png")
    assert run(["align", str(tmp_path / "photos"), str(tmp_path / "crops"), "--detector", "none", "--quiet"]) == 0
    assert "no identities" in sentence(["train-teacher", "--data", tmp_path / "crops", "--out", tmp_path / "t"], capsys)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--held-out", "1.5"], "held out"),
        (["--held-out", "-0.5"], "held out"),
        (["--net", "iresnet5"], "did you mean 'iresnet50'"),
        (["--data", "missing"], "missing: no such crop store"),
        (["--batch", "0"], "batch"),
        (["--epochs", "-1"], "epochs"),
        (["--seed", "-1"], "seed"),
        (["--dim", "0"], "dim"),
    ],
)
def test_training_settings_out_of_range(
    crops: Path, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [] if "--data" in flags else ["--data", crops]
    held = [] if "--held-out" in flags else ["--held-out", "0"]
    assert words in sentence(["train-teacher", *given, *held, *flags, "--out", tmp_path / "t"], capsys)


def test_the_good_list_passes(crops: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = pair_list(tmp_path / "pairs.csv", *GOOD_PAIRS)
    command = ["verify", "--model", model, "--contract", tmp_path / "contract.yaml", "--crops", crops, "--pairs", pairs]
    assert run([str(t) for t in [*command, "--json", tmp_path / "v.json", "--quiet"]]) == 0
    assert (tmp_path / "v.json").exists()
    assert capsys.readouterr().err == ""


def test_pair_lists(crops: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "v.json"
    command = ["verify", "--model", model, "--contract", tmp_path / "contract.yaml", "--crops", crops, "--json", out]

    def said(pairs: Path) -> str:
        return sentence([*command, "--pairs", pairs], capsys)

    missing = said(pair_list(tmp_path / "missing.csv", *GOOD_PAIRS, "p0/0,p0/9,1"))
    assert "1 photos of the pair list are not in it (first: 'p0/9')" in missing
    assert str(crops) in missing
    assert "no such pair list" in said(tmp_path / "none.csv")
    assert "same is '2'" in said(pair_list(tmp_path / "same.csv", "p0/0,p0/1,2"))
    assert "holds no pair" in said(pair_list(tmp_path / "empty.csv"))
    (tmp_path / "words.csv").write_text("one two\nthree four\n")
    assert "its first line, 'one two', is no pair" in said(tmp_path / "words.csv")
    said(pair_list(tmp_path / "one.csv", *GOOD_PAIRS[:3]))  # one class only
    assert not out.exists()


def test_models(crops: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = pair_list(tmp_path / "pairs.csv", *GOOD_PAIRS)
    (tmp_path / "none.onnx").write_text("this is no network")
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:60])
    (tmp_path / "typo.yaml").write_text("dim: 48\nchanels: RGB\n")
    (tmp_path / "dim.yaml").write_text("dim: 512\n")
    (tmp_path / "size.yaml").write_text("dim: 48\nsize: 96\n")
    contract = tmp_path / "contract.yaml"

    def said(network: Path, *flags: str | Path) -> str:
        return sentence(["verify", "--model", network, *flags, "--crops", crops, "--pairs", pairs], capsys)

    assert "not an ONNX network" in said(tmp_path / "none.onnx", "--contract", contract)
    assert "cut.onnx" in said(tmp_path / "cut.onnx", "--contract", contract)
    assert "no such model" in said(tmp_path / "missing.onnx", "--contract", contract)
    assert "carries no contract" in said(model)
    assert "no such contract file" in said(model, "--contract", tmp_path / "no.yaml")
    assert "no key 'chanels'; did you mean 'channels'" in said(model, "--contract", tmp_path / "typo.yaml")
    assert "gives 48 numbers where its contract says dim: 512" in said(model, "--contract", tmp_path / "dim.yaml")
    assert "does not take input (1, 3, 96, 96)" in said(model, "--contract", tmp_path / "size.yaml")
    assert "brings its own contract" in said(tmp_path, "--contract", contract)


def test_crops_that_are_none(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = pair_list(tmp_path / "pairs.csv", *GOOD_PAIRS)
    command = ["verify", "--model", model, "--contract", tmp_path / "contract.yaml", "--pairs", pairs, "--crops"]
    assert "no such" in sentence([*command, tmp_path / "missing"], capsys)
    assert "no crop store" in sentence([*command, tmp_path], capsys)


def test_a_config_with_a_typo(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"photos: {folder}\nout: {tmp_path / 'o'}\ndetector: none\nchose: best\n")
    line = sentence(["align", "--config", config], capsys)
    assert "chose" in line
    assert "--choose" in line
    assert not (tmp_path / "o").exists()
    config.write_text(config.read_text().replace("chose", "choose"))
    assert run(["align", "--config", str(config), "--quiet"]) == 0


def test_a_process_says_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "facekd", "align", str(tmp_path / "missing")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"facekd: {tmp_path / 'missing'}: no such file or folder; check the path\n"
    assert os.listdir(tmp_path) == []
