"""facekd enroll and facekd identify: people into a gallery, names out of it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from people import write_model
from PIL import Image
from scipy import ndimage

import facekd
from facekd import api
from facekd.cli import run
from facekd.commands.embed import embed
from facekd.commands.enroll import enroll
from facekd.commands.identify import identify
from facekd.core.contract import Contract
from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import read_embeddings
from facekd.deploy.thresholds import THRESHOLDS
from facekd.errors import UserError
from facekd.faces.detect import weights_digest
from facekd.faces.yunet import WEIGHTS as YUNET
from facekd.gallery.gallery import GalleryTable
from facekd.nets import build
from facekd.nets.saved import MODEL, save_model
from facekd.photos.synth import jpeg, person, render

NET = "mobilefacenet-half"
PEOPLE = ("anna", "boris", "chloé")


def make_model(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_model(folder / MODEL, NET, build(NET, dim=32), Contract(dim=32))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network: equal pictures get equal embeddings, others others."""
    return make_model(tmp_path_factory.mktemp("model"), 0)


def blocks(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)


def laplacian_deviation(crop: Array) -> float:
    gray = np.rint(crop @ np.array([0.299, 0.587, 0.114]))
    return float(ndimage.correlate(gray, [[0, 1, 0], [1, -4, 1], [0, 1, 0]], mode="mirror").std())


