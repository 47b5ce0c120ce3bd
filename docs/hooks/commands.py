"""A hook of MkDocs: the pages of the command line, made of the commands' own settings, signatures and docstrings."""

from __future__ import annotations

import html
import importlib
import inspect
import re
from typing import Any

from cyclopts.help import create_parameter_help_panel
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from facekd.cli import COMMANDS, GROUPS, build_app

FOLDER = "reference/cli"


def every_command() -> dict[str, str]:
    """Each command's words, such as "gallery info", and its one-line description."""
    found = {name: about for name, (_, about) in COMMANDS.items()}
    for first, (_, commands) in GROUPS.items():
        found |= {f"{first} {name}": about for name, (_, about) in commands.items()}
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each command."""
    for words in every_command():
        files.append(File.generated(config, f"{FOLDER}/{slug(words)}.md", content=command_page(words)))
    files.append(File.generated(config, f"{FOLDER}/index.md", content=index_page()))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put these pages where the navigation says ``reference/cli``."""
    for section in config.nav or []:
        for name, entries in section.items():
            if name == "Reference":
                pages: list[Any] = [f"{FOLDER}/index.md"]
                pages += [{words: f"{FOLDER}/{slug(words)}.md"} for words in every_command()]
                entries[0] = {"Command line": pages}
    return config


def slug(words: str) -> str:
    return words.replace(" ", "-")


def index_page() -> str:
    """All commands, in the order of the work."""
    rows = [f"| [`facekd {words}`]({slug(words)}.md) | {about} |" for words, about in every_command().items()]
    return "\n".join(
        [
            "# Command line",
            "",
            "These pages are generated from the commands themselves: what stands here is what `--help` says.",
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
            "What all commands share is told in [settings, exit codes and JSON](../settings.md).",
            "",
        ]
    )


def command_page(words: str) -> str:
    """One command: usage, text, examples, a table of flags for each panel of --help."""
    app = chosen = build_app(*words.split())
    for word in words.split():
        chosen = chosen[word]
    text, examples = split_examples(docstring(words))
    flags = chosen.assemble_argument_collection(default_parameter=app.default_parameter, parse_docstring=True)
    lines = [f"# facekd {words}", "", text, ""]
    if examples:
        lines += ["```sh", *examples, "```", ""]
    for group in sorted(flags.groups, key=lambda group: group.sort_key or 0):
        panel = create_parameter_help_panel(group, flags.filter_by(group=group), "plaintext")
        if not panel.entries:
            continue
        lines += [f"## {group.name}", "", "| flag | value | what it is |", "|---|---|---|"]
        lines += [row(entry) for entry in panel.entries]
        lines.append("")
    return "\n".join(lines)


def row(entry: Any) -> str:
    names = [entry.positional_label] if entry.positional_label else list(entry.positive_names)
    flag = " ".join(f"`{name}`" for name in names)
    if entry.choices:
        value = ", ".join(f"`{one}`" for one in entry.choices)
    else:
        value = f"`{entry.metavar}`" if entry.metavar else ""
    told = cell(entry.description.primary_renderable.plain)
    if entry.required:
        told += " **Required.**"
    elif entry.default not in (None, "None", "False"):
        told += f" Default: `{entry.default}`."
    return f"| {flag} | {value} | {told} |"


def cell(text: str) -> str:
    """Text for a cell of a table, its signs as they are."""
    return escaped(" ".join(text.split())).replace("|", "\\|")


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([*_`\[\]])", r"\\\1", html.escape(text, quote=False))


def docstring(words: str) -> str:
    """The docstring of a command, without its arguments."""
    *first, last = words.split()
    target = (GROUPS[first[0]][1] if first else COMMANDS)[last][0]
    module, name = target.split(":")
    text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
    return text.split("\nArgs:")[0].strip()


def split_examples(text: str) -> tuple[str, list[str]]:
    """The text as Markdown, and its example lines."""
    told: list[str] = []
    examples: list[str] = []
    for block in text.split("\n\n"):
        if block.startswith("Example:"):
            examples.append(" ".join(block.removeprefix("Example:").split()))
        elif re.match(r"\w+: [{\[]", block):  # a line of YAML
            told.append(f"```yaml\n{block}\n```")
        else:
            told.append(escaped(block))
    return "\n\n".join(told).replace("\n```\n\n```yaml", ""), examples
