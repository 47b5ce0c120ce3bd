"""What the server answers, asked by a real client: the same as the command line, in JSON with the right status."""

from __future__ import annotations

import io
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from people import NEAR, contents, enrolled, pattern, write_model, write_people
from PIL import Image
from served import Served, form, serving

from facekd import Embedder, Gallery
from facekd.gallery import audit
from facekd.gallery.decisions import Remembered
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.photos import PhotoTable
from facekd.gallery.place import Place


def png(number: int, photo: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pattern(number, photo)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    enrolled(
        write_people(folder / "people"), folder / "g", write_model(folder / "model.onnx", {1e-3: NEAR, 1e-2: 0.75})
    )
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Served]:
    with serving(home / "g", home / "log") as served:
        yield served


@pytest.fixture(scope="module")
def here(home: Path) -> Gallery:
    """The same gallery without a server."""
    return Gallery.open(home / "g", Embedder.load(home / "model.onnx"))


def known_photos(home: Path) -> set[tuple[str, str]]:
    table = PhotoTable(Place.of(home / "g"), 48).table.search().select(["person_id", "source"]).to_arrow()
    return set(zip(table["person_id"].to_pylist(), table["source"].to_pylist(), strict=True))


def test_faces_are_named_as_by_the_command_line(server: Served, here: Gallery) -> None:
    photos = [png(1, 7), png(2, 8), png(50)]
    expected = here.identify(photos)
    said = server.form("/identify", *photos)
    assert said.status == 200
    assert (said.json["threshold"], said.json["people"]) == (expected.threshold, 4)
    assert [photo["status"] for photo in said.json["photos"]] == ["ok"] * 3
    faces = [face for photo in said.json["photos"] for face in photo["faces"]]
    assert [face["person"] for face in faces] == ["p01", "p02", None]
    assert [face["verdict"] for face in faces] == ["known", "known", "unknown"]
    assert [face["score"] for face in faces] == pytest.approx([face.score for face in expected.faces])
    assert faces[0]["box"] == [0, 0, 32, 32]
    assert (faces[2]["candidates"], faces[0]["candidates"][0]["person"]) == ([], "p01")
    alone = server.ask("/identify?top=3", png(1, 7), "image/png")
    (photo,) = alone.json["photos"]
    assert (photo["width"], photo["height"]) == (32, 32)
    assert photo["faces"][0]["score"] == faces[0]["score"]
    assert len(photo["faces"][0]["candidates"]) == 3


def test_embeddings_are_those_of_the_embedder(server: Served, here: Gallery) -> None:
    said = server.form("/embed", png(1), b"no photo", png(2))
    assert said.status == 200
    assert said.json["model_id"] == here.embedder.model_id
    one, torn, two = said.json["photos"]
    assert (torn["status"], torn["faces"], torn["width"]) == ("unreadable", [], None)
    assert torn["reason"]
    wanted = here.embedder.embed_photos([png(1), png(2)], detector="none")
    for photo, expected in zip((one, two), wanted, strict=True):
        (face,) = photo["faces"]
        np.testing.assert_allclose(face["embedding"], expected.vectors[0], atol=1e-7)


def test_two_photos_or_a_photo_and_a_person_are_compared(server: Served, here: Gallery) -> None:
    yes, no = server.form("/compare", png(1), png(1, 5)).json, server.form("/compare", png(1), png(2)).json
    assert (yes["same"], yes["threshold"], yes["far"], yes["reason"]) == (True, NEAR, 1e-3, "")
    assert yes["score"] == pytest.approx(here.embedder.compare(png(1), png(1, 5), detector="none").score, abs=1e-6)
    assert no["same"] is False
    assert server.form("/compare?far=0.01", png(1), png(1, 5)).json["threshold"] == 0.75
    assert server.form("/compare?threshold=0.9999", png(1), png(1, 5)).json["same"] is False
    known = server.form("/compare", png(1, 5), fields={"person": "p01"}).json
    assert known["score"] == pytest.approx(here.verify("p01", png(1, 5)).score, abs=1e-6)
    half = server.form("/compare", png(1), b"no photo").json
    assert (half["same"], half["score"]) == (False, None)
    assert half["reason"].startswith("photo 2: unreadable, ")
    for status, answer in {
        404: server.form("/compare", png(1), fields={"person": "nobody"}),
        422: server.form("/compare", png(1)),
    }.items():
        assert answer.status == status
        assert answer.error
    assert server.form("/compare?far=0.5", png(1), png(1)).error.startswith(str(here.path))
    assert server.form("/compare", png(1), png(2), fields={"person": "p01"}).status == 422


