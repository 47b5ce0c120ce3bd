"""What a list says is dropped, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import write_store

from facekd.core.files import write_csv
from facekd.crops.cropset import CropSet
from facekd.crops.drop import without
from facekd.crops.read import read_crops
from facekd.errors import UserError


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropSet:
    return read_crops(write_store(tmp_path_factory.mktemp("drop") / "crops", people=4, photos=3))


def test_people_and_single_crops(crops: CropSet, tmp_path: Path) -> None:
    path = tmp_path / "drop.csv"
    write_csv(path, ["identity", "crop"], [["p01", "x"], ["", crops.ids[0]], ["nobody", ""], ["", "none"]])
    left, idle = without(crops, path)
    assert set(crops.ids) - set(left.ids) == {crops.ids[0], *crops.ids[3:6]}
    assert idle == 2


@pytest.mark.parametrize("column", ["identity", "crop"])
def test_one_column_is_enough(crops: CropSet, tmp_path: Path, column: str) -> None:
    path = tmp_path / "drop.csv"
    path.write_text(f"\ufeff{column},why\n{crops.ids[4] if column == 'crop' else 'p02'},poor\n", encoding="utf-8")
    assert len(without(crops, path)[0]) == (11 if column == "crop" else 9)


def test_what_is_wrong_is_said(crops: CropSet, tmp_path: Path) -> None:
    path = tmp_path / "drop.csv"
    with pytest.raises(UserError, match="not readable as UTF-8 text"):
        without(crops, path)
    path.write_text("name\np01\n")
    with pytest.raises(UserError, match="neither a column identity nor a column crop"):
        without(crops, path)
    path.write_text("identity\np00\np01\np02\np03\n")
    with pytest.raises(UserError, match="nothing would be left"):
        without(crops, path)
