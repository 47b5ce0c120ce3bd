"""facekd verify as published protocols do it: flips, repeats, distractors, BLUFR, attributes, fixed thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from scipy.io import savemat
from toy import write_store
from verify_home import ALL, PEOPLE, PHOTOS, cosines, make_home, ran, vectors

from facekd.cli import run
from facekd.commands.verify import verify
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.evaluation.blufr import Trial, deal_trials, read_trials


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("switches"))


def flags(home: Path) -> list[object]:
    return ["--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops", "--no-faces"]


def test_the_flip_test_adds_the_mirrored_crop_before_the_norm(home: Path, tmp_path: Path) -> None:
    (rates,) = ran(home, tmp_path, *flags(home), "--flip")["models"]
    embedder = CropEmbedder.load(home / "a")
    crops = read_crops(home / "crops")
    batch = crops.batch(np.arange(len(crops)))
    from facekd.core.pixels import to_input

    raw = [embedder.network.run(to_input(of, embedder.contract)) for of in (batch, batch[:, :, ::-1])]
    both = (raw[0] + raw[1]).astype(np.float64)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    left, right = np.array(ALL).T
    values, same = np.einsum("pd,pd->p", both[left], both[right]), left // PHOTOS == right // PHOTOS
    assert rates["auc"] == pytest.approx(float(oracles.auc(values.astype(np.float32), same)), abs=2e-4)
    (plain,) = ran(home, tmp_path / "p", *flags(home))["models"]
    assert rates["auc"] != plain["auc"]
    assert rates["model_id"] != plain["model_id"]  # its thresholds are others


def test_repeated_pairs_count_as_often_as_they_stand(home: Path, tmp_path: Path) -> None:
    lines = (home / "pairs.csv").read_text().splitlines()
    (tmp_path / "twice.csv").write_text("\n".join([*lines, *lines[1:6]]))
    given = ["--model", home / "a", "--pairs", tmp_path / "twice.csv", "--crops", home / "crops", "--no-faces"]
    once, kept = (ran(home, tmp_path / out, *given, *more) for out, more in (("o", []), ("k", ["--keep-repeats"])))
    assert sum(kept["models"][0]["pairs"].values()) == len(ALL) + 5
    assert sum(once["models"][0]["pairs"].values()) == len(ALL)
    assert (once["pairs"]["left_out"], kept["pairs"]["left_out"]) == ({"repeated": 5}, {})


def test_thresholds_of_one_list_are_judged_on_another(home: Path, tmp_path: Path) -> None:
    ran(home, tmp_path / "first", *flags(home), "--save-thresholds", tmp_path / "t.json")
    saved = json.loads((tmp_path / "t.json").read_text())
    result = ran(home, tmp_path / "o", *flags(home), "--threshold", tmp_path / "t.json", "--require", "fmr@T1e-1<=0.2")
    (rates,) = result["models"]
    (entry,) = [one for one in rates["fixed"] if one["name"] == "1e-1"]
    values, same, *_ = cosines(home, "a")
    assert entry["threshold"] == saved["models"][rates["model_id"]]["thresholds"]["1e-1"]["threshold"]
    assert entry["false"][0] == rates["tar"][0]["far"]  # the same list: nothing moved
    assert entry["missed"][0] == pytest.approx(1 - rates["tar"][0]["tar"])
    assert entry["drift"] == "agrees"
    assert result["requirements"][0]["met"]
    assert result["requirements"][0]["high"] == entry["false"][2]
    (rates,) = ran(home, tmp_path / "n", *flags(home), "--threshold", 0.5)["models"]
    assert rates["fixed"][0]["false"][0] == pytest.approx((values[~same] >= 0.5).mean(), abs=2 / (~same).sum())
    other = ["--model", home / "b", *flags(home)[2:], "--threshold", tmp_path / "t.json"]
    with pytest.raises(UserError, match="one network's threshold means nothing for another"):
        verify(model=[home / "b"], pairs=home / "pairs.csv", crops=home / "crops", threshold=tmp_path / "t.json",
               out=tmp_path / "x", quiet=True)  # fmt: skip
    assert run(["verify", *map(str, other), "--out", str(tmp_path / "y"), "--quiet"]) == 2
    again = ["verify", "--config", str(tmp_path / "o" / "run.yaml"), "--out", str(tmp_path / "z"), "--quiet"]
    assert run(again) == 0
    assert json.loads((tmp_path / "z" / "report.json").read_text())["models"] == result["models"]


def test_a_searchs_thresholds_are_kept_beside_those_of_pairs(home: Path, tmp_path: Path) -> None:
    search = ["--model", home / "a", "--identification", "--crops", home / "crops", "--far", "0.5"]
    ran(home, tmp_path / "1", *flags(home), "--save-thresholds", tmp_path / "t.json")
    ran(home, tmp_path / "2", *search, "--save-thresholds", tmp_path / "t.json")
    (entry,) = json.loads((tmp_path / "t.json").read_text())["models"].values()
    assert entry["fpir"]["5e-1"]["people"] == PEOPLE // 2
    assert "1e-1" in entry["thresholds"]
    asked = ["--threshold", tmp_path / "t.json", "--require", "fpir@T5e-1<=0.9", "--require", "rank1>=0.01"]
    result = ran(home, tmp_path / "3", *search, *asked)
    (rates,) = result["models"]
    (fixed,) = [one for one in rates["fixed"] if one["name"] == "5e-1"]
    (tpir,) = [one for one in rates["tpir"] if one["fpir_asked"] == 0.5]
    assert (fixed["false"][0], 1 - fixed["missed"][0]) == pytest.approx((tpir["fpir"], tpir["tpir"]))
    assert all(one["met"] for one in result["requirements"])
    (tmp_path / "no.json").write_text("[]")
    assert run(["verify", *map(str, flags(home)), "--out", str(tmp_path / "4"), "--quiet", "--save-thresholds",
                str(tmp_path / "no.json")]) == 2  # fmt: skip


def test_a_gallery_grows_by_distractors(home: Path, tmp_path: Path) -> None:
    crowd = write_store(tmp_path / "crowd", people=PEOPLE + 6, photos=3)  # its first eight people are judged
    given = ["--model", home / "a", "--identification", "--crops", home / "crops", "--distractors", crowd]
    result = ran(home, tmp_path / "o", *given)
    (rates,) = result["models"]
    assert [row["distractors"] for row in rates["distractors"]] == [0, 10, 18]
    assert result["split"]["left_out"]["distractors of judged people"] == 3 * PEOPLE
    found = [row["found"] for row in rates["distractors"]]
    assert found == sorted(found, reverse=True)
    assert rates["ranks"][0]["found"] == found[-1]
    (alone,) = ran(home, tmp_path / "a", *given[:-2])["models"]
    assert alone["ranks"][0]["found"] == found[0]
    # By hand: a probe is found where its person's photo is ahead of all others and all distractors.
    split = [line.split(",") for line in (tmp_path / "o" / "split.csv").read_text().splitlines()[1:]]
    crops, more = read_crops(home / "crops"), read_crops(crowd)
    place = {source: k for k, source in enumerate(crops.sources)}
    embedded = vectors(home, "a")
    others = [k for k, name in enumerate(more.identities) if int(str(name)[1:]) >= PEOPLE]
    strange = CropEmbedder.load(home / "a").embed(more.batch(np.array(others)))
    gallery = [place[photo] for photo, kind in split if kind == "gallery" and photo in place]
    hits, n = 0, 0
    for photo, kind in split:
        own = [k for k in gallery if crops.sources[k].split("/")[0] == photo.split("/")[0]]
        if kind != "probe" or not own:
            continue
        n += 1
        if photo in place:
            probe = embedded[place[photo]]
            best = max(float(probe @ embedded[k]) for k in own)
            rivals = [float(probe @ embedded[k]) for k in gallery if k not in own]
            hits += best > max([*rivals, *map(float, strange @ probe)])
    assert rates["ranks"][0]["found"] == pytest.approx(hits / n)
    assert "distractors" in (tmp_path / "o" / "report.md").read_text()


def test_trials_are_dealt_by_blufrs_rule() -> None:
    rng = np.random.default_rng(0)
    # As LFW: 5,749 people, 4,069 of them with one photo, 13,233 photos.
    times = np.concatenate([np.ones(4069, int), 2 + rng.multinomial(13_233 - 4069 - 2 * 1680, np.ones(1680) / 1680)])
    persons = np.repeat([f"p{k}" for k in range(5749)], times)
    trials = deal_trials(persons.tolist())
    assert len(trials) == 10
    for trial in trials:
        gallery, probes = persons[trial.gallery], persons[trial.probes]
        assert len(set(gallery)) == len(gallery) == 1000
        assert len(set(gallery) | set(probes)) == 4249
        assert set(gallery) <= set(probes)  # who is enrolled has another photo
        assert not set(trial.gallery) & set(trial.probes)
        assert (np.isin(persons, probes).sum()) == len(gallery) + len(probes)  # all photos of the test's people
    assert len({tuple(trial.gallery) for trial in trials}) == 10
    again = deal_trials(persons.tolist())
    assert all(
        (a.gallery == b.gallery).all() and (a.probes == b.probes).all() for a, b in zip(trials, again, strict=True)
    )
    with pytest.raises(UserError, match="too few for BLUFR"):
        deal_trials(["a", "b", "c"])


def config(path: Path, names: list[str], trials: list[Trial]) -> Path:
    """A file as BLUFR's blufr_lfw_config.mat: indices from 1, in cells."""

    def cells(values: list[Any]) -> Any:
        found = np.empty((len(values), 1), object)
        for k, value in enumerate(values):
            found[k, 0] = value
        return found

    galleries = cells([trial.gallery[:, None] + 1.0 for trial in trials])
    probes = cells([trial.probes[:, None] + 1.0 for trial in trials])
    savemat(path, {"imageList": cells(names), "galIndex": galleries, "probIndex": probes})
    return path


