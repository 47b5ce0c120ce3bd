"""Where an export goes nothing else is lost, and what lies there is whole: of before, or the new one."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from toy import SIZE, contract_file, onnx_of, tiny_net

from facekd.cli import run
from facekd.commands.export import export
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.model_json import digest_of, json_beside
from facekd.deploy.place import aside, put_in_place
from facekd.errors import UserError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    return onnx_of(tiny_net().eval(), tmp_path / "net" / "net.onnx")


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir(exist_ok=True)
    return contract_file(tmp_path / "net" / "c.yaml", dim=8, size=SIZE)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _folder(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("of years")


def _nothing(out: Path) -> None:
    pass


TAKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a folder": ("m.onnx", _folder, "is a folder of something else"),
    "a folder, zip": ("m.ncnn.zip", _folder, "is a folder of something else"),
    "a folder, package": ("m.mlpackage", _folder, "is a folder of something else"),
    "weights": ("m.xml", lambda out: out.with_suffix(".bin").write_text("another's"), "lies where the weights of"),
    "a JSON": ("m.onnx", lambda out: json_beside(out).write_text('{"name": "mine"}'), "lies where the export's JSON"),
    "a file in the way": ("e/m.onnx", lambda out: out.parent.write_text("a file"), "is a file and no folder"),
    "no name": (".onnx", _nothing, "has to end in .onnx"),
    "upper case": ("M.ONNX", _nothing, "has to end in .onnx"),
}


@pytest.mark.parametrize("taken", TAKEN)
def test_what_would_be_lost_is_refused_before_any_work(
    taken: str, source: Path, contract: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, put, said = TAKEN[taken]
    if name == "m.ncnn.zip":
        pytest.importorskip("pnnx", reason="pnnx is not installed: pip install 'facekd[ncnn]'")
    if name == "m.mlpackage":
        pytest.importorskip("coremltools", reason="coremltools is not installed: pip install 'facekd[coreml]'")
    put(tmp_path / name)
    before = everything(tmp_path)
    assert run(["export", str(source), str(tmp_path / name), "--contract", str(contract)]) == 2
    assert said in capsys.readouterr().err
    assert everything(tmp_path) == before


def test_the_network_itself_is_not_overwritten(source: Path, contract: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    (tmp_path / "link.onnx").symlink_to(source)
    for out in (source, tmp_path / "link.onnx"):
        with pytest.raises(UserError, match="is the network that is exported, and would be lost"):
            export(source, out, contract=contract, precision="fp16", quiet=True)
    assert source.read_bytes() == before


def test_a_full_disk_leaves_the_former_export_whole(
    source: Path, contract: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = export(source, tmp_path / "m.onnx", contract=contract, quiet=True)
    before = everything(tmp_path)
    write = Path.write_text

    def full(path: Path, text: str, encoding: str | None = None) -> int:
        if path.suffix == ".json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, text, encoding)

    with monkeypatch.context() as patch:  # the model fits, and its JSON does not
        patch.setattr(Path, "write_text", full)
        with pytest.raises(UserError, match="No space left on device"):
            export(source, done.path, contract=contract, precision="fp16", quiet=True)
    assert everything(tmp_path) == before


PLACER = """
import sys
from pathlib import Path
from facekd.deploy.model_json import describe
from facekd.deploy.place import aside, put_in_place
out, mine, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(times):
    with aside(out) as folder:
        made = folder / out.name
        made.write_text(mine * (number % 9 + 1))
        describe(made, {"model_id": mine})
        put_in_place(made, out)
"""


def placer(out: Path, mine: str, times: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PLACER, str(out), mine, str(times)])


def test_two_exports_at_once_leave_a_pair_of_one(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    assert [one.wait(timeout=60) for one in [placer(out, mine, 100) for mine in "ab"]] == [0, 0]
    assert json.loads(json_beside(out).read_text())["sha256"] == digest_of(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]


def test_a_kill_while_it_is_put_in_place_leaves_no_wrong_pair(tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(3):
        out = tmp_path / f"{number}.onnx"
        work = placer(out, "a", 10**6)
        while not json_beside(out).exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        work.kill()
        work.wait()
        if json_beside(out).exists():
            assert json.loads(json_beside(out).read_text())["sha256"] == digest_of(out)


def test_what_a_kill_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    out = tmp_path / "m[1].onnx"
    for name in (".m[1].onnx.killed.part", ".m1.onnx.of another.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "graph.onnx").write_bytes(b"large")
    with aside(out) as one, aside(out) as two:
        assert sorted(tmp_path.iterdir()) == sorted([one, two, tmp_path / ".m1.onnx.of another.part"])
    assert [path.name for path in tmp_path.iterdir()] == [".m1.onnx.of another.part"]


def test_a_package_of_before_is_replaced_and_a_link_is_not_followed(tmp_path: Path) -> None:
    real, out = tmp_path / "real.mlpackage", tmp_path / "m.mlpackage"
    real.mkdir()
    (real / "Manifest.json").write_text("{}")
    out.symlink_to(real)
    with aside(out) as folder:
        made = folder / out.name
        made.mkdir()
        (made / "Manifest.json").write_text("new")
        json_beside(made).write_text("{}")
        put_in_place(made, out)
    assert not out.is_symlink()
    assert ((out / "Manifest.json").read_text(), (real / "Manifest.json").read_text()) == ("new", "{}")


def test_a_changed_file_is_refused_where_its_json_lies_beside_it(source: Path, contract: Path, tmp_path: Path) -> None:
    done = export(source, tmp_path / "m.onnx", contract=contract, quiet=True)
    CropEmbedder.load(done.path)
    data = bytearray(done.path.read_bytes())
    weights = numpy_helper.to_array(max(onnx.load(str(done.path)).graph.initializer, key=lambda one: len(one.raw_data)))
    data[data.index(weights.tobytes())] ^= 1  # it would load, and give other embeddings
    done.path.write_bytes(data)
    with pytest.raises(UserError, match=r"is not the file that m\.onnx\.json beside it describes"):
        CropEmbedder.load(done.path)
    export(source, done.path, contract=contract, quiet=True)
    for text in ("[]", "{", '{"sha256": "of another program"}'):  # which say nothing of it
        json_beside(done.path).write_text(text)
        CropEmbedder.load(done.path)
