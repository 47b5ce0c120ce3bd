"""A CSV of people and photos: what it says, and every way it can be wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from facekd.errors import UserError
from facekd.photos.find import find_photos, one_photo, read_bytes, stamp
from facekd.photos.listed import read_list


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "badges"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "sub/c d.jpg"):
        (folder / name).write_bytes(name.encode())
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return folder


def test_rows_become_photos_and_metadata(root: Path) -> None:
    text = (
        "office,person,photo,since\r\nBasel,anna,a.jpg,2020\r\n,anna,./b.jpg,\r\n"
        '"Zürich, West",名前,"sub/c d.jpg",\r\n\r\nBasel,anna,a.jpg,\r\n'
    )
    listed = read_list(write(root / "people.csv", text, "utf-8-sig"))
    assert [(p.identity, p.source) for p in listed.photos] == [
        ("anna", "a.jpg"),
        ("anna", "b.jpg"),
        ("名前", "sub/c d.jpg"),
    ]
    assert [read_bytes(photo) for photo in listed.photos] == [b"a.jpg", b"b.jpg", b"sub/c d.jpg"]
    assert listed.metadata == {"anna": {"office": "Basel", "since": "2020"}, "名前": {"office": "Zürich, West"}}
    assert (listed.refused, listed.contradictions) == ((), ())


def test_another_value_for_a_person_is_told(root: Path) -> None:
    text = "person,photo,office\nanna,a.jpg,Basel\nanna,b.jpg,Bern\nboris,a.jpg,Bern\n"
    listed = read_list(write(root / "people.csv", text))
    assert listed.metadata["anna"] == {"office": "Basel"}
    assert listed.contradictions == (("anna", "office", 3),)


@pytest.mark.parametrize(
    "photo",
    ["../secret.jpg", "sub/../../secret.jpg", "/etc/passwd", "link.jpg", "up/secret.jpg", ".", "ROOT/../secret.jpg"],
)
def test_a_path_that_climbs_out_is_a_refused_row(root: Path, photo: str) -> None:
    (root / "link.jpg").symlink_to("../secret.jpg")
    (root / "up").symlink_to("..", target_is_directory=True)
    photo = photo.replace("ROOT", str(root))
    listed = read_list(write(root / "people.csv", f"person,photo\nanna,{photo}\nanna,a.jpg\n"))
    assert [p.source for p in listed.photos] == ["a.jpg"]
    ((source, person, status, reason),) = listed.refused
    assert (person, status) == ("anna", "outside")
    assert source == photo
    assert "row 2" in reason


def test_paths_that_only_look_like_climbing(root: Path) -> None:
    (root / "..a.jpg").write_bytes(b"dots")
    (root / "inside.jpg").symlink_to("a.jpg")
    rows = ["..a.jpg", "sub/../a.jpg", "inside.jpg", str(root / "b.jpg"), "missing.jpg"]
    listed = read_list(write(root / "people.csv", "person,photo\n" + "".join(f"anna,{row}\n" for row in rows)))
    assert listed.refused == ()
    assert [p.source for p in listed.photos] == ["..a.jpg", "a.jpg", "inside.jpg", "b.jpg", "missing.jpg"]


def test_the_root_can_be_given_as_a_folder_or_an_archive(root: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "people.csv", "person,photo\nanna,sub/c d.jpg\nanna,../x.jpg\n")
    assert [read_bytes(p) for p in read_list(path, root).photos] == [b"sub/c d.jpg"]
    with zipfile.ZipFile(tmp_path / "badges.zip", "w") as archive:
        archive.write(root / "sub" / "c d.jpg", "sub/c d.jpg")
    inside, missing = read_list(path, tmp_path / "badges.zip").photos
    assert read_bytes(inside) == b"sub/c d.jpg"
    with pytest.raises(OSError, match="can't be read from its archive"):  # it is looked up there, and nowhere else
        read_bytes(missing)
    with pytest.raises(UserError, match="no such folder of photos; check --root"):
        read_list(path, tmp_path / "nowhere")


def test_rows_that_say_too_little_are_refused_one_by_one(root: Path) -> None:
    text = "person,photo,office\nanna,a.jpg,Basel\n ,b.jpg,Bern\nboris,,\ncarl\ndora,b.jpg,x,y\nemil\0,a.jpg,\n"
    listed = read_list(write(root / "people.csv", text))
    assert [p.identity for p in listed.photos] == ["anna"]
    assert [(source, person, status) for source, person, status, _ in listed.refused] == [
        ("people.csv row 3", None, "bad_row"),
        ("people.csv row 4", "boris", "bad_row"),
        ("people.csv row 5", None, "bad_row"),
        ("people.csv row 6", None, "bad_row"),
        ("people.csv row 7", "emil\0", "bad_row"),
    ]


@pytest.mark.parametrize(
    ("text", "encoding", "words"),
    [
        ("person;photo\nanna;a.jpg\n", "utf-8", "is parted by semicolons; save it parted by commas"),
        ("person\tphoto\nanna\ta.jpg\n", "utf-8", "is parted by tabs"),
        ("name,photo\nanna,a.jpg\n", "utf-8", r"no column person in its first row \(name, photo\)"),
        ("person,file\n", "utf-8", "no column photo"),
        ("", "utf-8", "no column person and photo in its first row .empty."),
        ("person,photo\n", "utf-8", "holds no row below its header"),
        ("person,photo,a,a\n", "utf-8", "of the same name"),
        ("person,photo,\n", "utf-8", "columns without a name"),
        ("person,photo,a=b\n", "utf-8", "has a column 'a=b'"),
        ("person,photo\nJürg,a.jpg\n", "latin-1", "not UTF-8"),
        ("person,photo\nanna,a.jpg\n", "utf-16", "not UTF-8"),
        ('person,photo\n"anna,a.jpg\n', "utf-8", "not readable as CSV"),
    ],
)
def test_files_that_are_no_such_list(root: Path, text: str, encoding: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        read_list(write(root / "people.csv", text, encoding))
    assert str(root / "people.csv") in str(error.value)
    with pytest.raises(UserError, match="no such list of people"):
        read_list(root / "nothing.csv")


def test_a_stamp_changes_with_the_file(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("x/a.jpg", b"1")
    for place, change in {
        root: lambda: (root / "a.jpg").write_bytes(b"A.jpg"),  # as many bytes
        tmp_path / "p.zip": lambda: zipfile.ZipFile(tmp_path / "p.zip", "w").writestr("x/a.jpg", b"2"),
    }.items():
        photo = next(p for p in find_photos(place).photos if p.source.endswith("a.jpg"))
        before = stamp(photo)
        assert before is not None
        assert stamp(photo) == before
        change()
        assert stamp(photo) != before
    (photo,) = one_photo(root / "b.jpg").photos
    (root / "b.jpg").unlink()
    assert stamp(photo) is None
