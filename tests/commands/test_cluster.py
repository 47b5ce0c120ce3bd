"""facekd cluster: from crops, embeddings or photos without names to people, and from names to what uses them."""

from __future__ import annotations

import csv
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import people
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy

from facekd.cli import run
from facekd.commands.cluster import ClusterSummary, NamedSummary, cluster
from facekd.commands.embed import embed
from facekd.commands.enroll import enroll
from facekd.crops.read import read_crops
from facekd.crops.training import read_training_crops
from facekd.enrollment.clustered import COLUMNS
from facekd.errors import UserError
from facekd.gallery.gallery import GalleryTable

PEOPLE, PHOTOS = 5, 4
KNOWN = {1e-3: people.NEAR, 1e-4: 0.85}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return people.write_model(tmp_path / "squares.onnx", KNOWN)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    return toy.write_store(tmp_path / "crops", people=PEOPLE, photos=PHOTOS, named=False)


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill_in(path: Path, name: Callable[[dict[str, str]], str]) -> Path:
    """people.csv with names, as a spreadsheet saves it: with a byte order mark and CRLF."""
    rows = lines(path)
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "name": name(row)} for row in rows)
    return path


def person_of(photo: str) -> str:
    return photo.split("/")[0]


def test_each_cluster_is_a_person_and_the_folder_is_private(crops: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "people"
    found = cluster(crops, out=out, model=model, quiet=True)
    assert isinstance(found, ClusterSummary)
    assert (found.faces, found.clusters, found.alone) == (PEOPLE * PHOTOS, PEOPLE, 0)
    assert people.NEAR <= found.threshold <= 0.85
    rows = lines(out / "people.csv")
    assert tuple(rows[0]) == COLUMNS
    assert {row["name"] for row in rows} == {""}
    assert {row["crop"] for row in rows} == set(read_crops(crops).ids)
    assert len({(row["cluster"], person_of(row["photo"])) for row in rows}) == PEOPLE
    assert [row["cluster"] for row in rows] == sorted(row["cluster"] for row in rows)
    for number in "12345":
        own = [float(row["score"]) for row in rows if row["cluster"] == number]
        assert own == sorted(own, reverse=True)
        assert own[-1] > people.NEAR
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    for path in out.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    page = (out / "clusters.html").read_text(encoding="utf-8")
    assert page.count("<img") == PEOPLE * PHOTOS
    assert "20 faces: 5 clusters of two faces or more" in page


def test_names_make_a_list_to_enroll_and_crops_to_train_on(model: Path, tmp_path: Path) -> None:
    photos = people.write_people(tmp_path / "photos", people=4, photos=3)
    out = tmp_path / "out"
    assert run([*map(str, ["cluster", photos, "--out", out, "--model", model, "--detector", "none", "--quiet"])]) == 0

    def name(row: dict[str, str]) -> str:
        return {"p00/0.png": "Anna", "p01/1.png": "=Böris", "p02/0.png": "Anna", "p03/1.png": "-"}.get(row["photo"], "")

    names = fill_in(out / "people.csv", name)
    found = cluster(photos, out=out, names=names, quiet=True)
    assert isinstance(found, NamedSummary)
    assert (found.people, found.faces, found.listed, found.trained) == (2, 9, 9, 9)
    trained = read_training_crops([out / "named.parquet"], 0.0, 0)
    assert sorted(trained.names) == ["=Böris", "Anna"]
    gallery = tmp_path / "staff.gallery"
    enroll(
        out / "named.csv", gallery, root=photos, model=model, detector="none", quiet=True, accept_suspects=True
    )  # Anna's name stands for two people here
    assert set(people.contents(gallery)) == {"Anna", "=Böris"}
    assert len(GalleryTable.open(gallery).ledger()) == 9


def test_clusters_without_names_can_be_trained_on_too(crops: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "people"
    cluster(crops, out=out, model=model, quiet=True)
    with pytest.raises(UserError, match="no name is filled in"):
        cluster(crops, out=out, names=out / "people.csv", quiet=True)
    found = cluster(crops, out=out, names=out / "people.csv", unnamed=True, quiet=True)
    assert isinstance(found, NamedSummary)
    assert (found.people, found.trained) == (PEOPLE, PEOPLE * PHOTOS)
    written = read_crops(out / "named.parquet")
    assert set(written.identities) == {f"cluster-{number}" for number in range(1, PEOPLE + 1)}
    by_source = dict(zip(written.sources, written.identities, strict=True))
    assert len({(person_of(source), name) for source, name in by_source.items()}) == PEOPLE


def test_embeddings_take_the_place_of_crops(crops: Path, model: Path, tmp_path: Path) -> None:
    for name in ("e.parquet", "e.npz"):
        embed(crops, tmp_path / name, model=model, quiet=True)
    whole = cluster(crops, out=tmp_path / "a", model=model, quiet=True)
    beside = cluster(crops, out=tmp_path / "b", model=model, embeddings=tmp_path / "e.parquet", quiet=True)
    alone = cluster(tmp_path / "e.npz", out=tmp_path / "c", model=model, quiet=True)
    lists = [(tmp_path / place / "people.csv").read_bytes() for place in "abc"]
    assert lists[0] == lists[1] == lists[2]
    assert isinstance(whole, ClusterSummary)
    assert isinstance(beside, ClusterSummary)
    assert isinstance(alone, ClusterSummary)
    assert whole.threshold == beside.threshold == alone.threshold
    assert "<img" in (tmp_path / "b" / "clusters.html").read_text()
    assert "<img" not in (tmp_path / "c" / "clusters.html").read_text()


def test_a_photo_of_several_faces_is_not_enrolled(crops: Path, model: Path, tmp_path: Path) -> None:
    embed(crops, tmp_path / "e.parquet", model=model, quiet=True)
    table = pq.read_table(tmp_path / "e.parquet")
    sources = table["source"].to_pylist()
    sources[PHOTOS] = sources[0]  # two people in one photo
    place = table.column_names.index("source")
    pq.write_table(table.set_column(place, "source", pa.array(sources)), tmp_path / "two.parquet")
    out = tmp_path / "out"
    cluster(tmp_path / "two.parquet", out=out, model=model, quiet=True)
    names = fill_in(out / "people.csv", lambda row: f"person {row['cluster']}")
    found = cluster(tmp_path / "two.parquet", out=out, names=names, quiet=True)
    assert isinstance(found, NamedSummary)
    assert (found.faces, found.listed, found.trained) == (PEOPLE * PHOTOS, PEOPLE * PHOTOS - 2, None)
    assert sources[0] not in {row["photo"] for row in lines(out / "named.csv")}


def test_hostile_names_stay_text(crops: Path, model: Path, tmp_path: Path) -> None:
    embed(crops, tmp_path / "e.parquet", model=model, quiet=True)
    table = pq.read_table(tmp_path / "e.parquet")
    bad = ['"><script>alert(1)</script>.jpg', "=HYPERLINK(A1)", "\u202egpj.exe", "a\x1b[31m.jpg", "', drop"]
    sources = [f"{bad[row % len(bad)]}{row}" for row in range(len(table))]
    place = table.column_names.index("source")
    pq.write_table(table.set_column(place, "source", pa.array(sources)), tmp_path / "bad.parquet")
    cluster(tmp_path / "bad.parquet", out=tmp_path / "out", model=model, quiet=True)
    page = (tmp_path / "out" / "clusters.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert not any(row["photo"].startswith("=") for row in lines(tmp_path / "out" / "people.csv"))


def test_no_faces_leaves_them_out(crops: Path, model: Path, tmp_path: Path) -> None:
    cluster(crops, out=tmp_path / "out", model=model, no_faces=True, show=2, quiet=True)
    page = (tmp_path / "out" / "clusters.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert page.count('<section class="cluster"') == 2
    assert "Not shown: 3 smaller clusters" in page


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A network of which no threshold is known."""
    return people.write_model(tmp_path / "other.onnx", weights="others")


def test_a_network_without_thresholds_needs_one(crops: Path, other: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no threshold is known for its network.*give --threshold"):
        cluster(crops, out=tmp_path / "out", model=other, quiet=True)
    found = cluster(crops, out=tmp_path / "out", model=other, threshold=people.NEAR, quiet=True)
    assert isinstance(found, ClusterSummary)
    assert (found.clusters, found.threshold) == (PEOPLE, people.NEAR)
    embed(crops, tmp_path / "e.parquet", model=other, quiet=True)
    with pytest.raises(UserError, match="no threshold is known"):
        cluster(tmp_path / "e.parquet", out=tmp_path / "out", quiet=True)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.1, float("nan")])
def test_what_is_no_threshold_is_refused(crops: Path, model: Path, tmp_path: Path, threshold: float) -> None:
    with pytest.raises(UserError, match="give a cosine above 0, up to 1"):
        cluster(crops, out=tmp_path / "out", model=model, threshold=threshold, quiet=True)


def test_what_can_not_be_clustered_is_refused(crops: Path, model: Path, other: Path, tmp_path: Path) -> None:
    one = toy.write_store(tmp_path / "one", people=1, photos=1)
    with pytest.raises(UserError, match="holds one face"):
        cluster(one, out=tmp_path / "a", model=model, quiet=True)
    with pytest.raises(UserError, match="no such"):
        cluster(tmp_path / "nothing", out=tmp_path / "b", model=model, quiet=True)
    embed(crops, tmp_path / "e.parquet", model=other, quiet=True)
    with pytest.raises(UserError, match="model"):
        cluster(tmp_path / "e.parquet", out=tmp_path / "c", model=model, quiet=True)
    with pytest.raises(UserError, match="not those of the 1 crops"):
        cluster(one, out=tmp_path / "d", embeddings=tmp_path / "e.parquet", threshold=0.5, quiet=True)
    table = pq.read_table(tmp_path / "e.parquet")
    long = np.stack(table["embedding"].to_pylist()).astype(np.float32) * 2
    column = pa.FixedSizeListArray.from_arrays(pa.array(long.ravel()), long.shape[1])
    place = table.column_names.index("embedding")
    pq.write_table(table.set_column(place, table.schema.field(place), column), tmp_path / "long.parquet")
    with pytest.raises(UserError, match="not of unit norm"):
        cluster(tmp_path / "long.parquet", out=tmp_path / "e", threshold=0.5, quiet=True)


def test_nothing_of_others_is_written_over(crops: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("all of it")
    with pytest.raises(UserError, match=r"holds other things \('thesis.tex'"):
        cluster(crops, out=out, model=model, quiet=True)
    with pytest.raises(UserError, match="is a file"):
        cluster(crops, out=out / "thesis.tex", model=model, quiet=True)
    cluster(crops, out=tmp_path / "again", model=model, quiet=True)
    cluster(crops, out=tmp_path / "again", model=model, threshold=0.9, quiet=True)
    names = fill_in(tmp_path / "again" / "people.csv", lambda row: "Anna")
    before = names.read_bytes()
    with pytest.raises(UserError, match="names are filled in"):
        cluster(crops, out=tmp_path / "again", model=model, quiet=True)
    assert names.read_bytes() == before


def test_names_that_contradict_each_other_are_refused(crops: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cluster(crops, out=out, model=model, quiet=True)
    seen: list[str] = []

    def first_two(row: dict[str, str]) -> str:
        seen.append(row["cluster"])
        return {1: "Anna", 2: "Boris"}.get(seen.count("1"), "") if row["cluster"] == "1" else ""

    names = fill_in(out / "people.csv", first_two)
    with pytest.raises(UserError, match="cluster 1 has 2 names and lines without one"):
        cluster(crops, out=out, names=names, quiet=True)
    names.write_text("crop;name\n")
    with pytest.raises(UserError, match="parted by semicolons"):
        cluster(crops, out=out, names=names, quiet=True)