def test_blufrs_own_trials_are_read(tmp_path: Path) -> None:
    names = [f"Ann_Lee_{k:04d}.jpg" for k in range(1, 5)] + ["Bo_Ek_0001.jpg"]
    path = config(tmp_path / "c.mat", names, [Trial(np.array([0]), np.array([1, 3, 4]))])
    ours = ["lfw/Bo_Ek/Bo_Ek_0001.png", "Ann_Lee_0001", "x/Ann_Lee_0004.jpg", "Ann_Lee_0003.jpg"]
    (trial,), lacking = read_trials(path, ours)
    assert (trial.gallery.tolist(), trial.probes.tolist(), lacking) == ([1], [2, 0], 1)
    with pytest.raises(UserError, match="has no photo among those given"):
        read_trials(path, ["Bo_Ek_0001"])
    for content in (b"", b"MATLAB", b"\0" * 200):
        (tmp_path / "no.mat").write_bytes(content)
        with pytest.raises(UserError, match=r"not BLUFR's blufr_lfw_config\.mat"):
            read_trials(tmp_path / "no.mat", ours)
    savemat(tmp_path / "other.mat", {"a": 1})
    with pytest.raises(UserError, match=r"not BLUFR's blufr_lfw_config\.mat"):
        read_trials(tmp_path / "other.mat", ours)