def save(path: Path, pixels: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Three people with two photos each; every photo is a crop already."""
    for place, name in enumerate(PEOPLE):
        for photo in (0, 1):
            save(tmp_path / "people" / name / f"{photo}.png", blocks(10 * place + photo))
    return tmp_path / "people"


def enrolled(people: Path, gallery: Path, model: Path, **more: float) -> Path:
    # The photos of a person are different pictures here: what looks like a mix-up is one, and is wanted.
    summary = enroll(people, gallery, model=model, detector="none", accept_suspects=True, quiet=True, **more)
    assert summary.exit_code == 0
    return gallery


def templates(gallery: Path) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    found = GalleryTable.open(gallery).people(PEOPLE)
    return {name: (one.template.tobytes(), one.sources) for name, one in found.items()}


def test_a_template_is_the_weighted_mean_of_the_photos_and_finds_its_person(
    tmp_path: Path, people: Path, model: Path
) -> None:
    gallery = enrolled(people, tmp_path / "g", model, threshold=0.999)
    embed(people, tmp_path / "e.parquet", model=model, detector="none", quiet=True)
    embedded = read_embeddings(tmp_path / "e.parquet")
    for name in PEOPLE:
        rows = [i for i, identity in enumerate(embedded.identities) if identity == name]
        assert len(rows) == 2
        # The weight is log(1 + s), s the standard deviation of the crop's Laplacian, here by scipy.
        crops = [blocks(10 * PEOPLE.index(name) + photo) for photo in (0, 1)]
        weights = [np.log1p(laplacian_deviation(crop)) for crop in crops]
        mean = np.average(embedded.embeddings.vectors[rows], axis=0, weights=weights)
        template = GalleryTable.open(gallery).people([name])[name].template
        np.testing.assert_allclose(template, mean / np.linalg.norm(mean), atol=1e-5)

    # A photo scores its own cosine to the nearest template, named where that is at least the threshold.
    photo = people / "boris" / "1.png"
    (face,) = identify(gallery, photo, threshold=0.2, quiet=True).faces
    row = embedded.sources.index("boris/1.png")
    vector = embedded.embeddings.vectors[row]
    best = {name: float(one.template @ vector) for name, one in GalleryTable.open(gallery).people(PEOPLE).items()}
    assert face.person == max(best, key=lambda name: best[name]) == "boris"
    assert face.score == pytest.approx(best["boris"], abs=1e-5)
    assert face.box == (0, 0, 112, 112)
    # The threshold kept at the enrollment holds where none is given.
    (face,) = identify(gallery, photo, quiet=True).faces
    assert (face.person, face.score < 0.999) == (None, True)


def test_enrolling_again_changes_nothing(tmp_path: Path, people: Path, model: Path) -> None:
    gallery = enrolled(people, tmp_path / "g", model)
    before = GalleryTable.open(gallery).table.to_arrow().sort_by("person_id").to_pylist()
    summary = enroll(people, gallery, model=model, detector="none", quiet=True)
    assert (summary.written, summary.unchanged) == (0, 3)
    assert GalleryTable.open(gallery).table.to_arrow().sort_by("person_id").to_pylist() == before
    assert len(GalleryTable.open(gallery).ledger()) == 6


def test_a_changed_photo_set_replaces_one_template_and_leaves_the_others(
    tmp_path: Path, people: Path, model: Path
) -> None:
    gallery = enrolled(people, tmp_path / "g", model)
    before = templates(gallery)
    only = tmp_path / "later" / "boris"
    save(only / "new.png", blocks(99))
    save(only / "same-again.png", blocks(99))
    summary = enroll(tmp_path / "later", gallery, model=model, detector="none", replace=True, quiet=True)
    assert (summary.written, summary.unchanged) == (1, 0)
    assert summary.statuses == {"ok": 1, "duplicate": 1}
    after = templates(gallery)
    assert {name for name in PEOPLE if after[name] != before[name]} == {"boris"}
    assert after["boris"][1] == ("boris/new.png",)
    (face,) = identify(gallery, only / "new.png", threshold=0.999, quiet=True).faces
    assert face.person == "boris"
    sources = GalleryTable.open(gallery).ledger().to_pylist()
    assert {row["source"] for row in sources if row["person"] == "boris"} == {"boris/new.png", "boris/same-again.png"}
    assert len(sources) == 6


def test_bad_photos_have_a_row_and_a_reason_and_the_good_ones_go_through(
    tmp_path: Path, people: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (people / "anna" / "torn.jpg").write_bytes(b"\xff\xd8 no photo")
    (people / "dora").mkdir()
    (people / "dora" / "empty.jpg").write_bytes(b"")
    save(people / "stray.png", blocks(77))
    (people / "readme.txt").write_text("not a photo")
    gallery = tmp_path / "g"
    assert run(["enroll", str(people), str(gallery), "--model", str(model), "--detector", "none"]) == 1
    ledger = {row["source"]: row for row in pq.read_table(gallery / "ledger.parquet").to_pylist()}
    assert len(ledger) == 9
    assert ledger["anna/0.png"].pop("detail") > 0
    assert ledger["anna/0.png"] == {"source": "anna/0.png", "person": "anna", "status": "ok", "reason": ""}
    assert ledger["anna/torn.jpg"]["detail"] is None
    assert (ledger["anna/torn.jpg"]["person"], ledger["anna/torn.jpg"]["status"]) == ("anna", "unreadable")
    assert ledger["dora/empty.jpg"]["reason"].startswith("an empty file")
    assert ledger["stray.png"]["person"] is None
    assert ledger["stray.png"]["reason"] == "no person: put it in a folder named for the person"
    assert len(GalleryTable.open(gallery)) == 3
    assert GalleryTable.open(gallery).people(["anna"])["anna"].sources == ("anna/0.png", "anna/1.png")
    shown = capsys.readouterr()
    assert "not enrolled, for want of a usable photo" in shown.err
    assert "  dora\n" in shown.err
    assert "3 people enrolled" in shown.out


def test_no_photo_and_no_crop_stays_in_the_gallery(tmp_path: Path, people: Path, model: Path) -> None:
    gallery = enrolled(people, tmp_path / "g", model)
    for path in gallery.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(magic in data for magic in (b"\x89PNG", b"\xff\xd8\xff", b"JFIF")), path


def test_another_model_is_refused_everywhere(tmp_path: Path, people: Path, model: Path) -> None:
    gallery = enrolled(people, tmp_path / "g", model)
    before = templates(gallery)
    other = make_model(tmp_path / "other", 1)
    ids = CropEmbedder.load(model).model_id, CropEmbedder.load(other).model_id
    embed(people, tmp_path / "e.parquet", model=other, detector="none", quiet=True)
    for attempt in (
        lambda: enroll(people, gallery, model=other, detector="none", quiet=True),
        lambda: identify(gallery, people, model=other, threshold=0.5, quiet=True),
        lambda: identify(gallery, tmp_path / "e.parquet", threshold=0.5, quiet=True),
    ):
        with pytest.raises(UserError) as error:
            attempt()
        assert all(part in str(error.value) for part in (*ids, "facekd embed --model"))
    assert templates(gallery) == before


def test_the_models_own_place_and_where_it_has_moved(tmp_path: Path, people: Path, model: Path) -> None:
    shutil.copytree(model, tmp_path / "here")
    gallery = enrolled(people, tmp_path / "g", tmp_path / "here", threshold=0.1)
    assert identify(gallery, people, quiet=True).exit_code == 0
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(UserError, match=r"its model is no longer at .*here; say where it is with --model"):
        identify(gallery, people, quiet=True)
    assert len(identify(gallery, people, model=tmp_path / "there", quiet=True).faces) == 6


def test_no_threshold_is_ever_guessed(tmp_path: Path, people: Path, model: Path) -> None:
    gallery = enrolled(people, tmp_path / "g", model)
    with pytest.raises(UserError, match=r"no threshold is known.*facekd verify"):
        identify(gallery, people, quiet=True)
    for wrong in (1.5, float("nan")):
        with pytest.raises(UserError, match="is no cosine"):
            identify(gallery, people, threshold=wrong, quiet=True)
        with pytest.raises(UserError, match="is no cosine"):
            enroll(people, tmp_path / "new", model=model, detector="none", threshold=wrong, quiet=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("contract_inside", [True, False])
def test_an_onnx_model_brings_its_thresholds(
    tmp_path: Path, people: Path, contract_inside: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = onnx.load(str(write_model(tmp_path / "m.onnx", {1e-2: 0.1, 1e-3: 0.9999})))
    contract = None
    if not contract_inside:  # a file from elsewhere, whose contract the user writes
        kept = [entry for entry in file.metadata_props if entry.key == THRESHOLDS]
        del file.metadata_props[:]
        file.metadata_props.extend(kept)
        contract = tmp_path / "contract.yaml"
        contract.write_text("dim: 48\nsize: 32\n")
    onnx.save(file, str(tmp_path / "m.onnx"))
    gallery = tmp_path / "g"
    how = {"contract": contract, "detector": "none", "accept_suspects": True, "quiet": True}
    enroll(people, gallery, model=tmp_path / "m.onnx", **how)
    if contract is not None:
        contract.unlink()  # the gallery has kept it

    result = identify(gallery, people / "anna" / "0.png")
    # One stranger in a hundred searches through N people: FAR 1 - 0.99 ** (1 / N), between the two on a normal tail.
    size = len(GalleryTable.open(gallery))
    needed, mild, strict = (math.sqrt(-2 * math.log(far)) for far in (1 - 0.99 ** (1 / size), 1e-2, 1e-3))
    expected = 0.1 + (0.9999 - 0.1) * (needed - mild) / (strict - mild)
    assert result.threshold == pytest.approx(expected)
    assert f"a stranger is named in 1 % of searches through {size} people" in capsys.readouterr().err
    strict_one = identify(gallery, people / "anna" / "0.png", fpir=1e-5, quiet=True)
    assert strict_one.threshold == 1.0  # drawn on beyond what a cosine can be
    assert [face.person for face in strict_one.faces] == [None]
    (face,) = identify(gallery, people / "anna" / "0.png", threshold=0.1, quiet=True).faces
    assert face.person == "anna"


def test_answers_in_files_and_from_files(tmp_path: Path, people: Path, model: Path) -> None:
    gallery = enrolled(people, tmp_path / "g", model)
    embed(people, tmp_path / "e.npz", model=model, detector="none", quiet=True)
    from_photos = identify(gallery, people, threshold=0.9, out=tmp_path / "a.parquet", quiet=True)
    from_file = identify(gallery, tmp_path / "e.npz", threshold=0.9, out=tmp_path / "a.csv", quiet=True)
    assert [(f.source, f.crop_id, f.person) for f in from_photos.faces] == [
        (f.source, f.crop_id, f.person) for f in from_file.faces
    ]
    assert len(from_photos.faces) == 6
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["person"] for row in rows] == [face.person for face in from_photos.faces]
    assert (rows[0]["x1"], rows[0]["y2"]) == (0, 112)
    table = pyarrow.csv.read_csv(tmp_path / "a.csv")
    assert table["source"].to_pylist() == [face.source for face in from_file.faces]
    assert table["score"].to_pylist() == pytest.approx([face.score for face in from_file.faces])
    with pytest.raises(UserError, match=r"written as \.json, \.parquet or \.csv"):
        identify(gallery, people, threshold=0.9, out=tmp_path / "a.txt", quiet=True)


def test_unknown_people_are_an_answer_and_unreadable_photos_are_not(
    tmp_path: Path, people: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = enrolled(people, tmp_path / "g", model)
    save(tmp_path / "visitors" / "stranger.png", blocks(500))
    shutil.copy(people / "anna" / "0.png", tmp_path / "visitors" / "anna.png")
    command = ["identify", str(gallery), str(tmp_path / "visitors"), "--threshold"]
    assert run([*command, "1.0"]) == 0
    assert capsys.readouterr().out.count("unknown") == 2
    (tmp_path / "visitors" / "torn.png").write_bytes(b"\x89PNG torn")
    assert run([*command, "-1.0"]) == 1
    shown = capsys.readouterr()
    assert "2 of 2 faces named" in shown.out
    assert "torn.png: unreadable" in shown.err


def test_what_is_no_folder_of_people_or_no_gallery(tmp_path: Path, people: Path, model: Path) -> None:
    save(tmp_path / "flat" / "photo.png", blocks(1))
    with pytest.raises(UserError, match="none of its 1 photos lies in a folder named for a person"):
        enroll(tmp_path / "flat", tmp_path / "g", model=model, detector="none", quiet=True)
    with pytest.raises(UserError, match="no such model"):
        enroll(people, tmp_path / "g", model=tmp_path / "nothing", detector="none", quiet=True)
    with pytest.raises(UserError, match="no such file; leave --weights out"):
        enroll(people, tmp_path / "g", model=model, weights=tmp_path / "nothing.onnx", quiet=True)
    assert not (tmp_path / "g").exists()
    with pytest.raises(UserError, match="no gallery; make one"):
        identify(people, people, threshold=0.5, quiet=True)


def test_a_gallery_without_people_knows_nobody(
    tmp_path: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last person may have been erased, or refused: a job that asks it is answered."""
    model = write_model(tmp_path / "m.onnx", {1e-2: 0.1, 1e-3: 0.9999})
    gallery = tmp_path / "g"
    enroll(people, gallery, model=model, detector="none", accept_suspects=True, quiet=True)
    facekd.gallery_delete(str(gallery), *PEOPLE, quiet=True)
    for how in ({}, {"threshold": 0.3}):
        found = identify(gallery, people / "anna" / "0.png", out=tmp_path / "who.json", **how)
        assert found.exit_code == 0
        assert str(found) == "0.png: unknown, nobody is enrolled"
        assert "nobody is enrolled, so every face is unknown" in " ".join(capsys.readouterr().err.split())
        (row,) = json.loads((tmp_path / "who.json").read_text())["rows"]
        assert (row["verdict"], row["person"], row["score"]) == ("unknown", None, None)


def test_real_detection_from_photos_to_names(tmp_path: Path, model: Path) -> None:
    people = tmp_path / "people"
    for index in range(2):
        who = person(0, index)
        for photo in range(2):
            path = people / f"person-{index}" / f"{photo}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(render(who, 0, photo)))
    save(people / "person-0" / "wall.png", np.full((200, 300, 3), 128, np.uint8))
    gallery = tmp_path / "g"
    summary = enroll(people, gallery, model=model, quiet=True)
    assert summary.statuses == {"ok": 4, "no_face": 1}
    assert (summary.written, summary.exit_code) == (2, 1)
    bound = json.loads((gallery / "gallery.json").read_text())
    assert (bound["detector"], bound["weights"], bound["weights_sha256"]) == ("yunet", None, weights_digest("yunet"))

    # Two people side by side: each face is looked for, and answered by itself.
    left, right = (np.asarray(Image.open(people / f"person-{i}" / "0.jpg").convert("RGB")) for i in (0, 1))
    canvas = np.full((max(len(left), len(right)), left.shape[1] + right.shape[1], 3), 128, np.uint8)
    canvas[: len(left), : left.shape[1]] = left
    canvas[: len(right), left.shape[1] :] = right
    result = identify(gallery, save(tmp_path / "both.png", canvas), threshold=-1, quiet=True)
    middles = sorted((face.box[0] + face.box[2]) / 2 for face in result.faces if face.box)
    assert len(middles) == 2
    assert middles[0] < left.shape[1] < middles[1]
    assert {face.person for face in result.faces} <= {"person-0", "person-1"}
    nothing = identify(gallery, people / "person-0" / "wall.png", threshold=0.5, quiet=True)
    assert nothing.faces == ()
    assert [status for _, status, _ in nothing.without] == ["no_face"]
    assert nothing.exit_code == 0


def two_people(folder: Path) -> Path:
    for index in range(2):
        path = folder / f"person-{index}" / "0.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(render(person(0, index), 0, 0)))
    return folder


def test_a_gallery_keeps_its_detector_when_none_is_named(tmp_path: Path, model: Path) -> None:
    people, gallery = two_people(tmp_path / "people"), tmp_path / "g"
    enroll(people, gallery, model=model, detector="mtcnn", quiet=True)
    path = people / "person-0" / "1.jpg"
    path.write_bytes(jpeg(render(person(0, 0), 0, 1)))
    again = enroll(people, gallery, model=model, quiet=True)
    assert (again.embedded, again.statuses) == (1, {"ok": 3})
    bound = json.loads((gallery / "gallery.json").read_text())
    assert (bound["detector"], bound["weights_sha256"]) == ("mtcnn", None)
    assert len(identify(gallery, path, threshold=-1, quiet=True).faces) == 1
    with pytest.raises(UserError, match="enrolled with --detector mtcnn, not yunet"):
        enroll(people, gallery, model=model, detector="yunet", quiet=True)


def test_other_weights_of_the_detector_do_not_go_unnoticed(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people, gallery, file = two_people(tmp_path / "people"), tmp_path / "g", tmp_path / "yunet.onnx"
    shutil.copy(YUNET, file)
    enroll(people, gallery, model=model, weights=file, quiet=True)
    assert enroll(people, gallery, model=model, quiet=True).embedded == 0  # the gallery's own file again
    photo = people / "person-0" / "0.jpg"
    identify(gallery, photo, threshold=-1)
    assert "other weights" not in capsys.readouterr().err
    file.write_bytes(YUNET.read_bytes() + b"\x7a\x00")  # an empty field that nobody reads
    with pytest.raises(UserError, match="other weights of yunet") as error:
        enroll(people, gallery, model=model, quiet=True)
    assert "into a new gallery" in str(error.value)
    identify(gallery, photo, threshold=-1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "other weights" in line]
    assert "enroll everybody into a new gallery" in line
    with pytest.warns(UserWarning, match="other weights of yunet"):
        api.Gallery.open(gallery, api.Embedder.load(model)).identify(photo, threshold=-1)

    # A gallery of before digests were kept opens, and takes the first that comes.
    meta = json.loads((gallery / "gallery.json").read_text())
    del meta["weights_sha256"]
    (gallery / "gallery.json").write_text(json.dumps(meta))
    assert enroll(people, gallery, model=model, quiet=True).exit_code == 0
    assert json.loads((gallery / "gallery.json").read_text())["weights_sha256"] == weights_digest("yunet", file)
