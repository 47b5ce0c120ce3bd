"""torchvision imports beside any torch, and only the known fault is repaired. Each case needs a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    lines = ["import sys", *(f"sys.path.insert(0, {str(path)!r})" for path in paths), code]
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)


def fake_torchvision(folder: Path, source: str) -> Path:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(source)
    return folder


@pytest.mark.slow
def test_facenet_pytorch_imports_and_nms_answers_after_the_repair() -> None:
    done = python(
        """
from facekd.faces.torchvision_cpu import repair
case = repair()
assert case in ("whole", "repaired"), case
assert repair() == case
import facenet_pytorch, torch, torchvision
from torchvision.ops import batched_nms, nms
boxes = torch.tensor([[0., 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [0, 0, 10, 4]])
scores = torch.tensor([0.5, 0.9, 0.1, 0.7])
print(nms(boxes, scores, 0.5).tolist(), nms(boxes, scores, 0.3).tolist(), nms(boxes[:0], scores[:0], 0.5).tolist())
print(batched_nms(boxes, scores, torch.tensor([0, 1, 1, 1]), 0.5).tolist())
"""
    )
    assert done.returncode == 0, done.stderr
    # Overlaps: 0-1 = 90/110, 1-3 = 36/104, 0-3 = 40/100.
    assert done.stdout.splitlines() == ["[1, 3, 2] [1, 2] []", "[1, 3, 0, 2]"]


def test_a_whole_torchvision_is_left_alone(tmp_path: Path) -> None:
    fake = fake_torchvision(tmp_path, "count = globals().get('count', 0) + 1")
    done = python(
        """
from facekd.faces.torchvision_cpu import repair
print(repair(), repair())
import torchvision
print(torchvision.count, 'torch' in sys.modules)
""",
        fake,
    )
    assert done.stdout.splitlines() == ["whole whole", "1 False"], done.stderr


@pytest.mark.parametrize("error", ["RuntimeError('operator torchvision::roi_align does not exist')", "OSError('disk')"])
def test_another_fault_is_not_hidden(tmp_path: Path, error: str) -> None:
    fake = fake_torchvision(tmp_path, f"raise {error}")
    done = python("from facekd.faces.torchvision_cpu import repair\nrepair()", fake)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == error.replace("('", ": ").replace("')", "")
