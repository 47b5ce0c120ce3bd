"""A report before it is written: what its page, its Markdown and the terminal show, all from the same objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from facekd.console import say, table
from facekd.core.files import write_json, write_text
from facekd.core.printable import printable_line
from facekd.core.types import Rate
from facekd.evaluation.results import Cost, plain, rate_of
from facekd.reports import plots
from facekd.reports.document import Block, Figure, Repeat, Section, Table, to_markdown, write_html

Interval: TypeAlias = tuple[float, float | None, float | None]  # a rate, and its 95 % interval


@dataclass(frozen=True, slots=True)
class Page:
    """A report before it is written."""

    title: str
    lead: str  # the one sentence that says how it came out
    terminal: tuple[Table, ...]
    sections: Sequence[Section]
    commands: tuple[str, ...]  # that do it again
    environment: Mapping[str, Any]
    lines: tuple[str, ...] = ()  # said below the tables at the terminal

    def publish(
        self, result: Any, out: Path, json: Path | None, html: Path | None, quiet: bool, name: str = "report.json"
    ) -> None:
        """Write the result as JSON and the page as HTML and Markdown into `out`, and say at the terminal what came out.

        Args:
            result: a dataclass of results.
            json, html: further files of these kinds.
            name: the JSON file's in `out`.
        """
        for path in filter(None, [out / name, json]):
            write_json(path, plain(result))
        parts: dict[str, Any] = {"title": self.title, "lead": self.lead, "sections": self.sections}
        parts["repeat"] = Repeat(self.commands, self.environment)
        pages = [out / "report.html", *filter(None, [html])]
        for path in pages:
            write_html(path, **parts)
        write_text(out / "report.md", to_markdown(**parts))
        for one in self.terminal:
            table(one.caption, list(one.columns), [list(row) for row in one.rows], quiet)
            if one.note and not quiet:
                print(printable_line(one.note))
        if not quiet:
            print(printable_line(self.lead))  # the tables above have no room for intervals
        for line in (*self.lines, f"report: {pages[-1]}"):
            say(line, quiet)


def cost_blocks(costs: Sequence[Cost], rates: Sequence[Interval | None], label: str) -> tuple[Block, ...]:
    """What each model costs, and a rate of each against its latency.

    Args:
        rates: of each model; None where it has no such number.
        label: what the rate is.
    """
    if not costs:
        return ()
    rows, points = [], []
    for cost, shown in zip(costs, rates, strict=True):
        macs = "–" if cost.macs is None else f"{cost.macs / 1e6:.0f} M"
        sizes = (f"{cost.parameters / 1e6:.3f} M", macs, f"{cost.bytes / 1e6:.2f} MB")
        rows.append((cost.model, *sizes, f"{cost.latency_ms:.1f} ms", f"{cost.crops_per_second:.0f}/s"))
        if shown is not None:
            points.append(plots.CostPoint(cost.model, cost.latency_ms, *shown))
    columns = ("model", "parameters", "multiply-adds", "file", "one crop", "crops, 32 at once")
    note = "Times are medians on this machine, from the crop's pixels to its embedding."
    listed = Table("Cost", columns, tuple(rows), note)
    if not points:
        return (listed,)
    return listed, Figure(plots.cost(points, x_label="Time of one crop (ms)", y_label=label), f"{label} against cost")


def interval_at(rates: Sequence[Rate], far: float | None) -> Interval | None:
    """TAR at a FAR with its interval, where there is one."""
    rate = rate_of(rates, far)
    return None if rate is None or rate.tar is None else (rate.tar, rate.low, rate.high)
