"""A command's process is left as it was.

A command is called by the command line, whose process ends after it, and from Python, where the process is somebody
else's: a service, a notebook, another command. What libraries keep for the whole process (torch's threads and random
state, Accelerate's settings, the environment) is therefore put back when the command ends, and Accelerate begins anew
in each: what a run does depends on its own settings, never on an earlier run's.

Restored for the whole process: two threads that run commands at once share these settings.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from facekd.core.files import exclusive

_own: ContextVar[ExitStack | None] = ContextVar("own", default=None)  # what the command of this thread still holds
_open: list[ExitStack] = []  # of all threads, for the threads that a command makes have no command of their own


@contextlib.contextmanager
def left_as_it_was() -> Iterator[None]:
    """What is held for the whole process is afterwards as it was before; Accelerate begins anew inside."""
    with ExitStack() as held:
        for keep in (_environment, _random_state, _accelerate):
            held.enter_context(keep())
        before = _own.set(held)
        _open.append(held)
        try:
            yield
        finally:
            _open.remove(held)
            _own.reset(before)


def until_the_end(holder: AbstractContextManager[Any]) -> None:
    """Enter `holder`, such as a folder's lock, until the command at hand ends."""
    held = _own.get()
    assert held is not None, "only a command holds something until its end"
    held.enter_context(holder)


def hold_folder(folder: Path) -> None:
    """Be the one command that writes `folder`, until this one ends.

    Raises:
        BusyError: another command writes it.
        UserError: it can't be written.
    """
    until_the_end(exclusive(folder))


def set_torch_threads(threads: int) -> None:
    """Let torch use as many threads, until the command at hand ends; outside of one from now on."""
    torch = sys.modules["torch"]  # who asks for threads has loaded it
    before = torch.get_num_threads()
    if before == threads:
        return
    if held := _own.get() or next(reversed(_open), None):
        held.callback(torch.set_num_threads, before)
    torch.set_num_threads(threads)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            os.environ.pop(name, None)  # another thread may have put it back already
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


@contextlib.contextmanager
def _random_state() -> Iterator[None]:
    """torch's, where the caller has loaded it: commands seed it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    cpu = torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)


@contextlib.contextmanager
def _accelerate() -> Iterator[None]:
    """Accelerate's settings, which it keeps once for all objects of a process, the first one's."""

    def states() -> list[dict[str, Any]]:
        module = sys.modules.get("accelerate.state")
        names = ("PartialState", "AcceleratorState", "GradientState")
        return [] if module is None else [getattr(module, name)._shared_state for name in names]

    before = [dict(state) for state in states()]
    for state in states():
        state.clear()
    try:
        yield
    finally:
        for place, state in enumerate(states()):
            state.clear()
            state.update(before[place] if before else {})
