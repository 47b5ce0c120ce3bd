"""Each person of a source is enrolled or named with a reason, and the exit code says so."""

from __future__ import annotations

import io
import sys
import unicodedata
import zipfile
from pathlib import Path

import pytest
from people import contents, enrolled, ledger, pattern, save, write_people
from PIL import Image

from facekd.cli import run
from facekd.commands.align import align
from facekd.commands.embed import embed
from facekd.commands.enroll import enroll
from facekd.commands.identify import identify
from facekd.crops.store import CropStore
from facekd.deploy.embeddings import read_embeddings
from facekd.enrollment.sources import read_people
from facekd.gallery.gallery import GalleryTable
from facekd.photos.find import find_photos


def named(folder: Path, gallery: Path, model: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run(["enroll", str(folder), str(gallery), "--model", str(model), "--detector", "none", *more])
    shown = capsys.readouterr()
    return code, shown.err + shown.out


def test_who_has_no_photo_is_named_and_who_is_linked_enrolled(
    tmp_path: Path, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_people(tmp_path / "elsewhere", people=1, first=7)
    (folder / "linked").symlink_to(tmp_path / "elsewhere" / "p07")
    assert named(folder, tmp_path / "g", model, capsys)[0] == 0
    assert sorted(contents(tmp_path / "g")) == ["linked", "p00", "p01", "p02", "p03"]

    (folder / "nobody").mkdir()
    (folder / "films").mkdir()
    (folder / "films" / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (folder / "gone").symlink_to("nowhere")
    code, text = named(folder, tmp_path / "g", model, capsys)
    assert code == 1
    rows = ledger(tmp_path / "g")
    advice = "; put a photo of the person there, or take it away"
    assert rows["nobody"] == ("nobody", "no_photo", f"an empty folder{advice}")
    assert rows["films"] == ("films", "no_photo", f"no photo in it, only clip.mp4{advice}")
    assert rows["gone"] == ("gone", "no_photo", f"a link that leads nowhere, to nowhere{advice}")
    lines = text.splitlines()
    place = lines.index("not enrolled, for want of a usable photo (an earlier template stays):")
    assert lines[place + 1 : place + 4] == ["  films", "  gone", "  nobody"]
    assert f"  nobody: no_photo, an empty folder{advice}" in lines
    assert any("folders and links without a photo" in line and "3" in line for line in lines)
    summary = enrolled(folder, tmp_path / "g", model)
    assert summary.not_enrolled == ("films", "gone", "nobody")
    assert "not enrolled: nobody" in str(summary)

    code, text = named(folder, tmp_path / "g", model, capsys, "--private")
    assert code == 1
    assert not any(name in text for name in ("nobody", "films", "gone", "linked", "p00"))
    assert "  person 1\n  person 2\n  person 4\n" in text  # of films, gone, linked, nobody, p00 …


@pytest.mark.parametrize("replace", [False, True])
def test_whose_folder_is_empty_tonight_stays_as_before(
    tmp_path: Path, folder: Path, model: Path, replace: bool
) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    for photo in (folder / "p02").iterdir():
        photo.unlink()
    summary = enrolled(folder, tmp_path / "g", model, replace=replace)
    assert summary.exit_code == 1
    assert (summary.unchanged, summary.written, summary.kept) == (4, 0, 3)
    assert ledger(tmp_path / "g")["p02"][1] == "no_photo"
    assert contents(tmp_path / "g") == before


def test_in_a_zip_and_in_a_list_too(tmp_path: Path, folder: Path, model: Path) -> None:
    with zipfile.ZipFile(tmp_path / "people.zip", "w") as packed:
        for path in folder.rglob("*.png"):
            packed.write(path, f"people/{path.relative_to(folder)}")
        packed.mkdir("people/nobody")
    summary = enrolled(tmp_path / "people.zip", tmp_path / "zip", model)
    assert (summary.not_enrolled, summary.exit_code) == (("nobody",), 1)

    rows = ["person,photo", "p00,p00/0.png", "outside,../secret.png", "empty,", "p00,"]
    (folder / "people.csv").write_text("\n".join(rows) + "\n")
    summary = enrolled(folder / "people.csv", tmp_path / "csv", model)
    assert (summary.not_enrolled, summary.exit_code) == (("empty", "outside"), 1)
    assert sorted(contents(tmp_path / "csv")) == ["p00"]


def test_names_that_look_like_one(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    composed, apart = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
    for number, name in enumerate((composed, "JOSÉ", "Anna", "Ｂob", "Bob")):
        save(tmp_path / "people" / name / "0.png", pattern(number))
    save(tmp_path / "people" / apart / "1.png", pattern(0, 1))
    code, text = named(tmp_path / "people", tmp_path / "g", model, capsys)
    assert code == 0
    one = "differ by upper and lower case or by Unicode form only and are 2 people; if they are one, give them one name"
    assert f"JOSÉ and José: {one}" in text
    assert f"Bob and Ｂob: {one}" in text
    assert "José: stands there in 2 Unicode forms, which are taken for one person" in text
    assert sorted(contents(tmp_path / "g")) == ["Anna", "Bob", "JOSÉ", "José", "Ｂob"]
    save(tmp_path / "later" / "ANNA" / "0.png", pattern(8))
    save(tmp_path / "later" / "Carl" / "0.png", pattern(9))
    code, text = named(tmp_path / "later", tmp_path / "g", model, capsys)
    assert code == 0
    assert f"ANNA and Anna: {one}" in text
    assert "JOSÉ and José" not in text
    save(tmp_path / "last" / "bOB" / "0.png", pattern(10))
    code, text = named(tmp_path / "last", tmp_path / "g", model, capsys, "--private")
    assert "bOB" not in text
    assert "2 notes name people; without --private they are printed" in text


def test_many_names_that_look_like_one_are_counted(tmp_path: Path) -> None:
    for name in "abcdefgh":
        for one in (name, name.upper()):
            save(tmp_path / one / "0.png", pattern(0))
    notes = read_people(tmp_path, None).notes
    assert len(notes) == 6
    assert notes[-1] == "and 3 more such names"


def test_heic_that_nothing_reads_is_named_and_read_once_something_does(
    tmp_path: Path, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pip install 'facekd[heif]'")
    made, file = pillow_heif.HeifFile(), io.BytesIO()
    made.add_from_pillow(Image.fromarray(pattern(9)))
    made.save(file, quality=95)
    (folder / "phone").mkdir()
    (folder / "phone" / "IMG_1.HEIC").write_bytes(file.getvalue())
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pillow_heif", None)
        summary = enrolled(folder, tmp_path / "g", model)
        assert (summary.not_enrolled, summary.exit_code) == (("phone",), 1)
        (outcome,) = summary.failed
        assert outcome.status == "unreadable"
        assert "pip install 'facekd[heif]'" in outcome.reason
        align(folder, tmp_path / "crops", detector="none", quiet=True)
    again = enrolled(folder, tmp_path / "g", model)
    assert (again.embedded, again.new, again.exit_code) == (1, ("phone",), 0)
    assert align(folder, tmp_path / "crops", detector="none", quiet=True).statuses == {"ok": 13}


def test_photos_are_known_by_their_bytes_in_every_command(
    tmp_path: Path, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for photo in (folder / "p03").iterdir():
        photo.rename(photo.with_suffix(""))
    (folder / "p00" / "0.png").rename(folder / "p00" / "0.png_large")
    (folder / "nobody").mkdir()
    (folder / "p00" / "notes.txt").write_text("none")
    found = find_photos(folder)
    assert len(found.photos) == 12
    summary = enrolled(folder, tmp_path / "g", model)
    assert summary.statuses == {"ok": 12, "no_photo": 1}
    passed = (
        "1 other files were passed over: neither their names nor their first bytes are those of photos\n"
        "1 folders or links gave no photo:\n  nobody: an empty folder\n"
    )
    capsys.readouterr()
    align(folder, tmp_path / "crops", detector="none")
    assert passed in capsys.readouterr().err
    assert len(CropStore.open(tmp_path / "crops").ledger()) == 12
    embed(folder, tmp_path / "e.parquet", model=model, detector="none")
    assert passed in capsys.readouterr().err
    assert len(read_embeddings(tmp_path / "e.parquet").sources) == 12
    assert len(identify(tmp_path / "g", folder, threshold=0.5).faces) == 12
    assert passed in capsys.readouterr().err
    identify(tmp_path / "g", folder, threshold=0.5, private=True)
    assert "nobody" not in capsys.readouterr().err
    (face,) = identify(tmp_path / "g", folder / "p03" / "1", threshold=0.5, quiet=True).faces
    assert face.person == "p03"


def test_a_person_who_is_only_named_changes_nothing_in_a_dry_run(tmp_path: Path, folder: Path, model: Path) -> None:
    (folder / "nobody").mkdir()
    summary = enroll(folder, tmp_path / "g", model=model, detector="none", dry_run=True, quiet=True)
    assert (summary.not_enrolled, len(summary.new)) == (("nobody",), 4)
    assert not (tmp_path / "g").exists()
    enrolled(folder, tmp_path / "g", model)
    assert len(GalleryTable.open(tmp_path / "g")) == 4
