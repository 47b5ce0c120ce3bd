"""The server's page in a real browser: photos dropped on it, boxes over them, names and scores beside them."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Browser, browser
from people import enrolled, save, write_model
from PIL import Image, ImageOps
from served import Served, serving

from facekd.photos.synth import jpeg, person, render

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

TOKEN = "a-token-of-the-page-test"
HOSTILE = '<img src=x onerror="document.title=1">'
DONE = "document.querySelector('#said').textContent === '' && document.querySelectorAll('#photos li').length === {}"
BOXES = """[...document.querySelectorAll('#photos li')].map((card) => [...card.querySelectorAll('rect:not(.halo)')].map(
  (box) => { const seen = box.getBoundingClientRect(), photo = card.querySelector('img').getBoundingClientRect();
    return [(seen.left - photo.left) / photo.width, (seen.top - photo.top) / photo.height,
            (seen.right - photo.left) / photo.width, (seen.bottom - photo.top) / photo.height]; }))"""


def photo(number: int) -> bytes:
    return jpeg(render(person(0, number), 0, 0))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name in ("anna", "דוד"):
        (folder / "people" / name).mkdir(parents=True)
    (folder / "people" / "anna" / "badge.jpg").write_bytes(photo(0))
    (folder / "people" / "דוד" / "badge.jpg").write_bytes(photo(1))
    enrolled(folder / "people", folder / "g", write_model(folder / "model.onnx", {1e-3: 0.9999}), detector="yunet")
    (folder / "anna.jpg").write_bytes(photo(0))
    (folder / "stranger.jpg").write_bytes(photo(5))
    (folder / "torn.jpg").write_bytes(b"no photo")
    save(folder / "wall.png", np.full((200, 300, 3), 180, np.uint8))
    turned = Image.open(io.BytesIO(photo(0))).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise when it is shown
    turned.save(folder / "turned.jpg", quality=95, exif=exif)
    assert np.asarray(ImageOps.exif_transpose(Image.open(folder / "turned.jpg"))).shape[0] > 0
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Served]:
    with serving(home / "g", home / "log") as served:
        yield served


@pytest.fixture(scope="module")
def page(home: Path) -> Iterator[Browser]:
    with browser(home / "profile") as shown:
        yield shown


@pytest.mark.parametrize("width", [390, 1200])
def test_photos_are_dropped_and_faces_named(server: Served, page: Browser, home: Path, width: int) -> None:
    del page.complaints[:], page.requests[:]
    page.open(f"http://127.0.0.1:{server.port}/", width)
    page.drop(width / 2, 200, *(home / name for name in ("anna.jpg", "stranger.jpg", "turned.jpg")))
    page.choose("#files", home / "wall.png")
    page.wait(DONE.format(4))
    page.wait("[...document.images].every((image) => image.complete)")
    text = page.value("document.body.innerText")
    assert "1 face, 1 known" in text
    assert "1 face, 0 known" in text
    assert "no face" in text
    rows = page.value("[...document.querySelectorAll('tbody tr')].map((row) => [row.className, row.innerText])")
    assert ["known", "1\tanna\t1.000\t1.000"] in rows
    assert any(kind == "unknown" and "\tunknown\t" in words for kind, words in rows)
    # Each box lies over the face, also where the file says that it is to be turned.
    answers = {name: server.ask("/identify", (home / name).read_bytes()).json["photos"][0] for name in
               ("turned.jpg", "stranger.jpg", "anna.jpg")}  # fmt: skip
    drawn = page.value(BOXES)
    assert drawn[0] == []
    for boxes, seen in zip(drawn[1:], answers.values(), strict=True):
        x1, y1, x2, y2 = seen["faces"][0]["box"]
        wanted = [x1 / seen["width"], y1 / seen["height"], x2 / seen["width"], y2 / seen["height"]]
        assert boxes == [pytest.approx(wanted, abs=0.02)]
    assert page.value("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    assert page.complaints == []
    own = (f"http://127.0.0.1:{server.port}/", "blob:")
    assert len([address for address in page.requests if address.endswith("/identify")]) == 4
    assert all(address.startswith(own) for address in page.requests)
    page.picture(home / f"{width}.png")
    shown = cv2.imread(str(home / f"{width}.png"))
    assert shown is not None
    assert len({tuple(pixel) for pixel in shown[::7, ::7].reshape(-1, 3).tolist()}) > 200  # photos, no empty boxes


def test_names_are_text_whatever_they_hold(server: Served, page: Browser, home: Path, tmp_path: Path) -> None:
    del page.complaints[:], page.requests[:]
    file = tmp_path / f"{HOSTILE.replace('/', '')}.jpg"
    file.write_bytes(photo(7))
    accepted = {"person": HOSTILE, "accept_suspects": "true"}
    assert server.form("/enroll", photo(7), fields=accepted).status == 200
    page.open(f"http://127.0.0.1:{server.port}/")
    page.drop(300, 200, file)
    page.wait(DONE.format(1))
    assert page.value("document.querySelector('tbody td:nth-child(2)').textContent") == HOSTILE
    assert page.value("document.querySelector('.name').textContent") == file.name
    assert page.value("document.title") == "Who is in a photo? · facekd"
    assert page.complaints == []
    # And were the escaping to fail, the policy would still hold.
    page.value(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.invalid/x\" onerror=alert()>')"
    )
    page.wait("new Promise((done) => setTimeout(() => done(true), 200))")
    assert any("Content Security Policy" in said for said in page.complaints)


def test_what_is_no_photo_is_said(server: Served, page: Browser, home: Path) -> None:
    page.open(f"http://127.0.0.1:{server.port}/")
    page.choose("#files", home / "torn.jpg")
    page.wait(DONE.format(1))
    assert "no image that can be read; replace the file" in page.value("document.body.innerText")
    assert page.value("document.querySelectorAll('#photos img').length") == 0


@pytest.mark.slow
def test_the_token_is_asked_for_and_kept_by_the_page_alone(page: Browser, home: Path, tmp_path: Path) -> None:
    with serving(home / "g", tmp_path / "log", environ={"FACEKD_TOKEN": TOKEN}) as served:
        page.open(f"http://127.0.0.1:{served.port}/")
        del page.requests[:]
        assert page.value("document.querySelector('#locked').hidden")
        page.choose("#files", home / "anna.jpg")
        page.wait("!document.querySelector('#locked').hidden && document.activeElement.id === 'token'")
        page.keys("wrong\n")
        page.wait("document.querySelector('#locked label').textContent === 'The token is not the right one'")
        page.value("document.querySelector('#token').value = ''")
        page.keys(f"{TOKEN}\n")
        page.wait(DONE.format(1))
        assert "anna" in page.value("document.body.innerText")
        assert page.value("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert not any(TOKEN in address for address in page.requests)
        assert TOKEN not in (tmp_path / "log").read_text()


class Elsewhere(BaseHTTPRequestHandler):
    """Another site."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_: object) -> None:
        pass


def test_another_sites_page_can_not_ask_in_its_readers_name(server: Served, page: Browser, home: Path) -> None:
    """By script, whose request needs nobody's leave to be sent, and by a form."""
    before = (home / "g" / "audit.jsonl").read_text()
    address = f"http://127.0.0.1:{server.port}/delete"
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{site.server_address[1]}/")
        page.value(f"""(async () => {{
          const form = new FormData();
          form.append("person", "anna");
          await fetch("{address}", {{ method: "POST", mode: "no-cors", body: form }}).catch(() => 0);
        }})()""")
        page.value(f"""(() => {{
          const form = document.body.appendChild(document.createElement("form"));
          Object.assign(form, {{ action: "{address}", method: "post", enctype: "multipart/form-data" }});
          Object.assign(form.appendChild(document.createElement("input")), {{ name: "person", value: "anna" }});
          form.submit();
        }})()""")
        page.wait(f"location.href === '{address}' && document.readyState === 'complete'")
        assert "asked by another site's page" in page.value("document.body.innerText")
        site.shutdown()
    assert (home / "g" / "audit.jsonl").read_text() == before
    assert server.ask("/identify", photo(0)).json["photos"][0]["faces"][0]["person"] == "anna"
