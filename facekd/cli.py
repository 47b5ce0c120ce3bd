"""The command line: a command is one stage's signature; parse, call, print.

Stages are named, not imported: only the one that is asked for is loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cyclopts

from facekd.core.files import read_yaml
from facekd.core.formats import KEY, check_format
from facekd.core.printable import printable_line, without_keys
from facekd.core.suggest import nearest
from facekd.errors import UserError
from facekd.settings.group import as_paths, panel

# In the order of the work.
COMMANDS = {
    "quickstart": ("facekd.commands.quickstart:quickstart", "Run the whole line once, from photos to a report."),
    "doctor": ("facekd.commands.doctor:doctor", "Say what is installed and works, and how to mend what does not."),
    "synth": ("facekd.commands.synth:synth", "Render photos of people who do not exist."),
    "align": ("facekd.commands.align:align", "Find faces in photos, warp each to a crop, account for every photo."),
    "leak": ("facekd.commands.leak:leak", "Find the people of a training set who are also in a pair list."),
    "audit": ("facekd.commands.audit:audit", "Find crops that look like somebody else than their label says."),
    "nets": ("facekd.commands.nets:nets", "List the networks that can be trained, and what each costs."),
    "train-teacher": (
        "facekd.commands.train_teacher:train_teacher",
        "Train an IResNet teacher by softmax cross-entropy.",
    ),
    "narrow": ("facekd.commands.narrow:narrow", "Begin a student at its teacher's layers, made narrower."),
    "distill": ("facekd.commands.distill:distill", "Train a MobileFaceNet student on a teacher."),
    "federate": ("facekd.commands.federate:federate", "Train a student on crops that stay at their sites."),
    "sweep": ("facekd.commands.sweep:sweep", "Try terms and weights at equal budget, with controls."),
    "verify": ("facekd.commands.verify:verify", "Measure how well models tell people apart on a pair list."),
    "compare": ("facekd.commands.compare:compare", "Say how much of the gap to its teacher a student closes."),
    "export": ("facekd.commands.export:export", "Write a network as a file for ONNX, phones or browsers, checked."),
    "embed": ("facekd.commands.embed:embed", "Embed crops or photos into a Parquet file."),
    "cluster": ("facekd.commands.cluster:cluster", "Sort faces of unnamed photos into people."),
    "enroll": ("facekd.commands.enroll:enroll", "Enroll people into a gallery."),
    "same": ("facekd.commands.same:same", "Say whether two photos show the same person."),
    "identify": ("facekd.commands.identify:identify", "Name the people in photos, or say that they are unknown."),
    "serve": ("facekd.commands.serve:serve", "Answer over HTTP who is in a photo, and show a page to drop photos on."),
}
# Commands of several words: the first of them, what they are about, and the others.
GROUPS = {
    "cache": (
        "Keep what a teacher says of each seeded view, for every run that asks for the same.",
        {
            "build": ("facekd.commands.cache:build", "Compute the teacher's embeddings of all views."),
            "verify": ("facekd.commands.cache:verify", "Check every row, and some against the teacher."),
            "gc": ("facekd.commands.cache:gc", "Remove caches that no run has opened lately."),
        },
    ),
    "gallery": (
        "Look into a gallery, rename, merge and erase people, take templates out and in, index it, change its model.",
        {
            "info": ("facekd.commands.gallery:info", "Say what a gallery holds and how it is searched."),
            "delete": ("facekd.commands.gallery:delete", "Erase people, to the last byte."),
            "rename": ("facekd.commands.gallery_people:rename", "Give a person another id."),
            "merge": ("facekd.commands.gallery_people:merge", "Make one person of two ids."),
            "purge": ("facekd.commands.gallery_people:purge", "Erase the people who were kept long enough."),
            "export": ("facekd.commands.gallery:export", "Write all templates to a file, encrypted or for FAISS."),
            "import": ("facekd.commands.gallery:import_", "Enroll the people of an exported file."),
            "migrate": ("facekd.commands.gallery_migrate:migrate", "Go over to another model."),
            "index": ("facekd.commands.gallery:index", "Build the index anew, or drop it."),
        },
    ),
}
# The panels of 'facekd' alone, in their order: what to begin with, then what else there is.
PANELS = {
    "To begin with": ("same", "quickstart", "enroll", "verify", "export"),
    "Data": ("synth", "align", "cluster", "leak", "audit"),
    "Train": ("train-teacher", "distill", "narrow", "sweep", "federate", "cache", "nets"),
    "Measure": ("compare",),
    "Use": ("identify", "serve", "embed", "gallery"),
    "Help": ("doctor",),
}
CONFIG_FLAGS = {"--config": "a YAML file", "--resume": "the folder of a run"}
RUN_FILE = "run.yaml"  # of core.run.start_run
GLOBAL_FLAGS = ("--help", "-h", "--version", "--install-completion")
# They write the whole report, or print the answer, by a --json of their own; any other command prints its result.
OWN_JSON = ("same", "verify", "compare", "sweep", "enroll")


def build_app(asked: str = "", then: str = "") -> cyclopts.App:
    """The app with every command, none of them loaded; the help of the one `asked` for is its docstring.

    Args:
        then: the second word, where `asked` is the first of several.
    """
    panels = {title: cyclopts.Group(title, sort_key=order) for order, title in enumerate(PANELS)}
    app = cyclopts.App(
        name="facekd",
        version=_version,
        help="From photos of people to a small network that tells them apart, and the proof of how well it does.",
        help_epilogue="Any command takes --config FILE.yaml: its keys are the flags' names; flags win over it. "
        "--resume RUN is --config RUN/run.yaml, going on in RUN. Any command takes --json too, if it has none of its "
        "own: it prints its result and its tables as one JSON object.",
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # run() says what to do
        group_parameters=panel("Parameters"),  # of no group of settings
        group_commands=panels["Help"],  # --help and --version
        default_parameter=cyclopts.Parameter(negative=()),
    )
    for name, (target, text) in COMMANDS.items():
        app.command(target, name=name, help=None if name == asked else text, **_place(name, panels))
    for first, (about, commands) in GROUPS.items():
        group = cyclopts.App(name=first, help=about, group_commands=cyclopts.Group("Commands"), **_place(first, panels))
        for order, (name, (target, text)) in enumerate(commands.items()):
            chosen = (first, name) == (asked, then)
            group.command(target, name=name, help=None if chosen else text, sort_key=order)
        app.command(group)
    app.register_install_completion_command(
        group=panels["Help"], help="Install completion of commands and flags for this shell: bash, zsh or fish."
    )
    return app


def _place(name: str, panels: dict[str, cyclopts.Group]) -> dict[str, Any]:
    """The panel that a command is shown in, and its place there."""
    title = next(title for title, names in PANELS.items() if name in names)
    return {"group": panels[title], "sort_key": PANELS[title].index(name)}


def main(tokens: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 done but something failed, 2 the user's mistake, 130 interrupted."""
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    sys.exit(run(tokens))


