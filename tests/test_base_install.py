"""What a plain ``pip install facekd`` can do: all but training, without torch and what else the extras bring."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from facekd.core.extras import EXTRAS
from facekd.crops.store import CropStore
from facekd.photos.synth import jpeg, person, render

ROOT = Path(__file__).parents[1]
ELSEWHERE = ("tensorboard", "openvino", "onnx2torch", "ray", "faiss", "cryptography")  # other extras, told of elsewhere
# Commands one after another in a process in which no package of an extra can be imported.
RUNNER = """
import contextlib, importlib.abc, io, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Blocked())
from facekd.cli import run

for words in json.loads(sys.argv[2]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()) as shown:
        code = run(words)
    print(json.dumps([code, shown.getvalue(), said.getvalue()]))
assert not BLOCKED & set(sys.modules)
"""


def without_extras(commands: Sequence[Sequence[object]], code: str = RUNNER) -> list[Any]:
    """Exit code, stdout and stderr of each command."""
    blocked = json.dumps([*EXTRAS, *ELSEWHERE])
    words = json.dumps([[str(word) for word in command] for command in commands])
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    result = subprocess.run(
        [sys.executable, "-c", code, blocked, words], env=environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of twelve people who do not exist, their crops, and the pairs of these."""
    home = tmp_path_factory.mktemp("base")
    for index in range(12):
        who = person(0, index)
        for number in range(3):
            path = home / "photos" / f"p{index}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(render(who, who.seed, number)))
    ((code, _, said),) = without_extras([["align", home / "photos", home / "crops"]])
    assert code == 0, said
    ids = {row["identity"]: [] for row in CropStore.open(home / "crops").ledger().to_pylist()}
    for row in CropStore.open(home / "crops").ledger().to_pylist():
        ids[row["identity"]] += row["crop_ids"]
    with open(home / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "same"])
        for one, (a, b, *_) in ids.items():
            rows.writerow([a, b, 1])
            rows.writerows([a, others[0], 0] for who, others in ids.items() if who != one)
    return home


@pytest.mark.slow
def test_everything_but_training_works(home: Path) -> None:
    photo, other = home / "photos/p0/0.jpg", home / "photos/p1/0.jpg"
    commands: list[list[object]] = [
        ["embed", home / "crops", home / "crops.parquet"],
        ["embed", home / "photos", home / "photos.npz"],
        ["enroll", home / "photos", home / "people.gallery", "--accept-suspects"],
        ["identify", home / "people.gallery", photo, "--threshold", "0.3"],
        ["same", photo, photo],
        ["same", photo, other, "--threshold", "1"],
        ["verify", "--crops", home / "crops", "--pairs", home / "pairs.csv", "--out", home / "verified"],
        ["verify", "--embeddings", home / "crops.parquet", "--all-pairs", "--out", home / "all"],
        ["verify", "--embeddings", home / "crops.parquet", "--identification", "--out", home / "searched"],
        ["export", ROOT / "facekd/weights/mobilefacenet-se.onnx", home / "own.onnx"],
        [
            "export",
            home / "own.onnx",
            home / "int8.onnx",
            "--precision",
            "int8",
            "--crops",
            home / "crops",
            "--pairs",
            home / "pairs.csv",
        ],
        ["gallery", "info", home / "people.gallery"],
        ["gallery", "export", home / "people.gallery", home / "templates.parquet"],
        ["leak", home / "crops", home / "crops", "--embedder", home / "own.onnx", "--threshold", "1"],
        ["audit", home / "crops", "--embedder", home / "own.onnx"],
        ["doctor"],
        ["--help"],
        ["distill", "--help"],
    ]
    for command, (code, _, said) in zip(commands, without_extras(commands), strict=True):
        assert code == (1 if "1" in command else 0), (command, said)
    assert (home / "verified/report.html").is_file()
    assert (home / "own.onnx").is_file()


def test_what_needs_training_packages_says_so_in_one_sentence(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    commands: list[list[object]] = [
        ["quickstart", "--photos", home / "photos", "--out", tmp_path / "quick"],
        ["train-teacher", "--data", home / "crops", "--out", tmp_path / "teacher"],
        ["distill", "--teacher", run, "--data", home / "crops", "--out", tmp_path / "student"],
        ["cache", "build", "--teacher", run, "--data", home / "crops", "--cache", tmp_path / "cache"],
        ["narrow", run, "--data", home / "crops", "--out", tmp_path / "narrow"],
        ["nets"],
        ["verify", "--model", run, "--crops", home / "crops", "--pairs", home / "pairs.csv", "--out", tmp_path / "v"],
        ["align", home / "photos", tmp_path / "crops", "--detector", "mtcnn"],
    ]
    for command, (code, _, said) in zip(commands, without_extras(commands), strict=True):
        assert code == 2, (command, said)
        last = said.splitlines()[-1]
        assert last.startswith("facekd: "), (command, said)
        assert last.endswith("install it with: pip install 'facekd[train]'"), (command, said)
    assert not (tmp_path / "quick" / "crops").exists()  # said before any work


def test_from_python_it_is_an_error_with_the_same_sentence() -> None:
    code = RUNNER.replace("from facekd.cli import run", "") + (
        "import facekd\nfrom facekd.errors import UserError\n"
        "from facekd.commands.nets import nets\n"
        "try:\n    nets()\nexcept UserError as error:\n    print(json.dumps(str(error)))\n"
        "try:\n    facekd.FaceTransformer\nexcept UserError as error:\n    print(json.dumps(str(error)))\n"
    )
    assert without_extras([], code) == [
        "this command needs torch; install it with: pip install 'facekd[train]'",
        "facekd.FaceTransformer needs sklearn; install it with: pip install 'facekd[sklearn]'",
    ]


def test_each_package_is_in_the_extra_that_the_sentence_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        "facenet_pytorch": "facenet-pytorch",
        "pillow_heif": "pillow-heif",
        "python_multipart": "python-multipart",
        "sklearn": "scikit-learn",
    }
    for package, extra in EXTRAS.items():
        name = named.get(package, package)
        assert any(one.startswith(name) for one in project["optional-dependencies"][extra]), package
        assert not any(one.startswith(name) for one in project["dependencies"]), package
    assert "train" in project["optional-dependencies"]["test"][1]
