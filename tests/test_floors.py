"""An import may only point down, and rooms on one floor do not see each other (DESIGN.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import facekd

PACKAGE = Path(facekd.__file__).parent

FLOORS = {
    "core": 0, "settings": 0, "errors": 0, "console": 0,
    "photos": 1, "faces": 1, "crops": 1, "nets": 1, "losses": 1, "rates": 1,
    "training": 2, "teachers": 2, "deploy": 2, "gallery": 2, "engines": 2, "reports": 2,
    "ingest": 3,
    "recipes": 4, "evaluation": 4, "enrollment": 4,
    "serving": 5,
    "commands": 6,
    "cli": 7, "api": 7, "transformer": 7, "stages": 7,
    "__main__": 8,
}  # fmt: skip

# What a room may import beside the standard library and facekd. The rooms from `ingest` up may import all of it.
THIRD_PARTY = {
    "errors": set(),
    "settings": {"cyclopts"},
    "console": {"rich"},
    "core": {"numpy", "cv2", "pyarrow", "yaml"},
    "photos": {"numpy", "cv2", "PIL", "pillow_heif"},
    "faces": {"numpy", "cv2", "torch", "torchvision", "facenet_pytorch", "onnx", "onnxruntime"},
    "crops": {"numpy", "cv2", "pyarrow", "albumentations"},
    "nets": {"numpy", "torch", "safetensors", "onnx", "onnxruntime", "openvino"},
    "losses": {"torch"},
    "rates": {"numpy", "scipy", "threadpoolctl"},  # no torch: a GPU product is handed in
    "training": {"numpy", "torch", "accelerate", "safetensors"},
    "teachers": {"numpy", "torch", "onnx", "onnxruntime", "onnx2torch", "facenet_pytorch"},
    "deploy": {"numpy", "pyarrow", "torch", "onnx", "onnxruntime", "onnxscript", "openvino", "sklearn"}
    | {
        "litert_torch",
        "ai_edge_litert",
        "ai_edge_quantizer",
        "pnnx",
        "ncnn",
        "coremltools",
        "executorch",
    },  # to convert
    "gallery": {"numpy", "pyarrow", "lancedb", "cryptography", "faiss"},
    "engines": {"numpy", "ray", "flwr"},
    "reports": {"numpy", "jinja2", "matplotlib"},
    "cli": {"cyclopts", "yaml", "rich"},
    "api": {"numpy"},
    "transformer": {"numpy", "sklearn"},
    "__main__": set(),
}

UPPER = (
    "stages",
    "ingest",
    "recipes",
    "evaluation",
    "enrollment",
    "serving",
    "commands",
)  # these may import any package
AT_THE_TOP = (
    "ingest",
    "recipes",
    "evaluation",
    "enrollment",
    "serving",
    "rates",
    "reports",
)  # whose imports stand at the top
TORCH_FREE = ("evaluation",)  # of these no module imports what is for training alone

# Loading these takes seconds: a command imports them in the function that needs them, so that --help is quick.
HEAVY = {"torch", "torchvision", "facenet_pytorch", "onnx", "onnxruntime", "matplotlib", "albumentations", "lancedb",
         "accelerate", "scipy", "sklearn", "ray", "fastapi", "uvicorn"}  # fmt: skip

LIGHT = ("stages", "commands", "cli", "console", "settings")  # what --help loads
TRAINING = {"torch", "torchvision", "facenet_pytorch", "albumentations", "accelerate"}  # what the base is without

# Colors in [0, 1] for drawing people, and the detector's own input, which is no crop.
NO_CROPS = ("photos/synth/", "faces/mtcnn")


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Dotted names that a syntax tree imports, those inside functions too; relative ones are made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [base])])
            # `from facekd import nets` names a room only in its aliases.
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("__import__", "importlib.import_module", "import_module")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its path below it."""
    found = {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    assert len(found) > 40, "the package's files were not found"
    assert {path.split("/")[0].removesuffix(".py") for path in found} >= set(FLOORS)
    return found


def room(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def breaches(path: str, tree: ast.AST) -> list[str]:
    """Imports of a module that point up or sideways."""
    here = room(path)
    dotted = "facekd." + path.removesuffix(".py").replace("/", ".")
    found = []
    for name in imports(tree, dotted):
        parts = name.split(".")
        if parts[0] != "facekd" or len(parts) < 2 or parts[1] == "__version__":
            continue
        there = parts[1]
        if there not in FLOORS:
            found.append(f"{path} imports {name}, which is in no known room")
        elif there != here and FLOORS[there] >= FLOORS[here] and not FLOORS[there] == FLOORS[here] == 0:
            found.append(f"{path} (floor {FLOORS[here]}) imports {name} (floor {FLOORS[there]})")
    return found


def test_imports_point_down() -> None:
    wrong = [line for path, tree in modules().items() if path != "__init__.py" for line in breaches(path, tree)]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in modules()} - {"__init__"} == set(FLOORS)


def test_a_breach_is_seen_however_it_is_written() -> None:
    for path, line in {
        "nets/a.py": "from facekd.losses import softmax",  # sideways
        "core/a.py": "def f():\n    import facekd.rates.counts",  # up, hidden
        "rates/a.py": "from facekd import commands",  # up, by its alias
        "photos/a.py": "from ..crops.store import CropStore",  # relative
        "crops/a.py": "import importlib\nimportlib.import_module('facekd.faces.align')",
    }.items():
        assert len(breaches(path, ast.parse(line))) == 1, line
    assert (
        breaches("commands/a.py", ast.parse("from facekd.rates import counts\nfrom facekd.commands import align")) == []
    )


@pytest.mark.slow
def test_third_party_imports_stay_in_their_rooms() -> None:
    wrong = []
    for path, tree in modules().items():
        if room(path) in UPPER or room(path) == "__init__":
            continue
        for name in imports(tree, "facekd." + path.removesuffix(".py").replace("/", ".")):
            top = name.split(".")[0]
            if top != "facekd" and top not in sys.stdlib_module_names and top not in THIRD_PARTY[room(path)]:
                wrong.append(f"{path} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_commands_and_the_command_line_load_nothing_heavy_when_imported() -> None:
    wrong = []
    for path, tree in modules().items():
        if room(path) not in LIGHT and path != "core/suggest.py":
            continue
        for node in tree.body:  # at the top level only; `if TYPE_CHECKING:` is another node
            if isinstance(node, ast.Import | ast.ImportFrom):
                wrong += [f"{path}: {n}" for n in imports(node, "facekd") if n.split(".")[0] in HEAVY]
    assert not wrong, "\n".join(wrong)


def test_no_two_public_classes_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for path, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(path)
    assert len(homes) > 100
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


@pytest.mark.slow
def test_the_upper_rooms_import_at_the_top_and_evaluation_without_torch() -> None:
    looked_at = 0
    wrong = []
    for path, tree in modules().items():
        if room(path) not in AT_THE_TOP:
            continue
        looked_at += 1
        hidden = [
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
            and not set(imports(node, "facekd")) & {"torch.utils.tensorboard.SummaryWriter"}  # of an extra
        ]
        wrong += [f"{path}:{node.lineno} imports inside a function" for node in hidden]
        if room(path) in TORCH_FREE:
            wrong += [f"{path} imports {n}" for n in imports(tree, "facekd") if n.split(".")[0] in TRAINING]
    assert looked_at > 20
    assert not wrong, "\n".join(wrong)
    loaded = "import facekd.evaluation.report, facekd.evaluation.verification, facekd.evaluation.sweep_report, sys"
    names = f"{loaded}; print(*[name for name in {sorted(TRAINING)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", names], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def scalings(tree: ast.AST) -> Iterator[int]:
    """Lines that use 127.5, or divide by 255, as code that normalizes pixels does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is float and node.value in (127.5, 1 / 255, 123.675):
            yield node.lineno
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Div)
            and any(isinstance(n, ast.Constant) and n.value in (255, 255.0) for n in ast.walk(node.right))
        ):
            yield node.lineno


def test_one_place_in_the_house_subtracts_a_mean() -> None:
    wrong = [
        f"{path}:{line}"
        for path, tree in modules().items()
        if path not in ("core/pixels.py", "core/contract.py") and not path.startswith(NO_CROPS)
        for line in scalings(tree)
    ]
    assert not wrong, "\n".join(wrong)
    assert sorted(scalings(ast.parse("x = (x - 127.5) / 128\ny = y / np.float32(255)\nz = f(z) / 255"))) == [1, 2, 3]
    # Nobody else does by other numbers what to_input does with the contract's.
    users = [path for path, tree in modules().items() if "contract.mean" in ast.unparse(tree)]
    assert users == ["core/pixels.py"]
