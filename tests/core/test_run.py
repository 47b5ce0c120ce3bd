"""The run folder says what was asked and what was measured, and survives a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from facekd import cli
from facekd.core.files import exclusive
from facekd.core.run import _git_commit, append_metrics, default_out, read_metrics, start_run
from facekd.core.suggest import nearest
from facekd.errors import UserError


def test_run_yaml_holds_the_config_and_environment_the_rest(tmp_path: Path) -> None:
    (tmp_path / "in.zip").write_bytes(b"data")
    config = {"photos": tmp_path / "in.zip", "data": [Path("a"), Path("b")], "size": 112, "far": (1e-3,), "out": None}
    start_run(tmp_path / "run", "align", config, inputs=(tmp_path / "in.zip", tmp_path))
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text()) == {
        "command": "align", "format": 1, "photos": str(tmp_path / "in.zip"), "data": ["a", "b"], "size": 112,
        "far": [1e-3], "out": None,
    }  # fmt: skip
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["inputs"] == {
        str(tmp_path / "in.zip"): hashlib.sha256(b"data").hexdigest(),
        str(tmp_path): None,
    }
    assert environment["versions"]["numpy"][0].isdigit()
    assert environment["cores"] >= 1
    assert {"date", "command", "python", "platform", "processor", "git"} <= set(environment)


def test_the_default_folder_is_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = set()
    for _ in range(3):  # within one second
        out = default_out("align")
        assert out.parent == Path("runs")
        assert out.name.startswith("align-20")
        assert out not in seen
        out.mkdir(parents=True)
        seen.add(out)


def test_a_line_torn_by_a_kill_is_passed_over_and_then_written_over(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    append_metrics(tmp_path, {"step": 1, "loss": 0.5})
    append_metrics(tmp_path, {"step": 2, "loss": 0.25})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines(keepends=True)[0]), len(whole)):
        path.write_bytes(whole[:cut])
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}]
        append_metrics(tmp_path, {"step": 3})
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 3}]


def test_a_first_line_torn_by_a_kill(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"st')
    append_metrics(tmp_path, {"step": 1})
    assert read_metrics(tmp_path) == [{"step": 1}]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_the_nearest_name() -> None:
    assert nearest("batsh", ["batch", "epochs"]) == "; did you mean 'batch'?"
    assert nearest("xyz", ["batch", "epochs"]) == "; the names are batch, epochs"


@pytest.mark.parametrize(
    "line",
    [b'{"st', b"\x00\xff\xfe", b"7", b"[" * 100_000, b"", b'{"st": 1}', b'{"step": "1"}'],
    ids=["cut", "bytes", "number", "deep", "empty", "no step", "text"],
)
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 0}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is damaged"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("rest", [bytes(60), b'{"step": 2, "lo' + bytes(60)])
def test_zeros_that_a_power_cut_left_are_named(tmp_path: Path, rest: bytes) -> None:
    """They stand for rows that were written: without them another network would be the best."""
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 0}\n' + rest)
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is damaged"):
        read_metrics(tmp_path)


def test_the_commit_is_of_facekds_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another repository's commit says nothing of what ran, wherever facekd lies and whatever a hook sets."""

    def git(folder: Path, *words: str) -> str:
        asked = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    own, other = tmp_path / "checkout", tmp_path / "other"
    for top, package in ((own, own / "facekd"), (other, other / "lib" / "facekd")):
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        git(top, "init", "-q")
        git(top, "commit", "-q", "--allow-empty", "-m", top.name)
    assert _git_commit(own / "facekd") is None  # it lies there, but not as a part of the repository
    for top in (own, other):
        git(top, "add", ".")
        git(top, "commit", "-q", "-m", "facekd")
    assert _git_commit(other / "lib" / "facekd") is None  # installed inside another repository
    monkeypatch.chdir(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as in a hook
    assert _git_commit(own / "facekd") == git(own, "--git-dir", str(own / ".git"), "rev-parse", "HEAD")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links need a right of their own here")
def test_links_in_a_run_folder_are_never_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    out = tmp_path / "run"
    out.mkdir()
    for name in ("metrics.jsonl", "lock", "run.yaml", "environment.json"):
        (out / name).symlink_to(victim)
    with pytest.raises(UserError, match=r"metrics.jsonl: can't be written"):
        append_metrics(out, {"step": 1})
    with pytest.raises(UserError, match="can't be written"), exclusive(out):
        pass
    start_run(out, "distill", {})  # puts files of its own in place of the links
    assert not (out / "run.yaml").is_symlink()
    assert victim.read_text() == "precious\n"


@pytest.mark.parametrize("words", [["synth", "--people", "1", "--photos", "1"], ["verify", "--scores", "s.csv"]])
def test_one_command_at_a_time_writes_a_run_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.csv").write_text("score,same\n" + "".join(f"{0.01 * n},{n % 2}\n" for n in range(60)))
    with exclusive(tmp_path / "out"):  # as another command has it
        assert cli.run([*words, "--out", "out", "--quiet"]) == 2
    assert "out: another command is writing it" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lock"]
    assert cli.run([*words, "--out", "out", "--quiet"]) == 0
