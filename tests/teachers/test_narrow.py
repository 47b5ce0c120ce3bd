"""A narrower student computed from its teacher's layers: exact where nothing is narrower, close where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy import SIZE, onnx_of, person, save_run, tiny_net

from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets import build
from facekd.nets.mobilefacenet import MobileFaceNet
from facekd.nets.saved import load_model
from facekd.teachers.narrow import fit_layers, wider_layers


def student(seed: int = 1) -> MobileFaceNet:
    torch.manual_seed(seed)
    net = build("mobilefacenet-half", dim=16, size=SIZE)
    assert isinstance(net, MobileFaceNet)
    return net


def fitted(run: Path, net: MobileFaceNet, images: torch.Tensor) -> list[float]:
    teacher = load_model(run).net.eval()
    with torch.no_grad():
        embeddings = torch.nn.functional.normalize(teacher(images))
    return list(fit_layers(net, wider_layers(run, net), images, embeddings))


def crops(count: int, first: int = 0) -> torch.Tensor:
    pixels: Array = np.stack([person(i % 40, i) for i in range(first, first + count)])
    return torch.from_numpy(to_input(pixels, Contract(dim=16, size=SIZE)))


@pytest.mark.slow
def test_a_network_as_wide_is_the_same_again(tmp_path: Path) -> None:
    net = student()
    explained = fitted(save_run(tmp_path / "run"), net, crops(300))
    assert len(explained) == 16
    assert min(explained) > 0.99
    # Also of images that no layer was fitted on; not the pooling, which is a mean here.
    images, teacher = crops(40, first=1000), load_model(tmp_path / "run").net.eval()
    assert isinstance(teacher, MobileFaceNet)
    with torch.no_grad():
        found, wanted = net.layers[:-2](images), teacher.layers[:-2](images)
    assert (found - wanted).var() < 0.01 * wanted.var()


@pytest.mark.slow
def test_a_narrower_network_says_much_of_what_its_teacher_says(tmp_path: Path) -> None:
    net, images = student(), crops(300)
    explained = fitted(save_run(tmp_path / "run", "mobilefacenet"), net, images)
    assert explained[-1] > 0.5
    aside = crops(40, first=1000)
    with torch.no_grad():
        found, wanted, before = net(aside), load_model(tmp_path / "run").net.eval()(aside), student().eval()(aside)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(found, wanted).mean() > 0.5 > cosine(before, wanted).mean()


def test_another_kind_of_network_is_refused_with_both_sides(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"layer 1 is a 3x3 convolution of stride 2, PReLU, of 4 .* of 32; choose"):
        wider_layers(onnx_of(tiny_net(), tmp_path / "net.onnx"), student())
    with pytest.raises(UserError, match="its layer 1 is missing"):
        wider_layers(save_run(tmp_path / "run", "iresnet18-quarter"), student())
