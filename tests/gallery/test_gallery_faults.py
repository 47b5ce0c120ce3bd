"""Disks that are full or read-only, killed writers, damaged tables, ids of every kind."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gallery import META, directions, files_with, filled, persons, probes

from facekd.errors import UserError
from facekd.gallery.gallery import LEDGER, GalleryTable, Person


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 600 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_ends_with_a_sentence_and_loses_nobody(disk: Path) -> None:
    vectors = directions(40)
    gallery = filled(disk / "g", [f"p{i}" for i in range(40)], vectors)
    (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 40_000))
    many = directions(2000, 5)
    with gallery.writing(), pytest.raises(UserError, match=r"can't be written \(No space left on device; free space"):
        gallery.upsert(persons([f"q{i}" for i in range(2000)], many))
    again = GalleryTable.open(disk / "g")
    assert len(again) == 40
    assert [a.person_id for a in again.identify(probes(vectors[:3]), 0.9)] == ["p0", "p1", "p2"]
    (disk / "ballast").unlink()
    with again.writing():
        assert again.upsert(persons([f"q{i}" for i in range(1000)], many[:1000])) == 1000
    assert len(GalleryTable.open(disk / "g")) == 1040


def test_a_read_only_gallery_is_read_and_not_written(disk: Path) -> None:
    vectors = directions(5)
    filled(disk / "g", list("abcde"), vectors)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    gallery = GalleryTable.open(disk / "g")
    assert [a.person_id for a in gallery.identify(probes(vectors), 0.9)] == list("abcde")
    assert [m.person_id for (m,) in gallery.search(probes(vectors[:1]))] == ["a"]
    with pytest.raises(UserError, match=r"can't be written \(Read-only file system\)"), gallery.writing():
        pass
    with pytest.raises(UserError, match=r"audit\.jsonl: can't be written \(Read-only file system\)"):
        gallery.note("identify", photos=1)
    with pytest.raises(UserError, match=r"can't be made \(Read-only file system\)"):
        GalleryTable.create(disk / "new", META)


@pytest.mark.parametrize("damage", ["cut", "gone", "noise"])
@pytest.mark.parametrize("what", ["data/*.lance", "_versions/*.manifest"])
def test_a_damaged_table_is_told(tmp_path: Path, what: str, damage: str) -> None:
    vectors = directions(50)
    filled(tmp_path / "g", [f"p{i}" for i in range(50)], vectors)
    files = list((tmp_path / "g" / "people.lance").glob(what))
    assert files
    for path in files:
        data = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(data[: len(data) // 2] if damage == "cut" else bytes(255 - b for b in data))
    with pytest.raises(UserError, match=r"can't be read .*copy the gallery again|nobody is enrolled"):
        GalleryTable.open(tmp_path / "g").identify(probes(vectors[:1]), 0.5)


@pytest.mark.parametrize("file", ["gallery.json", "contract.json"])
def test_damaged_settings_are_told(tmp_path: Path, file: str) -> None:
    filled(tmp_path / "g", ["a"], directions(1))
    for data in (b"", b"{", b"[]", b"{}", b"\xff\xfe"):
        (tmp_path / "g" / file).write_bytes(data)
        with pytest.raises(UserError, match=r"copy the gallery again|no gallery|contract"):
            GalleryTable.open(tmp_path / "g")


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), min_size=1, max_size=12, unique=True))
def test_ids_of_any_unicode(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    folder = tmp_path_factory.mktemp("gallery") / "g"
    vectors = directions(len(ids))
    people = [Person(i, v, (f"{i}/{i}.jpg",), 0.5, {i.replace("=", "-"): i}) for i, v in zip(ids, vectors, strict=True)]
    gallery = GalleryTable.create(folder, META)
    with gallery.writing():
        assert gallery.upsert(people) == len(ids)
        assert gallery.upsert(people) == 0
        assert set(gallery.people(ids)) == set(ids)
        for person, vector in zip(people, vectors, strict=True):
            ((found,),) = gallery.search(probes(vector[None]), where=person.metadata)
            assert found.person_id == person.person_id
        for person in people:
            assert gallery.delete(person.person_id)
        assert len(gallery) == 0


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    gallery = GalleryTable.create(tmp_path / "g", META)
    name = os.fsdecode(b"caf\xe9")  # a file name in Latin-1
    with gallery.writing(), pytest.raises(UserError, match="no Unicode text"):
        gallery.upsert(persons([name], directions(1)))


def test_metadata_comes_back_and_filters(tmp_path: Path) -> None:
    vectors = directions(6, 2)
    sites = [{"site": "Köln", "shift": "night"}, {"site": "Köln"}, {"site": "O'Hare"}, {}, {"a": "=1+1"}, {"a": "b=c"}]
    gallery = GalleryTable.create(tmp_path / "g", META)
    with gallery.writing():
        people = [Person(f"p{i}", v, ("1.jpg",), i / 4, s) for i, (v, s) in enumerate(zip(vectors, sites, strict=True))]
        gallery.upsert(people)
        assert gallery.upsert([Person("p3", vectors[3], ("1.jpg",), 0.75, {"new": "yes"})]) == 1
        assert gallery.upsert([Person("p4", vectors[4], ("1.jpg",), 0.9, {"a": "=1+1"})]) == 1
    found = gallery.people([f"p{i}" for i in range(6)])
    assert [found[f"p{i}"].metadata for i in (0, 1, 2, 3, 5)] == [*sites[:3], {"new": "yes"}, {"a": "b=c"}]
    assert (found["p4"].quality, found["p1"].quality) == (0.9, 0.25)
    for where, expected in (
        ({"site": "Köln"}, {"p0", "p1"}),
        ({"site": "Köln", "shift": "night"}, {"p0"}),
        ({"site": "O'Hare"}, {"p2"}),
        ({"a": "=1+1"}, {"p4"}),
        ({"a": "b"}, set()),
        ({"site": "köln"}, set()),
        (None, {f"p{i}" for i in range(6)}),
    ):
        for asked in (1, 3):
            results = gallery.search(probes(vectors[:asked]), 9, where=where)
            assert [{match.person_id for match in matches} for matches in results] == [expected] * asked
            assert all(a.score >= b.score for matches in results for a, b in itertools.pairwise(matches))
    # The person is in the gallery, and not among those asked for.
    (answer,) = gallery.identify(probes(vectors[2:3]), 0.99, where={"site": "Köln"})
    assert answer.person_id is None
    with pytest.raises(UserError, match="nobody enrolled has the metadata site=Rome"):
        gallery.identify(probes(vectors[:1]), 0.5, where={"site": "Rome"})
    for key in ("", "a=b"):
        with gallery.writing(), pytest.raises(UserError, match="a key is neither empty nor holds '='"):
            gallery.upsert([Person("p0", vectors[0], (), None, {key: "x"})])


def test_everything_in_the_folder_is_its_owners_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        gallery = filled(tmp_path / "g", [f"p{i}" for i in range(50)], directions(50))
        with gallery.writing():
            gallery.build_index()
            gallery.delete("p1")
            gallery.finish(META, LEDGER.empty_table())
        gallery.note("enroll", people=50)
        gallery.record("enroll", {"people": tmp_path})
        assert os.umask(0o022) == 0o022  # as it was
    finally:
        os.umask(before)
    paths = list((tmp_path / "g").rglob("*"))
    assert len(paths) > 10
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_other_tables_of_people_are_erased_too(tmp_path: Path) -> None:
    """Whatever table of the gallery has a person_id, such as that of the photos' own embeddings."""
    import pyarrow as pa

    vectors = directions(40)
    gallery = filled(tmp_path / "g", [f"person-{i:02d}-x" for i in range(40)], vectors)
    rows = [{"person_id": f"person-{i:02d}-x", "photo": f"photo-{i:02d}-y.jpg"} for i in range(40)]
    gallery._connection.create_table("photos", pa.Table.from_pylist(rows))
    with gallery.writing():
        assert gallery.delete_all(["person-07-x"]) == ["person-07-x"]
    assert files_with(tmp_path / "g", b"person-07-x") == []
    assert files_with(tmp_path / "g", b"photo-07-y") == []
    assert files_with(tmp_path / "g", b"photo-08-y")
    assert gallery._connection.open_table("photos").count_rows() == 39


