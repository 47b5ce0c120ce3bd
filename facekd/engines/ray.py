"""The same function over many batches, on a Ray cluster, through Ray Data."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
import ray.data

T = TypeVar("T")
R = TypeVar("R")

STORE = 512 * 2**20  # bytes of results that may wait in the cluster's object store


def map_ordered(function: Callable[[T], R], items: Sequence[T], address: str | None = None) -> Iterator[R]:
    """``function(item)`` for each item, in order, computed one item to a core of a Ray cluster.

    Ray runs the items of a lost machine again elsewhere, however often. An exception of the function ends it.

    Args:
        function: picklable; may give another result object, but not another result, each time it is called.
        address: as ``ray.init`` takes it: ``ray://HOST:PORT``, ``HOST:PORT`` or ``auto``; None starts a cluster on
            this machine, or takes the one that this process is connected to, and leaves that as it is.
    """
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, include_dashboard=False, logging_level="warning", log_to_driver=False)
    try:
        yield from _stream(function, items)
    finally:
        if started:
            ray.shutdown()


def _stream(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    if not items:
        return
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits.object_store_memory = STORE
    context.enable_progress_bars = False
    # Pickled, because Arrow's columns would not bring the very objects back.
    rows = [{"item": pickle.dumps(item)} for item in items]

    def call(row: dict[str, Any]) -> dict[str, Any]:
        return {"result": pickle.dumps(function(pickle.loads(row["item"])))}

    with ray.data.DataContext.current(context):
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(call, num_cpus=1, max_retries=-1)
        for row in dataset.iter_rows():
            yield pickle.loads(row["result"])
