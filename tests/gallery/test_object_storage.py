"""A gallery under s3://, on a real server that speaks S3: the same code, and one writer at a time."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from test_gallery import META, directions, persons, probes

from facekd.cli import run
from facekd.errors import UserError
from facekd.gallery import audit
from facekd.gallery.exchange import read_parquet, take_in, write_parquet
from facekd.gallery.gallery import LEDGER, Answer, GalleryTable, Person
from facekd.gallery.lease import lease
from facekd.gallery.meta import exists
from facekd.gallery.place import Place

boto3 = pytest.importorskip("boto3", reason="moto[server] is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

BUCKET = "faces"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """An empty bucket; the environment leads to it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": server,
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=server)
    client.create_bucket(Bucket=BUCKET)
    yield client
    for key in objects(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    client.delete_bucket(Bucket=BUCKET)


def objects(client: object) -> dict[str, bytes]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)  # type: ignore[attr-defined]
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}  # type: ignore[attr-defined]


def filled(where: str, n: int) -> GalleryTable:
    gallery = GalleryTable.create(where, META)
    with gallery.writing():
        gallery.upsert(persons([f"person-{i:02d}-x" for i in range(n)], directions(n)))
        gallery.finish(META, LEDGER.empty_table())
    return gallery


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("s3://faces/staff", "s3://faces/staff"),
        (Path("s3://faces/staff"), "s3://faces/staff"),
        (Path("s3://faces/a/b/"), "s3://faces/a/b"),
        ("s3://faces/staff/", "s3://faces/staff"),
        ("s3://faces", "s3://faces"),
        (Path("folder/s3"), "folder/s3"),
        ("/abs/g", "/abs/g"),
    ],
)
def test_a_place_by_either_spelling(given: str | Path, uri: str) -> None:
    assert Place.of(given).uri == uri
    assert Place.of(given).remote == uri.startswith("s3://")
    assert Place.of(Place.of(given)) == Place.of(given)


@pytest.mark.slow
def test_enroll_identify_and_erase(bucket: object, tmp_path: Path) -> None:
    vectors = directions(30)
    gallery = filled("s3://faces/staff", 30)
    assert exists("s3://faces/staff")
    again = GalleryTable.open("s3://faces/staff", META.model_id)
    assert again.identify(probes(vectors[:2]), 0.9) == [
        Answer("person-00-x", pytest.approx(1)),
        Answer("person-01-x", pytest.approx(1)),
    ]
    with gallery.writing():
        gallery.upsert([Person("person-03-x", vectors[3], ("new.jpg",), 0.5, {"site": "Köln"})])
        gallery.build_index()
        row = {"source": "new.jpg", "person": "person-03-x", "status": "ok", "reason": ""}
        gallery.finish(META, pa.Table.from_pylist([row], LEDGER))
    needles = (vectors[3].tobytes(), vectors[3][:4].tobytes(), b"person-03-x", b"new.jpg")
    found = objects(bucket)
    assert all(any(needle in data for data in found.values()) for needle in needles)
    assert [m.person_id for (m,) in gallery.search(probes(vectors[3:4]), where={"site": "Köln"})] == ["person-03-x"]
    gallery.record("enroll", {"people": tmp_path})
    assert write_parquet(gallery, tmp_path / "t.parquet") == 30
    with gallery.writing():
        gallery.note("delete", people_asked=1)
        assert gallery.delete("person-03-x")
        assert gallery.indexed() is not None
    found = objects(bucket)
    assert {"staff/gallery.json", "staff/contract.json", "staff/ledger.parquet", "staff/run.yaml"} <= set(found)
    for needle in needles:
        assert [key for key, data in found.items() if needle in data] == []
    assert len(GalleryTable.open("s3://faces/staff")) == 29
    log = audit.read(gallery.place)
    assert [entry["event"] for entry in log.entries] == ["delete"]
    copied = GalleryTable.create("s3://faces/other", META)
    with copied.writing():
        assert sum(take_in(copied, read_parquet(tmp_path / "t.parquet")[1])) == 30


