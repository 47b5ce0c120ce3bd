"""The command line is the stages' signatures: quick to help, exact about mistakes, repeatable from run.yaml."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import json
import re
import resource
import shlex
import statistics
import subprocess
import sys
import warnings
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from facekd.cli import COMMANDS, GROUPS, OWN_JSON, PANELS, build_app, run
from facekd.settings.group import flag_names, flattened, groups_of

HEAVY = ("torch", "torchvision", "matplotlib", "lancedb", "albumentations", "onnxruntime", "scipy", "accelerate",
         "pyarrow", "numpy", "cv2", "PIL", "sklearn", "ray", "jinja2", "starlette")  # fmt: skip
EXISTING = [name for name, (target, _) in COMMANDS.items() if importlib.util.find_spec(target.split(":")[0])]
# "gallery info" and its like.
GROUPED = {f"{first} {name}": found for first, (_, commands) in GROUPS.items() for name, found in commands.items()}
EVERY = [*EXISTING, *GROUPED]


def stage(command: str):
    module, name = (COMMANDS | GROUPED)[command][0].split(":")
    return getattr(importlib.import_module(module), name)


def sources(group: type) -> str:
    """The code of a group of settings and of those that it extends."""
    return "".join(inspect.getsource(one) for one in group.__mro__ if is_dataclass(one))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos" / "Ann"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "1.png")
    return tmp_path / "photos"


def test_the_commands_exist() -> None:
    assert len(EXISTING) >= 10
    assert "align" in EXISTING


@pytest.mark.parametrize("command", EVERY)
def test_every_command_shows_an_example_and_explains_each_flag(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: facekd {command}" in shown
    assert f"Example: facekd {command}" in shown
    assert "--config FILE.yaml" in shown
    groups = groups_of(stage(command)).values()
    places = [inspect.getsource(kind) for group in groups for kind in group.__mro__ if dataclasses.is_dataclass(kind)]
    parameters = inspect.signature(stage(command)).parameters
    for name in flag_names(stage(command)):
        several = name in parameters and parameters[name].kind is inspect.Parameter.VAR_POSITIONAL  # has no flag
        flag = name.upper() if several else f"--{name.rstrip('_').replace('_', '-')}"
        assert re.search(rf"(?<!\w){flag}\b", shown), name
        told = re.search(rf"^    {name}: \S", inspect.getdoc(stage(command)) or "", re.MULTILINE)
        own = any(re.search(rf'^    {name}: .*\n    """\S', place, re.MULTILINE) for place in places)
        assert told or own, f"{name} is explained nowhere"


@pytest.mark.parametrize("command", EVERY)
def test_every_example_is_one_that_parses(command: str) -> None:
    text = inspect.getdoc(stage(command)) or ""
    examples = re.findall(rf"^Example: facekd {command}(.*(?:\n(?=\S).*)*)", text, re.MULTILINE)
    assert examples
    assert len(examples) == text.count("Example:")
    for example in examples:
        words = [*command.split(), *shlex.split(example)]
        build_app(*command.split()).parse_args(words, exit_on_error=False, print_error=False)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    panels = [shown.index(f"─ {title} ─") for title in PANELS]
    assert panels == sorted(panels)  # what to begin with on top
    there = [[name for name in names if name in COMMANDS or name in GROUPS] for names in PANELS.values()]
    places = [shown.index(f"│ {name} ") for names in there for name in names]
    assert places == sorted(places)
    assert len(there[0]) == 5
    assert sorted(name for names in there for name in names) == sorted([*COMMANDS, *GROUPS])
    assert run([]) == 0
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.endswith("\n")


