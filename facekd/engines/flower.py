"""Tasks for sites by Flower: its simulation on this machine, its SuperLink and SuperNodes for real ones.

What travels is weights by name, a few numbers, and a sentence where a site can't do what it is asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from facekd.core.types import Array
from facekd.engines.answers import Ask, SiteAnswer
from facekd.errors import UserError

ARRAYS, TASK, NUMBERS = "arrays", "task", "numbers"  # names of records in a message
LONGEST = 500  # characters of a site's name, or of what it can't do
FAILED = 100  # Flower's code is for its own errors; a site's sentence comes as one of this number

# task, what all do alike as JSON, first step, arrays, the site's own settings -> arrays, numbers
Work: TypeAlias = (
    "Callable[[str, str, int, dict[str, Array], Mapping[str, Any]], tuple[dict[str, Array], dict[str, float]]]"
)


def site_app(work: Work, secure: bool = False) -> ClientApp:
    """What runs at a site.

    Args:
        work: may raise UserError, whose sentence goes to the coordinator; picklable.
        secure: weights leave masked, see `engines.secure`.
    """
    if secure:
        from facekd.engines.secure import masked

        app = ClientApp(mods=[masked])
    else:
        app = ClientApp()
    app.train()(partial(_serve, work, secure))
    return app


def _serve(work: Work, secure: bool, message: Message, context: Context) -> Message:
    if secure:
        from facekd.engines.secure import serve_masked

        return serve_masked(work, message, context, site_name(context))
    task = message.content[TASK]
    assert isinstance(task, ConfigRecord)
    records = message.content[ARRAYS]
    assert isinstance(records, ArrayRecord)
    arrays = {name: array.numpy() for name, array in records.items()}
    site = site_name(context)
    try:
        changed, numbers = work(
            str(task["asked"]), str(task["assignment"]), int(task["step"]), arrays, context.node_config
        )
    except UserError as error:
        return Message(Error(FAILED, f"{site}\n{error}"), reply_to=message)
    content = RecordDict(
        {
            ARRAYS: _packed(changed),
            TASK: ConfigRecord({"site": site}),
            NUMBERS: MetricRecord({name: float(value) for name, value in numbers.items()}),
        }
    )
    return Message(content, reply_to=message)


def site_name(context: Context) -> str:
    """A site's name: its own ``name`` of ``--node-config``, or its number in a simulation."""
    config = context.node_config
    if "name" in config:
        return str(config["name"])
    return f"site {int(config['partition-id']) + 1}" if "partition-id" in config else f"node {context.node_id}"


def asker_of(grid: Grid, context: Context, assignment: str, minutes: float, secure: bool) -> Ask:
    """A function that puts a task to all sites, in the open or so that only the mean of their answers is seen."""
    if secure:
        from facekd.engines.secure import secure_asker

        return secure_asker(grid, context, assignment, minutes)
    return asker(grid, assignment, minutes)


def asker(grid: Grid, assignment: str, minutes: float) -> Ask:
    """A function that puts a task to all sites that are connected, and waits for their answers."""

    def ask(asked: str, arrays: Mapping[str, Array], step: int) -> list[SiteAnswer]:
        nodes = list(grid.get_node_ids())
        content = RecordDict(
            {
                ARRAYS: _packed(arrays),
                TASK: ConfigRecord({"asked": asked, "assignment": assignment, "step": step}),
            }
        )
        messages = [
            Message(content, dst_node_id=node, message_type=MessageType.TRAIN, ttl=60 * minutes + 60) for node in nodes
        ]
        replies = list(grid.send_and_receive(messages, timeout=60 * minutes))
        answers = [_answer(reply) for reply in replies]
        late = len(nodes) - len(replies)
        missing = f"no answer in {minutes:g} minutes"
        return answers + [SiteAnswer(f"one of {len(nodes)} sites", problem=missing) for _ in range(late)]

    return ask


def wait_for_sites(grid: Grid, count: int, minutes: float, say: Callable[[str], None]) -> None:
    """Return once `count` sites are connected.

    Raises:
        UserError: they are not in time.
    """
    end, seen = time.monotonic() + 60 * minutes, -1
    while True:
        here = len(list(grid.get_node_ids()))
        if here != seen:
            say(f"{here} of {count} sites are connected")
            seen = here
        if here >= count:
            return
        if time.monotonic() > end:
            raise UserError(
                f"{here} of {count} sites connected in {minutes:g} minutes; start the others, or lower --sites"
            )
        time.sleep(1)


def simulate(
    sites: int, assignment: str, coordinate: Callable[[Ask], None], work: Work, minutes: float, secure: bool
) -> None:
    """Run a coordinator and sites on this machine, by Flower's simulation in a Ray cluster of its own.

    A site takes one core; as many work at once as there are cores.

    Raises:
        UserError: what `coordinate` raises, and where nothing can be started.
    """
    from flwr.simulation import run_simulation

    from facekd.engines.ray import connected

    app = ServerApp()
    raised: list[BaseException] = []

    def main(grid: Grid, context: Context) -> None:
        try:
            coordinate(asker_of(grid, context, assignment, minutes, secure))
        except BaseException as error:  # Flower would log it as its own
            raised.append(error)

    app.main()(main)
    with _silent(), connected():
        run_simulation(
            server_app=app,
            client_app=site_app(work, secure),
            num_supernodes=sites,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    if raised:
        raise raised[0]


def _packed(arrays: Mapping[str, Array]) -> ArrayRecord:
    from flwr.app import Array as Packed

    return ArrayRecord({name: Packed(value) for name, value in arrays.items()})


def _answer(reply: Message) -> SiteAnswer:
    node = f"node {reply.metadata.src_node_id}"
    if reply.has_error():
        site, _, problem = (reply.error.reason or "").rpartition("\n")
        own = reply.error.code == FAILED
        return SiteAnswer(site if own else node, problem=problem.strip()[:LONGEST] or "it stopped", node=node)
    try:
        task, packed, numbers = (reply.content[name] for name in (TASK, ARRAYS, NUMBERS))
        assert isinstance(task, ConfigRecord)
        assert isinstance(packed, ArrayRecord)
        assert isinstance(numbers, MetricRecord)
        arrays = {name: array.numpy() for name, array in packed.items()}
        assert all(isinstance(array, np.ndarray) for array in arrays.values())  # an archive of them is read as well
        values = {name: float(value) for name, value in numbers.items()}
        return SiteAnswer(str(task["site"])[:LONGEST], arrays, values, node=node)
    except Exception as error:  # a site may send anything
        return SiteAnswer(node, problem=f"its answer can't be read ({type(error).__name__})", node=node)


@contextmanager
def _silent() -> Iterator[None]:
    """What Flower has to say is in its answers; it would print a page for each round."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
