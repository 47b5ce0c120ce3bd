"""facekd doctor on the real machine, sound and broken."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from facekd.commands.doctor import doctor


def test_a_sound_machine_has_nothing_broken() -> None:
    diagnosis = doctor(quiet=True)
    states = {finding.what: finding.state for finding in diagnosis.findings}
    assert diagnosis.exit_code == 0, [f for f in diagnosis.findings if f.state == "broken"]
    assert {"torch", "torchvision", "OpenCV", "MTCNN weights", "GPU", "Processor", "Ray", "Flower"} <= set(states)
    assert states["MTCNN weights"] == "ok"
    told = {finding.what: finding.found for finding in diagnosis.findings}
    assert told["Telemetry"].startswith("off in ONNX Runtime")


def test_telemetry_that_is_asked_for_is_said_to_be_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    told = {finding.what: finding.found for finding in doctor(quiet=True).findings}
    assert "on in ONNX Runtime, as ORT_DISABLE_TELEMETRY=0 asks" in told["Telemetry"]


def test_a_machine_without_a_compiler_is_told_what_it_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (found,) = (finding for finding in doctor(quiet=True).findings if finding.what == "C++ compiler")
    assert found.state == "absent"
    assert "no no-such-compiler; only torch.compile needs it" in found.found


def test_a_report_names_versions_and_nothing_of_the_user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    diagnosis = doctor(report=True)
    told = capsys.readouterr().out
    assert told.startswith("facekd ")
    assert all(f"| {finding.what} | {finding.state} |" in told for finding in diagnosis.findings)
    assert f"numpy {importlib.metadata.version('numpy')}" in told
    assert str(tmp_path) not in told
    assert platform.node() not in told


def doctor_beside(folder: Path) -> subprocess.CompletedProcess[str]:
    """The real command, with `folder` first on the path of modules and packages."""
    return subprocess.run(
        [sys.executable, "-m", "facekd", "doctor"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_second_opencv_wheel_is_found_and_the_command_that_mends_it_is_said(tmp_path: Path) -> None:
    wheel = tmp_path / "opencv_python-4.13.0.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.13.0\n")
    result = doctor_beside(tmp_path)
    assert result.returncode == 1
    assert "pip uninstall -y opencv-python &&" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "lancedb.py").write_text("raise ImportError('its library is gone')\n")
    result = doctor_beside(tmp_path)
    assert result.returncode == 1
    assert "pip install --force-reinstall lancedb" in result.stderr
