"""What a person at a terminal sees: progress on stderr, tables on stdout, nothing with --quiet.

Names of files and people come from outside: what could steer a terminal is printed as an escape, here for all commands.

rich is loaded by what needs it: a first embedding takes half a second, and rich would take a tenth of that.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from facekd.core.printable import printable_line

T = TypeVar("T")
PLAIN_EVERY = 10.0  # seconds between lines where stderr is no terminal


def say(text: str, quiet: bool = False) -> None:
    """One line to stderr."""
    if not quiet:
        print(printable_line(text), file=sys.stderr, flush=True)


def say_first(lines: Sequence[str], most: int, quiet: bool, where: str = "") -> None:
    """The first of some lines, indented, and how many more there are, with `where` they stand."""
    for line in lines[:most]:
        say(f"  {line}", quiet)
    if len(lines) > most:
        say(f"  … and {len(lines) - most} more{where}", quiet)


def progress(
    items: Iterable[T],
    total: int,
    label: str,
    quiet: bool = False,
    *,
    unit: int = 1,
    before: int = 0,
    cost: Callable[[int], float] | None = None,
    tell: Callable[[T], str] | None = None,
) -> Iterator[T]:
    """`items`, with a bar on a terminal, a line every ten seconds elsewhere, nothing when quiet.

    Args:
        total: how many things there are in all; each item stands for `unit` of them.
        before: how many of them were done by an earlier run.
        cost: of the item at a place, in any unit, where items take unlike long: the time left goes by it.
        tell: words about the item that was done last, to be shown with it.
    """
    if quiet:
        yield from items
        return
    start = last = time.monotonic()
    spent, ahead = 0.0, (total - before) / unit if cost is None else sum(map(cost, range(before, total)))

    def left() -> str:
        seconds = (time.monotonic() - start) / spent * max(0.0, ahead - spent)
        return f"{timedelta(seconds=round(seconds))} left"

    if sys.stderr.isatty():
        from rich.console import Console, RenderableType
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Told(Progress):
            """With the words below the bar, where a narrow terminal has room for them: beside it, they push it out."""

            def get_renderables(self) -> Iterator[RenderableType]:
                yield self.make_tasks_table(self.tasks)
                yield from (Text(task.fields["words"]) for task in self.tasks if task.fields["words"])

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *([] if cost else [TimeRemainingColumn()]),
        )
        with Told(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total, completed=before, words="")
            for place, item in enumerate(items, before):
                yield item
                spent += 1 if cost is None else cost(place)
                words = [*([left()] if cost else []), *([printable_line(tell(item))] if tell else [])]
                bar.update(task, advance=unit, words="; ".join(words))
    else:
        for done, item in enumerate(items, 1):
            yield item
            spent += 1 if cost is None else cost(before + done - 1)
            now = time.monotonic()
            if now - last > PLAIN_EVERY:
                last = now
                line = f"{label}: {min(before + done * unit, total)} of {total}, {now - start:.0f} s"
                if tell:
                    line += f", {left()}; {tell(item)}"
                say(line)


_kept: list[dict[str, Any]] | None = None


@contextlib.contextmanager
def tables_kept() -> Iterator[list[dict[str, Any]]]:
    """The tables of what is done inside, as title and rows by column, in place of printing them."""
    global _kept
    kept: list[dict[str, Any]] = []
    _kept = kept
    try:
        yield kept
    finally:
        _kept = None


def table(title: str, columns: list[str], rows: list[list[str]], quiet: bool = False, *, figures: bool = True) -> None:
    """A table on stdout; its first column is text, the others are figures unless told otherwise."""
    if _kept is not None:
        _kept.append({"title": title, "rows": [dict(zip(columns, row, strict=True)) for row in rows]})
        return
    if quiet:
        return
    from rich.console import Console
    from rich.table import Table

    print(printable_line(title), flush=True)
    shown = Table()
    for i, column in enumerate(columns):
        shown.add_column(printable_line(column), justify="right" if figures and i > 0 else "left", overflow="fold")
    for row in rows:
        shown.add_row(*map(printable_line, row))
    Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False).print(shown)
