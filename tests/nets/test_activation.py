"""PReLU written otherwise is PReLU: any slopes, any maker, and in ONNX Runtime's blocked layout from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import CHANNELS, SIDE, convolution, model_of, outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from facekd.nets.activation import restore_prelu, rewrite_prelu, split_prelu, tame_prelu
from facekd.nets.graph import folded
from facekd.nets.grouped import widen_groups


@settings(max_examples=30)
@given(
    slopes=st.lists(
        st.one_of(
            st.sampled_from([0.0, 1.0, 1 - 1e-7, 1 - 1e-4, 0.25, -0.5, 1.5]),
            st.floats(-2, 2, width=32, allow_subnormal=False),
        ),
        min_size=CHANNELS,
        max_size=CHANNELS,
    ),
    bias=st.booleans(),
    group=st.sampled_from([1, CHANNELS]),
    shared=st.booleans(),
)
def test_any_slopes_after_a_convolution(slopes: list[float], bias: bool, group: int, shared: bool) -> None:
    nodes, weights = convolution(bias, group)
    a = np.array(slopes, np.float32).reshape(-1, 1, 1)
    nodes.append(helper.make_node("PRelu", ["z", "a"], ["p"]))
    # Shared: the convolution's own output is read too, so nothing may be folded into it.
    nodes.append(helper.make_node("Add", ["p", "z"], ["y"]) if shared else helper.make_node("Relu", ["p"], ["y"]))
    model = model_of(nodes, weights | {"a": a})
    if not shared:
        model.graph.node[-1].op_type = "Neg"
    x = np.random.default_rng(1).normal(size=(2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    rewritten, count = rewrite_prelu(model)
    assert count == 1
    assert "PRelu" not in {node.op_type for node in rewritten.graph.node}
    z = outputs(model_of([*nodes[:1], helper.make_node("Identity", ["z"], ["y"])], weights), x).astype(np.float64)
    prelu = np.where(z > 0, z, a * z)
    wanted = prelu + z if shared else -prelu
    np.testing.assert_allclose(outputs(rewritten, x), wanted, atol=2e-5 * np.abs(z).max())
    split, count = split_prelu(model)
    assert count == (not shared and max(slopes) <= 1 and len(set(slopes)) > 1)
    np.testing.assert_allclose(outputs(split, x), wanted, atol=2e-5 * np.abs(z).max())


def test_a_slope_for_all_and_one_that_is_computed() -> None:
    nodes, weights = convolution()
    x = np.random.default_rng(1).normal(size=(2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    one = model_of([*nodes, helper.make_node("PRelu", ["z", "a"], ["y"])], weights | {"a": np.array([0.3])})
    rewritten, count = rewrite_prelu(one)
    assert count == 1
    np.testing.assert_allclose(outputs(rewritten, x), outputs(one, x), atol=1e-4)
    pixels = np.random.default_rng(2).random((CHANNELS, SIDE, SIDE))  # a slope for each place is none of a channel
    for a in (pixels, pixels[0]):
        other = model_of([*nodes, helper.make_node("PRelu", ["z", "a"], ["y"])], weights | {"a": a})
        assert rewrite_prelu(other)[1] == 0


@settings(max_examples=20)
@given(
    slopes=st.lists(st.floats(-3, 3, width=32, allow_subnormal=False), min_size=CHANNELS, max_size=CHANNELS),
    bias=st.booleans(),
    group=st.sampled_from([1, CHANNELS]),
    shared=st.booleans(),
)
def test_a_rewritten_prelu_is_turned_back(slopes: list[float], bias: bool, group: int, shared: bool) -> None:
    """What an export of an export meets: Relu, a depthwise convolution and a sum, in either of two forms."""
    nodes, weights = convolution(bias, group)
    nodes.append(helper.make_node("PRelu", ["z", "a"], ["p"]))
    nodes.append(helper.make_node("Add", ["p", "z"], ["y"]) if shared else helper.make_node("Neg", ["p"], ["y"]))
    model = model_of(nodes, weights | {"a": np.array(slopes, np.float32).reshape(-1, 1, 1)})
    rewritten, _ = rewrite_prelu(model)
    back, count = restore_prelu(rewritten)
    one_slope = len(set(slopes)) == 1 and not shared  # a LeakyRelu, which needs no turning back
    assert count == (0 if one_slope else 1)
    if not one_slope:
        assert [node.op_type for node in back.graph.node] == ["Conv", "PRelu", nodes[-1].op_type]
    x = np.random.default_rng(1).normal(size=(2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    wanted = outputs(model, x)
    np.testing.assert_allclose(outputs(back, x), wanted, atol=5e-5 * np.abs(wanted).max())
    assert restore_prelu(model)[1] == 0


def test_sums_that_are_no_prelu_stay() -> None:
    nodes, weights = convolution()
    factor = {"f": np.full((CHANNELS, 1, 1, 1), -2.0), "g": np.ones((CHANNELS, 1, 1, 1))}
    relu = helper.make_node("Relu", ["z"], ["r"])
    other = helper.make_node("Relu", ["x"], ["r"])
    scaled = helper.make_node("Conv", ["z", "f"], ["s"], group=CHANNELS)
    add = helper.make_node("Add", ["s", "r"], ["y"])
    for parts in (
        [relu, scaled, add],  # no prelu: above zero it falls
        [other, scaled, add],  # of another image
        [relu, helper.make_node("Add", ["r", "z"], ["y"])],  # no convolution
        [relu, helper.make_node("Conv", ["z", "g"], ["s"], group=CHANNELS, pads=[1, 1, 1, 1], strides=[2, 2]), add],
    ):
        assert restore_prelu(model_of([*nodes, *parts], weights | factor))[1] == 0


@pytest.mark.parametrize("group", [1, CHANNELS])
@pytest.mark.parametrize("kind", ["PRelu", "LeakyRelu"])
def test_steep_slopes_are_tamed_by_the_convolutions_around(group: int, kind: str) -> None:
    nodes, weights = convolution()
    weights |= {"v": np.random.default_rng(3).normal(size=(CHANNELS, CHANNELS // group, 3, 3))}
    weights |= {"a": np.linspace(-7, 7, CHANNELS).reshape(-1, 1, 1)}
    made = (
        helper.make_node("LeakyRelu", ["z"], ["p"], alpha=-3.5)
        if kind == "LeakyRelu"
        else helper.make_node(kind, ["z", "a"], ["p"])
    )
    model = model_of([*nodes, made, helper.make_node("Conv", ["p", "v"], ["y"], group=group)], weights)
    tame, count = tame_prelu(model)
    assert count == 1
    x = np.random.default_rng(1).normal(size=(2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    wanted = outputs(model, x)
    np.testing.assert_allclose(outputs(tame, x), wanted, atol=2e-5 * np.abs(wanted).max())
    assert tame_prelu(tame)[1] == 0
    split, count = split_prelu(tame)
    assert count == (kind == "PRelu")  # which it was not with slopes above 1; a LeakyRelu is quantized as it is
    np.testing.assert_allclose(outputs(split, x), wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("slope", [-7.9, -1.0, -0.3, 0.0, 0.25, 1.0, 4.1])
@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (CHANNELS, 1, 1)])
@pytest.mark.parametrize("read", ["alone", "also by others", "of no convolution"])
def test_one_slope_for_all_channels_whatever_it_is(slope: float, shape: tuple[int, ...], read: str) -> None:
    """What Intel's face-reidentification-retail-0095 has, with slopes from -7.9 to 7.5."""
    nodes, weights = convolution()
    weights |= {"a": np.full(shape, slope), "v": np.random.default_rng(5).normal(size=(CHANNELS, CHANNELS, 1, 1))}
    if read == "of no convolution":
        nodes = [helper.make_node("Sin", ["x"], ["z"])]
    nodes.append(helper.make_node("PRelu", ["z", "a"], ["p"]))
    nodes.append(helper.make_node("Conv", ["p", "v"], ["q"]))
    nodes.append(helper.make_node("Add", ["q", "z" if read == "also by others" else "p"], ["y"]))
    model = model_of(nodes, weights)
    x = np.random.default_rng(1).normal(size=(2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    wanted = outputs(model, x)
    rewritten, count = rewrite_prelu(model)
    assert count == 1
    kinds = {node.op_type for node in rewritten.graph.node}
    assert "PRelu" not in kinds
    assert "LeakyRelu" in kinds or read != "alone"
    np.testing.assert_allclose(outputs(rewritten, x), wanted, atol=2e-5 * np.abs(wanted).max())
    split, count = split_prelu(model)  # no second convolution where a table of 256 numbers does
    assert count == 0
    assert "LeakyRelu" in {node.op_type for node in split.graph.node}
    np.testing.assert_allclose(outputs(split, x), wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("slopes", [(CHANNELS, 1, 1), (1, 1, 1)])
def test_the_images_stay_in_the_runtimes_blocks(tmp_path: Path, slopes: tuple[int, ...]) -> None:
    """What the rewriting is for: nothing turns the image between one convolution and the next."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], {}, "x"
    for i in range(3):
        weights |= {f"w{i}": rng.normal(size=(CHANNELS, CHANNELS, 3, 3)), f"a{i}": rng.random(slopes)}
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"z{i}"], pads=[1, 1, 1, 1]))
        last = f"p{i}" if i < 2 else "y"
        nodes.append(helper.make_node("PRelu", [f"z{i}", f"a{i}"], [last]))

    def reorders(model: onnx.ModelProto, name: str) -> int:
        """Turns of the image, and activations that no convolution took in."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / name)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(str(tmp_path / name)).graph.node]
        return sum(kind.startswith("Reorder") or kind == "LeakyRelu" for kind in kinds)

    plain = folded(model_of(nodes, weights))
    rewritten, count = rewrite_prelu(plain)
    assert count == 3
    if reorders(plain, "plain.onnx") == 0:
        pytest.skip("this processor's ONNX Runtime has no blocked layout")
    assert reorders(plain, "plain.onnx") == 6
    assert reorders(rewritten, "rewritten.onnx") == 2  # in and out


@pytest.mark.parametrize(("channels", "group", "left"), [(64, 32, 4), (32, 8, 2), (32, 1, 1), (32, 32, 32), (24, 6, 6)])
def test_widened_groups_give_the_same_sums(channels: int, group: int, left: int) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(channels, channels // group, 3, 3))}
    model = model_of([helper.make_node("Conv", ["x", "w"], ["y"], group=group)], weights)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    wide = widen_groups(model)
    (node,) = wide.graph.node
    assert next(attribute.i for attribute in node.attribute if attribute.name == "group") == left
    x = rng.normal(size=(2, channels, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_allclose(outputs(wide, x), outputs(model, x), atol=1e-4)
