"""facekd verify --templates: the scores are those of insightface's script, and no photo or template is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ijb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import SIZE, onnx_of, tiny_net, write_store

from facekd.cli import run
from facekd.commands.verify import verify
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.crops.templates import read_template_list
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import read_embeddings
from facekd.errors import UserError
from facekd.evaluation.fusion import fusion_weights
from facekd.evaluation.templates import photo_templates, read_templates

LOST = ("3.jpg", "11.jpg")  # photos without embedding, beside all of two templates


@pytest.fixture(scope="module")
def drawn() -> ijb.Drawn:
    return ijb.draw()


@pytest.fixture(scope="module")
def vectors(drawn: ijb.Drawn) -> dict[str, Array]:
    """Of all photos but `LOST` and those of an enrolled template and a probe."""
    gone = {7, 28}
    every = ijb.embed(drawn)
    lost = {face.photo for face in drawn.faces if face.template in gone} | set(LOST)
    return {photo: vector for photo, vector in every.items() if photo not in lost}


def judged(folder: Path, out: Path, vectors: dict[str, Array], *flags: str, code: int = 0) -> dict[str, Any]:
    stored = ijb.save(out.with_suffix(".npz"), vectors)
    given = ["--templates", str(folder), "--embeddings", str(stored), "--out", str(out), "--quiet", *flags]
    assert run(["verify", *given]) == code
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


@pytest.mark.parametrize("how", ["mean", "media", "quality"])
def test_the_rates_are_those_of_a_slow_script(
    tmp_path: Path, drawn: ijb.Drawn, vectors: dict[str, Array], how: str
) -> None:
    folder = ijb.write(tmp_path / "ijb" / "meta", drawn).parent
    report = judged(folder, tmp_path / "out", vectors, "--fuse", how)
    made = ijb.templates_by_hand(drawn, vectors, how)
    values, same = ijb.scores_by_hand(drawn, made)
    rates = report["models"][0]
    assert rates["pairs"] == {"genuine": int(same.sum()), "impostor": int((~same).sum())}
    assert [row["far_asked"] for row in rates["tar"]] == [0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6]
    for row in rates["tar"]:
        assert row["tar"] == pytest.approx(ijb.tar_by_hand(values, same, row["far_asked"])), row
    assert rates["tar"][-1]["tar"] is None  # too few pairs to show it
    assert rates["interval"] == "identities"  # of the subjects in the 1:N files
    hits = dict.fromkeys((1, 5, 10), 0)
    for name, gallery in drawn.galleries.items():
        ranks, found, alarms = ijb.search_by_hand(drawn, made, gallery)
        (one,) = report["galleries"][name]
        assert one["probes"] == {"mated": len(ranks), "unknown": len(alarms)}
        for row in one["ranks"]:
            right = sum(0 < rank <= row["rank"] for rank in ranks)
            hits[row["rank"]] += right
            assert row["found"] == pytest.approx(right / len(ranks))
            assert row["low"] <= row["found"] <= row["high"]
        for row in one["tpir"]:
            budget = int(row["fpir_asked"] * len(alarms) + 1e-9)
            if budget < 3:
                assert row["tpir"] is None
            else:
                blocking = sorted(alarms, reverse=True)[budget]
                assert row["tpir"] == pytest.approx(np.mean([hit > blocking for hit in found]))
    (mean,) = report["gallery_means"]
    for row in mean["ranks"]:
        assert row["found"] == pytest.approx(hits[row["rank"]] / len(drawn.probes))
    both = [report["galleries"][name][0]["tpir"][0]["tpir"] for name in ("G1", "G2")]
    assert mean["tpir"][0] == {"fpir_asked": 0.1, "tpir": pytest.approx(np.mean(both))}
    assert mean["tpir"][1]["tpir"] is None


def test_what_is_counted(
    tmp_path: Path, drawn: ijb.Drawn, vectors: dict[str, Array], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ijb.write(tmp_path / "ijb", drawn)
    stored = ijb.save(tmp_path / "e.npz", vectors)
    out = tmp_path / "out"
    assert run(["verify", "--templates", str(folder), "--embeddings", str(stored), "--out", str(out),
                "--require", "tar@1e-1>=0.1"]) == 0  # fmt: skip
    report = json.loads((out / "report.json").read_text())
    found = report["templates"]
    lost = [face for face in drawn.faces if face.photo not in vectors]
    assert (found["templates"], found["photos"], found["people"]) == (160, len(drawn.faces), 40)
    assert found["photos_without_crop"] == len(lost) > 4
    assert found["templates_without_photo"] == 2
    assert (found["fusion"], found["media"]) == ("mean", None)
    assert sorted(Path(path).name for path in found["files"]) == sorted(path.name for path in folder.iterdir())
    failures = report["models"][0]["failures_to_enrol"]
    gone = sum(left == 7 or right == 28 for left, right, _ in drawn.pairs)
    assert failures == {"pairs": gone, "photos": sum(face.template in (7, 28) for face in drawn.faces)}
    one = report["galleries"]["G1"][0]
    # Template 7's person can't be enrolled, so none of their three probes is found; 28 is a probe of another.
    assert one["failures_to_enrol"] == {"gallery_photos": 1, "people": 1, "mated_probes": 4, "unknown_probes": 0}
    assert report["galleries"]["G2"][0]["failures_to_enrol"]["unknown_probes"] == 1
    assert one["gallery"] == {"people": 20, "photos": 20}
    shown = capsys.readouterr().out
    for words in (
        f"160 templates of {len(drawn.faces)} photos, fused by mean",
        f"{len(lost)} photos gave no crop and are left out of their templates",
        "2 templates have no photo left and count as failures to enroll",
        "Gallery G1: 60 probes of enrolled people and 60 of others, in 20 templates of 20 people",
        "All galleries",
        "TAR@1e-6",
    ):
        assert words in " ".join(shown.split()), words
    page = (out / "report.md").read_text()
    for words in ("## Templates", "Identification in gallery G2", "tar@1e-1", "photos without crop"):
        assert words in page, words
    assert (
        "1e-1"
        in json.loads((out / "thresholds.json").read_text())["models"][report["models"][0]["model_id"]]["thresholds"]
    )


@pytest.mark.slow
def test_a_benchmark_and_a_crop_store_by_the_line_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos of a store by a real network, template by template as by hand; two models are compared."""
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "crops", people=8, photos=5, failed=["p90/p90_0001.png"])
    crops = read_crops(tmp_path / "crops")
    faces = [
        ijb.Face(source, 10 * (k // 5) + (k % 5 > 1), k // 2, k // 5, 0.9) for k, source in enumerate(crops.sources)
    ]
    faces.append(ijb.Face("p90/p90_0001.png", 0, 999, 0, 0.9))  # gave no crop
    templates = sorted({face.template for face in faces})
    subject = {face.template: face.subject for face in faces}
    pairs = [(a, b, int(subject[a] == subject[b])) for k, a in enumerate(templates) for b in templates[k + 1 :]]
    drawn = ijb.Drawn(faces, pairs, {"S1": templates[:8:2], "S2": templates[8::2]}, templates[1::2])
    ijb.write(tmp_path / "ijb", drawn, "ijbb", ("S1", "S2"))
    onnx_of(tiny_net(), tmp_path / "m.onnx")
    (tmp_path / "c.yaml").write_text("size: 32\ndim: 8\n")
    line = "verify --model m.onnx --templates ijb/ --crops crops/ --contract c.yaml --out o --quiet"
    assert run(line.split()) == 0
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert list(report["galleries"]) == ["S1", "S2"]
    assert report["templates"]["photos_without_crop"] == 1
    assert [cost["model"] for cost in report["costs"]] == ["m"]
    assert SIZE == 32
    embedded = CropEmbedder.load(tmp_path / "m.onnx", tmp_path / "c.yaml").embed(crops.batch(np.arange(len(crops))))
    made = {
        template: sum(embedded[k].astype(float) for k, face in enumerate(faces[:-1]) if face.template == template)
        for template in templates
    }
    made = {template: total / np.linalg.norm(total) for template, total in made.items()}
    values, same = ijb.scores_by_hand(drawn, made)
    assert report["models"][0]["tar"][0]["tar"] == pytest.approx(ijb.tar_by_hand(values, same, 0.1))


def test_a_photo_that_one_models_file_lacks(tmp_path: Path, drawn: ijb.Drawn, vectors: dict[str, Array]) -> None:
    """Each model is judged by its own embeddings, and what only one lacks fails for that one."""
    folder = ijb.write(tmp_path / "ijb", drawn)
    gone = {face.photo for face in drawn.faces if face.template == 47} | {"20.jpg"}
    fewer = {photo: vector for photo, vector in vectors.items() if photo not in gone}
    ijb.save(tmp_path / "b.npz", fewer)
    both = judged(folder, tmp_path / "a", vectors, "--embeddings", str(tmp_path / "b.npz"))
    for rates, known in zip(both["models"], (vectors, fewer), strict=True):
        made = ijb.templates_by_hand(drawn, known, "mean")
        values, same = ijb.scores_by_hand(drawn, made)
        assert rates["failures_to_enrol"]["pairs"] == int((values == -np.inf).sum())
        assert rates["tar"][0]["tar"] == pytest.approx(ijb.tar_by_hand(values, same, 0.1))
    assert [one["failures_to_enrol"]["people"] for one in both["galleries"]["G1"]] == [1, 2]
    ijb.save(tmp_path / "b.npz", dict(list(vectors.items())[:20]))
    with pytest.raises(UserError, match=r"lacks .* photos of the list that other files have"):
        verify(templates=folder, embeddings=[tmp_path / "a.npz", tmp_path / "b.npz"], out=tmp_path / "o", quiet=True)


def test_a_list_of_ones_own(tmp_path: Path, drawn: ijb.Drawn, vectors: dict[str, Array]) -> None:
    """The same set as a CSV and as the benchmark's files gives the same rates; without persons pairs are the unit."""
    folder = ijb.write(tmp_path / "ijb", drawn)
    as_published = judged(folder, tmp_path / "a", vectors, "--fuse", "quality")["models"][0]
    rows = [f"t{one.template},{one.photo},{one.media},{one.subject},{one.score}" for one in drawn.faces]
    (tmp_path / "t.csv").write_text("\n".join(["template,photo,media,person,quality", *rows]))
    (tmp_path / "p.csv").write_text("\n".join(["a,b,same", *(f"t{a},t{b},{same}" for a, b, same in drawn.pairs)]))
    flags = ["--pairs", str(tmp_path / "p.csv"), "--fuse", "quality"]
    own = judged(tmp_path / "t.csv", tmp_path / "b", vectors, *flags)
    assert own["galleries"] == {}
    for key in ("eer", "auc", "interval", "pairs", "failures_to_enrol"):
        assert own["models"][0][key] == as_published[key], key
    for mine, theirs in zip(own["models"][0]["tar"], as_published["tar"], strict=True):
        for key in ("far", "tar", "threshold", "support"):
            assert mine[key] == theirs[key]
    (tmp_path / "t.csv").write_text("\n".join(["template,photo", *(row[: row.index(".jpg") + 4] for row in rows)]))
    bare = judged(tmp_path / "t.csv", tmp_path / "c", vectors, "--pairs", str(tmp_path / "p.csv"))
    assert bare["models"][0]["interval"] == "pairs"
    assert bare["templates"]["people"] is None


@pytest.mark.parametrize("form", ["semicolons", "spaces", "parquet", "spreadsheet"])
def test_a_list_of_ones_own_in_other_forms(tmp_path: Path, form: str) -> None:
    """Persons may stand in the list of pairs too; the order of the rows gives the templates no other place."""
    rows = [("Photo", "TEMPLATE", "media"), ("3.jpg", "b", "v"), ("1.jpg", "a", "v"), ("2.jpg", "a", "w")]
    path = tmp_path / ("t.parquet" if form == "parquet" else "t.csv")
    if form == "parquet":
        pq.write_table(pa.table({name.lower(): [row[k] for row in rows[1:]] for k, name in enumerate(rows[0])}), path)
    else:
        sign, start, end = {"semicolons": (";", "", "\n"), "spaces": ("  ", "", "\n"),
                            "spreadsheet": (",", "\ufeff", "\r\n")}[form]  # fmt: skip
        path.write_text(start + "".join(sign.join(row) + end for row in rows), encoding="utf-8", newline="")
    (tmp_path / "p.csv").write_text("a,b,same,left_person,right_person\nb,a,0,x,y\n")
    found = read_template_list(path, tmp_path / "p.csv")
    assert [(found.ids[k], photo) for k, photo in zip(found.template, found.photos, strict=True)] == [
        ("b", "3.jpg"), ("a", "1.jpg"), ("a", "2.jpg")
    ]  # fmt: skip
    assert dict(zip(found.ids, found.persons, strict=True)) == {"a": "y", "b": "x"}
    assert found.pairs is not None
    assert (found.ids[found.pairs.left[0]], found.ids[found.pairs.right[0]]) == ("b", "a")
    assert found.media is not None
    assert found.media[0] == found.media[1] != found.media[2]


def test_pairs_alone_and_galleries_alone(tmp_path: Path, drawn: ijb.Drawn, vectors: dict[str, Array]) -> None:
    folder = ijb.write(tmp_path / "ijb", drawn)
    for path in folder.glob("*_1N_*"):
        path.rename(tmp_path / path.name)
    pairs = judged(folder, tmp_path / "p", vectors)
    assert pairs["galleries"] == {}
    assert pairs["models"][0]["interval"] == "pairs"  # nobody says who they are
    for path in tmp_path.glob("*_1N_*"):
        shutil.move(path, folder)
    (folder / "ijbc_template_pair_label.txt").unlink()
    searches = judged(folder, tmp_path / "s", vectors)
    assert (searches["models"], searches["pairs"]) == ([], None)
    assert len(searches["galleries"]) == 2
    assert not (tmp_path / "s" / "thresholds.json").exists()
    with pytest.raises(UserError, match="names no pairs; leave --require"):
        verify(templates=folder, embeddings=[tmp_path / "s.npz"], require=["tar@1e-1>=0.1"], out=tmp_path / "x",
               quiet=True)  # fmt: skip


def test_the_order_of_lines_does_not_matter(tmp_path: Path, drawn: ijb.Drawn, vectors: dict[str, Array]) -> None:
    turned = ijb.Drawn(drawn.faces[::-1], drawn.pairs[::-1], drawn.galleries, drawn.probes)
    reports = [
        judged(ijb.write(tmp_path / name, one), tmp_path / f"o{name}", vectors, "--fuse", "media")
        for name, one in (("a", drawn), ("b", turned))
    ]
    for key in ("eer", "auc", "pairs"):
        assert reports[0]["models"][0][key] == pytest.approx(reports[1]["models"][0][key]), key
    assert reports[0]["galleries"]["G1"][0]["ranks"] == reports[1]["galleries"]["G1"][0]["ranks"]


def test_weights_of_a_template_sum_to_one() -> None:
    template, media = np.array([0, 0, 0, 1, 2]), np.array([5, 5, 6, 5, 9])
    quality = np.array([0.2, 0.4, 1.0, 0.3, 0.7])
    usable = np.array([True, True, True, True, False])
    expected = {
        "mean": [1 / 3, 1 / 3, 1 / 3, 1, 0],
        "media": [1 / 4, 1 / 4, 1 / 2, 1, 0],
        "quality": np.array([0.1, 0.2, 1.0, 1.3, 0]) / 1.3,
    }
    for how in ("mean", "media", "quality"):
        found = fusion_weights(template, media, quality, usable, how)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected[how], rtol=1e-12)
    alone = fusion_weights(template, None, quality, usable, "quality")  # each photo is its own medium
    np.testing.assert_allclose(alone, [0.125, 0.25, 0.625, 1, 0])


def broken(folder: Path, end: str, old: str, new: str) -> None:
    path = folder / f"ijbc_{end}"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


SMALL = ijb.Drawn(
    [ijb.Face("1.jpg", 1, 1, 70, 0.9), ijb.Face("2.jpg", 1, 2, 70, 0.9), ijb.Face("3.jpg", 2, 3, 70, 0.9),
     ijb.Face("4.jpg", 3, 4, 80, 0.9)],
    [(1, 2, 1), (1, 3, 0)],
    {"G1": [1], "G2": [3]},
    [2, 3],
)  # fmt: skip


@pytest.mark.parametrize(
    ("end", "old", "new", "words"),
    [
        ("face_tid_mid.txt", "2.jpg 1 2", "1.jpg 1 2", r"1 photos are more than once in a template \(first: '1.jpg'"),
        ("face_tid_mid.txt", "2.jpg 1 2", "2.jpg 1", "is not lines of 'photo template media'"),
        ("face_tid_mid.txt", "2.jpg 1 2", "2.jpg x 2", "is not lines of 'photo template media'"),
        ("face_tid_mid.txt", "2.jpg 1 2", "2.jpg 99999999999 2", "is not lines of"),
        ("face_tid_mid.txt", "4.jpg 3 4", "1.jpg 3 4", r"1 photos are in templates of two persons \(first: '1.jpg'"),
        ("template_pair_label.txt", "1 2 1", "1 9 1", r"1 templates are not in ijbc_face_tid_mid.txt \(first: 9\)"),
        ("template_pair_label.txt", "1 2 1", "1 2 2", "line 1: the label is 2"),
        ("template_pair_label.txt", "1 2 1", "1 2 -1", "line 1: the label is -1"),
        ("template_pair_label.txt", "1 2 1", "1 2 0", "labeled against the persons of their templates"),
        ("template_pair_label.txt", "1 2 1", "1 1 0", "line 1: says that template 1 shows another person than itself"),
        ("template_pair_label.txt", "1 3 0", "1 3 0\n3 1 1", "1 pairs are labeled as same and as different"),
        ("template_pair_label.txt", "1 3 0", "1 3", "is not lines of 'left right same'"),
        ("name_5pts_score.txt", "2.jpg", "9.jpg", r"has no score of 1 photos \(first: '2.jpg'\)"),
        ("name_5pts_score.txt", "2.jpg", "1.jpg", "names 1 photos more than once"),
        ("name_5pts_score.txt", "0.9", "0", "line 1: the score is 0.0"),
        ("name_5pts_score.txt", "0.9", "nan", "line 1: the score is nan"),
        ("name_5pts_score.txt", "50.000 0.9", "0.9", "photo, ten coordinates, score"),
        ("1N_gallery_G2.csv", "3,80", "1,80", "template 1 shows two subjects, 70 and 80"),
        ("1N_gallery_G2.csv", "3,80", "4,80", "1 templates are not in ijbc_face_tid_mid.txt"),
        ("1N_gallery_G2.csv", "3,80", "3,", "line 2: names no subject"),
        ("1N_gallery_G2.csv", "3,80,", "3,", "not readable as the benchmark's CSV"),
        ("1N_gallery_G2.csv", "SUBJECT_ID", "SUBJECT", "does not name TEMPLATE_ID and SUBJECT_ID"),
    ],
)
def test_files_that_are_torn_or_contradict(tmp_path: Path, end: str, old: str, new: str, words: str) -> None:
    folder = ijb.write(tmp_path / "ijb", SMALL)
    read_templates(folder, None)
    broken(folder, end, old, new)
    with pytest.raises(UserError, match=words):
        read_templates(folder, None)


@pytest.mark.parametrize("end", ["face_tid_mid.txt", "template_pair_label.txt", "name_5pts_score.txt",
                                 "1N_gallery_G1.csv", "1N_probe_mixed.csv"])  # fmt: skip
@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"\0" * 100, b"\n\n", b"PK\3\4 a b c", b"1 2 3 4\n5\n"])
def test_files_that_are_something_else(tmp_path: Path, end: str, data: bytes) -> None:
    folder = ijb.write(tmp_path / "ijb", SMALL)
    (folder / f"ijbc_{end}").write_bytes(data)
    with pytest.raises(UserError):
        read_templates(folder, None)