def test_the_commands_take_a_bucket_where_they_take_a_folder(
    bucket: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled("s3://faces/staff", 5)
    assert run(["gallery", "info", "s3://faces/staff", "--people"]) == 0
    shown = capsys.readouterr().out
    assert "s3://faces/staff" in shown
    assert "person-03-x" in shown
    assert run(["gallery", "export", "s3://faces/staff", str(tmp_path / "t.parquet"), "--quiet"]) == 0
    assert run(["gallery", "delete", "s3://faces/staff", "person-03-x", "--quiet"]) == 0
    assert run(["gallery", "import", "s3://faces/copy", str(tmp_path / "t.parquet"), "--quiet"]) == 0
    assert (len(GalleryTable.open("s3://faces/staff")), len(GalleryTable.open("s3://faces/copy"))) == (4, 5)
    log = audit.read(Place.of("s3://faces/staff"))
    assert [entry["event"] for entry in log.entries] == ["export", "delete", "delete"]


def test_places_that_hold_no_gallery(bucket: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="s3://faces/none: no gallery"):
        GalleryTable.open("s3://faces/none")
    bucket.put_object(Bucket=BUCKET, Key="letters/a.txt", Body=b"mine")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="holds something that is no gallery"):
        GalleryTable.create("s3://faces/letters", META)
    with pytest.raises(UserError, match=r"s3://nobucket/x/contract\.json: can't be written"):
        GalleryTable.create("s3://nobucket/x", META)


def test_one_writer_at_a_time(bucket: object) -> None:
    first = filled("s3://faces/staff", 3)
    second = GalleryTable.open("s3://faces/staff")
    told = pytest.raises(UserError, match=r"another command is writing it, on .*run this again")
    with first.writing(), told, second.writing():
        pass
    with second.writing():
        assert second.upsert(persons(["late"], directions(1, 9))) == 1
    with first.writing():
        assert len(first) == 4


@pytest.mark.slow
def test_the_right_is_renewed_and_one_who_lost_it_is_told(bucket: object) -> None:
    gallery = filled("s3://faces/staff", 1)
    table = gallery._connection.open_table("writer")
    with lease(gallery._connection, gallery.place, seconds=3.0) as check:
        time.sleep(3.5)
        check()
        with pytest.raises(UserError, match="another command"), lease(gallery._connection, gallery.place):
            pass
        # Somebody else takes it, as when this process had stood still for long.
        table.update(where="true", values={"owner": "other", "until": time.time() + 1000})
        time.sleep(1.5)
        with pytest.raises(UserError, match="ran out while this command stood still"):
            check()
    table.checkout_latest()
    assert table.to_arrow()["owner"].to_pylist() == ["other"]  # not given back: it was not its own any more


@pytest.mark.slow
def test_the_right_of_a_dead_writer_runs_out(bucket: object) -> None:
    gallery = filled("s3://faces/staff", 1)
    code = (
        "import os; from facekd.gallery.gallery import GalleryTable; from facekd.gallery.lease import lease\n"
        "g = GalleryTable.open('s3://faces/staff')\nheld = lease(g._connection, g.place); held.__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with pytest.raises(UserError, match="in 5 minutes where it died"), gallery.writing():
        pass
    table = gallery._connection.open_table("writer")
    (until,) = table.to_arrow()["until"].to_pylist()
    assert 200 < until - time.time() <= 300
    table.update(where="true", values={"until": time.time() - 1})  # five minutes later
    with gallery.writing():
        assert gallery.upsert(persons(["late"], directions(1, 9))) == 1


WORKER = """
import sys, time
from facekd.errors import UserError
from facekd.gallery.gallery import GalleryTable
gallery = GalleryTable.open(sys.argv[1])
landed = refused = 0
while landed < int(sys.argv[2]):
    try:
        with gallery.writing():
            count = int(gallery.place.read("count") or b"0")
            time.sleep(0.01)
            gallery.place.write("count", str(count + 1).encode())
            landed += 1
    except UserError as error:
        assert "run this again" in str(error), error
        refused += 1
print(refused)
"""


@pytest.mark.slow
def test_machines_that_write_at_once_lose_nothing(bucket: object) -> None:
    """A counter that each reads, waits and writes: without one writer at a time, counts get lost."""
    gallery = filled("s3://faces/staff", 1)
    command = [sys.executable, "-c", WORKER, "s3://faces/staff", "4"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    refused = [int(process.communicate()[0]) for process in running]
    assert all(process.returncode == 0 for process in running)
    print("told to run it again:", refused)
    assert sum(refused) > 0
    assert int(gallery.place.read("count") or b"0") == 12


def test_a_place_that_holds_keys_is_refused_without_them() -> None:
    with pytest.raises(UserError, match="holds no keys") as error:
        Place.of("s3://user:hunter2@bucket/x")
    assert "hunter2" not in str(error.value)