ERASER = """
import sys
from pathlib import Path
from facekd.gallery.gallery import GalleryTable
gallery = GalleryTable.open(Path(sys.argv[1]))
print("ready", flush=True)
with gallery.writing():
    gallery.delete_all(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_killed_erasure_is_finished_by_the_next(tmp_path: Path) -> None:
    vectors = directions(400)
    ids = [f"person-{i:03d}-x" for i in range(400)]
    rng = np.random.default_rng(0)
    killed = 0
    for number in range(6):
        gallery = filled(tmp_path / f"g{number}", ids, vectors)
        with gallery.writing():
            gallery.build_index()
        command = [sys.executable, "-c", ERASER, str(gallery.folder), ids[7], ids[8]]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(float(rng.uniform(0, 0.08)))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        subprocess.run(command, check=True, capture_output=True)
        for needle in (ids[7].encode(), ids[8].encode(), vectors[7][:4].tobytes(), vectors[8][:4].tobytes()):
            assert files_with(gallery.folder, needle) == []
        again = GalleryTable.open(gallery.folder)
        assert len(again) == 398
        assert [a.person_id for a in again.identify(probes(vectors[9:12]), 0.9)] == ids[9:12]
    print(killed, "of 6 were killed before they were done")
    assert killed >= 2


def test_what_a_killed_lancedb_left_half_written_is_gone_after_the_next_writer(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "g", ["anna", "ben"], directions(2))
    left = gallery.folder / "people.lance" / "_transactions" / ".tmp9QdEPl"
    left.write_bytes(b"person_id IN ('anna')")
    with gallery.writing():
        pass
    assert not left.exists()
