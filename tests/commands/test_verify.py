"""facekd verify: the rates are those of slow twins, every failure is counted, and the report repeats them."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from toy import contract_file, onnx_of, person, save_run, tiny_net, write_store

from facekd.cli import run
from facekd.commands.verify import verify
from facekd.core.pixels import encode_crop
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.evaluation.judged import labels
from facekd.evaluation.text import far_name

FAILED = ("p90/p90_0001.png", "p90/p90_0002.png")
FOLDS, EACH = 3, 12
KEYS = ("model", "model_id", "accuracy", "eer", "auc", "tar", "pairs", "failures_to_enrol")  # promised to scripts
Pair = tuple[tuple[str, int], tuple[str, int], bool]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 6 people with 5 photos each and two photos without a face, two models, and an LFW-style list."""
    home = tmp_path_factory.mktemp("verify")
    write_store(home / "crops", people=6, photos=5, failed=FAILED)
    save_run(home / "net", "iresnet18-quarter")
    save_run(home / "other" / "net", "iresnet18-quarter", seed=1)
    lines = [f"{FOLDS}\t{EACH}"]
    for a, b, same in listed():
        lines.append("\t".join(map(str, (*a, b[1]) if same else (*a, *b))))
    (home / "pairs.txt").write_text("\n".join(lines) + "\n")
    return home


def listed() -> list[Pair]:
    """The pairs of the list; one genuine and two impostor pairs of the first fold name a photo without a face."""
    rng = np.random.default_rng(0)
    photos = [(f"p{i:02d}", j) for i in range(6) for j in range(1, 6)]
    genuine = [(a, b, True) for a, b in itertools.combinations(photos, 2) if a[0] == b[0]]
    impostor = [(a, b, False) for a, b in itertools.combinations(photos, 2) if a[0] != b[0]]
    genuine = [genuine[i] for i in rng.permutation(len(genuine))[: FOLDS * EACH]]
    impostor = [impostor[i] for i in rng.permutation(len(impostor))[: FOLDS * EACH]]
    missing = ("p90", 1)
    genuine[0] = (missing, ("p90", 2), True)
    impostor[:2] = [(photos[0], missing, False), (missing, photos[7], False)]
    found: list[Pair] = []
    for fold in range(FOLDS):
        found += genuine[fold * EACH : (fold + 1) * EACH] + impostor[fold * EACH : (fold + 1) * EACH]
    return found