def test_blufr_reports_the_mean_less_the_deviation(home: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "crops", people=70, photos=3)
    given = ["--model", str(home / "a"), "--crops", str(store), "--blufr", "--out", str(tmp_path / "o"), "--quiet"]
    assert run(["verify", *given]) == 0
    result = json.loads((tmp_path / "o" / "report.json").read_text())
    (rates,) = result["models"]
    tars = [trial["tar"] for trial in rates["trials"]]
    assert len(tars) == 10
    assert rates["tar"]["mean_less_std"] == pytest.approx(np.mean(tars) - np.std(tars, ddof=1))
    # Of one trial by hand: all pairs of its photos.
    rows = [line.split(",") for line in (tmp_path / "o" / "trials.csv").read_text().splitlines()[1:]]
    crops = read_crops(store)
    place = {source: k for k, source in enumerate(crops.sources)}
    test = [place[photo] for trial, photo, _ in rows if trial == "1"]
    embedded = CropEmbedder.load(home / "a").embed(crops.batch(np.array(test)))
    left, right = np.triu_indices(len(test), 1)
    same = np.array([crops.identities[test[a]] == crops.identities[test[b]] for a, b in zip(left, right, strict=True)])
    tar, _, _ = oracles.tar_at_far((embedded @ embedded.copy().T)[left, right], same, "0.001")
    assert tars[0] == pytest.approx(float(tar), abs=0.02)
    assert rates["dir"] is None  # fewer than 300 impostor probes show no FPIR of 1 %
    assert "Mean of the trials less their standard deviation" in (tmp_path / "o" / "report.md").read_text()


def attributes(path: Path, by_photo: bool = False) -> Path:
    rows = ["who,sex,side"]
    for k in range(PEOPLE):
        names = [f"p{k:02d}/p{k:02d}_{j:04d}.png" for j in range(1, PHOTOS + 1)] if by_photo else [f"p{k:02d}"]
        rows += [f"{name},{'f' if k < 6 else 'm'},{'left' if k % 2 else ''}" for name in names]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("by_photo", [False, True])
