"""Training under kills, a dying peer, a full disk, a damaged crop and foreign checkpoints: it says what is wrong in one
sentence, and goes on to the same bits once that is mended."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toy import person

from facekd.cli import run
from facekd.core.pixels import encode_crop
from facekd.core.run import read_metrics
from facekd.crops.training import read_training_crops
from facekd.nets.heads import HEAD
from facekd.nets.saved import MODEL
from facekd.recipes import train as training_walk
from facekd.training.checkpoint import LAST
from facekd.training.samplers import shuffled

SETTINGS = {"net": "iresnet18-quarter", "dim": 8, "batch": 8, "held-out": 0.34, "epochs": 2}
KILLS = 3


def tokens(data: Path, **more: object) -> list[str]:
    """The flags of a small training."""
    settings = {"data": data, **SETTINGS, **more}
    return ["--quiet", *(token for name, value in settings.items() for token in (f"--{name}", str(value)))]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def flags(store: Path) -> list[str]:
    return tokens(store)


@pytest.fixture(scope="module")
def whole(store: Path, flags: list[str]) -> Path:
    """The undisturbed run."""
    assert run(["train-teacher", *flags, "--out", str(store.parent / "whole")]) == 0
    return store.parent / "whole"


def left(out: Path) -> list[bytes]:
    """What a finished run leaves."""
    return [(out / name).read_bytes() for name in (MODEL, LAST, "metrics.jsonl", HEAD)]


def at_step(patch: pytest.MonkeyPatch, step: int, act: Callable[[], Any]) -> None:
    """A run that writes a checkpoint after each step, and in which `act` happens before that of `step`."""
    real = training_walk.progress

    def rows(source: Iterator[dict[str, float]], *rest: Any, **more: Any) -> Iterator[dict[str, float]]:
        for row in real(source, *rest, **more):
            if row["step"] == step:
                act()
            yield row

    patch.setattr(training_walk, "CHECKPOINT_SECONDS", 0.0)
    patch.setattr(training_walk, "progress", rows)


# Loads facekd once and forks: a fork begins to train at once, so that kills fall into the training.
KILLER = """
import json, os, random, signal, socket, sys, time
from pathlib import Path
import accelerate, albumentations, torch
import facekd.crops.read, facekd.engines.local, facekd.nets.heads, facekd.nets.saved, facekd.rates.rates
import facekd.commands.train_teacher, facekd.training.loop
from facekd.cli import run
from facekd.core.run import read_metrics
from facekd.recipes import train as training_walk
torch.set_num_threads(1)
training_walk.LOG_EVERY, training_walk.CHECKPOINT_SECONDS = 1, 0.05
home, kills, flags = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
random.seed(12)

