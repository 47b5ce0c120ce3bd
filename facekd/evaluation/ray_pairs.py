"""All pairs counted on a Ray cluster: the vectors lie once in its memory, each task counts some tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from facekd.core.types import Array
from facekd.engines.local import batches
from facekd.engines.ray import connected, get, map_ordered, put
from facekd.rates.spread import SpreadCount
from facekd.rates.tiles import Count, Counts, Photos, Tile, count_tiles
from facekd.rates.windows import Tally, Window

TILES = 32  # at least, counted by one task: about half a second of one core
TASKS = 512  # at most, for one machine adds up what they counted


@contextmanager
def counting_on_ray(address: str | None) -> Iterator[Count]:
    """A function that counts tiles on a cluster, with the counts of `rates.allpairs.count_on_cores`.

    Args:
        address: as `engines.ray.map_ordered`.

    Raises:
        UserError: no cluster answers at `address`.
    """

    with connected(address):
        held: list[tuple[Photos, Any]] = []  # those of one model at a time: each pass over them finds them there

        def count(photos: Photos, windows: Sequence[Window], thresholds: Array, over: Sequence[Tile]) -> Counts:
            if not held or held[0][0] is not photos:
                held[:] = [(photos, put(photos))]
            return _count(held[0][1], photos, windows, thresholds, over)

        yield count


def _count(held: Any, photos: Photos, windows: Sequence[Window], thresholds: Array, over: Sequence[Tile]) -> Counts:

    spread = None if photos.cuts is None else SpreadCount.empty(photos.cuts)
    counts = Counts([Tally() for _ in windows], np.zeros(len(thresholds), np.int64), spread=spread)
    for part in map_ordered(partial(_count_group, held, windows, thresholds), _groups(over)):
        counts.merge(part)
    return counts


def _groups(over: Sequence[Tile]) -> Iterator[Sequence[Tile]]:

    return batches(over, max(TILES, len(over) // TASKS))


def _count_group(photos: Any, windows: Sequence[Window], thresholds: Array, over: Sequence[Tile]) -> Counts:
    """On a worker: one core, as Ray reckons with."""

    with threadpool_limits(1, user_api="blas"):
        return count_tiles(get(photos), windows, thresholds, over)
