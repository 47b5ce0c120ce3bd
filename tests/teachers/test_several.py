"""Several teachers are one: what each says in his own contract, concatenated or turned into one space and averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from torch.nn import functional as F
from toy import SIZE, contract_file, onnx_of, person, save_run, tiny_net

from facekd.core.contract import Contract, read_contract
from facekd.core.pixels import to_input
from facekd.errors import UserError
from facekd.nets.files import METADATA
from facekd.teachers.several import aligned, alone, concatenated, pair_contracts, procrustes, together
from facekd.teachers.teacher import Teacher, load_teacher

CPU = torch.device("cpu")
OTHERS = {"channels": "BGR", "mean": "[10, 20, 30]", "std": "[50, 60, 70]"}  # than facekd's own


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def crops(count: int = 4) -> np.ndarray:
    return np.stack([person(i, i) for i in range(count)])


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_the_cosine_of_a_concatenation_is_the_mean_of_the_cosines(dims: list[int], seed: int) -> None:
    left = [drawn(5, dim, seed=seed + i) * 10**i for i, dim in enumerate(dims)]  # lengths must not matter
    right = [drawn(5, dim, seed=seed + 50 + i) for i, dim in enumerate(dims)]
    one, two = concatenated(left), concatenated(right)
    assert one.shape == (5, sum(dims))
    torch.testing.assert_close(one.norm(dim=1), torch.ones(5))
    each = torch.stack([F.cosine_similarity(a, b) for a, b in zip(left, right, strict=True)])
    torch.testing.assert_close((one * two).sum(1), each.mean(0), atol=1e-5, rtol=1e-5)


def test_the_map_between_two_spaces_is_the_best_rotation() -> None:
    source, target = drawn(40, 6), drawn(40, 6, seed=1)
    wanted, _ = orthogonal_procrustes(source.double().numpy(), target.double().numpy())
    np.testing.assert_allclose(procrustes(source, target).numpy(), wanted, atol=1e-5)
    turn = torch.linalg.qr(drawn(6, 6, seed=2))[0]
    torch.testing.assert_close(procrustes(source, source @ turn), turn, atol=1e-5, rtol=0)


def test_between_unequal_lengths_the_map_stretches_nothing() -> None:
    up, down = procrustes(drawn(40, 4), drawn(40, 6, seed=1)), procrustes(drawn(40, 6), drawn(40, 4, seed=1))
    torch.testing.assert_close(up @ up.T, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(down.T @ down, torch.eye(4), atol=1e-5, rtol=0)
    # A space laid into a larger one is found again.
    rows = torch.linalg.qr(drawn(6, 4, seed=3))[0].T
    torch.testing.assert_close(procrustes(drawn(40, 4), drawn(40, 4) @ rows), rows, atol=1e-5, rtol=0)


def test_a_teacher_averaged_with_himself_turned_says_the_same() -> None:
    said, new = drawn(30, 5), drawn(7, 5, seed=1)
    turn = torch.linalg.qr(drawn(5, 5, seed=2))[0]
    mix = aligned([said, said @ turn * 3])
    torch.testing.assert_close(mix([new, new @ turn]), F.normalize(new), atol=1e-5, rtol=0)
    other = mix([new, drawn(7, 5, seed=3)])
    torch.testing.assert_close(other.norm(dim=1), torch.ones(7))
    assert float((other * F.normalize(new)).sum(1).mean()) < 0.95


def test_an_average_is_as_fine_under_autocast() -> None:
    samples = [drawn(30, 5), drawn(30, 5, seed=1)]
    mix = aligned(samples)
    with torch.autocast("cpu", torch.bfloat16):
        found = mix(samples)
    torch.testing.assert_close(found, mix(samples), atol=0, rtol=0)


def test_each_sees_the_crops_as_his_own_contract_says(tmp_path: Path) -> None:
    nets = [tiny_net(seed=3).eval(), tiny_net(dim=5, seed=4).eval()]
    files = [contract_file(tmp_path / "a.yaml", dim=8, size=SIZE), contract_file(tmp_path / "b.yaml", dim=5, size=SIZE,
                                                                                 **OTHERS)]  # fmt: skip
    paths = [onnx_of(nets[0], tmp_path / "a.onnx"), onnx_of(nets[1], tmp_path / "b.onnx", dim=5)]
    teachers = [load_teacher(path, file, CPU) for path, file in zip(paths, files, strict=True)]
    both = together(teachers, concatenated, "concat").teacher
    with torch.no_grad():
        said = [
            net(torch.from_numpy(to_input(crops(), read_contract(file)))) for net, file in zip(nets, files, strict=True)
        ]
    wanted = torch.cat([F.normalize(one) for one in said], 1) / 2**0.5
    found = both.embed(torch.from_numpy(to_input(crops(), both.contract)))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (both.contract.dim, both.net, both.head) == (13, None, None)
    assert str(both.path) == f"{paths[0]} + {paths[1]}"
    # Another order, another way or another teacher is another model.
    others = [together(teachers[::-1], concatenated, "concat"), together(teachers, concatenated, "else")]
    assert len({both.contract.model_id, *(one.teacher.contract.model_id for one in others)}) == 3
    assert alone(teachers[0]).teacher is teachers[0]
    assert alone(teachers[0]).mix(said[:1]) is said[0]


def test_teachers_of_unequal_crops_are_refused(tmp_path: Path) -> None:
    one = load_teacher(save_run(tmp_path / "one"), None, CPU)
    two = load_teacher(save_run(tmp_path / "two", size=48), None, CPU)
    with pytest.raises(UserError, match=r"one takes arcface crops of 32 pixels, .*two arcface crops of 48: several"):
        together([one, two], concatenated, "concat")


def test_contracts_belong_to_the_onnx_files_that_need_one_in_their_order(tmp_path: Path) -> None:
    run, a, b, known = (tmp_path / name for name in ("run", "a.onnx", "b.onnx", "known.onnx"))
    for path in (a, b, known):
        onnx_of(tiny_net(), path)
    model = onnx.load(known)
    onnx.helper.set_model_props(model, {METADATA: Contract(dim=8, size=SIZE).to_json()})
    onnx.save(model, known)
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    assert pair_contracts([run, a], []) == [None, None]
    assert pair_contracts([a, run, known, b], [first, second]) == [first, None, None, second]
    assert pair_contracts([run, b], [first]) == [None, first]
    assert pair_contracts([known], [first]) == [first]  # a single one is always taken at the user's word
    for paths, files, words in [
        ([a, b], [first], "given 1 times; the teachers that need one are .*a.onnx, .*b.onnx: give one for each"),
        ([run, known], [first], "given 1 times; the teachers that need one are none"),
        ([a], [first, second], "given 2 times"),
    ]:
        with pytest.raises(UserError, match=words):
            pair_contracts(paths, files)


@given(
    st.sampled_from(["RGB", "BGR"]),
    st.tuples(*[st.floats(2, 255)] * 3),
    st.tuples(*[st.floats(1, 255)] * 3),
    st.integers(0, 99),
)
def test_on_any_device_plain_pixels_become_the_input_of_a_contract(
    channels: str, mean: tuple[float, float, float], std: tuple[float, float, float], seed: int
) -> None:
    contract = Contract(dim=8, size=SIZE, channels=channels, mean=mean, std=std)
    seen = []
    teacher = Teacher(Path("one"), contract, lambda x: seen.append(x) or x.mean((2, 3)), None, None, ())
    pixels = np.random.default_rng(seed).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    both = together([teacher, teacher], concatenated, "concat").teacher
    both.embed(torch.from_numpy(to_input(pixels, both.contract)))
    for found in seen:
        np.testing.assert_allclose(found.numpy(), to_input(pixels, contract), atol=2e-5 * 255 / min(std), rtol=1e-5)
