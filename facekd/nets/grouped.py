"""Grouped convolutions of few channels a group, in the width that ONNX Runtime's blocked layout takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from facekd.core.types import Array
from facekd.nets.graph import Graph

BLOCK = 16  # channels of a block with AVX-512; of 8 with AVX2, which this fits too


def widen_groups(model: Any) -> Any:
    """The model with each grouped convolution of too narrow groups as one of fewer, wider groups.

    The wider group's kernel holds those of its parts on the diagonal and zeros elsewhere: the same sums, more
    multiply-adds, and far quicker than the way around the blocked layout. Depthwise convolutions have a kernel of
    their own and stay.
    """
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type != "Conv" or node.input[1] not in graph.weights:
            continue
        groups = next((attribute for attribute in node.attribute if attribute.name == "group"), None)
        kernel = graph.weights[node.input[1]]
        if groups is None or groups.i == 1 or kernel.ndim != 4 or kernel.shape[1] == 1:
            continue
        out, each = len(kernel) // groups.i, kernel.shape[1]
        merged = next((m for m in _divisors(groups.i) if each * m % BLOCK == 0 and out * m % BLOCK == 0), 1)
        if merged > 1:
            node.input[1] = graph.weight(f"{node.input[1]}_wide", _diagonal(kernel, groups.i, merged))
            groups.i //= merged
    return graph.model()


def _divisors(count: int) -> list[int]:
    return [m for m in range(1, count + 1) if count % m == 0]


def _diagonal(kernel: Array, groups: int, merged: int) -> Array:
    """float32[out, each * merged, h, w] of a kernel float32[out, each, h, w] of `groups` groups."""
    out, each = len(kernel) // groups, kernel.shape[1]
    wide = np.zeros((len(kernel), each * merged, *kernel.shape[2:]), kernel.dtype)
    for group in range(groups):
        place = group % merged * each
        rows = slice(group * out, (group + 1) * out)
        wide[rows, place : place + each] = kernel[rows]
    return wide
