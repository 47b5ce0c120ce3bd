"""The same function over many batches, on a Ray cluster.

By Ray's tasks and not by Ray Data: Ray Data 2.60 does not run over ``ray://``, and keeps the order of its results by
holding back as many as come early. A window of tasks keeps both the order and the memory.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import stat
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray._private import node, ray_constants
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

from facekd.core.system import is_free, is_own, locked_folder
from facekd.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
LOOPBACK = "127.0.0.1"
# For the processes that Ray starts on this machine: no report of its use, and no look at its outer address, which Ray
# otherwise asks for by a socket to 8.8.8.8.
ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
LONGEST_SESSION = 30  # characters that a session folder's path may have: Ray adds some sixty, and a socket's takes 107
TRIES, PAUSE = 3, 2.0  # to connect, seconds between


def map_ordered(function: Callable[[T], R], items: Iterable[T], address: str | None = None) -> Iterator[R]:
    """``function(item)`` for each item, in order, computed one item to a core of a Ray cluster.

    At most two results for each core wait in the cluster's memory. What a lost machine worked on, and results that are
    lost with it, Ray computes again elsewhere, however often. An exception of the function comes out here.

    Args:
        function: picklable; called again with the same item, it must give the same result.
        address: as ``ray.init`` takes it: ``ray://HOST:PORT``, ``HOST:PORT`` or ``auto``; None starts a cluster on
            this machine, or takes the one that this process is connected to, and leaves that as it is.

    Raises:
        UserError: no cluster at `address`.
    """
    with connected(address):
        call: Any = ray.remote(num_cpus=1, max_retries=-1)(_call)
        resources: Callable[[], dict[str, float]] = ray.cluster_resources
        items = iter(items)
        waiting: deque[Any] = deque()
        while True:
            # Counted anew each time: machines join and leave.
            cores = max(1, int(resources().get("CPU", 1)))
            waiting += [call.remote(function, item) for item in islice(items, max(0, 2 * cores - len(waiting)))]
            if not waiting:
                return
            yield ray.get(waiting.popleft())


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, and leave it at the end; one that is there already stays.

    Args:
        address: as ``ray.init`` takes it: ``ray://HOST:PORT``, ``HOST:PORT`` or ``auto``; None starts a cluster on
            this machine, which nobody reaches from another, or takes the one that this process is connected to.

    Raises:
        UserError: no cluster at `address`.
    """
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is not None:
        reach(address)
        _connect(address, quiet)
        try:
            yield
        finally:
            ray.shutdown()
        return
    with session_folder() as folder:
        try:
            with on_this_machine():
                # Without "local" Ray would look for the last cluster here, and wait for it where it is gone.
                ray.init(address="local", **{**local_settings(folder), **quiet})
            yield
        finally:
            ray.shutdown()


def _connect(address: str, quiet: dict[str, Any]) -> None:
    """Try a cluster that has just started, or is busy, again: it may fail to start a server for us, though it answers.

    Where this user has a token of Ray's, a cluster that they started asks for it (Ray 2.60); a client of ``ray://``
    does not send it by itself and would try in vain for half a minute.

    Raises:
        UserError: no cluster at `address`.
    """
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    for left in reversed(range(TRIES)):
        try:
            ray.init(address=address, **quiet)
            return
        except ConnectionError as error:
            if left == 0:
                raise UserError(f"{address}: no Ray cluster answers there ({error}); check --address") from error
            time.sleep(PAUSE)


@contextmanager
def session_folder() -> Iterator[str]:
    """A folder for a cluster's logs, sockets and spilled objects, which may hold crops: its owner's alone, gone after.

    Ray's own lie in /tmp/ray, are everybody's to read, and stay. One that a killed process left goes with the next.
    """
    home = tempfile.gettempdir()
    short = "/tmp" if len(home) > LONGEST_SESSION - len("/ray-12345678/r") and os.path.isdir("/tmp") else home
    for left in Path(short).glob("ray-????????"):
        if _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    # A process of the cluster may still write its last line.
    with tempfile.TemporaryDirectory(prefix="ray-", dir=short, ignore_cleanup_errors=True) as folder:
        inner = os.path.join(folder, "r")  # Ray opens the folder that it is given to everybody
        os.mkdir(inner)
        with locked_folder(Path(folder)):
            yield inner


def _abandoned(folder: Path) -> bool:
    """Whether nobody works in what looks like a folder of `session_folder`: Ray writes into its name who began it."""
    try:
        about = folder.lstat()
        if not (stat.S_ISDIR(about.st_mode) and is_own(about)) or os.listdir(folder) != ["r"]:
            return False
        began = [name.rpartition("_")[2] for name in os.listdir(folder / "r") if name.startswith("session_2")]
    except OSError:
        return False
    gone = [pid.isdecimal() and not os.path.exists(f"/proc/{pid}") for pid in began]
    return bool(gone) and all(gone) and os.path.exists("/proc/self") and is_free(folder)


def local_settings(folder: str) -> dict[str, Any]:
    """What ``ray.init`` is told of a cluster that lives on this machine alone, begun `on_this_machine`."""
    return {"include_dashboard": False, "_node_ip_address": LOOPBACK, "_temp_dir": folder}


@contextmanager
def on_this_machine() -> Iterator[None]:
    """A cluster begun inside listens on LOOPBACK alone, asks nobody outside, and tells nobody of itself.

    Ray would listen on every interface without a password. It has a switch for it, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0,
    and reads it when it is imported; without it Ray takes the machine's outer address for LOOPBACK too
    (``ray._private.services.resolve_ip_for_localhost``). Its dashboard's process is not started: whether or not its
    report of use is wanted, it asks the clouds' metadata servers, by name too, which of them it runs in
    (``ray._common.usage.usage_lib.get_cloud_from_metadata_requests``, seen in 2.60).
    """
    before = {name: os.environ.get(name) for name in ALONE}
    node_class: Any = node.Node
    switch, start = ray_constants.ENABLE_RAY_CLUSTER, node_class.start_api_server
    ray_constants.ENABLE_RAY_CLUSTER = False
    node_class.start_api_server = lambda *_, **__: None
    os.environ.update(ALONE)
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER, node_class.start_api_server = switch, start
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def put(value: Any) -> Any:
    """Lay a value into the cluster's memory, once for all tasks; what comes back may be handed to them."""
    return ray.put(value)


def get(reference: Any) -> Any:
    """The value that `put` laid down; arrays in it are not copied on the same machine, and can't be written to."""
    return ray.get(reference)


def reach(address: str) -> None:
    """Try the address for some seconds: Ray itself tries for minutes.

    Raises:
        UserError: nobody answers.
    """
    host, colon, port = address.removeprefix("ray://").rstrip("/").rpartition(":")
    if not colon:
        return  # such as auto
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(f"{address}: no Ray cluster answers there ({error}); check --address") from error


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)