def test_commands_without_a_json_of_their_own_print_result_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert {name for name in EXISTING if "json" in flag_names(stage(name))} == set(OWN_JSON)
    assert run(["nets", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in printed["result"]} == {row["network"] for row in printed["tables"][0]["rows"]}
    assert (printed["command"], printed["exit_code"]) == ("nets", 0)
    assert run(["nets", "--json", "--dim", "0"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_a_shell_knows_commands_and_flags(shell: str) -> None:
    script = build_app().generate_completion(shell=shell)
    for name in (*COMMANDS, *GROUPS):
        assert name in script
    for flag in ("init-from", "keep-until", "teacher-backend"):
        assert flag in script


@pytest.mark.parametrize("tokens", [["--help"], ["verify", "--help"], ["distill", "--help"]])
def test_help_comes_in_under_a_second(tokens: list[str]) -> None:
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "facekd", *tokens], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    print(f"facekd {' '.join(tokens)}: {statistics.median(seconds):.2f} s of a core")
    assert statistics.median(seconds) < 1  # 0.3 on a quiet machine; of a core, for others may work beside it


@pytest.mark.parametrize("command", EVERY)
def test_help_loads_nothing_heavy(command: str) -> None:
    code = f"""
import sys
from facekd.cli import run
assert run([*{command.split()!r}, "--help"]) == 0
print("loaded:", *[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


def refused(tokens: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the one line says that a mistake brings."""
    assert run(tokens) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("facekd: ")
    return line


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["aling"], "no command 'aling'; did you mean 'align'"),
        (["train_teacher"], "did you mean 'train-teacher'"),
        (["xyzzy"], "the names are quickstart, doctor"),
        (["--hlep"], "no flag '--hlep'; did you mean '--help'"),
        (["--quiet", "align"], "no flag '--quiet'"),
        (["align", "PHOTOS", "--detecter", "none"], "Did you mean --detector?"),
        (["align", "PHOTOS", "--detector", "mtcn"], '"mtcnn"'),
        (["align", "PHOTOS", "--size", "big"], "--size"),
        (["align", "PHOTOS", "--size"], "--size"),
        (["align", "PHOTOS", "out", "more"], "more"),
        (["gallery", "inof"], "did you mean 'info'"),
        (["distill", "--data", "PHOTOS", "--term", "embeding=1"], "did you mean 'embedding'"),
        (["align"], "align needs PHOTOS; see 'facekd align --help'"),
        (["same", "PHOTOS"], "same needs OTHER; see 'facekd same --help'"),
        (["gallery", "info"], "gallery info needs GALLERY; see 'facekd gallery info --help'"),
        (["distill"], "distill needs --data; see 'facekd distill --help'"),
        (["distill", "--data"], "--data needs a value after it; see 'facekd distill --help'"),
        (["align", "--config"], "--config needs a YAML file"),
        (["--config", "x.yaml"], "needs a command before it"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(
    tokens: list[str], words: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert words in refused([str(photos) if t == "PHOTOS" else t for t in tokens], capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]  # nothing was begun


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("facekd.commands.align.align", lambda photos: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(["align", str(tmp_path)])


def test_run_yaml_of_a_run_repeats_it(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = tmp_path / "one", tmp_path / "two"
    flags = ["--detector", "none", "--size", "96", "--choose", "best", "--min-face", "30", "--quiet"]
    assert run(["align", str(photos), str(first), *flags]) == 0
    config = yaml.safe_load((first / "run.yaml").read_text())
    assert config["weights"] is None
    assert run(["align", "--config", str(first / "run.yaml"), "--quiet"]) == 0  # all of it is done
    assert run(["align", f"--config={first / 'run.yaml'}", "--out", str(again), "--quiet"]) == 0  # a flag wins
    assert yaml.safe_load((again / "run.yaml").read_text()) == {**config, "out": str(again)}
    assert (again / "store.json").read_text() == (first / "store.json").read_text()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", EXISTING)
def test_every_default_survives_run_yaml(command: str, tmp_path: Path) -> None:
    """What start_run writes of a command's arguments is read back as the same arguments."""
    from facekd import cli
    from facekd.core.run import start_run

    text = inspect.getdoc(stage(command)) or ""
    example = re.search(rf"^Example: facekd {command}(.*(?:\n(?=\S).*)*)", text, re.MULTILINE)
    assert example is not None
    app = build_app()
    _, bound, _ = app.parse_args([command, *shlex.split(example.group(1))], exit_on_error=False, print_error=False)
    bound.apply_defaults()
    start_run(tmp_path, command, flattened(bound.arguments))
    values = cli._read_config(tmp_path / "run.yaml", [command])
    app = build_app()
    app.config = cli.cyclopts.config.Dict({command: values}, source="run.yaml")
    _, again, _ = app.parse_args([command], exit_on_error=False, print_error=False)
    again.apply_defaults()
    assert again.arguments == bound.arguments


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("photos: p\ndetecter: none\n", "detector"),
        ("command: distill\nphotos: p\n", "was written for 'facekd distill', not for 'align'"),
        ("photos: [\n", "not readable as YAML"),
        ("- photos\n", "holds no 'flag: value' lines"),
        ("", "holds no 'flag: value' lines"),
        ("photos: p\nsize: big\n", "size"),
        ("photos: p\ndetector: 5\n", "detector"),
    ],
)
def test_a_config_that_can_not_be_followed(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    line = refused(["align", "--config", str(path)], capsys)
    assert words in line
    assert "run.yaml" in line or words == "size"
    assert "no-such" in refused(["align", "--config", "no-such.yaml"], capsys)


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m facekd align --help | true", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


# The public classes of the modules in which the commands lay.
RESULTS_BEFORE = {
    "align": "AlignSummary", "audit": "Suspect Audit", "cache": "CacheSummary GcSummary Asked", "compare": "Comparison",
    "doctor": "Finding Diagnosis", "embed": "EmbedSummary", "enroll": "EnrollSummary", "export": "Exported",
    "gallery": "GalleryInfo Erased Imported", "gallery_migrate": "Migrated",
    "identify": "IdentifiedFace Identification", "leak": "Leak LeakSummary", "quickstart": "Quickstart",
    "sweep": "Sweep Reference", "sweep_grid": "Cell", "teacher": "Trained", "verify": "Verification",
}  # fmt: skip


def test_commands_are_found_where_they_lay_before() -> None:
    with pytest.warns(FutureWarning, match=r"facekd.stages.teacher is facekd.commands.train_teacher now"):
        module = importlib.import_module("facekd.stages.teacher")
    assert module is importlib.import_module("facekd.commands.train_teacher")
    for last, names in RESULTS_BEFORE.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            module = importlib.import_module(f"facekd.stages.{last}")
        assert all(isinstance(getattr(module, name), type) for name in names.split()), last
    with pytest.raises(ModuleNotFoundError, match=r"facekd\.stages\.no_such"):
        importlib.import_module("facekd.stages.no_such")


def test_json_without_a_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json"]) == 2
    assert "--json needs a command before it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["distill", "--out", "{}"],
        ["distill", "--data", "{}"],
        ["distill", "--data", "crops", "--teacher", "{}"],
        ["distill", "--data", "crops", "--drop", "{}"],
        ["distill", "--resume", "{}"],
        ["distill", "--config={}"],
        ["align", "{}"],
        ["export", "run", "{}"],
        ["compare", "a", "{}"],
        ["identify", "{}", "photos"],
        ["gallery", "info", "{}"],
        ["same", "{}", "{}"],
        ["nets", "{}"],
    ],
)
@pytest.mark.parametrize(
    "address",
    ["s3://user:hidden@bucket/x", "s3://KEY:hid/hidden@bucket", "https://u:hidden@127.0.0.1:1/x?token=hidden"],
)
def test_an_address_is_refused_and_its_password_shown_nowhere(
    words: list[str], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--out s3://…`` made a folder called s3: and trained into it."""
    monkeypatch.chdir(tmp_path)
    assert run([word.format(address) for word in words]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert "hidden" not in said.out + said.err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_said_in_one_line(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("facekd.recipes.plan.join", interrupted)
    assert run(["train-teacher", "--data", str(photos)]) == 130
    assert capsys.readouterr().err == "facekd: interrupted; the same command goes on where it stopped\n"
