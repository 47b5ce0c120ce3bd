"""The Ray engine: the crops and the ledger of the local one, bit for bit, also when a machine is lost on the way."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from traced import needs_strace, trace

from facekd.commands.align import align
from facekd.crops.store import CropStore
from facekd.errors import UserError
from facekd.photos.synth import jpeg, person, render

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    # Ray's own: it forgets to close files, and says what it will do in later releases.
    pytest.mark.filterwarnings("ignore"),
]

PHOTOS = 96


@pytest.fixture(scope="module")
def ray() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ray", reason="Ray is not installed: pip install 'facekd[ray]'")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ray") / "photos"
    drawn = [jpeg(render(person(2, number), 2, 0)) for number in range(6)]
    for number in range(PHOTOS):
        path = root / f"p{number % 6}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 20 == 3:
            path.write_bytes(b"no photo")
        elif number % 20 == 9:
            path.write_bytes(drawn[0])  # the same bytes as others
        else:
            path.write_bytes(drawn[number % 6] + bytes([number]))
    return root


@pytest.fixture
def cluster(ray: Any) -> Iterator[Any]:
    """A cluster whose head has no core, so that all work lies on machines that can be lost."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 150 * 2**20})
    yield made
    ray.shutdown()
    made.shutdown()


def contents(out: Path) -> tuple[dict, list]:
    """A store bit for bit: ledger and crops of every part, without the seconds that a photo took."""
    store = CropStore.open(out)
    return store.ledger().drop_columns(["seconds"]).to_pydict(), [
        (out / "crops" / f"part-{number:05d}.arrow").read_bytes() for number in store.parts()
    ]


def test_a_lost_machine_changes_nothing(
    ray: Any, cluster: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facekd.commands import align as stage

    monkeypatch.setattr("facekd.ingest.alignment.BATCH", 4)
    monkeypatch.setattr(stage, "PART", 16)
    monkeypatch.chdir(photos.parent)  # the workers are not in this folder
    photos = Path(photos.name)
    align(photos, tmp_path / "local", quiet=True)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=150 * 2**20) for _ in range(2)]
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    lost: list[int] = []
    over = threading.Event()

    def lose_one() -> None:
        while not over.wait(0.02):
            parts = len(CropStore(tmp_path / "ray").parts())
            if parts >= 2:
                cluster.remove_node(nodes[0], allow_graceful=False)  # kill -9
                lost.append(parts)
                return

    killer = threading.Thread(target=lose_one)
    killer.start()
    try:
        align(photos, tmp_path / "ray", engine="ray", quiet=True)
    finally:
        over.set()
        killer.join()
    print("lost a machine after", lost, "of", len(CropStore(tmp_path / "local").parts()), "parts")
    assert lost
    assert lost[0] < len(CropStore(tmp_path / "local").parts()) - 1, "it was lost when the work was done"
    # The head and the one that is left; the cluster may take some seconds longer than the work to notice.
    patience = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) > 2 and time.monotonic() < patience:
        time.sleep(0.2)
    assert sum(node["Alive"] for node in ray.nodes()) == 2
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert align(photos, tmp_path / "ray", quiet=True).new == 0  # either engine goes on with the other's store


def test_order_memory_and_errors(ray: Any) -> None:
    from facekd.engines.ray import map_ordered

    taken = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        assert list(map_ordered(str, [])) == []
        results = map_ordered(str, endless())
        for number in range(20):
            assert next(results) == str(number)
            assert len(taken) <= number + 3  # one core: two tasks wait
        results.close()
        results = map_ordered(lambda number: 1 // number, [1, 0, 1])
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert ray.is_initialized()  # what was there before is left as it was
        (pid,) = map_ordered(lambda _: os.getpid(), [1])
        assert pid != os.getpid()
    finally:
        ray.shutdown()


def test_a_cluster_by_its_address(ray: Any, photos: Path, tmp_path: Path) -> None:
    """``ray://HOST:PORT``, as one who does not sit at the cluster gives it."""
    from facekd.engines.ray import reach

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--port=0", "--num-cpus=1"]
    command += [f"--ray-client-server-port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    try:
        started = time.monotonic()
        while time.monotonic() < started + 60:
            with contextlib.suppress(UserError):
                reach(f"ray://127.0.0.1:{port}")
                break
            time.sleep(0.2)
        align(photos, tmp_path / "ray", engine="ray", address=f"ray://127.0.0.1:{port}", detector="none", quiet=True)
    finally:
        head.terminate()
        head.wait()
    align(photos, tmp_path / "local", detector="none", quiet=True)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "ray://nowhere.invalid:10001", "a:b"])
