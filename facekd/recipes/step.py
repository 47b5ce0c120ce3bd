"""A training step: what the networks say of a batch, and the losses of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.nets.heads import Head
from facekd.recipes.label_heads import head_loss
from facekd.recipes.teachers import check_finite
from facekd.recipes.terms import Seen, Tools, needs_of, term_table
from facekd.training.loop import Batch
from facekd.training.schedule import ramp

OWN = "teacher_labels"  # beside the terms: what a joint teacher learns by


def resized(images_BCHW: Tensor, side: int) -> Tensor:
    """The images in `side` × `side` pixels, fewer than they have or as many, each the mean of those it stands for."""
    if side == images_BCHW.shape[-1]:
        return images_BCHW
    smaller = F.interpolate(images_BCHW, (side, side), mode="area")
    return smaller.contiguous(memory_format=torch.channels_last)


def label_loss(
    forward: Callable[[Tensor], Tensor],
    head: Head,
    class_weights_C: Tensor | None,
    side_of: Callable[[int], int],
) -> Callable[[Batch], Mapping[str, Tensor]]:
    """A function from a batch to a teacher's loss on its labels.

    Args:
        forward: the teacher's call, plain or compiled.
        class_weights_C: how much a crop of each class counts; None is all alike.
        side_of: step -> side in pixels of the images that the teacher sees.
    """

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = forward(resized(batch.images_BCHW, side_of(batch.step))).float()
        with torch.autocast(embeddings.device.type, enabled=False):  # margins are small differences
            outputs = head(embeddings)
            return {"labels": head_loss(head, outputs, embeddings, batch.labels_B, class_weights_C)}

    return loss


def step_loss(
    terms: Mapping[str, float],
    rises: Mapping[str, int],
    tools: Tools,
    projection: nn.Module,
    forward: Callable[[Tensor], Tensor],
    side_of: Callable[[int], int],
) -> Callable[[Batch], Mapping[str, Tensor]]:
    """A function from a batch to a student's weighted terms; of a joint run also the teacher's own loss.

    Args:
        terms: their weights by name.
        rises: steps over which each weight rises from zero.
        projection: from the student's dimensions to the teacher's.
        forward: the student's call, plain or compiled.
        side_of: step -> side in pixels of the images that the student sees.
    """
    table, needs = term_table(), needs_of(terms)

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = forward(resized(batch.images_BCHW, side_of(batch.step))).float()
        mapped = projection(embeddings).float()
        outputs = logits = None
        if tools.head is not None:
            outputs = tools.head(embeddings).float()
            logits = tools.head.logits(outputs)
        taught, taught_logits, own = _ask(batch, tools, "logits" in needs)
        seen = Seen(embeddings, mapped, batch.labels_B, outputs, logits, taught, taught_logits)
        with torch.autocast(embeddings.device.type, enabled=False):  # terms are sums of small differences
            weighted = {
                name: weight * ramp(batch.step, rises[name]) * table[name].loss(seen, tools)
                for name, weight in terms.items()
            }
        return weighted | own

    return loss


def _ask(batch: Batch, tools: Tools, logits: bool) -> tuple[Tensor | None, Tensor | None, dict[str, Tensor]]:
    """The teacher's embeddings, its logits where they are wanted, and the loss that it learns by itself, if it does."""
    teacher = tools.teacher
    if teacher is None:
        return None, None, {}
    if not teacher.learns:
        taught = batch.teacher_BD
        if taught is None:
            assert batch.teacher_images_BCHW is not None
            taught = teacher.embed(batch.teacher_images_BCHW)
            check_finite(teacher, taught, batch.crop_ids)
        return taught, teacher.logits(taught).float() if logits else None, {}
    assert teacher.net is not None
    assert teacher.head is not None
    embeddings = teacher.net(batch.images_BCHW).float()
    outputs = teacher.head(embeddings).float()
    own = {OWN: head_loss(teacher.head, outputs, embeddings, batch.labels_B)}
    # Detached: the student follows the teacher, never the teacher the student.
    return embeddings.detach(), teacher.head.logits(outputs).detach() if logits else None, own
