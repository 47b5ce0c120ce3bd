"""The three lines of Python that the README shows, and what stands behind them."""

from __future__ import annotations

import io
import itertools
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from people import NEAR, SIZE, pattern, save, write_model, write_people
from PIL import Image
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import facekd
import facekd.api
from facekd import Embedder, FaceTransformer, Gallery
from facekd.errors import UserError
from facekd.photos.synth import jpeg, person, render

README = Path(__file__).parents[1] / "README.md"
LINES = """from facekd import Embedder, Gallery
embedder = Embedder.load("model.onnx")
Gallery.open("people.gallery", embedder).enroll("photos/")
print(Gallery.open("people.gallery", embedder).identify("who.jpg"))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", {1e-2: 0.5, 1e-3: NEAR})


@pytest.fixture
def embedder(model: Path) -> Embedder:
    loaded = Embedder.load(model)
    assert isinstance(loaded, Embedder)
    return loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_people(tmp_path / "photos")


def examples() -> dict[str, str]:
    """The lines of the issue, and every Python block of the README and the package that begins from facekd itself."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    blocks += [re.sub(r"(?m)^    ", "", (facekd.api.__doc__ or "").split("For example:")[1]).strip()]
    found = {f"block {n}": text for n, text in enumerate(blocks) if "from facekd import" in text}
    assert found
    return {"issue": LINES, **found}


