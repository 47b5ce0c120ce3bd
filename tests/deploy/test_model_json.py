"""The JSON beside an export says what the file is, and never what another was; an export is for everybody to read."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from toy import SIZE, contract_file, onnx_of, tiny_net

from facekd.commands.export import export
from facekd.core.contract import KNOWN, Contract, read_contract
from facekd.deploy.card import KNOWN_TERMS
from facekd.deploy.default import default_model
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.model_json import MODEL, digest_of, json_beside
from facekd.errors import UserError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return onnx_of(tiny_net().eval(), tmp_path / "net.onnx")


def test_it_says_all_that_another_program_needs(tmp_path: Path, source: Path) -> None:
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE, channels="BGR", mean=[1, 2, 3], std=[50, 60, 70])
    done = export(source, tmp_path / "m.onnx", contract=contract, terms="of nobody", quiet=True)
    values = json.loads((tmp_path / "m.onnx.json").read_text())
    assert values["format"] == 1
    assert values["model_id"] == done.model_id
    assert values["source"] is None
    assert values["terms"] == "of nobody"
    assert values["sha256"] == hashlib.sha256(done.path.read_bytes()).hexdigest()
    assert (values["file"], values["bytes"]) == ("m.onnx", done.path.stat().st_size)
    assert Contract(**values["contract"]).model_id == done.model_id
    assert values["thresholds"] == {"far": [], "fpir": []}
    assert values["parity"]["least_cosine"] == done.least_cosine

    # Fed by nothing but the JSON, the file gives facekd's embeddings.
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    fed = values["input"]
    pixels = crops[..., ::-1] if fed["channels"] == "BGR" else crops
    given = ((pixels - np.array(fed["mean"])) / np.array(fed["std"])).astype(fed["dtype"])
    given = given.transpose(0, 3, 1, 2) if fed["layout"] == "NCHW" else given
    assert fed["shape"] == [None, *given.shape[1:]]
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    (found,) = session.run([values["output"]["name"]], {fed["name"]: given})
    assert values["output"]["shape"] == [None, found.shape[1]]
    np.testing.assert_allclose(found, CropEmbedder.load(source, contract).embed(crops), atol=1e-5)

    # The metadata say the same, but for the file itself.
    inside = {entry.key: entry.value for entry in onnx.load(str(done.path)).metadata_props}[MODEL]
    assert json.loads(inside) == {k: v for k, v in values.items() if k not in ("file", "bytes", "sha256")}


@pytest.mark.parametrize(
    ("flag", "dtype", "layout", "mean"),
    [("uint8_input", "uint8", "NHWC", None), ("standard_input", "float32", "NCHW", [127.5] * 3)],
)
def test_it_says_what_the_file_takes_not_what_the_contract_asks(
    tmp_path: Path, source: Path, flag: str, dtype: str, layout: str, mean: list[float] | None
) -> None:
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE, mean=[1, 2, 3])
    export(source, tmp_path / "m.onnx", contract=contract, quiet=True, **{flag: True})  # type: ignore[arg-type]
    values = json.loads(json_beside(tmp_path / "m.onnx").read_text())
    assert (values["input"]["dtype"], values["input"]["layout"], values["input"]["mean"]) == (dtype, layout, mean)
    assert values["contract"]["mean"] == [1, 2, 3]


def test_terms_and_thresholds_travel_on(tmp_path: Path, source: Path) -> None:
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    first = export(source, tmp_path / "a.onnx", contract=contract, terms="research only", quiet=True)
    export(first.path, tmp_path / "b.onnx", quiet=True)
    assert json.loads((tmp_path / "b.onnx.json").read_text())["terms"] == "research only"


def test_the_terms_of_well_known_weights_are_said_where_nobody_else_does(tmp_path: Path) -> None:
    for number, (given, said) in enumerate([(None, "Apache-2.0 (Intel"), ("mine", "mine")]):
        done = export(default_model(), tmp_path / f"{number}.onnx", terms=given, quiet=True)
        assert json.loads(json_beside(done.path).read_text())["terms"].startswith(said)
        assert said in next(e.value for e in onnx.load(str(done.path)).metadata_props if e.key == "facekd.card")


def test_the_terms_of_every_network_that_facekd_knows_are_known() -> None:
    assert {read_contract(path).weights_sha256 for path in KNOWN.glob("*.yaml")} == KNOWN_TERMS.keys()


def test_a_refused_export_leaves_the_former_one_whole(tmp_path: Path, source: Path) -> None:
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    done = export(source, tmp_path / "m.onnx", contract=contract, quiet=True)
    before = done.path.read_bytes(), json_beside(done.path).read_bytes()
    with pytest.raises(UserError):
        export(source, tmp_path / "m.onnx", contract=contract, precision="int8", quiet=True)
    assert before == (done.path.read_bytes(), json_beside(done.path).read_bytes())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_an_export_has_the_rights_that_the_user_gives_files(
    tmp_path: Path, source: Path, umask: int, mode: int
) -> None:
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    before = os.umask(umask)
    try:
        done = export(source, tmp_path / "m.onnx", contract=contract, quiet=True)
    finally:
        os.umask(before)
    for path in (done.path, json_beside(done.path)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_digest_of_a_folder_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "m" / "data").mkdir(parents=True)
    (tmp_path / "m" / "b").write_bytes(b"two")
    (tmp_path / "m" / "data" / "a").write_bytes(b"one")
    one, two = (hashlib.sha256(value).hexdigest() for value in (b"one", b"two"))
    assert digest_of(tmp_path / "m") == hashlib.sha256(f"{two}  b\n{one}  data/a\n".encode()).hexdigest()
