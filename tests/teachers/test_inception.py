"""facenet-pytorch's InceptionResnetV1 from its published kind of file teaches; a pickle that does more runs nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from facekd.errors import UserError
from facekd.faces.torchvision_cpu import repair
from facekd.teachers.teacher import load_teacher

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    repair()
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    return InceptionResnetV1(pretrained=None, classify=True, num_classes=7).eval()


class Evil:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])  # the published files are of the older kind
def test_its_state_dict_with_its_classifier_teaches(tmp_path: Path, net: torch.nn.Module, zipped: bool) -> None:
    state = {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert "logits.weight" in state
    path = tmp_path / "20180402-114759-vggface2.pt"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    teacher = load_teacher(path, None, CPU)
    path.unlink()  # a hundred megabytes
    contract = teacher.contract
    assert (contract.dim, contract.size, contract.mean, contract.std) == (512, 112, (127.5,) * 3, (128.0,) * 3)
    assert (teacher.net, teacher.head, teacher.kind) == (None, None, "is facenet-pytorch's network")
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = teacher.embed(images)
    assert not found.requires_grad
    net.classify = False  # type: ignore[assignment]
    with torch.no_grad():
        wanted = net(F.interpolate(images, scale_factor=160 / 112, mode="bilinear"))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("how", ["pickle", "zip", "legacy"])
def test_a_malicious_file_runs_nothing(tmp_path: Path, how: str) -> None:
    made, path = tmp_path / "made", tmp_path / "evil.pt"
    evil = {"conv2d_1a.conv.weight": Evil(made)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(UserError, match=r"evil.pt: holds something else than tensors.*facekd runs no pickle"):
        load_teacher(path, None, CPU)
    assert not made.exists()
    if how == "pickle":  # and it would have
        pickle.loads(path.read_bytes())
        assert made.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with pytest.raises(UserError, match="no such weights file"):
        load_teacher(path, None, CPU)
    for data, words in [
        (b"", "holds something else than tensors"),
        (b"not a pickle", "holds something else than tensors"),
    ]:
        path.write_bytes(data)
        with pytest.raises(UserError, match=words):
            load_teacher(path, None, CPU)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(UserError, match="holds no state dict"):
        load_teacher(path, None, CPU)
    torch.save({"last_linear.weight": torch.zeros(3, 3), "features.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"is not facenet-pytorch's InceptionResnetV1 \(.* others are missing, unknown"):
        load_teacher(path, None, CPU)
    with pytest.raises(UserError, match="brings its own contract; leave --contract out"):
        load_teacher(path, tmp_path / "c.yaml", CPU)