def test_people_are_enrolled_and_erased(server: Served, home: Path) -> None:
    known = known_photos(home)
    new = server.form("/enroll", png(20), png(20, 1), fields={"person": "Ångström/../x"})
    assert (new.status, new.json["outcome"], new.json["people"]) == (200, "new", 5)
    assert new.json["threshold"] == server.form("/identify", png(20)).json["threshold"]
    assert [photo["status"] for photo in new.json["photos"]] == ["ok", "ok"]
    person = new.json["person"]
    assert person == unicodedata.normalize("NFC", "Ångström/../x")
    assert server.form("/identify", png(20, 9)).json["photos"][0]["faces"][0]["person"] == person
    again = server.form("/enroll", png(20), fields={"person": unicodedata.normalize("NFD", person)})
    assert (again.json["outcome"], again.json["person"]) == ("unchanged", person)
    assert server.form("/enroll", png(20, 3), fields={"person": person}).json["outcome"] == "changed"
    assert len(contents(home / "g")[person][1]) == 3
    gone = server.form("/delete", fields={"person": person})
    assert (gone.status, gone.json["person"]) == (200, person)
    assert server.form("/identify", png(20, 9)).json["photos"][0]["faces"][0]["person"] is None
    log = (home / "g" / "audit.jsonl").read_text()
    assert gone.json["receipt"] in log
    assert server.form("/delete", fields={"person": person}).status == 404
    assert known_photos(home) == known
    assert not any(person.encode() in path.read_bytes() for path in (home / "g").rglob("*") if path.is_file())
    assert not list(home.rglob("x"))


def test_a_mix_up_is_held_back_and_leaves_nothing(server: Served, home: Path) -> None:
    before, known = contents(home / "g"), known_photos(home)
    twin = server.form("/enroll", png(3, 40), fields={"person": "twin"})
    assert twin.status == 409
    assert "held back as a suspected mix-up: looks like p03, who is enrolled" in twin.error
    assert twin.json["person"] == "twin"
    assert [photo["status"] for photo in twin.json["photos"]] == ["held_back"]
    assert [(one["kind"], one["other"]) for one in twin.json["suspects"]] == [("two_ids", "p03")]
    odd = server.form("/enroll", png(60), fields={"person": "p00"})
    assert odd.status == 409
    assert [(one["kind"], one["photo"]) for one in odd.json["suspects"]] == [("two_people", 0)]
    two = server.form("/enroll", png(70), png(71), fields={"person": "both"})
    assert (two.status, len(two.json["photos"])) == (409, 2)
    useless = server.form("/enroll", b"no photo", fields={"person": "blank"})
    assert useless.status == 422
    assert useless.json["photos"][0]["status"] == "unreadable"
    assert contents(home / "g") == before
    assert known_photos(home) == known
    mixed = server.form("/enroll", png(0, 9), png(61), fields={"person": "p00"})
    assert (mixed.status, [photo["status"] for photo in mixed.json["photos"]]) == (200, ["ok", "suspect"])
    right = server.form("/enroll", png(3, 40), fields={"person": "twin", "accept_suspects": "true"})
    assert (right.status, right.json["outcome"], right.json["suspects"][0]["other"]) == (200, "new", "p03")
    assert server.form("/delete", fields={"person": "twin"}).status == 200


def test_the_gallery_is_read_as_it_is_now(server: Served, home: Path, tmp_path: Path) -> None:
    """Another process enrolls and erases beside the server."""
    probe = png(30, 9)
    assert server.form("/identify", probe).json["photos"][0]["faces"][0]["person"] is None
    enrolled(write_people(tmp_path / "more", 1, first=30), home / "g", home / "model.onnx")
    assert server.form("/identify", probe).json["photos"][0]["faces"][0]["person"] == "p30"
    with ThreadPoolExecutor(8) as pool:  # answers while everything is written anew
        asked = [pool.submit(server.form, "/identify", png(1, 9), probe) for _ in range(60)]
        Gallery.open(home / "g", Embedder.load(home / "model.onnx")).delete("p30")
        for said in (one.result() for one in asked):
            assert said.status == 200
            assert said.json["photos"][0]["faces"][0]["person"] == "p01"
    assert server.form("/identify", probe).json["photos"][0]["faces"][0]["person"] is None