def test_an_address_where_nobody_answers(ray: Any, photos: Path, tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match=rf"{address}: no Ray cluster answers there .*; check --address"):
        align(photos, tmp_path / "o", engine="ray", address=address, detector="none", quiet=True)
    assert not ray.is_initialized()
    assert not (tmp_path / "o").exists()


def test_a_cluster_of_its_own_listens_on_this_machine_alone(ray: Any) -> None:
    """Ray's processes answer whoever reaches them: no port of theirs is open to another machine."""
    from facekd.engines.ray import connected

    with connected():
        assert ray.get(ray.remote(lambda: 3).remote()) == 3
        ports = listening("gcs_server", "raylet", "ray::")
    assert len(ports) >= 3
    assert {address for address, _ in ports} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@needs_strace
def test_a_cluster_of_its_own_asks_nobody_and_leaves_nothing(
    ray: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's report of use, its look for a cloud around it and for this machine's outer address are all off."""
    # A place of its own, for others start clusters too; short, as Ray's sockets want it.
    place = Path(tempfile.mkdtemp(prefix="kd-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(place))
    kept = set(Path("/tmp/ray").glob("session_*"))
    words = ["align", photos, tmp_path / "crops", "--engine", "ray", "--detector", "none"]
    code, said, found = trace(words, tmp_path, tmp_path / "trace")
    assert code in (0, 1), said  # photos that are none
    assert (tmp_path / "crops" / "crops").exists()
    assert found == []
    place.rmdir()  # which is empty
    assert set(Path("/tmp/ray").glob("session_*")) <= kept


def test_the_folder_of_a_cluster_is_its_owners_alone(ray: Any) -> None:
    from facekd.engines.ray import connected

    with connected():
        folder = Path(ray._private.worker._global_node.get_session_dir_path()).parents[1]
        assert folder.name.startswith("ray-")
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


BEGUN = """
import os, sys, time
from facekd.engines.ray import session_folder
with session_folder() as folder:
    os.mkdir(f"{folder}/session_2026-11-30_10-00-00_000001_{os.getpid()}")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_the_folder_that_a_killed_process_left_goes_with_the_next(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold crops. One in which somebody works stays, and so does what only looks alike."""
    from facekd.engines.ray import session_folder

    place = Path(tempfile.mkdtemp(prefix="k-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    jobs = [subprocess.Popen([sys.executable, "-c", BEGUN], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        dead, live = (Path(job.stdout.readline().strip()).parent for job in jobs if job.stdout)
        jobs[0].kill()
        jobs[0].wait()
        (place / "ray-mine1234").mkdir()
        with session_folder() as folder:
            assert Path(folder).parents[1] == place
            assert not dead.exists()
            assert live.exists()
            assert (place / "ray-mine1234").exists()
    finally:
        for job in jobs:
            job.kill()
            job.communicate()
        shutil.rmtree(place)


def listening(*names: str) -> set[tuple[str, int]]:
    """Address and port of each TCP socket on which this process's children of such names wait for others."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if not (process / "comm").read_text().startswith(names) or not is_below(int(process.name), os.getpid()):
                continue
            links = [os.readlink(handle) for handle in (process / "fd").iterdir()]
            sockets = {link[8:-1] for link in links if link.startswith("socket:")}
            for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
                for line in (process / "net" / table).read_text().splitlines()[1:]:
                    words = line.split()
                    if words[3] == "0A" and words[9] in sockets:  # the state LISTEN
                        address, port = words[1].split(":")
                        parts = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                        found.add((socket.inet_ntop(family, b"".join(parts)), int(port, 16)))
    return found


def is_below(process: int, ancestor: int) -> bool:
    """Whether a process was started by another, or by one that this one started."""
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])  # its parent
        if process == ancestor:
            return True
    return False