def run(tokens: list[str]) -> int:
    """Run one command; its exit code comes back."""
    try:
        tokens, path = _take_config(tokens)
        rest = [token for token in tokens if token != "--json"]
        if tokens and not rest:
            raise UserError("--json needs a command before it, such as 'facekd doctor --json'")
        as_json = len(rest) < len(tokens) and rest[0] not in OWN_JSON
        tokens = rest if as_json else tokens
        if not tokens and path is not None:
            raise UserError(f"{path} needs a command before its flag, such as 'facekd align --config {path}'")
        _check_names(tokens)
        app = build_app(*tokens[:2])
        if path is not None:
            values: dict[str, Any] = _read_config(path, tokens)
            # Under the command's own name: a flag may be called like another command.
            for word in reversed(tokens[:2] if tokens[0] in GROUPS else tokens[:1]):
                values = {word: values}
            app.config = cyclopts.config.Dict(values, source=str(path))
        private = "--private" in tokens or (path is not None and values.get("private") is True)
        result: Any = _call_as_json(app, tokens, private) if as_json else _call(app, tokens)
    except (UserError, cyclopts.CycloptsError) as error:
        # Parsers of YAML and networks explain themselves over several lines; a user gets one sentence.
        print("facekd:", printable_line(without_keys(" ".join(_said(error).split()))), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("facekd: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing is left to say
        return 0
    return int(getattr(result, "exit_code", 0))


def _said(error: UserError | cyclopts.CycloptsError) -> str:
    """The mistake and what to do; where something is missing, by the name that --help and the examples have for it."""
    told = str(error)
    if not isinstance(error, cyclopts.MissingArgumentError) or error.argument is None or "Did you mean" in told:
        return told
    command = " ".join(error.command_chain or ())
    if error.keyword is not None:
        return f"{error.keyword} needs a value after it; see 'facekd {command} --help'"
    place = error.argument.field_info.is_positional
    name = error.argument.name.removeprefix("--").upper() if place else error.argument.name
    return f"{command} needs {name}; see 'facekd {command} --help'"


def _call(app: cyclopts.App, tokens: list[str]) -> Any:
    return app(tokens, exit_on_error=False, print_error=False)


def _call_as_json(app: cyclopts.App, tokens: list[str], private: bool) -> Any:
    """Run a command; its result and its tables go to stdout as one JSON object, what it says to stderr.

    Args:
        private: leave the result out, for it has the names that the tables have not.
    """
    from facekd.console import tables_kept
    from facekd.core.plain_json import json_line, plain_json

    with tables_kept() as tables:
        result = _call(app, tokens)
    shown = {"command": tokens[0], "exit_code": getattr(result, "exit_code", 0)}
    shown |= {} if private else {"result": plain_json(result)}
    print(json_line({**shown, "tables": tables}))
    return result


def _check_names(tokens: list[str]) -> None:
    """Refuse a command that there is not."""
    if tokens and tokens[0] not in COMMANDS and tokens[0] not in GROUPS and tokens[0] not in GLOBAL_FLAGS:
        flag = tokens[0].startswith("-")
        names = GLOBAL_FLAGS if flag else (*COMMANDS, *GROUPS)
        raise UserError(f"no {'flag' if flag else 'command'} {tokens[0]!r}{nearest(tokens[0], names)}")
    if len(tokens) > 1 and tokens[0] in GROUPS and not tokens[1].startswith("-"):
        names = tuple(GROUPS[tokens[0]][1])
        if tokens[1] not in names:
            raise UserError(f"no command '{tokens[0]} {tokens[1]}'{nearest(tokens[1], names)}")


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
        path: Path = as_paths(value)
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
    values = read_yaml(path, "give a file of 'flag: value' lines")
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no 'flag: value' lines; see 'facekd {' '.join(tokens[:1])} --help'")
    for key, value in values.items():
        if isinstance(value, dict):
            raise UserError(f"{path}: {key} holds a mapping, and no flag takes one; give a value or a list")
    command = values.pop("command", None)
    if command is not None:
        check_format("run folder", values.pop(KEY, None), path)
    if command is not None and tokens and tokens[0] != command:
        raise UserError(f"{path}: was written for 'facekd {command}', not for {tokens[0]!r}")
    return {str(key).replace("_", "-"): value for key, value in values.items() if value is not None}


def _version() -> str:
    from facekd import __version__

    return __version__
