"""What a service asks of the embedder and the gallery: anything for a photo, threads, forks, and no growing memory."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from people import NEAR, contents, enrolled, pattern, write_model, write_people
from PIL import Image

from facekd import Embedder, Gallery
from facekd.core.types import Embeddings
from facekd.errors import BusyError, UserError
from facekd.gallery import audit
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.photos import PhotoTable
from facekd.gallery.place import Place


@pytest.fixture
def embedder(tmp_path: Path) -> Embedder:
    loaded = Embedder.load(write_model(tmp_path / "model.onnx", {1e-3: NEAR}))
    assert isinstance(loaded, Embedder)
    return loaded


@pytest.fixture
def gallery(tmp_path: Path, embedder: Embedder) -> Gallery:
    found = Gallery.open(tmp_path / "g", embedder)
    found.enroll(write_people(tmp_path / "photos"), detector="none")
    return found


def png(number: int, photo: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pattern(number, photo)).save(file, "PNG")
    return file.getvalue()


def vector(embedder: Embedder, number: int, photo: int = 0) -> np.ndarray:
    return embedder.embed(pattern(number, photo)[None])[0]


def in_child(call: Callable[[], None]) -> int:
    """The exit code of a forked process that does `call`; it has 30 seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LanceDB's, and Python's of threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(30)
            call()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def rows(gallery: Gallery) -> set[str]:
    """The photos that the gallery knows anything of."""
    table = PhotoTable(Place.of(gallery.path), 48).table
    return set(table.search().select(["source"]).to_arrow()["source"].to_pylist())


def test_ready_embeddings_are_taken_wherever_photos_are(embedder: Embedder, gallery: Gallery) -> None:
    seen = vector(embedder, 1, 9)
    photo, ready, torn, short, nan = embedder.embed_photos(
        [png(1, 9), seen, b"no photo", seen[:7], seen * np.nan], detector="none"
    )
    assert [one.status for one in (photo, ready, torn, short, nan)] == [
        "ok", "ok", "unreadable", "no_embedding", "no_embedding",
    ]  # fmt: skip
    np.testing.assert_array_equal(ready.vectors, seen[None])
    np.testing.assert_allclose(photo.vectors, ready.vectors, atol=0.02)  # the photo's crop went through a JPEG
    assert (ready.source, ready.boxes.shape, short.vectors.shape) == ("photos[1]", (0, 4), (0, 48))
    assert short.reason == "an embedding of this model is 48 finite numbers of unit norm, and this one is not"
    many = np.stack([vector(embedder, number) for number in range(4)])
    assert [face.person for face in gallery.identify(many).faces] == ["p00", "p01", "p02", "p03"]
    named = Embeddings(many, ("a", "b", "c", "d"), embedder.model_id)
    assert [face.source for face in gallery.identify(named).faces] == ["a", "b", "c", "d"]
    answer = gallery.identify(seen.astype(np.float64))
    assert (answer.faces[0].person, answer.faces[0].box) == ("p01", None)
    assert embedder.compare(seen, png(1, 9), detector="none").score == pytest.approx(1, abs=1e-3)
    with pytest.raises(UserError, match=r"embeddings of model other, and the embedder is of model .*can't be compared"):
        gallery.identify(Embeddings(many, ("a", "b", "c", "d"), "other"))
    with pytest.raises(UserError, match=r"an array of float32\[32, 32, 3\]"):
        embedder.embed_photos(pattern(0).astype(np.float32))


def test_one_bad_item_is_an_answer(tmp_path: Path, gallery: Gallery) -> None:
    bad = [tmp_path / "gone.png", b"", np.zeros((3, 3, 7), np.uint8), io.StringIO("text"), Image.new("F", (9, 9))]
    answer = gallery.identify([png(0), *bad, png(2)])
    assert [face.person for face in answer.faces] == ["p00", "p02"]
    assert [photo.source for photo in answer.without] == [str(bad[0]), *(f"photos[{place}]" for place in range(2, 6))]
    assert {photo.status for photo in answer.without} == {"unreadable"}
    assert all(photo.reason for photo in answer.without)
    assert answer.exit_code == 1
    with pytest.raises(TypeError, match=r"photos\[1\] is a NoneType: give a path"):
        gallery.identify([png(0), None])  # type: ignore[list-item]


