"""facekd enroll and identify with a gallery on object storage: the same people, and the same photos skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from people import NEAR, pattern, save, write_model, write_people
from reviewed import cases, saved

from facekd.cli import run
from facekd.commands.enroll import enroll
from facekd.commands.gallery import delete
from facekd.commands.identify import identify
from facekd.gallery.gallery import GalleryTable

boto3 = pytest.importorskip("boto3", reason="moto[server] is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket of a local server; the environment leads to it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", region_name="us-east-1", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="staff")
    yield "s3://staff"
    running.stop()


@pytest.mark.slow
def test_a_gallery_on_object_storage(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_people(tmp_path / "people", 3, 2)
    model = write_model(tmp_path / "model.onnx", {1e-3: NEAR})
    command = ["enroll", str(folder), f"{bucket}/gallery", "--model", str(model), "--detector", "none"]
    assert run(command) == 0
    assert "3 people enrolled" in capsys.readouterr().out
    where = Path(f"{bucket}/gallery")  # one slash is lost here, as on the command line
    again = enroll(folder, where, model=model, detector="none", quiet=True)
    assert (again.unchanged, again.embedded) == (3, 0)
    save(folder / "p01" / "new.png", pattern(1, 9))
    dry = enroll(folder, where, model=model, detector="none", dry_run=True, quiet=True)
    assert (dry.changed, dry.embedded) == (("p01",), 1)
    wet = enroll(folder, where, model=model, detector="none", quiet=True)
    assert (wet.changed, wet.embedded) == (("p01",), 1)
    # The same as in a folder, to the last bit.
    enroll(folder, tmp_path / "local", model=model, detector="none", quiet=True)
    there, here = (
        {
            one.person_id: (one.template.tobytes(), one.sources)
            for some in GalleryTable.open(place).everyone()
            for one in some
        }
        for place in (where, tmp_path / "local")
    )
    assert there == here
    faces = identify(where, folder / "p02", quiet=True).faces
    assert [face.person for face in faces] == ["p02", "p02"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "model.onnx", "people"]


@pytest.mark.slow
def test_decisions_about_a_gallery_on_object_storage(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_people(tmp_path / "people", 3, 2)
    model = write_model(tmp_path / "model.onnx", {1e-3: NEAR})
    save(folder / "twin" / "0.png", pattern(2, 40))
    save(folder / "p00" / "stray.png", pattern(30, 1))
    save(folder / "p00" / "2.png", pattern(0, 2))
    where, page = Path(f"{bucket}/decided"), tmp_path / "review.html"
    enroll(folder, where, model=model, detector="none", review=page, quiet=True)
    choices = {"two_ids": "same", "two_people": "wrong"}
    file = saved([{**row, "choice": choices[row["kind"]]} for row in cases(page)], tmp_path / "d.csv")
    found = enroll(folder, where, model=model, detector="none", decisions=file, quiet=True)
    assert (found.new, found.suspects, found.exit_code) == (("p02",), (), 0)
    again = enroll(folder, where, model=model, detector="none", decisions=file, quiet=True)
    assert (again.written, again.embedded, again.exit_code) == (0, 0, 0)
    home = GalleryTable.open(where)
    assert home.decisions().aliases() == {"twin": "p02"}
    delete(str(where), "twin", quiet=True)
    assert [(row.effect, row.person) for row in home.decisions().rows] == [("excluded", "p00")]
    assert home.place.read("decisions.parquet") is not None
    assert b"twin" not in (home.place.read("decisions.parquet") or b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "model.onnx", "people", "review.html"]