def test_files_that_lack(tmp_path: Path) -> None:
    folder = ijb.write(tmp_path / "ijb", SMALL)
    (folder / "ijbc_1N_probe_mixed.csv").unlink()
    with pytest.raises(UserError, match=r"has 1:N files but no ijbc_1N_probe_mixed.csv"):
        read_templates(folder, None)
    for path in folder.glob("*gallery*"):
        path.unlink()
    (folder / "ijbc_template_pair_label.txt").unlink()
    with pytest.raises(UserError, match=r"holds neither ijbc_template_pair_label.txt nor ijbc_1N_gallery"):
        read_templates(folder, None)
    with pytest.raises(UserError, match=r"holds no list such as ijbc_face_tid_mid.txt"):
        read_templates(tmp_path, None)
    with pytest.raises(UserError, match="no such folder"):
        read_templates(tmp_path / "none", None)
    two = ijb.write(tmp_path / "two" / "meta", SMALL).parent
    ijb.write(two, SMALL, "ijbb", ("S1", "S2"))
    with pytest.raises(UserError, match="holds several benchmarks; name one of their lists"):
        read_templates(two, None)
    assert list(read_templates(two / "ijbb_face_tid_mid.txt", None).galleries) == ["S1", "S2"]
    with pytest.raises(UserError, match="brings its own pairs"):
        read_templates(two / "ijbb_face_tid_mid.txt", tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("templates", "pairs", "words"),
    [
        ("template,photo\na,1.jpg\na,1.jpg", "a,b,same\na,b,1", r"1 photos are more than once in a template"),
        ("template,photos\na,1.jpg", "a,b,same\na,b,1", "has no column 'photo'; did you mean 'photos'"),
        ("template,photo\na,", "a,b,same\na,b,1", "column 'photo' lacks a value in line 2"),
        ("template,photo\n", "a,b,same\na,b,1", "holds no template"),
        ("template,photo,person\na,1,x\na,2,y", "a,b,same\na,b,1", "template 'a' shows two persons, 'x' and 'y'"),
        ("template,photo,person\na,1,x\nb,1,y", "a,b,same\na,b,0", "1 photos are in templates of two persons"),
        ("template,photo,person\na,1,x\nb,2,y", "a,b,same\na,b,1", "labeled against the persons of their templates"),
        ("template,photo,quality\na,1,0.5\nb,2,0", "a,b,same\na,b,0", "line 3: quality is 0; it weighs a photo"),
        ("template,photo,quality\na,1,good\nb,2,1", "a,b,same\na,b,0", "line 2: quality is 'good', no number"),
        ("template,photo\na,1\nb,2", "a,b,same\na,c,0", r"1 templates are not in .*t.csv \(first: 'c'\)"),
        ("template,photo\na,1\nb,2", "a,b,same\na,b,0\nb,a,1", "labeled as same and as different"),
        ("template,photo,person\na,1,x\nb,2,", "a,b,same,left_person,right_person\na,b,0,y,z", "shows two persons"),
        ("template,photo,quality\na,1,\nb,2,1", "a,b,same\na,b,0", "line 2: quality is nan"),
        ("template photo\na 1 2", "a,b,same\na,b,0", "3 values, not 2"),
        ("", "a,b,same\na,b,0", "holds no template"),
    ],
)
def test_lists_of_ones_own_that_are_none(tmp_path: Path, templates: str, pairs: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(templates)
    (tmp_path / "p.csv").write_text(pairs)
    with pytest.raises(UserError, match=words):
        read_template_list(tmp_path / "t.csv", tmp_path / "p.csv")


def test_photos_that_are_not_there(tmp_path: Path) -> None:
    """A crop store knows all its photos, so an unknown name is a mistake; embeddings are of those with a face."""
    folder = ijb.write(tmp_path / "ijb", SMALL)
    listed = read_templates(folder, None)
    stored = read_embeddings(ijb.save(tmp_path / "e.npz", {"77.jpg": ijb.embed(SMALL)["1.jpg"]}))
    with pytest.raises(UserError, match=r"4 of the 4 photos that .* names are not in them"):
        photo_templates(listed, stored, None, "mean")
    store = write_store(tmp_path / "crops", people=1, photos=2)
    with pytest.raises(UserError, match=r"4 photos of .* are not in it \(first: '1.jpg'\)"):
        photo_templates(listed, read_crops(store), store, "mean")


def test_fusions_that_need_what_is_not_stated(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("template,photo\na,1.jpg\nb,2.jpg\nc,3.jpg")
    (tmp_path / "p.csv").write_text("a,b,same\na,b,1\na,c,0")
    listed = read_template_list(tmp_path / "t.csv", tmp_path / "p.csv")
    stored = read_embeddings(ijb.save(tmp_path / "e.npz", ijb.embed(SMALL)))
    with pytest.raises(UserError, match=r"--fuse media: .* has no column media"):
        photo_templates(listed, stored, None, "media")
    with pytest.raises(UserError, match=r"--fuse quality: .* comes without the photos' quality"):
        photo_templates(listed, stored, None, "quality")
    with pytest.raises(UserError, match="give some with --templates"):
        verify(pairs=tmp_path / "p.csv", embeddings=[tmp_path / "e.npz"], fuse="media")
    with pytest.raises(UserError, match="add --pairs LIST"):
        verify(templates=tmp_path / "t.csv", embeddings=[tmp_path / "e.npz"], out=tmp_path / "o", quiet=True)


def test_embeddings_that_cancel_out(tmp_path: Path) -> None:
    folder = ijb.write(tmp_path / "ijb", SMALL)
    vectors = ijb.embed(SMALL)
    vectors["2.jpg"] = -vectors["1.jpg"]
    with pytest.raises(UserError, match="the embeddings of template '1' cancel out"):
        verify(templates=folder, embeddings=[ijb.save(tmp_path / "e.npz", vectors)], out=tmp_path / "o", quiet=True)