def test_people_are_enrolled_from_memory(tmp_path: Path, embedder: Embedder, gallery: Gallery) -> None:
    folder = tmp_path / "photos"
    fresh = Gallery.open(tmp_path / "fresh", embedder)
    people = {
        "p00": [folder / "p00" / f"{photo}.png" for photo in range(3)],
        "p01": [(folder / "p01" / f"{photo}.png").read_bytes() for photo in range(3)],
        "p02": [pattern(2, photo) for photo in range(3)],
        "p03": [
            Image.fromarray(pattern(3, 0)),
            io.BytesIO((folder / "p03" / "1.png").read_bytes()),
            folder / "p03" / "2.png",
        ],
    }
    assert fresh.enroll(people, detector="none").new == ("p00", "p01", "p02", "p03")
    expected, found = contents(tmp_path / "g"), contents(tmp_path / "fresh")
    for person, (template, sources, _) in expected.items():
        # A photo's weight and place in the sum are its bytes' and not its name's.
        np.testing.assert_array_equal(np.frombuffer(template, "f4"), np.frombuffer(found[person][0], "f4"))
        assert len(found[person][1]) == len(sources) == 3
    assert all(source.startswith("photo-") for source in found["p01"][1])
    people["p03"][1] = (folder / "p03" / "1.png").read_bytes()
    again = fresh.enroll(people, detector="none")
    assert (again.embedded, again.written) == (0, 0)
    assert contents(tmp_path / "fresh") == found
    assert not (tmp_path / "fresh" / "run.yaml").exists()  # nothing that a later command could repeat
    more = fresh.enroll({"p00": pattern(0, 7), "new": vector(embedder, 8)}, detector="none")
    assert (more.new, more.changed) == (("new",), ("p00",))
    assert [face.person for face in fresh.identify([png(8), png(0, 8)]).faces] == ["new", "p00"]
    with pytest.raises(UserError, match="nobody to enroll"):
        fresh.enroll({})
    for wrong in ("", " a", "a\nb", "x" * 201, "\ud800"):
        with pytest.raises(UserError, match="a person's id"):
            fresh.enroll({wrong: png(0)})


def test_what_is_held_back_leaves_nothing(tmp_path: Path, embedder: Embedder, gallery: Gallery) -> None:
    before, known = contents(gallery.path), rows(gallery)
    with pytest.warns(UserWarning, match="1 people were held back"):
        summary = gallery.enroll({"twin": png(3, 40)})
    assert (summary.held_back, summary.suspects[0].other) == (("twin",), "p03")
    with pytest.warns(UserWarning, match="1 could not be enrolled"):
        assert gallery.enroll({"nobody": b"no photo"}).not_enrolled == ("nobody",)
    summary = gallery.enroll({"p00": [png(50), png(0, 8)]})  # another's photo beside four of their own
    assert [suspect.kind for suspect in summary.suspects] == ["two_people"]
    assert {person: sources for person, (_, sources, _) in contents(gallery.path).items() if person != "p00"} == {
        person: sources for person, (_, sources, _) in before.items() if person != "p00"
    }
    assert len(contents(gallery.path)["p00"][1]) == 4
    assert len(rows(gallery) - known) == 1
    # And so the next good photo of the same person is taken as if nothing had been.
    assert gallery.enroll({"twin": png(60)}).new == ("twin",)


def test_a_photo_of_a_known_person_is_verified(embedder: Embedder, gallery: Gallery) -> None:
    yes, no = gallery.verify("p01", png(1, 9)), gallery.verify("p01", pattern(2))
    assert (yes.same, yes.threshold, yes.far) == (True, NEAR, 1e-3)
    template = GalleryTable.open(gallery.path).people(["p01"])["p01"].template
    assert yes.score == pytest.approx(float(template @ vector(embedder, 1, 9)), abs=1e-3)
    assert (no.same, no.reason) == (False, "")
    assert gallery.verify("p01", vector(embedder, 1, 9)).score == pytest.approx(yes.score, abs=1e-3)
    torn = gallery.verify("p01", b"no photo")
    assert (torn.same, torn.score) == (False, -np.inf)
    assert torn.reason.startswith("photos[0]: unreadable")
    assert not gallery.verify("p01", png(1, 9), threshold=0.9999).same
    with pytest.raises(UserError, match="nobody called p99 is enrolled"):
        gallery.verify("p99", png(1))
    events = [entry["event"] for entry in audit.read(Place.of(gallery.path)).entries]
    assert events.count("same") == 5
    assert "p01" not in (gallery.path / "audit.jsonl").read_text()


