"""Secure aggregation, Flower's SecAgg+: the coordinator learns the mean of what the sites computed, of no site its own.

Source: J. H. Bell et al., "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020 (SecAgg+), as
Flower has it. Sites mask what they send by keys that they agree on in pairs; in the sum the masks cancel, also those of
a site that leaves on the way. Each site counts alike, so that nobody learns how many crops it has; its mean loss is
sent openly. Numbers are rounded to STEP of a tensor's largest weight, at least of 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message
from flwr.client.mod import secaggplus_mod as masked
from flwr.common import FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.typing import Code
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.serverapp import Grid

from facekd.core.types import Array
from facekd.engines.answers import Ask, SiteAnswer
from facekd.errors import UserError

__all__ = ["masked", "secure_asker", "serve_masked"]

RANGE = 8.0  # a change of more than so many times a tensor's largest weight is cut off
LEVELS = 2**22
STEP = 2 * RANGE / LEVELS
TRIES = 8  # for what norms see to settle, each of which goes up to nine times as far; a site that lies never does
NORMS = ("running_mean", "running_var")
SENTENCE = re.compile(r"<<(.*?)\n(.*?)>>", re.DOTALL)  # in an error of Flower's, which carries nothing else


def secure_asker(grid: Grid, context: Context, assignment: str, minutes: float) -> Ask:
    """As `engines.flower.asker`, with one answer for all sites together: the mean of theirs."""

    def ask(asked: str, arrays: Mapping[str, Array], step: int, tries: int = TRIES) -> list[SiteAnswer]:
        nodes = list(grid.get_node_ids())
        config = {"asked": asked, "assignment": assignment, "step": step, "names": json.dumps(list(arrays))}
        task = FitIns(ndarrays_to_parameters(list(arrays.values())), config)
        round_ = _OneRound([(GridClientProxy(node, grid, context.run_id), task) for node in nodes])
        legacy = LegacyContext(context, strategy=round_)
        legacy.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: step + 1})
        legacy.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(task.parameters, True)
        workflow = SecAggPlusWorkflow(
            1.0, 0.5, max_weight=1.0, clipping_range=RANGE, quantization_range=LEVELS, timeout=60 * minutes
        )
        try:
            workflow(grid, legacy)
        except Exception as error:  # Flower takes on trust what a site sends
            return [
                SiteAnswer(
                    "all sites together", problem=f"what one of them sent can't be read ({type(error).__name__})"
                )
            ]
        answers = [SiteAnswer(*_sentence(failure)) for failure in round_.failures]
        if round_.results:
            names = _sent_back(asked, arrays)
            mean = parameters_to_ndarrays(round_.results[0].parameters)
            if [value.shape for value in mean] != [arrays[name].shape for name in names]:
                return [*answers, SiteAnswer("all sites together", problem="their weights are of another network")]
            changed = {
                name: (arrays[name] + value * _scale(arrays[name])).astype(np.float32)
                for name, value in zip(names, mean, strict=True)
            }
            told: list[dict[str, Any]] = [result.metrics for result in round_.results]
            cut = 0.9 * RANGE / len(told)  # what one site alone makes of the mean where its own change was cut off
            if asked == "settle" and max(float(np.abs(value).max(initial=0.0)) for value in mean) > cut:
                # What norms see can be far from what the last weights saw: again, from where it came to.
                if tries > 1:
                    return ask(asked, {**arrays, **changed}, step, tries - 1)
                return [
                    SiteAnswer("all sites together", problem=f"what their norms see did not settle in {TRIES} tries")
                ]
            # A site tells what it can: one without held-out pairs knows no rates.
            known = [{k: float(v) for k, v in one.items() if isinstance(v, int | float)} for one in told]
            said = dict.fromkeys(key for one in known for key in one)
            numbers = {name: fmean(one[name] for one in known if name in one) for name in said}
            answers.append(SiteAnswer("all sites together", changed, {**numbers, "crops": 1.0}, sites=len(told)))
        elif not answers:
            answers = [SiteAnswer("all sites together", problem="too few of them answered for the masks to cancel")]
        return answers

    return ask


def serve_masked(work: Any, message: Message, context: Context, site: str) -> Message:
    """What a site computes and `masked` hides.

    Raises:
        RuntimeError: of a UserError's sentence; Flower tells the coordinator of it.
    """
    task = compat.recorddict_to_fitins(message.content, keep_input=True)
    names = json.loads(str(task.config["names"]))
    arrays = dict(zip(names, parameters_to_ndarrays(task.parameters), strict=True))
    asked = str(task.config["asked"])
    try:
        changed, numbers = work(
            asked, str(task.config["assignment"]), int(task.config["step"]), arrays, context.node_config
        )
        sent = [(changed[name] - arrays[name]) / _scale(arrays[name]) for name in _sent_back(asked, arrays)]
        if not all(np.isfinite(value).all() for value in sent):
            raise UserError("its weights are no finite numbers")  # it would spoil the sum, and nobody could say who
    except UserError as error:
        raise RuntimeError(f"<<{site}\n{error}>>") from error
    told = {name: float(value) for name, value in numbers.items() if name != "crops"}
    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(sent), 1, told)
    return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=message)


class _OneRound(FedAvg):  # type: ignore[misc]
    """What Flower's workflow asks: whom, and what becomes of their sum."""

    def __init__(self, tasks: list[tuple[GridClientProxy, FitIns]]) -> None:
        super().__init__()
        self.tasks = tasks
        self.results: list[FitRes] = []
        self.failures: list[BaseException] = []

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        return self.tasks

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        self.results, self.failures = [result for _, result in results], list(failures)
        return None, {}


def _sent_back(asked: str, arrays: Mapping[str, Array]) -> list[str]:
    """The names of what a site answers, in order."""
    return [name for name in arrays if asked == "train" or name.endswith(NORMS)]


def _scale(array: Array) -> float:
    return max(1.0, float(np.abs(array).max(initial=0.0)))


def _sentence(failure: BaseException) -> tuple[str, dict[str, Array], dict[str, float], str]:
    found = SENTENCE.search(str(failure))
    site, problem = found.groups() if found else ("a site", "it left on the way")
    return site, {}, {}, problem
