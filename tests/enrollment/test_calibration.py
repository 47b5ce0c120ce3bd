"""A gallery that calibrates itself: what its own scores say, what it promises, and when it measures anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import NEAR, enrolled, pattern, save, write_model, write_people
from PIL import Image

import facekd
from facekd.core.contract import Contract
from facekd.enrollment import calibration
from facekd.enrollment.calibration import NamedFrom, Promise, promise, scores_of
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import GalleryMeta, OwnScores, read_meta
from facekd.rates.open_set import Tail, far_for

DIM = 64
KNOWN = Tail.of({1e-2: 0.28, 1e-3: 0.36, 1e-4: 0.43, 1e-5: 0.48, 1e-6: 0.53})
META = GalleryMeta(contract=Contract(dim=DIM, weights_sha256="a"), model="m", detector="none", min_face=20)
OWN = OwnScores(
    people=500, compared=500, tail=KNOWN.points(), sd=0.004, alike=KNOWN.points(),
    genuine={0.01: 0.3, 0.05: 0.5, 0.5: 0.7}, genuine_people=200,
)  # fmt: skip


def people_and_photos(people: int, photos: int, noise: float, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Random people: photos are their direction and noise, all of unit norm."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(people):
        own = rng.normal(size=DIM)
        several = own / np.linalg.norm(own) + noise * rng.normal(size=(photos, DIM)) / np.sqrt(DIM)
        made.append((several / np.linalg.norm(several, axis=1, keepdims=True)).astype(np.float32))
    means = np.stack([own.mean(axis=0) for own in made])
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32), made


def named(scores: np.ndarray, by: Promise) -> int | None:
    """Who a face with these cosines shows, by the slow definition."""
    best, *others = np.argsort(-scores)
    return int(best) if scores[best] >= by.named_from.of([float(scores[other]) for other in others]) else None


def test_strangers_are_named_as_promised_and_misses_are_foretold() -> None:
    shares, foretold, seen = [], [], []
    for seed in range(6):
        _, photos = people_and_photos(400, 4, 0.8, seed)
        enrolled_photos = [own[:3] for own in photos]
        gallery = np.stack([own.mean(axis=0) / np.linalg.norm(own.mean(axis=0)) for own in enrolled_photos])
        own = scores_of(gallery, enumerate(enrolled_photos), KNOWN)
        assert own is not None
        assert (own.people, own.compared, own.genuine_people) == (400, 400, 400)
        found = promise(replace(META, own=own), 400)
        assert found is not None
        assert found.own
        strangers, _ = people_and_photos(3000, 1, 0.8, 100 + seed)
        shares.append(np.mean([named(scores, found) is not None for scores in strangers @ gallery.T]))
        assert found.misses is not None
        foretold.append(found.misses)
        later = np.stack([own[3] for own in photos]) @ gallery.T
        seen.append(np.mean([named(scores, found) != person for person, scores in enumerate(later)]))
    assert 0.006 < np.mean(shares) < 0.014
    # A photo is compared with the two others of three, a later one with all three: a little less is missed then.
    assert np.mean(seen) - 0.02 < np.mean(foretold) < np.mean(seen) + 0.08


def test_the_threshold_follows_the_gallery_and_the_promise() -> None:
    meta = replace(META, own=OWN)
    few, many = promise(meta, 500), promise(meta, 50_000)
    assert few.threshold == pytest.approx(float(KNOWN.cosine(far_for(0.01, 500))), abs=2e-3)
    assert few.threshold < many.threshold
    assert few.misses < many.misses
    assert promise(meta, 500, 0.001).threshold > few.threshold
    assert promise(replace(meta, fpir=0.001), 500).threshold == promise(meta, 500, 0.001).threshold
    assert few.low < 0.01 < few.high
    assert "a stranger is named in 1 % of searches (0." in few.said()
    assert "through 500 people like these; " in few.said()
    assert many.misses > 0.05
    assert "misses" in many.warning()
    assert promise(replace(META, own=replace(OWN, genuine={0.001: 0.9}, genuine_people=1)), 500).warning() == ""
    assert promise(meta, 0) is None


def test_a_small_gallery_goes_by_what_is_known_of_the_network() -> None:
    meta = replace(META, calibrated={1e-2: 0.28, 1e-3: 0.36, 1e-6: 0.53})
    found = promise(meta, 20)
    assert (found.own, found.low, found.misses, found.measured_far) == (False, None, None, None)
    assert 0.36 < found.threshold < 0.53
    assert "by what is known of the network; from 50 people on the gallery measures it on its own" in found.said()
    beyond = promise(meta, 10**6)
    assert beyond.measured_far == 1e-6
    assert "drawn on from FAR 1e-06" in beyond.said()
    # One threshold draws no tail: it is taken where it keeps the promise, and never where it does not.
    assert promise(replace(META, calibrated={1e-3: 0.4}), 9).threshold == 0.4
    assert promise(replace(META, calibrated={1e-3: 0.4}), 11) is None
    assert promise(META, 20) is None


def test_a_face_that_looks_like_many_people_needs_more() -> None:
    usual = NamedFrom(0.5, 0.2)
    assert usual.of([0.2] * 30) == pytest.approx(0.5)
    assert usual.of([0.3] * 5 + [0.2] * 5 + [-1.0]) == pytest.approx(0.5 + 0.5 * 0.05)  # the next ten, half their mean
    assert usual.of([0.1] * 10) == pytest.approx(0.45)
    assert usual.of([0.9] * 9) == 0.5  # too few to say
    assert NamedFrom(0.5).of([0.9] * 30) == 0.5
    assert "a stranger" in promise(replace(META, own=replace(OWN, level=0.2)), 500).said().split("many people): ")[1]
    assert "anew at the next enrollment" in promise(replace(META, own=OWN), 500).said()


@pytest.fixture
def tailed(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tail.onnx", {1e-1: 0.5, 1e-2: NEAR, 1e-3: 0.9})


def test_an_enrollment_measures_its_gallery(tmp_path: Path, tailed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people, gallery = write_people(tmp_path / "people", 60, 2), tmp_path / "g"
    summary = enrolled(people, gallery, tailed, accept_suspects=True)
    own = read_meta(gallery).own
    assert (own.people, own.compared, own.genuine_people) == (60, 60, 60)
    assert read_meta(gallery).fpir == 0.01
    assert summary.promise.own
    assert summary.promise.people == 60
    info = facekd.gallery_info(str(gallery))
    assert info.promise == summary.promise
    assert "named in 1 % of searches" in " ".join(capsys.readouterr().out.replace("┃", "").replace("│", "").split())
    again = enrolled(people, gallery, tailed)
    assert again.unchanged == 60
    assert read_meta(gallery).own == own  # nothing changed, nothing is measured
    more = write_people(tmp_path / "more", 5, 2, first=60)
    enrolled(more, gallery, tailed, accept_suspects=True)
    assert read_meta(gallery).own.people == 65
    # The same people, whatever came first: the same numbers.
    whole = write_people(tmp_path / "whole", 65, 2)
    enrolled(whole, tmp_path / "h", tailed, accept_suspects=True)
    assert read_meta(tmp_path / "h").own == read_meta(gallery).own


def test_each_face_is_named_from_its_own_threshold(tmp_path: Path, tailed: Path) -> None:
    folder, gallery = write_people(tmp_path / "people", 60, 2), tmp_path / "g"
    rows = [f"p{number:02d},p{number:02d}/{photo}.png,{'ab'[number % 2]}" for number in range(60) for photo in (0, 1)]
    (folder / "list.csv").write_text("\n".join(["person,photo,site", *rows]))
    enrolled(folder / "list.csv", gallery, tailed, accept_suspects=True)
    probes = {f"{n}.png": save(tmp_path / "probes" / f"{n}.png", pattern(n, 9)) for n in (0, 1, 70, 71, 72)}
    templates = {one.person_id: one.template for lot in GalleryTable.open(gallery).everyone() for one in lot}
    embedder = facekd.Embedder.load(str(tailed))
    vectors = {name: embedder.embed(np.asarray(Image.open(path))[None])[0] for name, path in probes.items()}

    def answers(**more: Any) -> dict[str, Any]:
        found = facekd.identify(str(gallery), tmp_path / "probes", quiet=True, **more)
        return {row["source"]: row for row in found.rows().to_pylist()}

    own = read_meta(gallery).own
    base = facekd.gallery_info(str(gallery), quiet=True).promise.threshold
    for site in (None, "a"):
        limits = []
        for name, row in answers(**({} if site is None else {"where": [f"site={site}"]})).items():
            scores = {one: float(vectors[name] @ template) for one, template in templates.items()}
            asked = [one for one in scores if site is None or int(one[1:]) % 2 == 0]
            best = max(asked, key=lambda one: scores[one])
            others = sorted((score for one, score in scores.items() if one != best), reverse=True)[:10]
            assert row["score"] == pytest.approx(scores[best], abs=5e-4)
            assert row["threshold"] == pytest.approx(base + 0.5 * (np.mean(others) - own.level), abs=5e-4)
            assert row["verdict"] == ("known" if row["score"] >= row["threshold"] else "unknown")
            limits.append(row["threshold"])
        assert max(limits) - min(limits) > 0.005
    assert {row["threshold"] for row in answers(threshold=0.9).values()} == {0.9}
    # As an earlier facekd left it: one threshold for all, and the next night makes it good.
    home = GalleryTable.open(gallery)
    with home.writing():
        home.keep(replace(home.meta, own=replace(own, level=None)))
    assert {row["threshold"] for row in answers().values()} == {base}
    enrolled(folder / "list.csv", gallery, tailed, accept_suspects=True)
    assert read_meta(gallery).own == own


def test_a_kill_before_the_measurement_is_made_good_by_the_next_night(
    tmp_path: Path, tailed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, gallery = write_people(tmp_path / "people", 60, 2), tmp_path / "g"
    enrolled(write_people(tmp_path / "first", 55, 2), gallery, tailed, accept_suspects=True)
    stale = read_meta(gallery).own

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(calibration, "kept_scores", cut)
        with pytest.raises(KeyboardInterrupt):
            enrolled(people, gallery, tailed, accept_suspects=True)
    assert len(GalleryTable.open(gallery)) == 60
    assert read_meta(gallery).own == replace(stale, written=5)
    assert not facekd.gallery_info(str(gallery), quiet=True).promise.own  # what was measured on others is not believed
    enrolled(people, gallery, tailed)
    assert read_meta(gallery).own.people == 60


def test_imported_and_merged_people_are_measured_too(tmp_path: Path, tailed: Path) -> None:
    enrolled(write_people(tmp_path / "people", 60, 2), tmp_path / "g", tailed, accept_suspects=True)
    facekd.gallery_export(str(tmp_path / "g"), tmp_path / "t.parquet", quiet=True)
    facekd.gallery_import(str(tmp_path / "h"), tmp_path / "t.parquet", quiet=True)
    own = read_meta(tmp_path / "h").own
    assert (own.people, own.genuine_people) == (60, 0)  # templates only
    for number in range(57, 60):
        assert read_meta(tmp_path / "g").own.written == number - 57  # a few people change little
        facekd.gallery_merge(str(tmp_path / "g"), "p00", f"p{number}", quiet=True)
    facekd.gallery_merge(str(tmp_path / "g"), "p00", "p01", quiet=True)
    assert read_meta(tmp_path / "g").own.people == 56
    before = read_meta(tmp_path / "g").own
    facekd.gallery_rename(str(tmp_path / "g"), "p02", "anna", quiet=True)
    assert read_meta(tmp_path / "g").own == before
    facekd.gallery_delete(str(tmp_path / "g"), "anna", quiet=True)
    assert facekd.gallery_info(str(tmp_path / "g"), quiet=True).promise.people == 55
    # Erased and measured in one run.
    some = write_people(write_people(tmp_path / "some", 53, 2, first=2), 5, 2, first=60)
    found = enrolled(some, tmp_path / "g", tailed, missing="delete", accept_suspects=True, change=True)
    assert found.missing == ("p00", "p55", "p56")
    assert read_meta(tmp_path / "g").own.people == 58
