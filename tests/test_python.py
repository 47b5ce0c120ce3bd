"""From Python: every command is a function of ``facekd``, loaded when it is asked for."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from people import write_people

import facekd
from facekd.cli import COMMANDS, GROUPS

PACKAGE = Path(facekd.__file__).parent


# Packages of extras that `test` does not bring.
NOT_FOR_TESTS = {"coremltools", "executorch", "litert_torch", "ai_edge_litert", "ai_edge_quantizer", "flwr"}


def targets() -> dict[str, str]:
    """Where the function of each command is, written out once more."""
    found = {name.replace("-", "_"): target for name, (target, _) in COMMANDS.items()}
    for first, (_, commands) in GROUPS.items():
        found |= {f"{first}_{name}": target for name, (target, _) in commands.items()}
    del found["nets"]
    return found


def test_every_command_is_there_and_stays_when_all_modules_are_loaded() -> None:
    for module in pkgutil.walk_packages(facekd.__path__, "facekd."):
        if not module.name.startswith(("facekd.__main__", "facekd.stages", "facekd.engines.ray")):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if str(error.name).partition(".")[0] not in NOT_FOR_TESTS:
                    raise
    assert len(targets()) > 20
    for name, target in targets().items():
        module, _, own = target.partition(":")
        assert getattr(facekd, name) is getattr(importlib.import_module(module), own), name
        assert inspect.isfunction(getattr(facekd, name)), name
        assert name in dir(facekd), name
    assert inspect.ismodule(facekd.nets)
    assert {"Embedder", "Gallery", "FaceTransformer", "__version__"} <= set(dir(facekd))


def test_the_line_that_the_readme_promises_takes_no_time() -> None:
    code = "import facekd; print(facekd.__version__, facekd.distill, facekd.nets)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{facekd.__version__} <function distill at ")
    assert "<module 'facekd.nets'" in done.stdout
    code = "import sys, time; a = time.perf_counter(); import facekd; print(time.perf_counter() - a, *sys.modules)"
    taken = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, *loaded = done.stdout.split()
        taken.append(float(seconds))
    assert min(taken) < 0.05
    assert not {"cyclopts", "numpy", "torch", "facekd.cli", "facekd.core"} & set(loaded)


def test_text_is_taken_for_paths(tmp_path: Path) -> None:
    write_people(tmp_path / "photos", people=1, photos=1)
    done = facekd.align(str(tmp_path / "photos"), str(tmp_path / "crops"), detector="none", quiet=True)
    assert (done.statuses, done.out) == ({"ok": 1}, tmp_path / "crops")


def test_a_mistyped_name_is_told_the_nearest() -> None:
    with pytest.raises(AttributeError, match="'facekd' has no attribute 'destill'; did you mean 'distill'"):
        facekd.destill  # noqa: B018  # the access is the test
    with pytest.raises(ImportError, match="cannot import name 'destill'"):
        from facekd import destill  # noqa: F401
    assert not hasattr(facekd, "__wrapped__")


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.asname: f"{node.module}:{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == targets() | {
        "Embedder": "facekd.api:Embedder",
        "Gallery": "facekd.api:Gallery",
        "FaceTransformer": "facekd.transformer:FaceTransformer",
    }
    assert (PACKAGE / "py.typed").is_file()
    assert '"py.typed"' in (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")


def test_a_script_without_a_guard_of_main_runs_once(tmp_path: Path) -> None:
    script = (
        "import facekd; print('once'); facekd.synth('drawn', people=3, photos=2); facekd.align('drawn/photos', 'crops')"
    )
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert len(list((tmp_path / "drawn" / "photos").rglob("*.jpg"))) == 6
