"""An exported graph as ncnn's two files in one .ncnn.zip, by pnnx."""

from __future__ import annotations

import subprocess
import tempfile
import zipfile
from pathlib import Path

import pnnx

from facekd.deploy.targets.module import read_module, traced
from facekd.errors import UserError

PARAM, BIN = "model.ncnn.param", "model.ncnn.bin"  # in the zip
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold: the same bytes twice


def write(source: Path, out: Path, precision: str) -> None:
    """Write the network of the ONNX file `source` to `out`: in0, a Mat of S x S x 3 RGB floats, to out0 of D."""
    net = read_module(source, "ncnn")
    size = net.size
    converter = Path(pnnx.__file__).with_name("pnnx")
    with tempfile.TemporaryDirectory(prefix="facekd-ncnn-") as name:
        folder = Path(name)
        traced(net).save(str(folder / "model.pt"))
        half = int(precision == "fp16")
        command = [str(converter), "model.pt", f"fp16={half}", f"inputshape=[1,3,{size},{size}]f32"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        said = (done.stdout + done.stderr).splitlines()
        unknown = sorted({line.split()[1] for line in said if line.startswith(("todo ", "ignore ")) and " " in line})
        if unknown:
            raise UserError(f"ncnn can't hold the operator {unknown[0]}")
        if done.returncode or not (folder / PARAM).exists() or not (folder / BIN).exists():
            raise UserError(f"pnnx stopped with exit code {done.returncode} ({said[-1] if said else 'no word'})")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
            for one in (PARAM, BIN):
                packed.writestr(zipfile.ZipInfo(one, EPOCH), (folder / one).read_bytes())