@pytest.mark.parametrize("everybody", [False, True])
def test_groups_of_an_attribute_file_and_fmr_across_them(
    home: Path, tmp_path: Path, by_photo: bool, everybody: bool
) -> None:
    file = attributes(tmp_path / "a.csv", by_photo)
    which = ["--all-pairs", "--embeddings", home / "a.parquet"] if everybody else flags(home)[2:]
    given = [*which, "--attributes", file, "--group", "sex", "--threshold", 0.8]
    (rates,) = ran(home, tmp_path / "o", *given, *([] if everybody else ["--model", home / "a"]))["models"]
    assert set(rates["groups"]) == {"sex"}
    groups = rates["groups"]["sex"]
    assert set(groups) == {"f", "m", "f × m"}
    values, same, left, right = cosines(home, "a")
    women = [int(a < 6) + int(b < 6) for a, b in zip(left, right, strict=True)]
    cells = {(one["a"], one["b"]): one for one in rates["across"]["sex"]["cells"]}
    for name, cell, sides in (("f", ("f", "f"), 2), ("m", ("m", "m"), 0), ("f × m", ("f", "m"), 1)):
        here = np.array(women) == sides
        assert groups[name]["pairs"] == {"genuine": int((here & same).sum()), "impostor": int((here & ~same).sum())}
        assert cells[cell]["impostor"] == groups[name]["pairs"]["impostor"]
        if name != "f × m":  # which has no genuine pair
            expected = (values[here & ~same] >= 0.8).mean()
            assert cells[cell]["fmr"][0] == pytest.approx(expected, abs=1.5 / (here & ~same).sum())
            threshold = rates["tar"][0]["threshold"] - 1e-6
            assert groups[name]["tar"][0]["tar"] == pytest.approx((values[here & same] >= threshold).mean())
            if groups[name]["tar"][0]["far"] is not None:
                expected = (values[here & ~same] >= threshold).mean()
                assert groups[name]["tar"][0]["far"] == pytest.approx(expected, abs=1.5 / (here & ~same).sum())
    assert {row["fnmr"]["worst"] for row in rates["group_ratios"]["sex"]} <= {None, "f", "m"}


def test_what_an_attribute_file_must_be(home: Path, tmp_path: Path) -> None:
    for text, words in (
        ("who,sex\nnobody,f\n", "names none of the photos"),
        ("who\np00\n", "has no group column"),
        ("who,sex\np00,f\np00,m\n", "line 3: 'p00' is 'm' and was 'f'"),
    ):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(UserError, match=words):
            verify(embeddings=[home / "a.parquet"], all_pairs=True, attributes=tmp_path / "a.csv",
                   out=tmp_path / "o", quiet=True)  # fmt: skip
    with pytest.raises(UserError, match="check the path"):
        verify(embeddings=[home / "a.parquet"], all_pairs=True, attributes=tmp_path / "b.csv",
               out=tmp_path / "o", quiet=True)  # fmt: skip
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--all-pairs", "--embeddings", "e", "--flip"], "--flip embeds mirrored crops"),
        (["--all-pairs", "--crops", "c", "--keep-repeats"], "give --pairs or --bin"),
        (["--all-pairs", "--crops", "c", "--distractors", "d"], "add --identification"),
        (["--blufr", "--all-pairs", "--crops", "c"], "--blufr is a protocol of its own; leave --all-pairs out"),
        (["--blufr"], "give --crops STORE or --embeddings FILE, not neither"),
        (["--blufr", "--crops", "c", "--require", "eer<=0.1"], "BLUFR judges at its own FAR"),
        (["--all-pairs", "--crops", "c", "--blufr-config", "m"], "add --blufr"),
        (["--identification", "--crops", "c", "--attributes", "a"], "give --pairs LIST or --all-pairs"),
        (["--all-pairs", "--crops", "c", "--require", "tpir@0.1>=0.5"], "that only --identification measures"),
        (["--bin", "b", "--require", "tar@0.1:sex=f>=0.5"], "a .bin set has none"),
        (["--all-pairs", "--crops", "c", "--require", "tar@0.1:sex=f>=0.5"], "give --attributes for all pairs"),
        (["--all-pairs", "--crops", "c", "--require", "fmr@T<=0.5"], "give it with --threshold"),
    ],
)
def test_switches_that_do_not_go_together(
    given: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["verify", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
