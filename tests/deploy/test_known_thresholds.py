"""Thresholds that facekd carries: by model_id, after a file's own, and wherever a threshold is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper
from people import NEAR, write_model, write_people
from PIL import Image
from toy import onnx_of, tiny_net

from facekd import Embedder, Gallery
from facekd.cli import run
from facekd.commands.enroll import enroll
from facekd.commands.export import export
from facekd.commands.gallery import info
from facekd.commands.identify import identify
from facekd.commands.same import same
from facekd.core.calibration import KNOWN_THRESHOLDS, known_calibration, read_calibration
from facekd.core.contract import KNOWN, Contract, read_contract
from facekd.deploy.default import default_model
from facekd.deploy.thresholds import THRESHOLDS, known_thresholds, model_thresholds, read_thresholds, usual_far
from facekd.enrollment.calibration import gallery_thresholds
from facekd.errors import UserError
from facekd.gallery.gallery import GalleryTable as Table
from facekd.gallery.meta import write_meta

FARS = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
R95 = read_contract(KNOWN / "reid_retail_0095.yaml")


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """An ONNX file that says it is a known network, as an fp32 export of it does."""
    path = onnx_of(tiny_net(R95.dim, R95.size), tmp_path / "known.onnx", size=R95.size, dim=R95.dim)
    return with_metadata(path, {"facekd.contract": R95.to_json()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three people, one photo each, as crops of 112 pixels."""
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (7, 7, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        path = tmp_path / "people" / f"p{number}" / "0.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "people"


def with_metadata(path: Path, values: dict[str, str]) -> Path:
    model = onnx.load(str(path))
    helper.set_model_props(model, {entry.key: entry.value for entry in model.metadata_props} | values)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("path", sorted(KNOWN.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_known_network_has_thresholds(path: Path) -> None:
    contract = read_contract(path)
    found = read_calibration(KNOWN_THRESHOLDS / path.name)
    assert found.model_id == contract.model_id  # else a field of the contract changed and they are found no more
    assert known_calibration(contract) == found
    assert [one.far for one in found.thresholds] == FARS
    assert known_thresholds(contract) == {one.far: one.threshold for one in found.thresholds}
    for one in found.thresholds:
        assert found.lists[one.list].couples * one.far >= 3  # the rule of 3, the pairs of two people taken as one
    assert found.lists["celeba"].people == 1358
    assert found.lists["lfw"].photos == 7701


def test_facekd_s_own_network_has_thresholds() -> None:
    file = default_model()
    contract = Embedder.load(file).contract
    assert 1e-3 in model_thresholds(file, contract)
    assert list(known_thresholds(contract)) == FARS


def test_other_weights_and_the_same_ones_fed_otherwise_have_none() -> None:
    assert known_thresholds(R95)
    for other in ({"weights_sha256": "0" * 64}, {"flip": True}, {"channels": "BGR"}):
        assert known_thresholds(replace(R95, **other)) == {}


def test_a_file_s_own_thresholds_go_first(known: Path) -> None:
    assert model_thresholds(known, R95) == known_thresholds(R95)
    with_metadata(known, {THRESHOLDS: '{"0.001": 0.25}'})
    assert model_thresholds(known, R95) == {1e-3: 0.25}
    assert Embedder.load(known).thresholds() == {1e-3: 0.25}


@pytest.mark.parametrize(("known", "wanted"), [(FARS, 1e-3), ([1e-2, 1e-4, 1e-5], 1e-4), ([0.1, 0.01], 0.01)])
def test_the_far_of_one_comparison(known: list[float], wanted: float) -> None:
    assert usual_far(dict.fromkeys(known, 0.5)) == wanted


def test_whatever_asks_for_a_threshold_finds_them(
    known: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder / "p0" / "0.png", folder / "p1" / "0.png"
    thresholds = known_thresholds(R95)
    embedder = Embedder.load(known)
    answer = embedder.compare(a, b, detector="none")
    assert (answer.threshold, answer.far) == (thresholds[1e-3], 1e-3)
    assert embedder.compare(a, b, far=1e-5, detector="none").threshold == thresholds[1e-5]
    assert same(a, b, model=known, detector="none", quiet=True).threshold == thresholds[1e-3]

    gallery = tmp_path / "g"
    summary = enroll(folder, gallery, model=known, detector="none", accept_suspects=True, quiet=True)
    assert not any("no threshold is known" in note for note in summary.notes)
    assert Table.open(gallery).meta.calibrated == thresholds
    # A search is never judged by the threshold of one comparison: three people, one stranger in a hundred searches.
    mild, strict, needed = (math.sqrt(-2 * math.log(far)) for far in (1e-2, 1e-3, 1 - 0.99 ** (1 / 3)))
    search = thresholds[1e-2] + (thresholds[1e-3] - thresholds[1e-2]) * (needed - mild) / (strict - mild)
    assert thresholds[1e-2] < search < thresholds[1e-3]
    assert Gallery.open(gallery, embedder).identify(a).threshold == pytest.approx(search)
    assert same(a, gallery, person="p0", quiet=True).threshold == thresholds[1e-3]
    capsys.readouterr()
    assert identify(gallery, a).threshold == pytest.approx(search)
    said = " ".join(capsys.readouterr().err.split())
    assert f"threshold {search:.4f}: a stranger is named in 1 % of searches through 3 people, by what is known" in said

    # A gallery enrolled before facekd knew them.
    home = Table.open(gallery)
    write_meta(gallery, replace(home.meta, calibrated={}))
    assert identify(gallery, a, quiet=True).threshold == pytest.approx(search)
    assert same(a, gallery, person="p0", quiet=True).far == 1e-3
    assert info(str(gallery)).threshold is None
    assert f"{thresholds[1e-6]:.4f} at FAR 1e-06" in " ".join(capsys.readouterr().out.split())
    # Templates that were mapped from another model score otherwise.
    assert gallery_thresholds(replace(home.meta, calibrated={}, mapped="0" * 16)) == {}


def test_an_unknown_network_has_none(known: Path, folder: Path, tmp_path: Path) -> None:
    with_metadata(known, {"facekd.contract": replace(R95, weights_sha256="0" * 64).to_json()})
    enroll(folder, tmp_path / "g", model=known, detector="none", accept_suspects=True, quiet=True)
    with pytest.raises(UserError, match=r"no threshold is known, so nobody can be told from a stranger"):
        identify(tmp_path / "g", folder, quiet=True)
    photo = folder / "p0" / "0.png"
    with pytest.raises(UserError, match="carries no threshold, so the same person can't be told from another"):
        Embedder.load(known).compare(photo, photo, detector="none")
    assert run(["same", str(photo), str(photo), "--model", str(known), "--detector", "none"]) == 2


def test_an_export_carries_them_where_it_is_the_same_model(known: Path, tmp_path: Path) -> None:
    export(known, tmp_path / "full.onnx", quiet=True)
    assert read_thresholds(tmp_path / "full.onnx") == known_thresholds(R95)
    half = export(known, tmp_path / "half.onnx", precision="fp16", quiet=True)
    assert model_thresholds(half.path, Embedder.load(half.path).contract) == {}


def test_a_photo_is_held_to_the_threshold_of_one_comparison_and_two_ids_to_a_stricter(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", {1e-2: NEAR, 1e-3: 0.9999})
    people = write_people(tmp_path / "people")
    embedder = Embedder.load(model)
    one, two = embedder.embed_photos([people / "p00" / f"{n}.png" for n in (0, 1)], detector="none")
    assert NEAR < one.vectors[0] @ two.vectors[0] < 0.9999
    summary = enroll(people, tmp_path / "g", model=model, detector="none", quiet=True)
    assert summary.exit_code == 0
    assert len(Table.open(tmp_path / "g")) == 4
    for number in range(3):  # two ids of one person: alike, but not as improbably as two of so few would have to be
        (people / f"q{number}").mkdir()
        (people / "p00" / f"{number}.png").rename(people / f"q{number}" / "0.png")
    (people / "p00").rmdir()
    summary = enroll(people, tmp_path / "h", model=model, detector="none", quiet=True)
    assert not summary.held_back
    summary = enroll(people, tmp_path / "i", model=model, detector="none", suspect_threshold=NEAR, quiet=True)
    assert set(summary.held_back) == {"q0", "q1", "q2"}


GOOD: dict[str, Any] = {
    "model_id": "a" * 16,
    "date": "2026-11-29",
    "lists": {"some": {"what": "w", "crops": "c", "people": 9, "photos": 9, "impostor_pairs": 36, "couples": 36}},
    "thresholds": [
        {"far": 0.01, "threshold": 0.4, "low": 0.3, "high": 0.5, "list": "some"},
        {"far": 0.001, "threshold": 0.5, "low": 0.4, "high": 0.6, "list": "some"},
    ],
}


def at(*keys: object) -> Callable[[object], dict[str, Any]]:
    """GOOD with another value at a place."""

    def changed(value: object) -> dict[str, Any]:
        whole: Any = yaml.safe_load(yaml.safe_dump(GOOD))
        part = whole
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return dict(whole)

    return changed


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ("{", "not readable as YAML"),
        ("", "damaged"),
        ([1], "damaged"),
        (at("thresholds")([]), "lacks"),
        (at("thresholds")(None), "damaged"),
        (at("thresholds", 0, "threshold")(1.5), "FAR 0.01"),
        (
            at("thresholds", 1)({"far": 0.001, "threshold": 0.35, "low": 0.3, "high": 0.6, "list": "some"}),
            "not stricter",
        ),
        (at("thresholds", 0, "threshold")("0.4"), "threshold is '0.4'"),
        (at("thresholds", 0, "threshold")(float("nan")), "FAR 0.01"),
        (at("thresholds", 0, "far")(0.0), "no cosine, interval and list"),
        (at("thresholds", 0, "low")(0.45), "interval"),
        (at("thresholds", 1, "list")("other"), "FAR 0.001"),
        (at("thresholds", 1, "far")(0.02), "FAR 0.02"),
        (at("thresholds", 1, "extra")(1), "extra"),
        (at("lists", "some", "people")("many"), "people is 'many'"),
        (at("lists", "some")({}), "missing"),
        (at("model_id")(7), "model_id"),
        (at("extra")(1), "unknown key 'extra'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, values: object, why: str) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(UserError, match=rf"some\.yaml: .*{why}.*install facekd again"):
        read_calibration(path)


def test_a_good_file_is_found_by_its_model(tmp_path: Path) -> None:
    contract = Contract(dim=8, weights_sha256="a")
    values = at("model_id")(contract.model_id)
    (tmp_path / "a.yaml").write_text("model_id: of another\nand: [damaged", encoding="utf-8")
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    found = known_calibration(contract, tmp_path)
    assert found is not None
    assert found.by_far() == {0.01: 0.4, 0.001: 0.5}
    assert known_calibration(Contract(dim=9, weights_sha256="a"), tmp_path) is None
    with pytest.raises(UserError, match=r"none\.yaml: not readable"):
        read_calibration(tmp_path / "none.yaml")