@functools.cache
def scores_by_hand(home: Path, model: str) -> tuple[list[float], list[bool], list[int]]:
    """Cosines of the listed pairs, one after the other; -inf with the photo without a crop."""
    crops = read_crops(home / "crops")
    vectors = CropEmbedder.load(home / model).embed(crops.batch(np.arange(len(crops)))).astype(float)
    embedded = dict(zip(crops.sources, vectors, strict=True))

    def vector(photo: tuple[str, int]) -> Array | None:
        source = f"{photo[0]}/{photo[0]}_{photo[1]:04d}.png"
        return embedded.get(source)

    values = []
    for a, b, _ in listed():
        one, two = vector(a), vector(b)
        values.append(-np.inf if one is None or two is None else float(one @ two))
    return values, [same for *_, same in listed()], [i // (2 * EACH) for i in range(len(values))]


@pytest.fixture(scope="module")
def report(home: Path) -> dict[str, Any]:
    models = ["--model", str(home / "net"), "--model", str(home / "other" / "net")]
    flags = ["--crops", str(home / "crops"), "--pairs", str(home / "pairs.txt"), "--json", str(home / "rates.json")]
    fars = ["--far", "0.3", "--far", "0.1", "--far", "0.01"]
    assert run(["verify", *models, *flags, *fars, "--out", str(home / "out"), "--quiet"]) == 0
    return json.loads((home / "rates.json").read_text())


@pytest.mark.parametrize(("place", "model"), [(0, "net"), (1, "other/net")])
def test_the_rates_are_those_of_the_twins(home: Path, report: dict[str, Any], place: int, model: str) -> None:
    values, same, fold = scores_by_hand(home, model)
    # The stage's cosines are float32: thresholds are compared loosely, counts exactly. Near-ties would blur that.
    finite = sorted(value for value in values if np.isfinite(value))
    assert min(np.diff(finite)) > 1e-6
    rates = report["models"][place]
    assert rates["eer"] == pytest.approx(float(oracles.eer(values, same)))
    assert rates["auc"] == pytest.approx(float(oracles.auc(values, same)))
    assert [rate["far_asked"] for rate in rates["tar"]] == [0.3, 0.1, 0.01]
    for rate in rates["tar"][:2]:
        tar, far, threshold = oracles.tar_at_far(values, same, str(rate["far_asked"]))
        assert rate["tar"] == pytest.approx(float(tar))
        assert rate["far"] == pytest.approx(float(far))
        assert rate["threshold"] == pytest.approx(threshold, abs=1e-5)
        assert rate["low"] < rate["tar"] < rate["high"]
    folds = [right for right, _ in oracles.fold_accuracy(values, same, fold)]
    assert rates["accuracy"]["folds"] == pytest.approx(folds)
    assert rates["accuracy"]["mean"] == pytest.approx(np.mean(folds))
    assert rates["accuracy"]["std"] == pytest.approx(np.std(folds, ddof=1))


def test_a_far_that_the_list_is_too_short_for_has_no_tar(report: dict[str, Any]) -> None:
    rate = report["models"][0]["tar"][2]
    assert rate["far_asked"] == 0.01  # 36 impostor pairs can't show one in a hundred
    assert (rate["tar"], rate["threshold"], rate["low"], rate["high"]) == (None, None, None, None)
    assert rate["support"] == "none"


def test_photos_without_a_crop_count_as_non_matches(home: Path, report: dict[str, Any]) -> None:
    rates = report["models"][0]
    assert rates["pairs"] == {"genuine": FOLDS * EACH, "impostor": FOLDS * EACH}  # n is the list's, not the lucky ones'
    assert rates["failures_to_enrol"] == {"photos": 2, "pairs": 3}
    values, same, _ = scores_by_hand(home, "net")
    enrolled = [(v, s) for v, s in zip(values, same, strict=True) if np.isfinite(v)]
    tar, _, _ = oracles.tar_at_far(*zip(*enrolled, strict=True), "0.3")
    assert rates["tar_without_failures"][0]["tar"] == pytest.approx(float(tar))  # shown beside, never instead


def test_every_file_says_the_same(home: Path, report: dict[str, Any]) -> None:
    assert json.loads((home / "out" / "report.json").read_text()) == report
    assert [model["model"] for model in report["models"]] == [f"{home.name}/net", "other/net"]
    assert [model["file"] for model in report["models"]] == [str(home / "net"), str(home / "other" / "net")]
    assert len({model["model_id"] for model in report["models"]}) == 2
    assert report["models"][0]["model_id"] == CropEmbedder.load(home / "net").model_id
    assert all(set(KEYS) <= model.keys() for model in report["models"])
    assert {"far_asked", "far", "tar", "low", "high", "threshold"} <= report["models"][0]["tar"][0].keys()
    page = (home / "out" / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    for shown in (f"{home.name}/net", "other/net", "pairs.txt", f"{100 * report['models'][0]['tar'][0]['tar']:.2f}"):
        assert shown in page
    assert 'src="http' not in page  # self-contained


@pytest.mark.slow
def test_run_yaml_repeats_the_report(home: Path, report: dict[str, Any], tmp_path: Path) -> None:
    config = yaml.safe_load((home / "out" / "run.yaml").read_text())
    assert config["model"] == [str(home / "net"), str(home / "other" / "net")]
    flags = ["--config", str(home / "out" / "run.yaml"), "--out", str(tmp_path), "--json", str(tmp_path / "r.json")]
    assert run(["verify", *flags, "--quiet"]) == 0
    again = json.loads((tmp_path / "r.json").read_text())
    for one, two in zip(report["models"], again["models"], strict=True):
        assert {key: one[key] for key in KEYS} == {key: two[key] for key in KEYS}
    assert again["pairs"] == report["pairs"]


def test_the_table_names_models_counts_and_failures(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--crops", str(home / "crops"), "--pairs", str(home / "pairs.txt"), "--out", str(tmp_path)]
    assert run(["verify", "--model", str(home / "net"), *flags, "--far", "0.15", "--far", "0.3"]) == 0
    shown = capsys.readouterr()
    assert "36 genuine and 36 impostor pairs; 2 photos gave no crop: 3 pairs count as non-matches" in shown.out
    assert "TAR@1.5e-1" in shown.out  # not rounded to another FAR
    assert f"report: {tmp_path / 'report.html'}" in shown.err


def csv(path: Path, rows: list[str], header: str = "a,b,same") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_unknown_photos_are_refused_with_their_number(home: Path, tmp_path: Path) -> None:
    pairs = csv(tmp_path / "p.csv", ["p00/p00_0001,p00/p00_0002,1", "p00/p00_0001,nobody/1,0", "who,nobody/1,0"])
    with pytest.raises(UserError, match=r"2 photos of the pair list are not in it \(first: '(who|nobody/1)'\)"):
        verify(model=[home / "net"], pairs=pairs, crops=home / "crops", out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("far", [0.0, 2.0, float("nan")])
def test_a_far_that_is_no_rate_is_refused(home: Path, tmp_path: Path, far: float) -> None:
    with pytest.raises(UserError, match="give a rate above 0 and at most 1"):
        verify(model=[home / "net"], pairs=home / "pairs.txt", crops=home / "crops", far=[far], out=tmp_path / "o",
               quiet=True)  # fmt: skip
    assert not (tmp_path / "o").exists()


def test_a_list_of_one_kind_is_refused(home: Path, tmp_path: Path) -> None:
    pairs = csv(tmp_path / "p.csv", ["p00/p00_0001,p00/p00_0002,1", "p01/p01_0001,p01/p01_0002,1"])
    with pytest.raises(UserError, match="impostor"):
        verify(model=[home / "net"], pairs=pairs, crops=home / "crops", out=tmp_path / "out", quiet=True)


def test_groups_are_judged_at_the_whole_lists_thresholds(home: Path, tmp_path: Path) -> None:
    name = [f"{a[0]}/{a[0]}_{a[1]:04d},{b[0]}/{b[0]}_{b[1]:04d}" for a, b, _ in listed()]
    values, same, _ = scores_by_hand(home, "net")
    light = ["day" if i % 3 else "night" for i in range(len(name))]
    rows = [f"{n},{int(s)},{g}" for n, s, g in zip(name, same, light, strict=True)]
    pairs = csv(tmp_path / "p.csv", rows, "a,b,same,light")
    flags = ["--crops", str(home / "crops"), "--pairs", str(pairs), "--out", str(tmp_path / "o"), "--quiet"]
    assert run(["verify", "--model", str(home / "net"), *flags, "--far", "0.2", "--group", "light"]) == 0
    (rates,) = json.loads((tmp_path / "o" / "report.json").read_text())["models"]
    assert rates["accuracy"] is None  # the list has no folds to choose a threshold on
    threshold = rates["tar"][0]["threshold"]
    groups = rates["groups"]["light"]
    assert groups.keys() == {"day", "night"}
    assert sum(group["pairs"]["genuine"] for group in groups.values()) == FOLDS * EACH
    for group, found in groups.items():
        genuine = [v for v, s, g in zip(values, same, light, strict=True) if s and g == group]
        impostor = [v for v, s, g in zip(values, same, light, strict=True) if not s and g == group]
        assert found["tar"][0]["tar"] == pytest.approx(np.mean([v >= threshold - 1e-6 for v in genuine]))
        if 0.2 * len(impostor) < 3:
            assert found["tar"][0]["far"] is None  # too few to show one in five
        else:
            accepted = np.mean([v >= threshold - 1e-6 for v in impostor])
        # Fewer than 3 / 0.2 impostor pairs of a group can't show its FAR.
        assert found["tar"][0]["far"] == (pytest.approx(accepted) if len(impostor) >= 15 else None)


def test_image_parquet_and_an_onnx_model_of_its_own_contract(tmp_path: Path) -> None:
    images = [{"bytes": encode_crop(person(i // 4, i)), "path": None} for i in range(24)]
    pq.write_table(pa.table({"image": images}), tmp_path / "faces.parquet")
    pairs = csv(
        tmp_path / "p.csv",
        [f"faces-{i},faces-{j},{int(i // 4 == j // 4)}" for i, j in itertools.combinations(range(24), 2)],
    )
    model = onnx_of(tiny_net(), tmp_path / "net.onnx", batch=1)
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=32)
    flags = ["--contract", contract, "--pairs", pairs, "--crops", tmp_path / "faces.parquet", "--out", tmp_path / "out"]
    assert run(["verify", "--model", str(model), *map(str, flags), "--quiet"]) == 0
    (rates,) = json.loads((tmp_path / "out" / "report.json").read_text())["models"]
    assert rates["model"] == "net"
    assert rates["pairs"] == {"genuine": 6 * 6, "impostor": 24 * 23 // 2 - 36}
    assert rates["eer"] < 0.2  # these patterns are apart even in random directions


def test_short_names() -> None:
    paths = [Path("a/net.onnx"), Path("b/net.onnx"), Path("runs/student"), Path("x/model.safetensors")]
    assert labels(paths) == ["a/net", "b/net", "student", "model"]
    assert labels([Path("a/net.onnx"), Path("x/a/net.onnx"), Path("a/run")]) == ["a/net (1)", "a/net (2)", "run"]
    assert [far_name(far) for far in (0.1, 1e-3, 1.5e-3, 1e-10, 1.0)] == ["1e-1", "1e-3", "1.5e-3", "1e-10", "1e0"]