def work(out, *tokens, **environment):
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        os.dup2(os.open(f"{out}.stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os._exit(run(["train-teacher", *tokens]))
    return child

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def until(out, step):
    deadline = time.monotonic() + 60
    while not (rows := read_metrics(out)) or rows[-1]["step"] < step:
        assert time.monotonic() < deadline, f"{out} never came to step {step}"
        time.sleep(0.001)

assert ended(work(home / "whole", *flags, "--out", str(home / "whole"))) == 0
last = read_metrics(home / "whole")[-1]["step"]
done = []
for number in range(kills):
    out, step = home / f"killed-{number}", random.randrange(1, last)
    child = work(out, *flags, "--out", str(out))
    until(out, step)
    time.sleep(random.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL, "it ended before it was killed"
    done.append([step, read_metrics(out)[-1]["step"], (out / "checkpoints" / "last.safetensors").exists()])
    assert ended(work(out, "--resume", str(out), "--quiet")) == 0

# Of two processes the second dies.
peer = home / "peer"
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
both = [
    work(f"{peer}-{rank}", *flags, "--out", str(peer), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
         LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    for rank in range(2)
]
until(peer, 3)
os.kill(both[1], signal.SIGKILL)
codes = [ended(child) for child in both]
reached = read_metrics(peer)[-1]["step"]
codes.append(ended(work(peer, "--resume", str(peer), "--quiet")))
print(json.dumps({"kills": done, "codes": codes, "reached": reached, "last": last}))
"""


@pytest.mark.slow
def test_kills_at_random_steps_and_a_peer_that_dies(tmp_path: Path, store: Path) -> None:
    flags = tokens(store, epochs=4, lr=0.002)
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), str(KILLS), *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert len(report["kills"]) == KILLS
    assert any(had_checkpoint for _, _, had_checkpoint in report["kills"])
    assert report["last"] == 12
    for number in range(KILLS):
        assert left(tmp_path / f"killed-{number}") == left(tmp_path / "whole"), report["kills"][number]

    assert report["codes"] == [2, -9, 0]
    assert report["reached"] < report["last"]
    said = (tmp_path / "peer-0.stderr").read_text()
    assert "Traceback" not in said
    assert "facekd: another process of this run has ended, and says itself why unless it was killed" in said
    losses = [[row["loss"] for row in read_metrics(tmp_path / name)[1:]] for name in ("whole", "peer")]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.parametrize("step", [1, 4])
def test_a_checkpoint_that_can_not_be_written_leaves_the_one_before(
    tmp_path: Path, flags: list[str], whole: Path, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    """The system refuses to write more than 100 kB into a file, as a full disk refuses."""
    out = tmp_path / "run"
    before, limits = [], resource.getrlimit(resource.RLIMIT_FSIZE)

    def no_room() -> None:
        before.extend(path.read_bytes() for path in out.rglob("last.safetensors"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, step, no_room)
        try:
            code = run(["train-teacher", *flags, "--out", str(out)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out / LAST}: can't be written (File too large); free space" in line
    assert [path.read_bytes() for path in out.rglob("last.safetensors")] == before
    assert len(before) == (step > 1)
    assert not list(out.rglob("*.part"))
    assert not (out / MODEL).exists()
    assert run(["train-teacher", "--resume", str(out), "--quiet"]) == 0  # there is room again
    assert left(out) == left(whole)


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path, flags: list[str], whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    out, filler = disk / "run", disk / "filler"
    before = []

    def fill() -> None:
        before.append((out / LAST).read_bytes())
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass

    try:
        with pytest.MonkeyPatch.context() as patch:
            at_step(patch, 3, fill)
            assert run(["train-teacher", *flags, "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"facekd: {out}/")  # whichever of its files came first
        assert "can't be written (No space left on device); free space" in line
        assert [(out / LAST).read_bytes()] == before
        assert not list(out.rglob("*.part"))
        filler.unlink()
        assert run(["train-teacher", "--resume", str(out), "--quiet"]) == 0
        assert left(out) == left(whole)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def write_parquet(path: Path, people: int = 6, photos: int = 24, size: int = 32) -> Path:
    images = [{"bytes": encode_crop(person(i % people, i, size)), "path": None} for i in range(people * photos)]
    pq.write_table(pa.table({"image": images, "identity": [f"p{i % people}" for i in range(len(images))]}), path)
    return path


@pytest.mark.slow
def test_a_damaged_crop_ends_the_run_in_its_middle_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = write_parquet(tmp_path / "faces.parquet")
    flags = tokens(faces, epochs=1)
    assert run(["train-teacher", *flags, "--out", str(tmp_path / "whole")]) == 0
    train = read_training_crops([faces], 0.34, 0).train
    crop = train.ids[int(shuffled(len(train), 8, 0)(10)[0][3])]  # of the eleventh batch of twelve

    mended = faces.read_bytes()
    table = pq.read_table(faces)
    images = table["image"].to_pylist()
    images[int(crop.split("-")[1])]["bytes"] = b"\xff\xd8 no more than this is left"
    pq.write_table(table.set_column(0, "image", pa.array(images, table.schema.field("image").type)), faces)
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 0, lambda: None)
        assert run(["train-teacher", *flags, "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no readable image" in line
    assert crop in line
    assert (tmp_path / "run" / LAST).exists()
    assert not (tmp_path / "run" / MODEL).exists()
    faces.write_bytes(mended)
    assert run(["train-teacher", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert left(tmp_path / "run") == left(tmp_path / "whole")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"net": "mobilefacenet-half"}, "(net was 'iresnet18-quarter' and is 'mobilefacenet-half')"),
        ({"dim": 16}, "(dim was '8' and is '16')"),
        ({"head": "arcface"}, "(head was 'softmax margin=None scale=None"),
        ({"seed": 1}, " was "),  # other people are held out: other data
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, store: Path, whole: Path, more: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(whole / LAST, tmp_path / LAST)
    assert run(["train-teacher", *tokens(store, **more), "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / LAST}: is of another run (" in line
    assert words in line
    assert (tmp_path / LAST).read_bytes() == (whole / LAST).read_bytes()
    assert not (tmp_path / MODEL).exists()


def test_a_checkpoint_on_crops_of_another_size_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = write_parquet(tmp_path / "faces.parquet", photos=4)
    out = tmp_path / "run"
    assert run(["train-teacher", *tokens(faces), "--out", str(out)]) == 0
    before = left(out)
    write_parquet(faces, photos=4, size=48)  # the same file, names and people
    assert run(["train-teacher", "--resume", str(out), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out / LAST}: is of another" in line
    assert left(out) == before


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "yaml"])
def test_a_file_that_would_execute_is_refused(
    tmp_path: Path, flags: list[str], whole: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, out = tmp_path / "executed", tmp_path / "run"
    shutil.copytree(whole, out)
    (out / MODEL).unlink()
    if kind == "pickle":
        (out / LAST).write_bytes(pickle.dumps(Evil(mark)))
    elif kind == "torch":
        torch.save({"net": Evil(mark)}, out / LAST)
    else:
        (out / "run.yaml").write_text(f"net: !!python/object/apply:os.mkdir ['{mark}']\n")
    assert run(["train-teacher", "--resume", str(out)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("facekd:")]
    assert ("not readable as YAML" if kind == "yaml" else f"{out / LAST}: no readable checkpoint") in line
    assert not mark.exists()
    assert not (out / MODEL).exists()
    if kind == "pickle":
        assert run(["train-teacher", "--resume", str(out / LAST)]) == 2  # nor is the file itself a run
        assert "no run to go on with" in capsys.readouterr().err
        pickle.loads(pickle.dumps(Evil(mark)))
        assert mark.exists()  # it would have