@pytest.mark.parametrize("name", examples())
def test_the_lines_run_as_written(name: str, tmp_path: Path) -> None:
    """On photos with faces to be found, in a process that knows nothing else."""
    write_model(tmp_path / "model.onnx", {1e-3: 0.9999})
    for number in (0, 1):
        for folder in ("photos", "people"):
            path = tmp_path / folder / f"person-{number}" / "badge.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(render(person(0, number), 0, 0)))
    (tmp_path / "who.jpg").write_bytes((tmp_path / "photos" / "person-1" / "badge.jpg").read_bytes())
    for name_used in re.findall(r'"([\w./-]+\.(?:jpg|png))"', examples()[name]):
        (tmp_path / name_used).write_bytes((tmp_path / "who.jpg").read_bytes())
    command = [sys.executable, "-W", "error::UserWarning:facekd", "-c", examples()[name]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if "identify(" in examples()[name]:
        assert "who.jpg: person-1, score 1.0000\n" in done.stdout
    assert done.stderr == ""


def test_importing_facekd_loads_nothing() -> None:
    code = "import sys, facekd; print(*(n for n in ('torch', 'numpy', 'lancedb', 'onnxruntime') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert set(facekd.__all__) == {"Embedder", "FaceTransformer", "Gallery"}
    with pytest.raises(AttributeError, match="no attribute 'Gallary'"):
        facekd.Gallary  # noqa: B018  # the access is the test


def test_photos_have_a_status_and_never_an_exception(tmp_path: Path, folder: Path, embedder: Embedder) -> None:
    paths = [folder / "p00" / "0.png", tmp_path / "torn.png", folder / "p01" / "0.png"]
    paths[1].write_bytes(b"\x89PNG torn")
    one, torn, two = embedder.embed_photos(paths, detector="none")
    assert (one.status, one.ok, one.source) == ("ok", True, str(paths[0]))
    assert (torn.status, torn.ok, torn.vectors.shape, torn.boxes.shape) == ("unreadable", False, (0, 48), (0, 4))
    assert torn.reason
    np.testing.assert_array_equal(one.boxes, [[0, 0, SIZE, SIZE]])
    # The very embeddings of the crops, up to the JPEG that crops are kept as.
    wanted = embedder.embed(np.stack([pattern(0), pattern(1)]))
    np.testing.assert_allclose(np.concatenate([one.vectors, two.vectors]), wanted, atol=0.02)
    assert [photo.source for photo in embedder.embed_photos(folder, detector="none")][:2] == ["p00/0.png", "p00/1.png"]
    with pytest.raises(UserError, match="no such file or folder; check the path"):
        embedder.embed_photos(tmp_path / "missing.png", detector="none")
    (missing,) = embedder.embed_photos([tmp_path / "missing.png"], detector="none")
    assert (missing.source, missing.status) == (str(tmp_path / "missing.png"), "unreadable")
    assert missing.reason == "no such photo; check the path"


def test_a_photo_without_a_face(tmp_path: Path, embedder: Embedder) -> None:
    wall = save(tmp_path / "wall.png", np.full((120, 160, 3), 128, np.uint8))
    face = tmp_path / "face.jpg"
    face.write_bytes(jpeg(render(person(0, 0), 0, 0)))
    found, nothing = embedder.embed_photos([face, wall])
    assert (found.status, nothing.status) == ("ok", "no_face")
    verdict = embedder.compare(face, wall)
    assert (verdict.score, verdict.same) == (-np.inf, False)
    assert str(verdict).startswith(f"no match: {wall}: no_face, ")


def test_photos_in_memory_are_taken_wherever_paths_are(tmp_path: Path, folder: Path, embedder: Embedder) -> None:
    path = folder / "p01" / "0.png"
    gallery = Gallery.open(tmp_path / "g", embedder)
    gallery.enroll(folder, detector="none")
    (wanted,) = embedder.embed_photos(path, detector="none")
    for one in (path.read_bytes(), io.BytesIO(path.read_bytes()), np.asarray(Image.open(path)), Image.open(path)):
        (found,) = embedder.embed_photos(one, detector="none")
        np.testing.assert_array_equal(found.vectors, wanted.vectors)
        assert found.source == "photo"
    kinds = [path, path.read_bytes(), np.asarray(Image.open(path)), Image.open(path)]
    several = embedder.embed_photos(kinds, detector="none")
    assert [one.source for one in several] == [str(path), "photos[1]", "photos[2]", "photos[3]"]
    assert embedder.compare(np.asarray(Image.open(path)), path.read_bytes(), detector="none").score == pytest.approx(1)
    assert [face.person for face in gallery.identify(kinds).faces] == ["p01"] * 4
    batch = np.stack([np.asarray(Image.open(path))] * 2)
    assert [one.source for one in embedder.stream(batch, detector="none")] == ["photos[0]", "photos[1]"]
    (torn,) = embedder.embed_photos([b"\x89PNG torn"], detector="none")
    assert (torn.status, torn.source) == ("unreadable", "photos[0]")
    with pytest.raises(TypeError, match=r"photos\[0\] is a int"):
        embedder.embed_photos([3])  # type: ignore[list-item]


def test_a_stream_is_taken_as_it_is_needed(folder: Path, embedder: Embedder) -> None:
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield folder / "p00" / f"{number % 3}.png"

    stream = embedder.stream(endless(), detector="none")
    assert taken == []
    first = list(itertools.islice(stream, 40))
    assert all(photo.ok for photo in first)
    np.testing.assert_array_equal(first[0].vectors, first[3].vectors)
    assert len(taken) < 1000
    stream.close()


def test_comparing_two_photos(tmp_path: Path, folder: Path, embedder: Embedder) -> None:
    a, b, c = (folder / name for name in ("p00/0.png", "p00/1.png", "p01/0.png"))
    same = embedder.compare(a, b, detector="none")
    assert (same.same, same.threshold, same.far) == (True, NEAR, 1e-3)
    one, two = embedder.embed_photos([a, b], detector="none")
    assert same.score == pytest.approx(float(one.vectors[0] @ two.vectors[0]), abs=1e-6)
    assert str(same) == f"the same person: score {same.score:.4f}, threshold 0.8000, calibrated to a FAR of 0.001"
    other = embedder.compare(a, c, far=0.01, detector="none")
    assert (other.same, other.threshold) == (False, 0.5)
    strict = Embedder.load(write_model(tmp_path / "strict.onnx", {1e-2: 0.5, 1e-3: NEAR, 1e-6: 0.99}))
    assert (strict.compare(a, b, detector="none").far, strict.compare(a, b, detector="none").threshold) == (1e-3, NEAR)
    assert embedder.compare(a, c, threshold=-1, detector="none").same
    for wrong in ({"threshold": 2.0}, {"threshold": 0.5, "far": 0.1}):
        with pytest.raises(UserError, match="give a cosine"):
            embedder.compare(a, b, detector="none", **wrong)
    with pytest.raises(UserError, match=r"carries thresholds at FAR 0\.001, 0\.01.*at FAR 1e-06.*facekd export"):
        embedder.compare(a, b, far=1e-6)
    with pytest.raises(UserError, match=r"carries no threshold.*'facekd export --thresholds', or give threshold="):
        Embedder.load(write_model(tmp_path / "plain.onnx")).compare(a, b)


def test_a_gallery_in_python_is_the_one_of_the_command_line(tmp_path: Path, folder: Path, embedder: Embedder) -> None:
    gallery = Gallery.open(tmp_path / "g", embedder)
    assert len(gallery) == 0
    assert not (tmp_path / "g").exists()
    summary = gallery.enroll(folder, detector="none")
    assert summary.new == ("p00", "p01", "p02", "p03")
    assert "people new: 4" in str(summary)
    assert len(gallery) == 4
    answer = gallery.identify([folder / "p01" / "2.png", save(tmp_path / "who.png", pattern(50))])
    assert [face.person for face in answer.faces] == ["p01", None]
    assert str(answer).splitlines()[0].startswith(f"{folder / 'p01' / '2.png'}: p01, score 0.99")
    assert gallery.delete("p01")
    assert not gallery.delete("p01")
    assert gallery.identify(folder / "p01" / "2.png").faces[0].person is None
    other = Embedder.load(write_model(tmp_path / "other.onnx", weights="others"))
    with pytest.raises(UserError, match="can't be compared"):
        Gallery.open(tmp_path / "g", other)
    with pytest.raises(UserError, match="no gallery; make one"):
        Gallery.open(tmp_path / "nowhere", embedder).identify(folder)


def test_what_was_held_back_is_never_silent(folder: Path, tmp_path: Path, embedder: Embedder) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    with pytest.warns(UserWarning, match="2 people were held back as suspected mix-ups and 0 could not be enrolled"):
        summary = Gallery.open(tmp_path / "g", embedder).enroll(folder, detector="none")
    assert "held back: twin" in str(summary)
    with pytest.warns(UserWarning, match="2 people"):
        Gallery.open(tmp_path / "g", embedder).enroll(folder, detector="none")


def test_the_transformer_is_a_step_of_a_pipeline(tmp_path: Path, folder: Path, model: Path, embedder: Embedder) -> None:
    paths = sorted(folder.rglob("*.png"))
    names = [path.parent.name for path in paths]
    step = FaceTransformer(model, detector="none")
    pipeline = make_pipeline(step, KNeighborsClassifier(1)).fit(paths[:-1], names[:-1])
    assert pipeline.predict(paths).tolist() == names
    assert pipeline.predict([str(save(tmp_path / "new.png", pattern(2, 70)))]).tolist() == ["p02"]
    crops = np.stack([pattern(number, 80) for number in range(4)])
    assert pipeline.predict(crops).tolist() == ["p00", "p01", "p02", "p03"]
    np.testing.assert_allclose(step.transform(crops), embedder.embed(crops), atol=1e-6)
    copied = clone(step)
    assert copied.get_params() == step.get_params()
    assert not hasattr(copied, "model_id_")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(step)).transform(crops), step.transform(crops))
    assert step.get_feature_names_out()[0] == "facetransformer0"
    assert step.set_params(min_face=30).min_face == 30


def test_the_transformer_says_which_photo_has_no_face(tmp_path: Path, folder: Path, model: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"no photo")
    step = FaceTransformer(str(model), detector="none").fit([])
    rows = step.transform([folder / "p00" / "0.png", tmp_path / "torn.png"])
    assert step.statuses_ == ["ok", "unreadable"]
    assert np.isnan(rows).all(axis=1).tolist() == [False, True]
    with pytest.raises(UserError, match="no such model"):
        FaceTransformer(tmp_path / "missing.onnx").fit([])
