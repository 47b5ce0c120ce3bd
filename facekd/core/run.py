"""The run folder: what was asked, on what machine, with which versions, and what was measured."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import itertools
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from facekd.core.files import PRIVATE, no_stream, read_yaml, sha256_file, write_json, write_text
from facekd.core.formats import FORMATS, KEY, check_format
from facekd.core.printable import without_keys
from facekd.core.system import NO_LINK, cores
from facekd.errors import UserError

PACKAGE = Path(__file__).parents[1]
PACKAGES = (
    "facekd", "torch", "torchvision", "facenet-pytorch", "opencv-python-headless", "albumentations", "numpy",
    "scikit-learn", "onnx", "onnxruntime", "pyarrow", "lancedb", "accelerate", "safetensors",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training run."""

    out: Path
    model_id: str


def default_out(command: str) -> Path:
    """``runs/<command>-<date>``, where outputs go when --out says nothing; never one that exists."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / f"{command}-{stamp}"
    for number in itertools.count(2):
        if not path.exists():
            break
        path = path.with_name(f"{command}-{stamp}-{number}")
    return path


def start_run(out: Path, command: str, config: Mapping[str, Any], inputs: tuple[Path, ...] = ()) -> None:
    """Write ``run.yaml`` (the resolved config) and ``environment.json`` into the run folder `out`.

    Args:
        inputs: files whose digests are recorded; of a folder only its path is.
    """
    values = {"command": command, KEY: FORMATS["run folder"], **{key: _plain(value) for key, value in config.items()}}
    write_text(out / "run.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    write_json(out / "environment.json", environment(inputs))


def refuse_other_run(out: Path, config: Mapping[str, Any]) -> None:
    """Pass where `out` holds nothing yet or a run begun with the same settings.

    Paths are not compared: one place has many names, and what lies there is compared by its digest elsewhere. A path
    where there was none is another setting.

    Raises:
        UserError: the folder holds a run with other settings.
    """
    path = out / "run.yaml"
    if not path.exists():
        return
    found = read_yaml(path, "choose another --out")
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no settings of a run; choose another --out")
    check_format("run folder", found.get(KEY), path)
    for key, value in config.items():
        if found.get(key) != _plain(value) and (found.get(key) is None or not _names_paths(value)):
            raise UserError(
                f"{out}: holds a run with other settings ({key} was {found.get(key)!r} and is {_plain(value)!r}); "
                "choose another --out, or give the settings it was begun with"
            )


def environment(inputs: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Versions, machine, git commit, date, command line and input digests of this process."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *map(without_keys, sys.argv[1:])],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "versions": versions(),
        "git": _git_commit(),
        "inputs": {str(path): sha256_file(path) if path.is_file() else None for path in inputs},
    }


@functools.cache
def versions() -> dict[str, str | None]:
    """Installed version of each package that can change a number; None where it is missing."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def append_metrics(out: Path, row: Mapping[str, Any]) -> None:
    """Add one line to ``metrics.jsonl``.

    Raises:
        UserError: the disk is full or can't be written.
    """
    path = out / "metrics.jsonl"
    try:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK, PRIVATE), "a+b") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            if file.read(1) not in (b"", b"\n"):  # the last line was torn by a kill
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(dict(row)).encode() + b"\n")
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); free space and run it again") from error


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Every whole line of ``metrics.jsonl``; a last line torn by a kill is passed over.

    A line is a JSON object of numbers, one for each logged or judged step, in their order:

    ==================  ============================================================================================
    ``step``            steps done, a whole number from 0; always there
    ``lr``              the learning rate of that step
    ``loss``            what was minimized: the sum of the terms, a mean over the batch
    a term's name       its value times its weight, such as ``labels``, ``logits``, ``embedding``
    ``held_out_tar@F``  TAR at FAR F over all pairs of held-out people, in [0, 1]; where the step was judged
    ``held_out_eer``    the same people's equal error rate, in [0, 1]
    ``held_out_cosine`` mean cosine of the student's mapped embeddings of them to the teacher's, in [-1, 1]
    ``sites``           of federate, whose steps are rounds: sites whose weights were averaged
    ==================  ============================================================================================

    Seconds are in ``time.json``: the same run has the same metrics on any machine of its kind.

    Raises:
        UserError: the file can't be read, another line of it is damaged, or holds something else than this.
    """
    path = out / "metrics.jsonl"
    no_stream(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error
    rows = []
    *lines, torn = data.split(b"\n")
    if torn.strip(b"\0") != torn:  # a kill tears a line, it leaves no zeros; a power cut may leave them for many rows
        lines.append(torn)
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # no JSON, or no UTF-8
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is damaged; mend or remove that line, or train into another --out")
        if wrong := wrong_metric(row):
            raise UserError(
                f"{path}: line {number} is damaged: {wrong}; mend or remove that line, or train into another --out"
            )
        rows.append(row)
    return rows


def wrong_metric(row: Mapping[str, Any]) -> str:
    """What in a row of metrics is not as `read_metrics` says, in a clause; empty where all is."""
    step = row.get("step")
    if type(step) is not int or step < 0:
        return f"step is {step!r}, no whole number from 0"
    for key, value in row.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            return f"{key} is {value!r}, no number"
        least = -1 if key == "held_out_cosine" else 0
        if key.startswith("held_out") and not least - 1e-6 <= value <= 1 + 1e-6:
            return f"{key} is {value!r}, not within {least} and 1"
    return ""


def _names_paths(value: Any) -> bool:
    return isinstance(value, Path) or (isinstance(value, list) and any(isinstance(item, Path) for item in value))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _git_commit(package: Path = PACKAGE) -> str | None:
    """The commit of facekd's own checkout; None where it is installed, though it be inside another repository."""
    # In a hook git names its repository in the environment, whichever folder is asked.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", package, *words], capture_output=True, text=True, timeout=5, check=True, env=environ
        )
        return done.stdout.rstrip("\n")

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # what a repository around it tracks is not its own
        top, commit = git("rev-parse", "--show-toplevel", "HEAD").split("\n")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return commit if Path(top).resolve() == package.resolve().parent else None
