"""Where a function runs over many batches: the cores of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from facekd.core.choices import Engine
from facekd.core.system import cores
from facekd.engines import local
from facekd.errors import UserError

R = TypeVar("R")


class Mapper(Protocol):
    """The same function over many batches, in their order."""

    def __call__(self, function: Callable[[Any], R], items: Iterable[Any], /) -> Iterator[R]: ...


def mapper(engine: Engine, address: str | None) -> Mapper:
    """What maps a function over batches on `engine`.

    Raises:
        UserError: Ray is not installed, or no cluster answers at `address`.
    """
    if engine == "local":
        return on_cores
    check_ray(address)
    from facekd.engines import ray

    return lambda function, items: ray.map_ordered(function, items, address)


def on_cores(function: Callable[[Any], R], items: Iterable[Any]) -> Iterator[R]:
    """A batch to each core of this machine that the process may use."""
    return local.map_ordered(function, items, cores())


def check_ray(address: str | None) -> None:
    """Whether there is a Ray to count on, said before any work begins.

    Raises:
        UserError: Ray is not installed, or no cluster answers at `address`.
    """
    try:
        from facekd.engines.ray import reach
    except ModuleNotFoundError as error:
        raise UserError("--engine ray needs Ray; install it with: pip install 'facekd[ray]'") from error
    if address is not None:
        reach(address)