def test_an_enrollment_waits_for_another_command(server: Served, home: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with GalleryTable.open(home / "g").writing():
            waiting = pool.submit(server.form, "/enroll", png(33), fields={"person": "late"})
            time.sleep(1)
            assert not waiting.done()
            assert server.form("/identify", png(1)).status == 200
        assert waiting.result().json["outcome"] == "new"
    assert server.form("/delete", fields={"person": "late"}).status == 200


@pytest.mark.slow
def test_an_enrollment_that_waits_too_long_is_told_when_to_ask_again(server: Served, home: Path) -> None:
    with GalleryTable.open(home / "g").writing():
        said = server.form("/enroll", png(33), fields={"person": "late"})
    assert (said.status, said.headers["retry-after"]) == (503, "30")
    assert said.error == "another command is writing the gallery; send this again when it is done"


def test_sixteen_clients_at_once_get_their_own_answers(server: Served) -> None:
    def asked(number: int) -> list[str | None]:
        said = server.form("/identify", png(number % 4, number), png(80 + number))
        assert said.status == 200
        return [photo["faces"][0]["person"] for photo in said.json["photos"]]

    with ThreadPoolExecutor(16) as pool:
        for number, found in enumerate(pool.map(asked, range(160))):
            assert found == [f"p{number % 4:02d}", None]


def test_enrollments_at_once_are_all_done(server: Served, home: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(lambda n: server.form("/enroll", png(n), fields={"person": f"new {n}"}), range(90, 96)))
    assert [one.status for one in said] == [200] * 6
    assert {f"new {n}" for n in range(90, 96)} <= contents(home / "g").keys()
    for number in range(90, 96):
        assert server.form("/delete", fields={"person": f"new {number}"}).status == 200


@pytest.mark.parametrize(
    ("status", "path", "photos", "fields"),
    [
        (400, "/identify", [b"no photo"], {}),
        (400, "/identify", [b""], {}),
        (400, "/embed", [b"\x89PNG torn", b"GIF89a"], {}),
        (422, "/identify", [], {}),
        (422, "/identify?top=0", [b"-"], {}),
        (422, "/identify?top=many", [b"-"], {}),
        (422, "/embed?choose=all_of_them", [b"-"], {}),
        (422, "/identify", [b"-"], {"colour": "red"}),
        (422, "/compare?threshold=2", [b"-", b"-"], {}),
        (422, "/compare?threshold=0.5&far=0.1", [b"-", b"-"], {}),
        (422, "/enroll", [b"-"], {}),
        (422, "/enroll", [], {"person": "a"}),
        (422, "/enroll", [b"-"], {"person": ""}),
        (422, "/enroll", [b"-"], {"person": "a\x00b"}),
        (422, "/enroll", [b"-"], {"person": "x" * 201}),
        (422, "/enroll", [b"-"], {"person": "a", "accept_suspects": "perhaps"}),
        (422, "/delete", [], {}),
        (413, "/delete", [b"-"], {"person": "p00"}),
        (413, "/compare", [b"-", b"-", b"-"], {}),
        (404, "/nowhere", [b"-"], {}),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    server: Served, home: Path, status: int, path: str, photos: list[bytes], fields: dict[str, str]
) -> None:
    before = contents(home / "g")
    said = server.form(path, *photos, fields=fields)
    assert said.status == status, said.body
    assert said.error
    assert said.headers["content-type"] == "application/json"
    assert contents(home / "g") == before


def test_a_form_names_its_parts(server: Served) -> None:
    body, kind = form([png(1)], {"person": "a"})
    for path in ("/identify", "/embed", "/enroll"):
        said = server.ask(path, body.replace(b'name="photo"', b'name="image"'), kind)
        assert (said.status, said.error) == (422, "a file of the name 'image'; a photo's name is 'photo'")
    twice = body[: body.index(b"\r\n") + 2] + b'Content-Disposition: form-data; name="person"\r\n\r\nb\r\n' + body
    said = server.ask("/enroll", twice, kind)
    assert (said.status, said.error) == (422, "the field 'person' twice; send it once")


def test_bodies_that_are_no_photo_are_refused(server: Served) -> None:
    assert server.ask("/identify", b"x", "text/plain").status == 415
    assert server.ask("/identify", b"x", "application/x-www-form-urlencoded").status == 415
    assert server.ask("/identify", b"x", "multipart/form-data").status == 400
    torn = server.ask("/identify", b"--edge\r\nnonsense", "multipart/form-data; boundary=edge")
    assert torn.status == 400
    assert torn.error.startswith("the form can't be read: ")
    body, kind = form([png(1), png(2)], {})
    for end in (-4, -100, -2000):  # the last photo would be missing, or cut
        cut = server.ask("/identify", body[:end], kind)
        assert (cut.status, cut.error) == (400, "the form can't be read: its end is missing")
    assert server.get("/identify").status == 405
    assert server.ask("/enroll", png(1), "image/png").status == 422


def test_the_description_of_the_server(server: Served) -> None:
    told = server.get("/openapi.json").json
    assert set(told["paths"]) == {"/health", "/embed", "/compare", "/identify", "/enroll", "/delete"}
    forms = {
        path: ways["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        for path, ways in told["paths"].items()
        if "post" in ways
    }
    assert forms["/enroll"]["required"] == ["photo", "person"]
    assert set(forms["/delete"]["properties"]) == {"person"}
    assert "409" in told["paths"]["/enroll"]["post"]["responses"]
    assert server.get("/health").json == {"status": "ok"}
    assert server.get("/docs").status == 404


def test_the_audit_log_counts_and_never_names(server: Served, home: Path) -> None:
    server.form("/embed", png(1), png(2))
    server.form("/compare", png(1), png(2))
    server.form("/identify", png(1), png(99))
    *_, embedded, compared, identified = audit.read(Place.of(home / "g")).entries
    assert (embedded["event"], embedded["photos"], embedded["faces"]) == ("embed", 2, 2)
    assert (compared["event"], compared["photos"], compared["same"]) == ("same", 2, False)
    assert (identified["event"], identified["faces"], identified["named"]) == ("identify", 2, 1)
    assert audit.read(Place.of(home / "g")).broken_at is None
    text = (home / "g" / "audit.jsonl").read_text() + server.log.read_text()
    assert not any(name in text for name in ("p01", "twin", "ngstr"))
    assert server.log.read_text().count("\n") == 1  # no line for a request


@pytest.mark.slow
def test_a_gallery_without_people(tmp_path: Path, home: Path) -> None:
    enrolled(write_people(tmp_path / "people", 1), tmp_path / "g", home / "model.onnx")
    with serving(tmp_path / "g", tmp_path / "log") as served:
        assert served.form("/delete", fields={"person": "p00"}).status == 200
        said = served.form("/identify", png(1)).json
        (face,) = said["photos"][0]["faces"]
        assert (said["people"], face["verdict"], face["person"], face["score"]) == (0, "unknown", None, None)
        assert served.form("/enroll", png(1), fields={"person": "first"}).json["people"] == 1
        assert served.form("/identify", png(1, 2)).json["photos"][0]["faces"][0]["person"] == "first"
        for path in (tmp_path / "g").iterdir():
            if path.name == "gallery.json":
                path.unlink()
        gone = served.form("/identify", png(1))
        assert gone.status == 500
        assert "no gallery" in gone.error
        assert served.get("/health").status == 503


@pytest.mark.slow
def test_two_ids_that_were_decided_to_be_one_person(tmp_path: Path, home: Path) -> None:
    """What a review of suspects decided holds for the server too."""
    enrolled(write_people(tmp_path / "people"), tmp_path / "g", home / "model.onnx")
    table = GalleryTable.open(tmp_path / "g")
    with table.writing():
        table.remember(table.decisions().added([Remembered("0" * 16, "same", "alias", "twin", "p03")]))
    with serving(tmp_path / "g", tmp_path / "log") as served:
        said = served.form("/enroll", png(3, 40), fields={"person": "twin"})
        assert (said.status, said.json["person"], said.json["outcome"]) == (200, "p03", "changed")
    assert len(contents(tmp_path / "g")["p03"][1]) == 4
