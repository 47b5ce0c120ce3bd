"""Who may ask the server, and what a web page in a user's browser can't do with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from people import NEAR, enrolled, write_model, write_people
from served import Served, serving

from facekd.cli import run
from facekd.serving.guard import read_token

TOKEN = "aGVsbG8gd29ybGQ-0123456789"
POST = "/delete"  # which changes what is there


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("door")
    enrolled(write_people(folder / "people", 2), folder / "g", write_model(folder / "model.onnx", {1e-3: NEAR}))
    return folder / "g"


@pytest.fixture(scope="module")
def open_server(gallery: Path) -> Iterator[Served]:
    """For this machine alone, without a token."""
    with serving(gallery, gallery.with_name("open.log")) as served:
        yield served


@pytest.fixture(scope="module")
def locked(gallery: Path) -> Iterator[Served]:
    file = gallery.with_name("token")
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    with serving(gallery, gallery.with_name("locked.log"), "--host", "0.0.0.0", "--token-file", file) as served:
        served.host = "127.0.0.1"
        yield served


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_a_name_that_was_made_to_point_here_is_refused(open_server: Served, host: str) -> None:
    """DNS rebinding: the browser takes the attacker's page and this server for one site."""
    for said in (open_server.get("/health", Host=host), open_server.get("/", Host=host)):
        assert said.status == 421
        assert said.error
    assert open_server.form(POST, fields={"person": "p00"}, Host=host, Origin=f"http://{host}").status == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:99", "[::1]:8000"])
def test_this_machine_is_called_by_any_of_its_names(open_server: Served, host: str) -> None:
    assert open_server.get("/health", Host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_sites_page_can_change_nothing(open_server: Served, locked: Served, headers: dict[str, str]) -> None:
    said = open_server.form(POST, fields={"person": "p00"}, **headers)
    assert said.status == 403
    assert said.error
    assert "access-control-allow-origin" not in said.headers
    if "Sec_Fetch_Site" in headers:
        assert locked.form(POST, fields={"person": "p00"}, Authorization=f"Bearer {TOKEN}", **headers).status == 403


def test_the_servers_own_page_and_programs_may_ask(open_server: Served) -> None:
    own = f"127.0.0.1:{open_server.port}"
    for headers in ({}, {"Origin": f"http://{own}", "Sec_Fetch_Site": "same-origin"}):
        assert open_server.form(POST, fields={"person": "nobody"}, **headers).status == 404


def test_a_token_is_asked_for(locked: Served) -> None:
    assert locked.form(POST, fields={"person": "nobody"}, Authorization=f"Bearer {TOKEN}").status == 404
    for wrong in ("", TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xe4"):
        for path in ("/identify", "/enroll", POST, "/compare", "/embed", "/nowhere"):
            said = locked.form(path, b"-", **({"Authorization": wrong} if wrong else {}))
            assert (said.status, said.headers["www-authenticate"]) == (401, "Bearer")
            assert said.error
    assert locked.form(f"/identify?token={TOKEN}", b"-").status == 401
    assert [locked.get(path).status for path in ("/", "/page.js", "/page.css", "/health", "/openapi.json")] == [200] * 5
    assert "HTTPBearer" in locked.get("/openapi.json").json["components"]["securitySchemes"]
    assert locked.get("/health", Host="faces.example").status == 200  # as a proxy in front calls it
    log = locked.log.read_text()
    assert "unencrypted" in log
    assert TOKEN not in log + (locked.log.parent / "g" / "audit.jsonl").read_text()


def test_every_answer_has_the_headers(open_server: Served, locked: Served) -> None:
    for said in (open_server.get("/"), open_server.get("/nowhere"), locked.form("/identify", b"-")):
        policy = said.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert said.headers["x-content-type-options"] == "nosniff"
        assert said.headers["cache-control"] == "no-store"
        assert said.headers["referrer-policy"] == "no-referrer"
        assert "server" not in said.headers
    css = open_server.get("/page.css").body.decode()
    assert set(re.findall(r"var\((--[\w-]+)\)", css)) <= set(re.findall(r"(--[\w-]+):", css))
    for file in ("/", "/page.js", "/page.css"):
        text = open_server.get(file).body.decode()
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--host", "0.0.0.0"], "other machines can reach it, so clients have to show a token"),
        (["--host", "::"], "other machines can reach it"),
        (["--token-file", "missing"], "no token can be read there; make one"),
        (["--token-file", "short"], "a token is 16 or more letters, digits and signs in one line"),
        (["--token-file", "shared"], "others than its owner can read this token; run 'chmod 600"),
        (["--port", "70000"], "a port is from 0 to 65535"),
        (["--host", "203.0.113.7", "--token-file", "good"], "can't be listened at"),
        (["--host", "no such host", "--token-file", "good"], "is no address of this machine"),
        (["--max-photos", "0"], "give 1 to 1000"),
        (["--max-photo-mb", "0"], "give more than 0"),
        (["--threshold", "7"], "is no cosine"),
        (["--model", "elsewhere.onnx"], "no such model"),
    ],
)
def test_mistakes_are_told_before_anything_is_served(
    gallery: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text, mode in (("short", "abc", 0o600), ("shared", TOKEN, 0o644), ("good", TOKEN, 0o600)):
        Path(name).write_text(text)
        Path(name).chmod(mode)
    assert run(["serve", str(gallery), *flags]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert TOKEN not in said


def test_a_gallery_that_can_not_be_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", str(tmp_path / "none")]) == 2
    assert "no gallery; make one with 'facekd enroll" in capsys.readouterr().err
    plain = write_model(tmp_path / "plain.onnx")
    enrolled(write_people(tmp_path / "people", 1), tmp_path / "g", plain)
    assert run(["serve", str(tmp_path / "g"), "--port", "0"]) == 2
    assert "no threshold is known" in capsys.readouterr().err


def test_a_taken_port_is_told(open_server: Served, gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", str(gallery), "--port", str(open_server.port)]) == 2
    assert f"--port {open_server.port}: can't be listened at" in capsys.readouterr().err


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_token(None) is None
    monkeypatch.setenv("FACEKD_TOKEN", f" {TOKEN}\n")
    assert read_token(None) == TOKEN


def test_the_process_is_left_as_it_was(gallery: Path) -> None:
    mask = os.umask(0o022)
    try:
        assert run(["serve", str(gallery), "--host", "203.0.113.7"]) == 2
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)
