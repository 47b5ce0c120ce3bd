"""facekd gallery …: what each command does to a gallery, and what it refuses."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pyarrow as pa
import pytest
import torch
from toy import SIZE, contract_file, onnx_of, save_run, tiny_net, write_store

from facekd.cli import GROUPS, build_app, run
from facekd.commands.gallery import delete, export, import_, index, info
from facekd.commands.gallery_migrate import migrate
from facekd.core.contract import Contract
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.gallery import audit
from facekd.gallery.decisions import Decisions, Remembered
from facekd.gallery.gallery import LEDGER, GalleryTable, Person, template_of
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.photos import PhotoTable

COMMANDS = [f"{first} {name}" for first, (_, commands) in GROUPS.items() for name in commands]
ODD = ("O'Brien", "=1+1", "名前", "[bold]", "-dash", "new\nline")
D = 16
META = GalleryMeta(contract=Contract(dim=D, weights_sha256="a"), model="/models/a.onnx", detector="mtcnn", min_face=20)


def directions(n: int, seed: int = 0) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(n, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> str:
    home = GalleryTable.create(tmp_path / "g", replace(META, threshold=0.25, calibrated={1e-3: 0.5}))
    with home.writing():
        vectors = directions(len(ODD))
        home.upsert(
            [Person(i, v, (f"{i}/1.jpg", "2.jpg"), 0.5, {"site": "Köln"}) for i, v in zip(ODD, vectors, strict=True)]
        )
        home.finish(home.meta, LEDGER.empty_table())
    return str(tmp_path / "g")


def stage(command: str):
    import importlib

    first, name = command.split()
    module, function = GROUPS[first][1][name][0].split(":")
    return getattr(importlib.import_module(module), function)


def flags(function: Callable[..., object]) -> Iterator[tuple[str, bool]]:
    """Each flag's name, and whether the function's docstring has to explain it: a group explains its own."""
    for name, hint in get_type_hints(function).items():
        if dataclasses.is_dataclass(hint):
            yield from ((field.name, False) for field in dataclasses.fields(hint))
        else:
            yield name, True


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_two_words_shows_an_example_and_explains_each_flag(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: facekd {command}" in shown
    assert f"Example: facekd {command}" in shown
    documented = inspect.getdoc(stage(command)) or ""
    for name, own in flags(stage(command)):
        assert re.search(rf"--{name.strip('_').replace('_', '-')}\b|\b{name.upper()}\b", shown), name
        told = re.search(rf"^    {name}: \S", documented, re.MULTILINE)
        assert bool(told) == own, f"{name} is explained {'nowhere' if own else 'twice'}"
        assert re.search(rf"(--{name.strip('_').replace('_', '-')}|\b{name.upper()})\b[^│]* \S[^│]*[a-z]", shown), name
    example = re.search(rf"^Example: facekd {command}(.*(?:\n(?=\S).*)*)", documented, re.MULTILINE)
    assert example is not None
    build_app().parse_args([*command.split(), *example.group(1).split()], exit_on_error=False, print_error=False)


def test_the_group_has_its_help_and_a_wrong_word_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for tokens in (["gallery"], ["gallery", "--help"]):
        assert run(tokens) == 0
        shown = capsys.readouterr().out
        assert all(f"│ {name} " in shown for name in GROUPS["gallery"][1])
    assert run(["--help"]) == 0
    assert "│ gallery " in capsys.readouterr().out
    for tokens, words in (
        (["gallery", "delte", "x"], "no command 'gallery delte'; did you mean 'delete'?"),
        (["gallry"], "did you mean 'gallery'?"),
        (["gallery", "info"], "gallery info needs GALLERY; see 'facekd gallery info --help'"),
        (["gallery", "info", "nowhere"], "nowhere: no gallery; make one"),
    ):
        assert run(tokens) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


@pytest.mark.parametrize("command", ["gallery", *COMMANDS])
def test_help_loads_nothing_heavy(command: str) -> None:
    code = f"""