def test_a_gallery_that_stays_open_sees_what_others_do(tmp_path: Path, embedder: Embedder, gallery: Gallery) -> None:
    model = tmp_path / "model.onnx"
    assert gallery.identify(png(20)).faces[0].person is None
    enrolled(write_people(tmp_path / "more", 1, first=20), gallery.path, model)
    assert gallery.identify(png(20)).faces[0].person == "p20"
    assert len(gallery) == 5
    Gallery.open(gallery.path, embedder).delete("p20")
    assert gallery.identify(png(20)).faces[0].person is None
    for path in sorted(gallery.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    gallery.path.rmdir()
    with pytest.raises(UserError, match="no gallery"):
        gallery.identify(png(20))
    enrolled(tmp_path / "more", gallery.path, model)
    assert gallery.identify([png(20), png(0)]).faces[0].person == "p20"
    with GalleryTable.open(gallery.path).writing(), pytest.raises(BusyError, match="another command is writing it"):
        gallery.enroll({"late": png(30)})


def test_threads_share_a_gallery_while_it_changes(gallery: Gallery) -> None:
    """Twelve threads name faces while another one enrolls and erases: each answer is right and none is an error."""

    def name(number: int) -> list[str | None]:
        return [face.person for face in gallery.identify([png(number % 4, 5), png(99)]).faces]

    def change() -> None:
        for round_ in range(4):
            gallery.enroll({"passing": png(40 + round_)})
            gallery.delete("passing")

    with ThreadPoolExecutor(13) as pool:
        changing = pool.submit(change)
        for number, found in enumerate(pool.map(name, range(160))):
            assert found == [f"p{number % 4:02d}", None]
        changing.result()
    assert len(gallery) == 4
    mask = os.umask(0o022)
    os.umask(mask)
    assert mask == 0o022
    assert all(path.stat().st_mode & 0o077 == 0 for path in gallery.path.rglob("*"))


def test_a_process_that_forks_may_open_a_gallery_before(tmp_path: Path, gallery: Gallery) -> None:
    """As a server does that loads everything once and then forks its workers; in a process that has used none yet."""
    (tmp_path / "probe.png").write_bytes(png(2))
    (tmp_path / "new.png").write_bytes(png(30))
    code = """
import os, signal, sys, warnings
from pathlib import Path
from facekd import Embedder, Gallery
warnings.simplefilter("ignore")
embedder = Embedder.load("model.onnx")
gallery = Gallery.open("g", embedder)
photo, new = Path("probe.png").read_bytes(), Path("new.png").read_bytes()
embedder.embed_photos(photo, detector="none")

def work(number):
    signal.alarm(60)
    assert gallery.identify(photo).faces[0].person == "p02"
    assert gallery.verify("p02", photo).same
    if number == 0:
        gallery.enroll({"of a child": new})

children = []
for number in range(4):
    children.append(os.fork())
    if children[-1] == 0:
        code = 1
        try:
            work(number)
            code = 0
        finally:
            os._exit(code)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(codes, gallery.identify(new).faces[0].person)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 0, 0, 0] of a child\n"


def test_a_fork_of_a_process_that_used_a_gallery_is_refused_its_own(embedder: Embedder, gallery: Gallery) -> None:
    """LanceDB would hang or die there, now and then."""
    assert gallery.identify(png(1)).faces[0].person == "p01"

    def child() -> None:
        for use in (lambda: gallery.identify(png(1)), lambda: gallery.enroll({"new": png(30)}), lambda: len(gallery)):
            with pytest.raises(UserError, match="use galleries only after the fork, or start processes by 'spawn'"):
                use()
        assert embedder.embed_photos(png(2), detector="none")[0].ok

    assert in_child(child) == 0


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_calls(gallery: Gallery, embedder: Embedder) -> None:
    photo, ready = png(1, 3), vector(embedder, 2)

    def calls(count: int) -> None:
        for _ in range(count // 4):
            assert gallery.identify(photo).faces[0].person == "p01"
            assert gallery.verify("p02", ready).same
            assert embedder.embed_photos(photo, detector="none")[0].ok
            assert not embedder.compare(photo, ready, detector="none").same

    calls(1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls(9000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 0.05 * before
