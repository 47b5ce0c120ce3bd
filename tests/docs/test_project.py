"""What surrounds the code says the same as the code: version, scripts, hooks, issue forms."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_every_place_names_the_same_version() -> None:
    version = PROJECT["version"]
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    assert re.search(rf"^## {re.escape(version)} ", read("CHANGELOG.md"), re.MULTILINE)


def test_the_workflow_calls_the_scripts_of_the_build_server() -> None:
    jobs = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    for script in ("lint", "docs", "wheel"):
        assert f".ci/{script}" in steps
        assert re.search(rf"^\.ci/{script}\b", read(".ci/run"), re.MULTILINE)
        assert (ROOT / ".ci" / script).stat().st_mode & 0o111, "it can be run"
    assert set(jobs["tests"]["strategy"]["matrix"]["python"]) >= {"3.11"}


def test_the_hooks_need_no_network() -> None:
    repositories = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    assert all(hook["language"] == "system" for hook in repositories[0]["hooks"])


def test_a_bug_is_asked_for_with_the_report_of_doctor_and_without_photos() -> None:
    form = read(".github/ISSUE_TEMPLATE/bug.yml")
    assert "facekd doctor --report" in form
    assert "No photo of a person" in form


def test_every_extra_that_a_page_or_a_sentence_names_exists() -> None:
    extras = set(PROJECT["optional-dependencies"])
    texts = [
        path.read_text(encoding="utf-8") for path in [*(ROOT / "docs").rglob("*.md"), *(ROOT / "facekd").rglob("*.py")]
    ]
    named = {extra for text in texts for extra in re.findall(r"facekd\[([a-z]+)\]", text)}
    assert len(named) > 8
    assert named <= extras
