"""facekd audit finds crops that were filed under another person's name."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import SETTINGS, person, record, save_run, write_store

from facekd.commands.audit import audit
from facekd.crops.drop import without
from facekd.crops.read import read_crops
from facekd.crops.store import CropStore
from facekd.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the CelebA crops and weights of ../shared/data")
def test_swapped_labels_of_real_crops_are_found(tmp_path: Path) -> None:
    celeba = pq.read_table(SHARED / "crops" / "celeba.parquet")
    names = celeba["identity"].to_pylist()
    people = sorted(set(names))[:25]
    rows = [i for i, name in enumerate(names) if name in people]
    rows = [i for person in people for i in [j for j in rows if names[j] == person][:6]]
    labels = [names[i] for i in rows]
    swapped = [3, 40, 77, 101]  # each goes to the next one's person
    given = list(labels)
    for place, following in zip(swapped, [*swapped[1:], swapped[0]], strict=True):
        given[place] = labels[following]
    table = celeba.take(pa.array(rows)).set_column(
        celeba.schema.get_field_index("identity"), "identity", pa.array(given, pa.string())
    )
    pq.write_table(table, tmp_path / "set.parquet")
    found = audit(
        tmp_path / "set.parquet",
        embedder=SHARED / "weights" / "w600k_mbf.onnx",
        out=tmp_path / "suspects.csv",
        show=tmp_path / "suspects.html",
        quiet=True,
    )
    page = (tmp_path / "suspects.html").read_text()
    first = found.suspects[0]
    assert f"Filed under {first.identity}: cosine {first.own:.3f}" in page
    assert f"Nearer to {first.nearest}: cosine {first.other:.3f}" in page
    assert page.count("data:image/jpeg;base64,") == 7 * len(found.suspects)  # itself, three of each person
    suspects = {int(one.crop_id.rsplit("-", 1)[1]): one.nearest for one in found.suspects}
    print(f"{len(suspects)} suspects among {found.crops} crops, {len(swapped)} swapped")
    assert {place: suspects.get(place) for place in swapped} == {place: labels[place] for place in swapped}
    assert len(suspects) <= len(swapped) + 0.05 * len(rows)
    assert found.exit_code == 1
    with open(tmp_path / "suspects.csv", newline="") as file:
        assert [row["crop"] for row in csv.DictReader(file)] == [one.crop_id for one in found.suspects]


def test_the_only_crop_of_somebody_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_store(tmp_path / "crops", people=4, photos=3)
    write_store(tmp_path / "single", people=3, photos=1, first=9)
    save_run(tmp_path / "net", "iresnet18-quarter")
    result = audit(tmp_path / "single", embedder=tmp_path / "net")
    assert (result.crops, result.alone, result.suspects, result.exit_code) == (3, 3, (), 0)
    assert "3 crops are the only one of their identity" in capsys.readouterr().err
    assert audit(tmp_path / "crops", embedder=tmp_path / "net", quiet=True).alone == 0


def test_copies_are_listed_shown_and_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three people of four photos; one has a photo three times, and another's is under two names."""
    photos = {name: person(number, 0) for number, name in enumerate(("a", "b", "c", "d"))}
    shown = [("p0", "a"), ("p0", "b"), ("p0", "a"), ("p1", "c"), ("p1", "d"), ("p0", "a"), ("p1", "a")]
    store = CropStore.create(tmp_path / "crops", SETTINGS)
    store.append([record(who, f"{who}/{i}.png", photos[what]) for i, (who, what) in enumerate(shown)])
    crops = read_crops(tmp_path / "crops")
    save_run(tmp_path / "net", "iresnet18-quarter")
    out, page = tmp_path / "suspects.csv", tmp_path / "page.html"
    result = audit(tmp_path / "crops", embedder=tmp_path / "net", out=out, show=page)
    repeated = {"p0/2.png": "p0/0.png", "p0/5.png": "p0/0.png"}  # another person's is no copy but a doubt
    assert {one.source: one.first for one in result.copies} == repeated
    assert result.exit_code == 1
    assert "2 crops show a picture that their person has already, such as p0/2.png that of p0/0.png" in (
        capsys.readouterr().err
    )
    assert "Copies: 2 crops, each beside the one it repeats" in page.read_text()
    with open(out, newline="") as file:
        listed = {row["crop"] for row in csv.DictReader(file)}
    left, idle = without(crops, out)
    assert idle == 0
    assert not listed & set(left.ids)
    assert not repeated.keys() & set(left.sources)
    one_each = tmp_path / "one each"
    store = CropStore.create(one_each, SETTINGS)
    store.append([record(f"p{i % 2}", f"{i}.png", pixels) for i, pixels in enumerate(photos.values())])
    assert audit(one_each, embedder=tmp_path / "net", quiet=True).copies == ()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    one = write_store(tmp_path / "one", people=1)
    nameless = write_store(tmp_path / "nameless", named=False)
    save_run(tmp_path / "net", "iresnet18-quarter")
    for store in (one, nameless):
        with pytest.raises(UserError, match="has fewer than two identities"):
            audit(store, embedder=tmp_path / "net", quiet=True)
    with pytest.raises(UserError, match=r"suspects are written as \.csv"):
        audit(one, embedder=tmp_path / "net", out=tmp_path / "x.txt", quiet=True)
