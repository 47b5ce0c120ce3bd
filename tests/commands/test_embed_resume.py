"""facekd embed goes on where it was killed, and on a cluster gives the same file."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import pattern, save, write_model, write_people

from facekd.commands.align import align
from facekd.commands.embed import embed
from facekd.deploy.embeddings import read_embeddings
from facekd.errors import UserError
from facekd.ingest import parts as embed_parts
from facekd.ingest.embedding import EmbedSummary

KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import facekd.deploy.embeddings, facekd.engines.local, facekd.faces.cropped, facekd.faces.turned, facekd.nets.files
import onnxruntime, pyarrow.parquet
from facekd.commands import embed
from facekd.ingest import parts as embed_parts
embed_parts.PART = 16
photos, model, root, kills = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
random.seed(6)

def work(out):
    child = os.fork()
    if child == 0:
        os._exit(embed.embed(photos, out, model=model, detector="none", quiet=True).exit_code)
    return child

def until_done(out):
    start = time.perf_counter()
    _, status = os.waitpid(work(out), 0)
    assert os.waitstatus_to_exitcode(status) == 1, status  # some photos are bad
    return time.perf_counter() - start

whole = until_done(root / "whole.parquet")
killed, number, parts = 0, 0, []
while killed < kills:
    out = root / f"killed-{number}.parquet"
    for _ in range(5):
        child = work(out)
        time.sleep(random.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        parts.append(len(list((root / f".{out.name}.parts").glob("*.parquet"))))
    until_done(out)
    number += 1
print(json.dumps({"kills": killed, "files": number, "parts": parts}))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """200 photos, every tenth bad or the same as another."""
    folder = write_people(tmp_path / "photos", 20, 10)
    for number in range(20):
        (folder / f"p{number:02d}" / "3.png").write_bytes(b"no photo")
        save(folder / f"p{number:02d}" / "7.png", pattern(number, 1))
    return folder


def embedded(src: Path, out: Path, model: Path, **more: Any) -> EmbedSummary:
    return embed(src, out, model=model, **{"detector": "none", "quiet": True, **more})


def contents(path: Path) -> tuple[tuple[str, ...], tuple[str | None, ...], tuple[str, ...], bytes]:
    read = read_embeddings(path)
    return read.embeddings.ids, read.identities, read.sources, read.embeddings.vectors.tobytes()


@pytest.mark.slow
def test_kills_at_random_moments(photos: Path, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLER, str(photos), str(model), str(tmp_path), "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(report)
    assert sum(0 < parts < 13 for parts in report["parts"]) >= 3, "too few fell between the first part and the last"
    expected = contents(tmp_path / "whole.parquet")
    assert len(expected[0]) == 160  # 200 less 20 bad and 20 equal ones
    for number in range(report["files"]):
        assert contents(tmp_path / f"killed-{number}.parquet") == expected
    assert not list(tmp_path.glob(".*parts"))


def interrupted(src: Path, out: Path, model: Path, after: int) -> None:
    """A run that ends, as by an interrupt, when so many parts are written."""
    real, written = embed_parts.atomic_write, [0]

    def write(path: Path) -> Any:
        if path.parent.name.endswith(".parts"):
            if written[0] == after:
                raise KeyboardInterrupt
            written[0] += 1
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed_parts, "atomic_write", write)
        with pytest.raises(KeyboardInterrupt):
            embedded(src, out, model)


@pytest.mark.parametrize("name", ["e.parquet", "e.npz"])
def test_what_is_done_is_not_done_again_unless_it_changed(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    embedded(photos, tmp_path / f"whole-{name}", model)
    monkeypatch.setattr(embed_parts, "PART", 64)
    interrupted(photos, tmp_path / name, model, after=2)
    folder = tmp_path / f".{name}.parts"
    assert len(list(folder.glob("*.parquet"))) == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    # A photo of the second part has changed meanwhile: that part is done again, the first is not.
    save(photos / "p10" / "0.png", pattern(10, 99))
    assert embedded(photos, tmp_path / name, model).new == 200 - 64
    embedded(photos, tmp_path / f"changed-{name}", model)
    assert contents(tmp_path / name) == contents(tmp_path / f"changed-{name}")
    assert contents(tmp_path / name)[:3] != contents(tmp_path / f"whole-{name}")[:3]  # the ids are of the bytes
    assert not folder.exists()


def test_parts_of_other_settings_are_not_taken(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_parts, "PART", 64)
    interrupted(photos, tmp_path / "e.parquet", model, after=3)
    other = write_model(tmp_path / "other.onnx", weights="others")
    assert embedded(photos, tmp_path / "e.parquet", other).new == 200
    assert read_embeddings(tmp_path / "e.parquet").embeddings.model_id != embedded(
        photos, tmp_path / "e2.parquet", model
    ).model_id  # fmt: skip


def test_a_crop_store_goes_on_too(photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    align(photos, tmp_path / "crops", detector="none", size=32, quiet=True)
    embedded(tmp_path / "crops", tmp_path / "whole.parquet", model)
    monkeypatch.setattr(embed_parts, "PART", 64)
    interrupted(tmp_path / "crops", tmp_path / "e.parquet", model, after=1)
    assert embedded(tmp_path / "crops", tmp_path / "e.parquet", model).new == 160 - 64
    assert contents(tmp_path / "e.parquet") == contents(tmp_path / "whole.parquet")


def test_two_commands_do_not_make_one_file(photos: Path, model: Path, tmp_path: Path) -> None:
    with (
        embed_parts.parts_folder(tmp_path / "e.parquet"),
        pytest.raises(UserError, match="another command is writing it; run this again"),
    ):
        embedded(photos, tmp_path / "e.parquet", model)
    assert embedded(photos, tmp_path / "e.parquet", model).embeddings == 160


def test_mistakes_are_said_before_any_work(photos: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written as \.parquet or \.npz"):
        embedded(photos, tmp_path / "e.csv", model)
    with pytest.raises(UserError, match="add --engine ray"):
        embedded(photos, tmp_path / "e.parquet", model, address="auto")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "photos"]


def test_npz_and_parquet_hold_the_same(photos: Path, model: Path, tmp_path: Path) -> None:
    for name in ("e.npz", "e.parquet"):
        embedded(photos, tmp_path / name, model)
    assert contents(tmp_path / "e.npz") == contents(tmp_path / "e.parquet")
    with np.load(tmp_path / "e.npz") as file:
        assert file["embeddings"].dtype == np.float32
        assert json.loads(str(file["contract"]))["dim"] == 48


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore")  # Ray's own: it forgets to close files
def test_a_cluster_gives_the_same_file(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'facekd[ray]'")
    monkeypatch.chdir(tmp_path)
    embedded(photos, tmp_path / "here.parquet", model)
    there = embedded(Path("photos"), Path("there.parquet"), Path("model.onnx"), engine="ray")
    assert (there.embeddings, there.duplicates, len(there.failed)) == (160, 20, 20)
    assert contents(tmp_path / "there.parquet") == contents(tmp_path / "here.parquet")
    align(photos, tmp_path / "crops", detector="none", size=32, quiet=True)
    embedded(Path("crops"), tmp_path / "crops.parquet", model, engine="ray")
    assert contents(tmp_path / "crops.parquet") == contents(tmp_path / "here.parquet")
