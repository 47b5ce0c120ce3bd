"""facekd doctor: what is installed, what works, and the command that mends what does not."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facekd.console import say, table
from facekd.core.printable import printable_line
from facekd.core.system import cores
from facekd.errors import UserError
from facekd.settings.door import door

PIP = "pip install --force-reinstall"
NO_TRAINING = "not installed; only training needs it: pip install 'facekd[train]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "absent", "broken"]  # absent: wanted by an extra only
    found: str
    mend: str = ""  # a command, where there is something to mend


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings; exits with 1 when something is broken."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        return int(any(finding.state == "broken" for finding in self.findings))


@door
def doctor(*, report: bool = False, quiet: bool = False) -> Diagnosis:
    """Say what is installed and works, and how to mend what does not. Exits with 1 when something is broken.

    Example: facekd doctor

    Example: facekd doctor --report

    Args:
        report: Print it as text to put into a bug report: versions and machine, none of your files.
        quiet: Print nothing; the exit code tells.
    """
    checks = (_python, _torch, _torchvision, _opencv, _yunet, _mtcnn, _onnxruntime, _gpu, _arithmetic, _compiler,
              _gallery, _ray, _flower, _telemetry)  # fmt: skip
    findings = tuple(check() for check in checks)
    if report and not quiet:
        print(_report(findings))
        return Diagnosis(findings)
    rows = [[f.what, f.state, f.found] for f in findings]
    table("facekd " + importlib.metadata.version("facekd"), ["part", "state", "found"], rows, quiet, figures=False)
    for finding in findings:
        if finding.mend:
            say(f"{finding.what}: {finding.mend}", quiet)
    return Diagnosis(findings)


def _report(findings: tuple[Finding, ...]) -> str:
    """Markdown of what was found and of all packages' versions; the user's own folder is called ~."""
    needed = importlib.metadata.requires("facekd") or []
    names = sorted({re.split(r"[^\w.-]", one)[0] for one in needed} - {"facekd"}, key=str.lower)
    packages = [f"{name} {version}" for name in names if (version := _version(name)) is not None]
    rows = [" ".join(f"| {f.what} | {f.state} | {f.found.replace('|', '/')} |".split()) for f in findings]
    head = f"facekd {importlib.metadata.version('facekd')}, {platform.platform()}"
    lines = [head, "", "| part | state | found |", "|---|---|---|", *rows, "", f"Packages: {', '.join(packages)}"]
    return "\n".join(printable_line(line.replace(str(Path.home()), "~")) for line in lines)


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} on {platform.system()}, {cores()} cores")


def _torch() -> Finding:
    try:
        import torch
    except ModuleNotFoundError:
        return Finding("torch", "absent", NO_TRAINING)
    except (ImportError, OSError) as error:
        return Finding("torch", "broken", str(error), f"{PIP} 'torch>=2.6,<2.14'")
    return Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _torchvision() -> Finding:
    from facekd.faces.torchvision_cpu import repair

    try:
        case = repair()
    except ModuleNotFoundError:
        return Finding("torchvision", "absent", NO_TRAINING)
    except (ImportError, RuntimeError, OSError) as error:
        return Finding(
            "torchvision", "broken", str(error), f"{PIP} 'torchvision>=0.21,<0.29' (with torch's own version)"
        )
    version = importlib.metadata.version("torchvision")
    if case == "whole":
        return Finding("torchvision", "ok", f"{version}, its operators load")
    return Finding("torchvision", "ok", f"{version}, built for CUDA beside a CPU torch; facekd brings the NMS it needs")


def _opencv() -> Finding:
    names = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    wheels = [name for name in names if _version(name)]
    if wheels != ["opencv-python-headless"]:
        others = " ".join(name for name in wheels if name != "opencv-python-headless")
        mend = (
            f"pip uninstall -y {others} && {PIP} opencv-python-headless" if others else f"{PIP} opencv-python-headless"
        )
        return Finding("OpenCV", "broken", f"wheels that share one folder: {', '.join(wheels) or 'none'}", mend)
    try:
        import cv2
    except ImportError as error:
        return Finding("OpenCV", "broken", str(error), f"{PIP} opencv-python-headless")
    return Finding("OpenCV", "ok", f"{cv2.__version__}, one wheel")


def _yunet() -> Finding:
    import numpy as np

    from facekd.faces.detect import load_detector

    try:
        load_detector("yunet", threads=1)([np.zeros((64, 64, 3), np.uint8)])
    except Exception as error:  # whatever breaks in files or runtime is what is looked for
        return Finding("YuNet weights", "broken", f"{type(error).__name__}: {error}", f"{PIP} --no-deps facekd")
    return Finding("YuNet weights", "ok", "come with facekd, the detector and its refiner run")


def _mtcnn() -> Finding:
    import numpy as np

    from facekd.faces.detect import load_detector

    try:
        load_detector("mtcnn")([np.zeros((64, 64, 3), np.uint8)])
    except UserError as error:  # what it needs is not installed
        return Finding("MTCNN weights", "absent", str(error))
    except Exception as error:  # whatever breaks in another package's files is what is looked for
        return Finding(
            "MTCNN weights", "broken", f"{type(error).__name__}: {error}", f"{PIP} --no-deps facenet-pytorch==2.5.3"
        )
    return Finding("MTCNN weights", "ok", f"facenet-pytorch {_version('facenet-pytorch')}, three networks run")


def _onnxruntime() -> Finding:
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", "broken", str(error), f"{PIP} onnxruntime")
    return Finding(
        "ONNX Runtime", "ok", f"{onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}"
    )


def _gpu() -> Finding:
    try:
        import torch
    except (ImportError, OSError):
        return Finding("GPU", "absent", "not looked for without torch; everything runs on the processor")
    if not torch.cuda.is_available():
        return Finding("GPU", "absent", "none that torch can use; everything runs on the processor")
    return Finding("GPU", "ok", ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))


def _arithmetic() -> Finding:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return Finding("Processor", "absent", f"{platform.machine()}; its features can't be read here")
    known = {
        "avx2": "AVX2",
        "avx512f": "AVX512",
        "avx512_vnni": "VNNI",
        "avx512_bf16": "AVX512 bf16",
        "amx_bf16": "AMX bf16",
    }
    found = [name for flag, name in known.items() if flag in flags]
    return Finding("Processor", "ok", f"{platform.machine()}: {', '.join(found) or 'none of AVX2, AVX512, AMX'}")


def _compiler() -> Finding:
    """What torch.compile calls, without which --compile and --precision auto train slower than they could."""
    if _version("torch") is None:
        return Finding("C++ compiler", "absent", "not looked for without torch")
    asked = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    found = shutil.which(asked)
    if found is None:
        return Finding("C++ compiler", "absent", f"no {asked}; only torch.compile needs it: trainings run without")
    return Finding("C++ compiler", "ok", f"{found}, for torch.compile")


def _gallery() -> Finding:
    try:
        import lancedb
    except ImportError as error:
        return Finding("LanceDB", "broken", str(error), f"{PIP} lancedb")
    return Finding("LanceDB", "ok", lancedb.__version__)


def _ray() -> Finding:
    version = _version("ray")
    if version is None:
        return Finding("Ray", "absent", "not installed; only --engine ray needs it: pip install 'facekd[ray]'")
    return Finding("Ray", "ok", version)


def _flower() -> Finding:
    version = _version("flwr")
    if version is None:
        return Finding("Flower", "absent", "not installed; only federate needs it: pip install 'facekd[federated]'")
    return Finding("Flower", "ok", version)


def _telemetry() -> Finding:
    """Whether libraries tell their makers of their use, in this process and in each that it starts."""
    asked = os.environ.get("ORT_DISABLE_TELEMETRY")
    silent, loud = ["ONNX Runtime"], []
    if asked != "1":
        silent, loud = [], [f"ONNX Runtime, as ORT_DISABLE_TELEMETRY={asked} asks"]
    if _version("openvino"):
        from facekd.nets.runtimes import OPENVINO_TELEMETRY, load_openvino

        with contextlib.suppress(UserError):  # what can't be loaded, and is not needed, tells nobody anything
            load_openvino()
            (loud if OPENVINO_TELEMETRY in sys.modules else silent).append("OpenVINO")
    if _version("flwr"):
        (silent if os.environ.get("FLWR_TELEMETRY_ENABLED") == "0" else loud).append("Flower")
    parts = [f"{state} in {', '.join(names)}" for state, names in (("off", silent), ("on", loud)) if names]
    return Finding("Telemetry", "ok", "; ".join(parts))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
