"""The default model in every runtime: the same embeddings at any batch, and what one face costs on one thread.

    python benchmarks/runtimes.py --homes DIR            # 10 minutes on two cores, 30 at first; writes
    python benchmarks/runtimes.py --homes DIR --quick    # one round, prints only

Each runtime has a process and, under DIR, a virtual environment or a folder of npm packages of its own; the packages of
this Python are seen from there. Files are made by `facekd export`. What is under DIR already is taken. 64 crops of
CelebA are embedded 1, 4 and 16 at a time and compared with facekd's embeddings of the file as it comes. Then the
runtimes take turns on one core, from crop to embedding; a ratio is to plain ONNX Runtime on the file as trained, in the
same round. What can't be installed, converted or run is recorded with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from _celeba import DATA, read_celeba
from _nets import WEIGHTS
from _record import record

from facekd.core.pixels import decode_crop
from facekd.deploy.default import default_model
from facekd.deploy.embedder import CropEmbedder

HERE = Path(__file__).parent
CROPS, BATCHES = 64, (1, 4, 16)
OTHERS = 1500  # crops to calibrate int8 on and to check it
ROUNDS, FACES, WARM = 9, 10, 2
TRAINED = "as trained"  # the file that the default model was made from
FIGURES = "MB, 1 less the least cosine at batches 1, 4, 16, largest difference between them, ms, times as trained"

# By the runtime's name: what pip or npm installs for it, and the package that its version is of.
PYTHON: dict[str, list[str]] = {
    "ONNX Runtime": ["onnxruntime"],
    "OpenCV 4.12": ["opencv-python-headless==4.12.0.88", "--no-deps"],  # it asks for an older numpy
    "OpenCV 5": ["opencv-python-headless>=5,<6"],
    "OpenVINO": ["openvino"],
    "tract": ["tract"],
    "MNN": ["mnn"],
    "LiteRT": ["ai-edge-litert", "litert-torch", "ai-edge-quantizer"],
    "ncnn": ["ncnn", "pnnx"],
    "ExecuTorch": ["executorch"],
}
NODE = {"ONNX Runtime, node": "onnxruntime-node", "ONNX Runtime, wasm in node": "onnxruntime-web"}
KINDS = {
    "ONNX Runtime": "onnxruntime", "OpenCV 4.12": "opencv", "OpenCV 5": "opencv", "OpenVINO": "openvino",
    "tract": "tract", "MNN": "mnn",
}  # fmt: skip
ENDINGS = {
    "LiteRT": (".tflite", ("fp32", "fp16", "int8")),
    "ncnn": (".ncnn.zip", ("fp32", "fp16")),
    "ExecuTorch": (".pte", ("fp32",)),
}


@dataclass
class Row:
    """One form of the model in one runtime."""

    runtime: str
    form: str
    precision: str
    command: list[str] = field(default_factory=list)
    not_run: str = ""
    megabytes: float = 0.0
    version: str = ""
    cosines: dict[int, float] = field(default_factory=dict)  # the worst crop's, by batch
    apart: float = 0.0  # the largest difference of a number between two batches
    seconds: list[float] = field(default_factory=list)  # the median of each round
    process: Any = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--homes", type=Path, required=True, help="where runtimes are installed and files are made")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    homes = asked.homes.resolve()
    homes.mkdir(parents=True, exist_ok=True)
    crops = homes / "crops.npy"
    sets = write_crops(asked.data, homes)
    np.save(crops, sets)
    wanted = CropEmbedder.load(default_model(), quick=False).embed(sets)
    rows = [one for one in prepared_rows(homes) if one is not None]
    for row in rows:
        compare(row, crops, wanted, homes)
    for number in range(1 if asked.quick else ROUNDS):
        for row in rows[number % len(rows) :] + rows[: number % len(rows)]:
            if not row.not_run:
                ask(row, {"time": WARM, "crops": str(crops)})
                taken = ask(row, {"time": FACES, "crops": str(crops)})
                row.seconds.append(statistics.median(taken or [float("nan")]))
    for row in rows:
        if row.process is not None:
            row.process.stdin.close()
            row.process.wait(30)
    forms = plain(rows)
    result = {"figures": FIGURES, **forms, "quickest": quickest(forms)}
    for name, one in result["quickest"].items():
        print(name, one)
    if not asked.quick:
        record("runtimes", result)


def write_crops(data: Path, homes: Path) -> np.ndarray:
    """64 crops, and beside them some hundred of others, with identities, to calibrate int8 on and to check it."""
    import pyarrow.parquet as pq

    table = read_celeba(data)
    pq.write_table(table.slice(CROPS, OTHERS), homes / "others.parquet")
    return np.stack([decode_crop(one["bytes"]) for one in table.slice(0, CROPS)["image"].to_pylist()])


def prepared_rows(homes: Path) -> list[Row]:
    """Every form of every runtime, with what starts it."""
    here = onnx_forms(homes)
    rows = []
    for runtime, packages in PYTHON.items():
        python, problem = environment_of(homes, runtime, packages)
        number = "" if problem else installed(python, packages[0])
        if runtime in KINDS:
            made = [from_onnx(homes, runtime, python, form, *one) for form, one in here.items()]
            if runtime == "OpenVINO":
                made += [exported(homes, runtime, python, ".xml", bits) for bits in ("fp32", "fp16", "int8")]
        else:
            ending, precisions = ENDINGS[runtime]
            made = [] if problem else [exported(homes, runtime, python, ending, bits) for bits in precisions]
            made = made or [Row(runtime, ending, "fp32")]
        for row in made:
            row.version, row.not_run = number, problem or row.not_run
        rows += made
    modules, problem = npm_packages(homes)
    for runtime, package in NODE.items():
        for form, (file, bits) in here.items():
            row = Row(runtime, form, bits, not_run=problem)
            if not problem:
                row.command = ["node", str(HERE / "_runtime_side.mjs"), package, str(file), str(modules)]
                row.version = json.loads((modules / "node_modules" / package / "package.json").read_text())["version"]
                row.megabytes = file.stat().st_size / 1e6
            rows.append(row)
    return rows


def onnx_forms(homes: Path) -> dict[str, tuple[Path, str]]:
    """The ONNX files, by what they are: file and precision."""
    found = {}
    if (WEIGHTS / "reid_retail_0095.onnx").exists():
        found[TRAINED] = (WEIGHTS / "reid_retail_0095.onnx", "fp32")
    found["default"] = (default_model(), "fp32")
    for bits in ("fp16", "int8"):
        file = homes / f"facekd-{bits}.onnx"
        if export_by(sys.executable, file, bits, homes) == "":
            found[bits] = (file, bits)
    return found


def from_onnx(homes: Path, runtime: str, python: str, form: str, file: Path, bits: str) -> Row:
    row = Row(runtime, form, bits)
    if runtime == "MNN":
        made = homes / f"{file.stem}.mnn"
        done = subprocess.run([python, str(HERE / "_runtime_side.py"), "mnn_file", str(file), str(made)],
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode or not made.exists():
            row.not_run = f"MNN's converter: {last(done)}"
            return row
        file = made
    row.megabytes = file.stat().st_size / 1e6
    row.command = [python, str(HERE / "_runtime_side.py"), KINDS[runtime], str(file)]
    return row


def exported(homes: Path, runtime: str, python: str, ending: str, bits: str) -> Row:
    """The file that `facekd export` writes for this runtime."""
    row = Row(runtime, f"{ending}, {bits}", bits)
    file = homes / f"facekd-{bits}{ending}"
    row.not_run = export_by(python, file, bits, homes)
    if not row.not_run:
        parts = [file, file.with_suffix(".bin")] if ending == ".xml" else [file]
        row.megabytes = sum(part.stat().st_size for part in parts) / 1e6
        row.command = [python, str(HERE / "_runtime_side.py"), "native", str(file), ending, bits]
        if ending == ".xml":
            row.command = [python, str(HERE / "_runtime_side.py"), "openvino", str(file)]
    return row


def export_by(python: str, file: Path, bits: str, homes: Path) -> str:
    """`facekd export` by another Python, where the file is not there yet; the reason where it writes nothing."""
    if file.exists():
        return ""
    given = ["--precision", bits, "--crops", str(homes / "others.parquet")]
    done = subprocess.run([python, "-m", "facekd", "export", str(default_model()), str(file), *given],
                          capture_output=True, text=True, env=os.environ | seen())  # fmt: skip
    return "" if done.returncode == 0 else last(done)


def environment_of(homes: Path, runtime: str, packages: list[str]) -> tuple[str, str]:
    """The Python of a runtime's environment, and why there is none."""
    home = homes / runtime.replace(" ", "-").lower()
    python = home / "bin" / "python"
    if not (home / "made").exists():
        venv.create(home, with_pip=True, clear=True)
        own = next((home / "lib").glob("python*")) / "site-packages"
        (own / "zz_behind.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
        kept = homes / "kept.txt"
        kept.write_text("".join(f"{name}=={found}\n" for name in ("torch", "torchvision", "numpy")
                                if (found := installed(sys.executable, name))))  # fmt: skip
        done = subprocess.run([str(python), "-m", "pip", "install", "-q", "-c", str(kept), *packages],
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            return str(python), f"not installed: {last(done)}"
        (home / "made").touch()
    return str(python), ""


def npm_packages(homes: Path) -> tuple[Path, str]:
    home = homes / "node"
    if not (home / "node_modules").exists():
        home.mkdir(exist_ok=True)
        try:
            done = subprocess.run(["npm", "install", "--ignore-scripts", "--prefix", str(home), *NODE.values()],
                                  capture_output=True, text=True)  # fmt: skip
        except FileNotFoundError:
            return home, "npm is not installed"
        if done.returncode:
            return home, f"not installed: {last(done)}"
    return home, ""


def installed(python: str, package: str) -> str:
    name = package.split("=")[0].split(">")[0]
    if python == sys.executable:
        try:
            return version(name)
        except PackageNotFoundError:
            return ""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def compare(row: Row, crops: Path, wanted: np.ndarray, homes: Path) -> None:
    """Start the runtime and look at its embeddings, so many crops at a time."""
    if row.not_run:
        return
    with (homes / "stderr.txt").open("w") as errors:
        row.process = subprocess.Popen(row.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                       text=True, env=os.environ | seen() | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    found: list[np.ndarray] = []
    if ask(row, None) is None:
        row.not_run = why(homes)
        return
    for batch in BATCHES:
        out = homes / "out.npy"
        out.unlink(missing_ok=True)
        if ask(row, {"embed": [str(crops), str(out), batch]}) is None:
            row.not_run = f"fails with {batch} crops at a time: {why(homes)}"
            return
        node = row.command[0] == "node"
        vectors = np.fromfile(out, np.float32).reshape(wanted.shape) if node else np.load(out)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        found.append(vectors)
        row.cosines[batch] = float((vectors * wanted).sum(axis=1).min())
    row.apart = float(max(np.abs(found[0] - other).max() for other in found))
    print(row.runtime, "|", row.form, row.cosines, flush=True)


def ask(row: Row, question: Any) -> Any:
    """The answer of a runtime's process; None where it is gone."""
    try:
        if question is not None:
            row.process.stdin.write(json.dumps(question) + "\n")
            row.process.stdin.flush()
        line = row.process.stdout.readline()
    except BrokenPipeError:
        return None
    return json.loads(line) if line else None


def why(homes: Path) -> str:
    lines = [line.strip() for line in (homes / "stderr.txt").read_text(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower()]  # a backtrace may follow
    return (told or lines or ["no word"])[-1][:300]


def last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit code {done.returncode}")[:300]


def seen() -> dict[str, str]:
    """So that facekd is imported from here in every environment."""
    return {"PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"}


def plain(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """By runtime and form the figures of FIGURES, or why there are none."""
    reference = next((row.seconds for row in rows if row.runtime == "ONNX Runtime" and row.form == TRAINED), [])
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        mine = found.setdefault(f"{row.runtime.removesuffix(' 4.12').removesuffix(' 5')} {row.version}", {})
        if row.not_run:
            mine[row.form] = f"not run: {row.not_run}"
            continue
        less = float(f"{max(1 - min(row.cosines.values()), 0):.1e}")
        ratios = [its / that for its, that in zip(row.seconds, reference, strict=True)] if reference else []
        ratio = round(statistics.median(ratios), 2) if ratios else None
        figures = [round(row.megabytes, 1), less, float(f"{row.apart:.0e}")]
        mine[row.form] = [*figures, round(1e3 * statistics.median(row.seconds), 1), ratio]
    return found


def quickest(forms: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    return {
        name.rsplit(" ", 1)[0] if "OpenCV" not in name else name: min(
            (form for form in mine if not isinstance(mine[form], str)), key=lambda form: mine[form][3], default=None
        )
        for name, mine in forms.items()
    }


if __name__ == "__main__":
    main()
