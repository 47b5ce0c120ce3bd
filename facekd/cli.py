"""The command line: a command is one stage's signature; parse, call, print.

Stages are named, not imported: only the one that is asked for is loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cyclopts
import yaml

from facekd.core.suggest import nearest
from facekd.errors import UserError

# In the order of the work.
COMMANDS = {
    "quickstart": ("facekd.stages.quickstart:quickstart", "Run the whole line once, from photos to a report."),
    "doctor": ("facekd.stages.doctor:doctor", "Say what is installed and works, and how to mend what does not."),
    "synth": ("facekd.stages.synth:synth", "Render photos of people who do not exist."),
    "align": ("facekd.stages.align:align", "Find faces in photos, warp each to a crop, account for every photo."),
    "leak": ("facekd.stages.leak:leak", "Find the people of a training set who are also in a pair list."),
    "audit": ("facekd.stages.audit:audit", "Find crops that look like somebody else than their label says."),
    "train-teacher": ("facekd.stages.teacher:train_teacher", "Train an IResNet teacher with softmax cross-entropy."),
    "distill": ("facekd.stages.distill:distill", "Train a MobileFaceNet student on a teacher."),
    "verify": ("facekd.stages.verify:verify", "Measure how well models tell people apart on a pair list."),
    "export": ("facekd.stages.export:export", "Write a trained network as one ONNX file, checked."),
    "embed": ("facekd.stages.embed:embed", "Embed crops or photos into a Parquet file."),
    "enroll": ("facekd.stages.enroll:enroll", "Enroll people into a gallery."),
    "identify": ("facekd.stages.identify:identify", "Name the people in photos, or say that they are unknown."),
}
CONFIG_FLAGS = {"--config": "a YAML file", "--resume": "the folder of a run"}
RUN_FILE = "run.yaml"  # of core.run.start_run
GLOBAL_FLAGS = ("--help", "-h", "--version")


def build_app(asked: str = "") -> cyclopts.App:
    """The app with every command, none of them loaded; the help of the one `asked` for is its docstring."""
    app = cyclopts.App(
        name="facekd",
        version=_version,
        help="From photos of people to a small network that tells them apart, and the proof of how well it does.",
        help_epilogue="Any command takes --config FILE.yaml: its keys are the flags' names; flags win over it. "
        "--resume RUN is --config RUN/run.yaml, going on in RUN.",
        result_action="return_value",
        default_parameter=cyclopts.Parameter(negative=()),
    )
    for place, (name, (target, text)) in enumerate(COMMANDS.items()):
        app.command(target, name=name, help=None if name == asked else text, sort_key=place)
    return app


def main(tokens: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 done but something failed, 2 the user's mistake, 130 interrupted."""
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    sys.exit(run(tokens))


def run(tokens: list[str]) -> int:
    """Run one command; its exit code comes back."""
    try:
        tokens, path = _take_config(tokens)
        if not tokens and path is not None:
            raise UserError(f"{path} needs a command before its flag, such as 'facekd align --config {path}'")
        if tokens and tokens[0] not in COMMANDS and tokens[0] not in GLOBAL_FLAGS:
            kind, names = ("flag", GLOBAL_FLAGS) if tokens[0].startswith("-") else ("command", COMMANDS)
            raise UserError(f"no {kind} {tokens[0]!r}{nearest(tokens[0], names)}")
        app = build_app(*tokens[:1])
        if path is not None:
            app.config = cyclopts.config.Dict(_read_config(path, tokens), source=str(path), use_commands_as_keys=False)
        result: Any = app(tokens, exit_on_error=False, print_error=False)
    except (UserError, cyclopts.CycloptsError) as error:
        # Parsers of YAML and networks explain themselves over several lines; a user gets one sentence.
        print("facekd:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("facekd: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing is left to say
        return 0
    return int(getattr(result, "exit_code", 0))


def _take_config(tokens: list[str]) -> tuple[list[str], Path | None]:
    """The tokens without ``--config FILE`` or ``--resume RUN``, and that file: of a run its ``run.yaml``."""
    rest: list[str] = []
    found: list[Path] = []
    out: list[str] = []
    waiting = iter(tokens)
    for token in waiting:
        flag, equals, value = token.partition("=")
        if flag not in CONFIG_FLAGS:
            rest.append(token)
            continue
        value = value if equals else next(waiting, "")
        if not value:
            raise UserError(f"{flag} needs {CONFIG_FLAGS[flag]} after it")
        path = Path(value)
        if flag == "--resume":
            path = path / RUN_FILE
            if not path.is_file():
                raise UserError(f"{value}: no run to go on with, it has no {RUN_FILE}; give the folder of one begun")
            out = ["--out", value]  # where the run lies now is where it goes on
        found.append(path)
    if len(found) > 1:
        raise UserError("--config and --resume each name a run's settings; give one of them, once")
    return rest and rest + out, found[0] if found else None


def _read_config(path: Path, tokens: list[str]) -> dict[str, Any]:
    """The values in a YAML file; a ``run.yaml`` that another run left is one."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML ({error}); give a file of 'flag: value' lines") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no 'flag: value' lines; see 'facekd {' '.join(tokens[:1])} --help'")
    command = values.pop("command", None)
    if command is not None and tokens and tokens[0] != command:
        raise UserError(f"{path}: was written for 'facekd {command}', not for {tokens[0]!r}")
    return {str(key).replace("_", "-"): value for key, value in values.items() if value is not None}


def _version() -> str:
    from importlib.metadata import version

    return version("facekd")
