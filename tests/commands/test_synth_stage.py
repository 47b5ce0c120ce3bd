"""The command that draws people who do not exist."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from facekd.commands.synth import synth
from facekd.errors import UserError
from facekd.photos.synth import jpeg, person, render


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted((out / "photos").rglob("*.jpg"))}


def test_writes_a_folder_for_each_person_and_a_sheet_beside_them(tmp_path: Path) -> None:
    out = synth(tmp_path / "nobody", people=3, photos=2, seed=11, quiet=True)
    files = contents(out)
    assert list(files) == [f"photos/person-000{i}/photo-000{j}.jpg" for i in (1, 2, 3) for j in (1, 2)]
    # The processes wrote what the functions give here.
    assert files["photos/person-0003/photo-0002.jpg"] == jpeg(render(person(11, 2), 11, 1))

    sheet = cv2.imread(str(out / "contact-sheet.jpg"))
    height, width = sheet.shape[:2]
    assert height / width == pytest.approx(3 / 2, rel=0.05)  # three rows of two photos
    assert sheet.std() > 20
    run = yaml.safe_load((out / "run.yaml").read_text(encoding="utf-8"))
    assert run == {"command": "synth", "format": 1, "out": str(out), "people": 3, "photos": 2, "seed": 11}


def test_a_stopped_run_goes_on_and_a_larger_one_adds(tmp_path: Path) -> None:
    whole = contents(synth(tmp_path / "whole", people=2, photos=2, quiet=True))
    out = synth(tmp_path / "part", people=1, photos=2, quiet=True)
    kept = out / "photos" / "person-0001" / "photo-0001.jpg"
    (out / "photos" / "person-0001" / "photo-0002.jpg").unlink()
    before = kept.stat().st_mtime_ns

    synth(out, people=2, photos=2, quiet=True)
    assert contents(out) == whole
    assert kept.stat().st_mtime_ns == before


def test_says_what_it_skips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synth(tmp_path, people=1, photos=1, quiet=True)
    assert capsys.readouterr() == ("", "")
    synth(tmp_path, people=1, photos=1)
    assert "1 of 1 photos are there already" in capsys.readouterr().err


def test_another_seed_never_joins_a_folder(tmp_path: Path) -> None:
    synth(tmp_path, people=1, photos=1, seed=1, quiet=True)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="seed 1, not of 'synth' with seed 2"):
        synth(tmp_path, people=1, photos=1, seed=2, quiet=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("wrong", [{"people": 0}, {"photos": -1}, {"seed": -1}])
def test_refuses_numbers_out_of_range(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(wrong))} is"):
        synth(tmp_path / "none", **wrong)
    assert not (tmp_path / "none").exists()


def test_the_sheet_shows_the_photos_in_their_places(tmp_path: Path) -> None:
    out = synth(tmp_path, people=2, photos=2, quiet=True)
    sheet = cv2.imread(str(out / "contact-sheet.jpg")).astype(float)
    half_y, half_x = sheet.shape[0] // 2, sheet.shape[1] // 2
    for index in (0, 1):
        for photo in (0, 1):
            cell = sheet[index * half_y :, photo * half_x :][10 : half_y - 10, 10 : half_x - 10]
            own = cv2.imread(str(out / "photos" / f"person-000{index + 1}" / f"photo-000{photo + 1}.jpg"))
            trim = len(own) // 16  # the cell above leaves out its rim
            own = own[trim:-trim, trim:-trim]
            assert np.abs(cell.mean(axis=(0, 1)) - own.mean(axis=(0, 1))).max() < 4