import sys
from facekd.cli import run
assert run([*{command.split()!r}, "--help"]) == 0
print("loaded:", *[name for name in ("torch", "lancedb", "onnxruntime", "pyarrow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_info_says_what_is_there(gallery: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = info(gallery, people=True)
    shown = capsys.readouterr().out
    assert (found.people, found.photos, found.threshold, found.indexed) == (6, 12, 0.25, None)
    assert found.bytes == sum(path.stat().st_size for path in Path(gallery).rglob("*") if path.is_file())
    for words in (META.model_id, "/models/a.onnx", "0.2500", "0.5000 at FAR 0.001", "every template is compared"):
        assert words in shown
    for words in ("O'Brien", "名前", "site=Köln", "0.500", "0 entries, whole"):
        assert words in shown
    index(gallery, quiet=True)
    assert info(gallery, quiet=True).indexed == 6
    info(gallery)
    assert "index of 6 people" in capsys.readouterr().out


def test_a_gallery_of_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GalleryTable.create(tmp_path / "g", META)
    assert run(["gallery", "info", str(tmp_path / "g"), "--people"]) == 0
    assert (info(str(tmp_path / "g"), quiet=True).people, info(str(tmp_path / "g"), quiet=True).photos) == (0, 0)
    assert export(str(tmp_path / "g"), tmp_path / "t.parquet", quiet=True) == 0
    assert import_(str(tmp_path / "h"), tmp_path / "t.parquet", quiet=True).people == 0
    assert index(str(tmp_path / "g"), quiet=True) == 0
    assert delete(str(tmp_path / "g"), "ghost", quiet=True).exit_code == 1
    capsys.readouterr()


def test_a_tampered_log_is_told(gallery: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        index(gallery, quiet=True)
    assert info(gallery, quiet=True).exit_code == 0
    log = Path(gallery) / "audit.jsonl"
    log.write_text(log.read_text().replace('"event": "index"', '"event": "other"', 1))
    assert run(["gallery", "info", gallery]) == 1
    assert "CHANGED: line 2" in capsys.readouterr().out


def test_delete_erases_every_trace_and_keeps_a_receipt(
    gallery: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("名前\r\n-dash\n\nghost\n", encoding="utf-8")
    vectors = {name: one.template.tobytes()[:16] for name, one in GalleryTable.open(gallery).people(ODD).items()}
    assert run(["gallery", "delete", gallery, "O'Brien", "--from", str(ids)]) == 1
    shown = capsys.readouterr().err
    assert "3 people erased, 3 remain" in shown
    assert "1 were not enrolled" in shown
    assert "  ghost\n" in shown
    everything = b"".join(path.read_bytes() for path in Path(gallery).rglob("*") if path.is_file())
    for gone in ("O'Brien", "名前", "-dash"):
        assert gone.encode() not in everything
        assert vectors[gone] not in everything
    assert b"ghost" not in everything
    assert vectors["=1+1"] in everything
    first, second = audit.read(GalleryTable.open(gallery).place).entries
    assert (first["people_asked"], second["people_erased"], second["done"]) == (4, 3, True)
    assert first["receipt"] == second["receipt"]
    assert first["receipt"] in shown
    assert set(GalleryTable.open(gallery).people(ODD)) == {"=1+1", "[bold]", "new\nline"}
    assert run(["gallery", "delete", gallery, "--quiet", "--", "=1+1", "[bold]"]) == 0
    assert delete(gallery, "nobody", quiet=True).exit_code == 1
    with pytest.raises(UserError, match="nobody to erase"):
        delete(gallery)
    with pytest.raises(UserError, match="no readable list of ids"):
        delete(gallery, from_=tmp_path / "none")


def test_private_names_nobody(gallery: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert delete(gallery, "O'Brien", "ghost", private=True).missing == ("ghost",)
    shown = capsys.readouterr()
    assert "ghost" not in shown.err + shown.out
    assert "O'Brien" not in shown.err + shown.out


def test_export_and_import(gallery: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    plain, secret = tmp_path / "plain.parquet", tmp_path / "secret.parquet"
    assert export(gallery, plain, quiet=True) == 6
    assert run(["gallery", "export", gallery, str(secret), "--encrypt", "--key-file", str(key), "--quiet"]) == 0
    assert import_(str(tmp_path / "a"), plain, quiet=True).changed == 6
    with pytest.raises(UserError, match="no key: give --key-file"):
        import_(str(tmp_path / "b"), secret, quiet=True)
    assert not (tmp_path / "b").exists()
    monkeypatch.setenv("FACEKD_KEY", "ab" * 32)
    assert import_(str(tmp_path / "b"), secret, quiet=True).changed == 6
    assert import_(str(tmp_path / "b"), plain, quiet=True).changed == 0
    for name in ("a", "b"):
        there, here = (GalleryTable.open(path).people(ODD) for path in (tmp_path / name, gallery))
        assert all(there[i].same(here[i]) for i in ODD)
    other = GalleryTable.create(tmp_path / "c", replace(META, contract=Contract(dim=D, weights_sha256="b")))
    with pytest.raises(UserError, match="can't be compared"):
        import_(str(tmp_path / "c"), plain, quiet=True)
    assert len(other) == 0
    events = [
        (entry["event"], entry.get("encrypted")) for entry in audit.read(GalleryTable.open(gallery).place).entries
    ]
    assert events == [("export", False), ("export", True)]
    assert "abab" not in (Path(gallery) / "audit.jsonl").read_text()


def test_exports_that_make_no_sense(gallery: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written as \.parquet or \.faiss"):
        export(gallery, tmp_path / "t.csv")
    with pytest.raises(UserError, match="FAISS reads no encrypted index"):
        export(gallery, tmp_path / "t.faiss", encrypt=True)
    with pytest.raises(UserError, match="add --encrypt"):
        export(gallery, tmp_path / "t.parquet", key_file=tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_export_to_faiss(gallery: str, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    assert export(gallery, tmp_path / "t.faiss", quiet=True) == 6
    ids = json.loads((tmp_path / "t.faiss.ids.json").read_text(encoding="utf-8"))
    assert ids["model_id"] == META.model_id
    flat = faiss.read_index(str(tmp_path / "t.faiss"))
    assert [ids["ids"][row] for row in flat.search(directions(6), 1)[1][:, 0]] == list(ODD)


# Migration: networks of 32 pixels, people who are patterns.


def enrolled(folder: Path, crops: Path, model: Path, contract: Path | None = None) -> GalleryTable:
    """A gallery of the people of a crop store."""
    embedder, kept = CropEmbedder.load(model, contract), read_crops(crops)
    meta = GalleryMeta(contract=embedder.contract, model=str(model.resolve()), detector="none", min_face=20)
    home = GalleryTable.create(folder, meta)
    vectors = embedder.embed(kept.batch(np.arange(len(kept))))
    people = []
    for name in sorted({str(identity) for identity in kept.identities}):
        rows = [i for i, identity in enumerate(kept.identities) if identity == name]
        template = template_of(vectors[rows].astype(np.float64).sum(axis=0))
        assert template is not None
        people.append(Person(name, template, tuple(kept.sources[i] for i in rows), 0.5, {"site": name}))
    ledger = [
        {"source": source, "person": one.person_id, "status": "ok", "reason": ""}
        for one in people
        for source in one.sources
    ]
    with home.writing():
        home.upsert(people)
        home.finish(meta, pa.Table.from_pylist(ledger, LEDGER))
    return home


def test_migrating_from_crops_is_enrolling_with_the_new_model(tmp_path: Path) -> None:
    crops = write_store(tmp_path / "crops", people=5, photos=3)
    before, after = save_run(tmp_path / "before", seed=0), save_run(tmp_path / "after", seed=1)
    old = enrolled(tmp_path / "old", crops, before)
    expected = enrolled(tmp_path / "expected", crops, after)
    names = [f"p{number:02d}" for number in range(5)]
    # One of whom no crop is kept, one of whom some are.
    vector = np.eye(1, old.meta.contract.dim, dtype=np.float32)[0]
    with old.writing():
        old.upsert(
            [
                Person("stranger", vector, ("elsewhere.jpg",)),
                Person("half", vector, ("p00/p00_0001.png", "lost.png")),
            ]
        )
        decided = Decisions().added([Remembered("c", "different", "apart", "half", "p00")])
        old.remember(decided)
    result = migrate(str(tmp_path / "old"), str(tmp_path / "new"), model=after, crops=crops, threshold=0.5, quiet=True)
    assert (result.people, result.exit_code, result.partial) == (6, 1, ("half",))
    assert result.missing == (("stranger", "no crop of its photos is kept"),)
    new = GalleryTable.open(tmp_path / "new", CropEmbedder.load(after).model_id)
    assert (new.meta.threshold, new.meta.detector, new.meta.mapped) == (0.5, "none", None)
    there, here = new.people(names), expected.people(names)
    for name in names:
        np.testing.assert_allclose(there[name].template, here[name].template, atol=1e-6)
        assert sorted(there[name].sources) == sorted(here[name].sources)
        assert (there[name].quality, there[name].metadata) == (0.5, {"site": name})
    assert {row["person"] for row in new.ledger().to_pylist()} == set(names)
    assert new.decisions() == decided  # it is of people and photos, whatever the model
    assert new.meta.gallery_id != old.meta.gallery_id
    assert len(GalleryTable.open(tmp_path / "old")) == 7  # left as it was
    # A later enrollment goes on from the photos: each is known with its digest and its new embedding.
    kept = read_crops(crops)
    photos = PhotoTable(new.place, new.meta.contract.dim)
    assert [one.status for one in photos.known(["p01"])] == ["ok"] * 3
    vectors = CropEmbedder.load(after).embed(kept.batch(np.arange(len(kept))))
    for batch in photos.embeddings(names):
        for source, vector in zip(batch["source"].to_pylist(), batch["embedding"].to_pylist(), strict=True):
            np.testing.assert_allclose(vector, vectors[kept.sources.index(source)], atol=1e-6)


def test_migrating_by_a_map_measures_what_it_loses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new model is the old one, turned: a map that is learned loses nothing, and without it nobody is found."""
    crops = write_store(tmp_path / "crops", people=40, photos=4)
    net = tiny_net()
    before = onnx_of(net, tmp_path / "before.onnx")
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    with torch.no_grad():
        net[4].weight.copy_(turn @ net[4].weight)
        net[4].bias.copy_(turn @ net[4].bias)
    after = onnx_of(net, tmp_path / "after.onnx")
    contract = contract_file(tmp_path / "contract.yaml", dim=8, size=SIZE)
    staff = write_store(tmp_path / "staff", people=4, photos=2, first=60)
    enrolled(tmp_path / "old", staff, before, contract)
    result = migrate(
        str(tmp_path / "old"), str(tmp_path / "new"), model=after, crops=crops, contract=contract, map_=True
    )
    assert (result.people, result.missing) == (4, ())
    new = GalleryTable.open(tmp_path / "new")
    assert new.meta.mapped == GalleryTable.open(tmp_path / "old").meta.model_id
    shown = capsys.readouterr().out
    assert "old, mapped, against new" in shown
    # Eight held-out people with four crops: 48 genuine pairs; in the cross row each pair counts both ways.
    assert [rates[0].n_genuine for rates in (result.rates.old, result.rates.new, result.rates.cross)] == [48, 48, 96]
    assert result.rates.cross[0].n_impostor == 2 * result.rates.new[0].n_impostor
    # The new model's own probes find their mapped people, and the threshold that was measured is the gallery's.
    assert new.meta.calibrated == {r.far_asked: r.threshold for r in result.rates.cross if r.threshold is not None}
    expected = enrolled(tmp_path / "expected", staff, after, contract)
    names = ["p60", "p61", "p62", "p63"]
    there, here, unmapped = (one.people(names) for one in (new, expected, GalleryTable.open(tmp_path / "old")))
    for name in names:
        assert there[name].template @ here[name].template > 0.99
        assert unmapped[name].template @ here[name].template < 0.9
    assert [rate.tar for rate in result.rates.new] == [rate.tar for rate in result.rates.old]
    assert result.rates.cross[0].tar == pytest.approx(result.rates.new[0].tar, abs=0.05)


def test_migrations_that_can_not_be(tmp_path: Path) -> None:
    crops = write_store(tmp_path / "crops", people=3, photos=2)
    before, after = save_run(tmp_path / "before", seed=0), save_run(tmp_path / "after", seed=1)
    enrolled(tmp_path / "old", crops, before)
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    for words, more in (
        ("is of model .* already", {"model": before}),
        ("is no cosine", {"model": after, "threshold": 2.0}),
        ("names 3 people, too few", {"model": after, "map_": True}),
        ("is model .*, the gallery's templates are of", {"model": after, "map_": True, "old_model": after}),
        ("is a gallery already", {"model": after, "new": old}),
    ):
        with pytest.raises(UserError, match=words):
            migrate(**{"gallery": old, "new": new, "crops": crops, "quiet": True, **more})
    assert not Path(new).exists()
