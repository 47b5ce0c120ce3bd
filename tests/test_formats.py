"""Every kind of file says the number of its form; a newer one is refused in a sentence, one without is read."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import safetensors.torch
import torch
import yaml
from people import enrolled, write_model, write_people

import facekd
from facekd.cli import run
from facekd.commands.align import align
from facekd.commands.embed import embed
from facekd.commands.export import export
from facekd.core import kept as cache
from facekd.core.contract import Contract
from facekd.core.formats import FORMATS, KEY, METADATA, check_format
from facekd.core.run import refuse_other_run, start_run
from facekd.crops.read import read_crops
from facekd.crops.store import CropStore
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import read_embeddings
from facekd.deploy.thresholds import read_thresholds
from facekd.errors import UserError
from facekd.gallery.decisions import Decisions, Remembered
from facekd.gallery.exchange import read_parquet, write_parquet
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.protect import open_sealed
from facekd.ingest.earlier import read_failures
from facekd.nets import build
from facekd.nets.files import json_beside
from facekd.nets.heads import Head, load_head, save_head
from facekd.nets.saved import load_model, save_model
from facekd.teachers.cache import CacheKey, caches, open_cache
from facekd.training.checkpoint import restore, save_checkpoint

Change = Callable[[dict[str, Any]], dict[str, Any]]
WITHOUT: Change = lambda values: {key: value for key, value in values.items() if key != KEY}  # noqa: E731
NEWER: Change = lambda values: {**values, KEY: values[KEY] + 1}  # noqa: E731


def in_json(path: Path, change: Change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def in_tensors(path: Path, key: str, change: Change) -> None:
    with safetensors.safe_open(path, "pt") as file:
        about = json.loads(file.metadata()[key])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    safetensors.torch.save_file(tensors, path, {key: json.dumps(change(about))})


def in_metadata(metadata: dict[bytes, bytes], change: Change) -> dict[bytes, bytes]:
    found = dict(metadata)
    made = change({KEY: int(found.pop(METADATA.encode()))})
    return {**found, **({METADATA.encode(): str(made[KEY]).encode()} if KEY in made else {})}


def in_parquet(path: Path, change: Change) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(in_metadata(table.schema.metadata, change)), path)


class Made:
    """One file of each kind, how its number is changed, and how it is read."""

    def __init__(self, home: Path) -> None:
        self.home = home
        write_people(home / "photos", people=2, photos=2)
        self.model = write_model(home / "model.onnx")

    def store(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        store = self.home / "crops"
        align(self.home / "photos", store, detector="none", size=32, quiet=True)

        def read() -> Any:
            align(self.home / "photos", store, detector="none", size=32, quiet=True)  # goes on with it
            return read_crops(store).ids

        return lambda change: in_json(store / "store.json", change), read

    def crops(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        self.store()
        path = self.home / "crops" / "crops" / "part-00000.arrow"

        def alter(change: Change) -> None:
            with pa.OSFile(str(path)) as file:
                table = pa.ipc.open_file(file).read_all()
            table = table.replace_schema_metadata(in_metadata(table.schema.metadata, change))
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)

        def read() -> Any:
            return read_crops(self.home / "crops").ids

        return alter, read

    def ledger(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        self.store()
        write_people(self.home / "photos", people=1, photos=1, first=5)
        align(self.home / "photos", self.home / "crops", detector="none", size=32, quiet=True)
        path = self.home / "crops" / "ledger" / "part-00000.parquet"  # beside a part with a number
        return lambda change: in_parquet(path, change), lambda: len(CropStore.open(self.home / "crops").ledger())

    def embeddings(self, suffix: str = ".parquet") -> tuple[Callable[[Change], None], Callable[[], Any]]:
        path = self.home / f"vectors{suffix}"
        embed(self.home / "photos", path, model=self.model, detector="none", quiet=True)

        def in_npz(change: Change) -> None:
            with np.load(path) as file:
                values = dict(file)
            np.savez(path, **change(values))

        def read() -> Any:
            return read_embeddings(path).embeddings.ids

        return in_npz if suffix == ".npz" else (lambda change: in_parquet(path, change)), read

    def npz(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        return self.embeddings(".npz")

    def failures(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        (self.home / "photos" / "torn.png").write_bytes(b"no photo")
        self.embeddings()
        path = self.home / "vectors.parquet.failures.parquet"
        return lambda change: in_parquet(path, change), lambda: read_failures(path)

    def run_folder(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        out = self.home / "run"
        start_run(out, "nets", {"dim": 8, "size": 32})

        def alter(change: Change) -> None:
            values = yaml.safe_load((out / "run.yaml").read_text())
            (out / "run.yaml").write_text(yaml.safe_dump(change(values)))

        return alter, lambda: refuse_other_run(out, {"dim": 8, "size": 32})

    def checkpoint(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        path, net = self.home / "last.safetensors", torch.nn.Linear(2, 2)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        save_checkpoint(path, 3, {"net": net}, optimizer, {"net": "linear"})
        return (
            lambda change: in_tensors(path, "facekd.run", change),
            lambda: restore(path, {"net": net}, optimizer, {"net": "linear"}),
        )

    def trained(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        path, net = self.home / "model.safetensors", build("mobilefacenet-half", dim=8, size=32).eval()
        save_model(path, "mobilefacenet-half", net, Contract(dim=8, size=32))
        return lambda change: in_tensors(path, "facekd", change), lambda: load_model(path).contract

    def head(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        path = self.home / "head.safetensors"
        save_head(path, Head("softmax", 4, 2), ("a", "b"), "id")
        return lambda change: in_tensors(path, "facekd", change), lambda: load_head(path).identities

    def teacher_cache(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        key = CacheKey(teacher="t", augmentation="a", crops="c", num_crops=3, dim=4, seed=0, views=2)
        path = open_cache(self.home / "cache", key).folder / "key.json"
        return lambda change: in_json(path, change), lambda: (open_cache(self.home / "cache", key).key, *(
            one.key for one in caches(self.home / "cache")
        ))  # fmt: skip

    def exported(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        path = self.home / "exported.onnx"
        export(self.model, path, quiet=True)
        json_beside(path).unlink()  # it describes this very file, and none that is altered

        def alter(change: Change) -> None:
            model = onnx.load(str(path))
            found = {entry.key.encode(): entry.value.encode() for entry in model.metadata_props}
            del model.metadata_props[:]
            made = in_metadata(found, change)
            onnx.helper.set_model_props(model, {key.decode(): value.decode() for key, value in made.items()})
            onnx.save(model, str(path))

        def read() -> Any:
            again = CropEmbedder.load(path).model_id  # the second time from what is kept of it
            return again, CropEmbedder.load(path).model_id, read_thresholds(path)

        return alter, read

    def gallery(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        place = self.home / "g"
        enrolled(self.home / "photos", place, self.model)
        return lambda change: in_json(place / "gallery.json", change), lambda: len(GalleryTable.open(place))

    def gallery_ledger(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        self.gallery()
        path = self.home / "g" / "ledger.parquet"

        def read() -> Any:
            write_people(self.home / "photos", people=1, photos=1, first=7)
            enrolled(self.home / "photos", self.home / "g", self.model)
            return GalleryTable.open(self.home / "g").ledger()["source"].to_pylist()

        return lambda change: in_parquet(path, change), read

    def decisions(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        self.gallery()
        path = self.home / "g" / "decisions.parquet"
        home = GalleryTable.open(self.home / "g")
        with home.writing():
            home.remember(Decisions().added([Remembered("c", "different", "apart", "p00", "p01")]))

        def read() -> Any:
            enrolled(self.home / "photos", self.home / "g", self.model)
            return GalleryTable.open(self.home / "g").decisions()

        return lambda change: in_parquet(path, change), read

    def templates(self) -> tuple[Callable[[Change], None], Callable[[], Any]]:
        self.gallery()
        path = self.home / "templates.parquet"
        write_parquet(GalleryTable.open(self.home / "g"), path)

        def alter(change: Change) -> None:
            table = pq.read_table(path)
            found = dict(table.schema.metadata)
            found[b"facekd.gallery"] = json.dumps(change(json.loads(found[b"facekd.gallery"]))).encode()
            pq.write_table(table.replace_schema_metadata(found), path)

        return alter, lambda: [person.person_id for person in read_parquet(path)[1]]


KINDS = {
    "store": "crop store", "crops": "crop store", "ledger": "ledger", "gallery_ledger": "ledger",
    "embeddings": "embeddings", "npz": "embeddings", "failures": "failures", "run_folder": "run folder",
    "checkpoint": "checkpoint",
    "trained": "trained network", "head": "head", "teacher_cache": "teacher cache", "exported": "exported network",
    "gallery": "gallery", "templates": "gallery", "decisions": "decisions",
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_newer_form_is_refused_and_one_without_a_number_is_read(name: str, tmp_path: Path) -> None:
    alter, read = getattr(Made(tmp_path), name)()
    wanted = read()
    alter(NEWER)
    with pytest.raises(UserError) as refused:
        read()
    kind, number = KINDS[name], FORMATS[KINDS[name]]
    assert str(refused.value).endswith(
        f": was written by a newer facekd ({kind} of format {number + 1}, this one reads up to {number}); "
        "update: pip install -U facekd"
    )
    assert str(tmp_path) in str(refused.value)
    alter(WITHOUT)
    assert read() == wanted


def test_a_kept_form_of_another_number_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.MARK == b"facekd kept 1 "
    cache.keep("ab12", {"a": 1}, b"body")
    assert cache.kept("ab12") == ({"a": 1}, b"body")
    path = tmp_path / "facekd" / "ab12"
    path.write_bytes(path.read_bytes().replace(b"facekd kept 1 ", b"facekd kept 2 "))
    assert cache.kept("ab12") is None


def test_an_encrypted_file_of_a_newer_form_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    path = tmp_path / "sealed"
    path.write_bytes(b"FACEKD-ENCRYPTED\n\x02" + bytes(64))
    with pytest.raises(UserError, match=r"written by a newer facekd, or is damaged; update"):
        open_sealed(path, bytes(32))


def test_the_command_line_refuses_a_newer_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_run(tmp_path, "nets", {"dim": 8, "size": 32, "quiet": True})
    assert run(["nets", "--config", str(tmp_path / "run.yaml")]) == 0
    path = tmp_path / "run.yaml"
    path.write_text(path.read_text().replace("format: 1", "format: 2"))
    assert run(["nets", "--config", str(path)]) == 2
    assert "run.yaml: was written by a newer facekd (run folder of format 2" in capsys.readouterr().err


@pytest.mark.parametrize("found", ["two", 0, -1, 1.5, True, [1], b"\xff", ""])
def test_what_is_no_number_is_refused(found: object) -> None:
    with pytest.raises(UserError, match=r"file: its format is '.*', which is no number of a form; copy it again"):
        check_format("head", found, "file")
    for good in (None, 1, "1", b"1", np.array(1)):
        check_format("head", good, "file")


def test_every_kind_is_written_and_checked_somewhere() -> None:
    named: dict[str, int] = {}
    for path in Path(facekd.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in FORMATS:
                named[str(node.value)] = named.get(str(node.value), 0) + 1
    once = {"kept form", "encrypted file"}  # their numbers are a part of what a file has to begin with
    assert {kind: count for kind, count in named.items() if count < (2 if kind in once else 3)} == {}
    assert set(named) == set(FORMATS)
