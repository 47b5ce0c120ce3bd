"""What a student learns from how its teacher's embeddings stand to each other within a batch.

The two may have different lengths of embedding. All work on unit vectors, because faces are compared by angle; half
precision is computed in float32; the teacher's side never gets a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # at which EKD's thresholds are set


def rkd_distance(student_BD: Tensor, teacher_BE: Tensor) -> Tensor:
    """RKD-D: Huber's function of the difference of two crops' distances, mean over all pairs.

    Each side's distances are divided by their mean. Source: W. Park et al., "Relational Knowledge Distillation",
    arXiv 1904.05068, section 3.2.1. A batch of one crop gives zero.

    Args:
        student_BD: float[B, D] embeddings of any length.
        teacher_BE: float[B, E], the same crops' views.
    """
    if len(student_BD) < 2:
        return student_BD.sum() * 0
    student, teacher = F.pdist(_unit(student_BD)), F.pdist(_unit(teacher_BE.detach()))
    tiny = torch.finfo(student.dtype).eps
    return F.smooth_l1_loss(student / student.mean().clamp(min=tiny), teacher / teacher.mean().clamp(min=tiny))


def rkd_angle(student_BD: Tensor, teacher_BE: Tensor) -> Tensor:
    """RKD-A: Huber's function of the difference of the cosines at the middle of three crops, mean over all triplets.

    Source: as `rkd_distance`, section 3.2.2. Memory grows with B²·(B + D). A batch under three crops gives zero.
    """
    count = len(student_BD)
    if count < 3:
        return student_BD.sum() * 0
    student, teacher = _angles(_unit(student_BD)), _angles(_unit(teacher_BE.detach()))
    apart = ~torch.eye(count, dtype=torch.bool, device=student.device)
    three = apart[:, :, None] & apart[:, None, :] & apart[None, :, :]  # the middle, one end, the other end
    return F.smooth_l1_loss(student[three], teacher[three])


def similarity_preserving(student_BD: Tensor, teacher_BE: Tensor) -> Tensor:
    """SP: ‖G_s − G_t‖² / B² of the batch's cosines, each row at unit length.

    Source: F. Tung, G. Mori, "Similarity-Preserving Knowledge Distillation", arXiv 1907.09682, section 3, here
    on unit embeddings in place of a layer's activations.
    """
    student, teacher = _unit(student_BD), _unit(teacher_BE.detach())
    difference = F.normalize(student @ student.T) - F.normalize(teacher @ teacher.T)
    return difference.square().sum() / len(student_BD) ** 2


def negative_thresholds(embeddings_BD: Tensor, labels_B: Tensor, fars: tuple[float, ...] = FARS) -> Tensor:
    """float[len(fars)]: cosines that a share `far` of the batch's pairs of different people reaches, without gradient.

    A FAR under one pair's share gives the highest cosine. A batch without such a pair gives NaN.
    """
    cosines, same, known = _pairs(embeddings_BD.detach(), labels_B)
    negatives = cosines[known & ~same].sort(descending=True).values
    if len(negatives) == 0:
        return torch.full((len(fars),), torch.nan, dtype=cosines.dtype, device=cosines.device)
    return negatives[[int(len(negatives) * far) for far in fars]]


def evaluation_oriented(
    student_BD: Tensor,
    teacher_BE: Tensor,
    labels_B: Tensor,
    student_thresholds_K: Tensor,
    teacher_thresholds_K: Tensor,
    temperature: float = 0.01,
    hardest: int = 2000,
) -> Tensor:
    """EKD: a pair is to pass as many thresholds in the student as in the teacher, counted softly.

    The squared difference of the counts, mean over the pairs of one person, and half of that over the `hardest` pairs
    of different people (by the student's cosine). Only relations that would change TAR or FAR cost anything: a pair
    may stand anywhere between the same two thresholds. Source: Y. Huang et al., "Evaluation-oriented Knowledge
    Distillation for Deep Face Recognition", CVPR 2022; the authors' code weighs the two 0.02 and 0.01, so that its
    weight here is 0.02.

    Args:
        labels_B: int64[B]; a pair with -1 is left out.
        student_thresholds_K: cosines at falling FARs, as `negative_thresholds` gives them for the student.
        teacher_thresholds_K: the same for the teacher.
        temperature: cosines over which a pair goes from under a threshold to above it.
    """
    student, same, known = _pairs(student_BD, labels_B)
    teacher, _, _ = _pairs(teacher_BE.detach(), labels_B)
    passed = torch.sigmoid((student[:, None] - student_thresholds_K) / temperature).sum(1)
    wanted = torch.sigmoid((teacher[:, None] - teacher_thresholds_K) / temperature).sum(1)
    squares = (passed - wanted).square()
    positives, negatives = squares[known & same], known & ~same
    hard = student[negatives].detach().topk(min(hardest, int(negatives.sum()))).indices
    hard_squares = squares[negatives][hard]
    return positives.sum() / max(len(positives), 1) + hard_squares.sum() / max(len(hard_squares), 1) / 2


def _unit(embeddings_BD: Tensor) -> Tensor:
    wide = embeddings_BD.float() if embeddings_BD.dtype in (torch.float16, torch.bfloat16) else embeddings_BD
    return F.normalize(wide)


def _angles(points_BD: Tensor) -> Tensor:
    """float[B, B, B]: the cosine at point j between the directions to points i and k, at [j, i, k]."""
    toward = points_BD[None, :, :] - points_BD[:, None, :]
    length = toward.norm(dim=2, keepdim=True)
    apart = length > 1e-6  # two crops in one place have no direction between them, nor a slope
    toward = torch.where(apart, toward / length.where(apart, 1.0), 0.0)
    return toward @ toward.transpose(1, 2)


def _pairs(embeddings_BD: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each pair i < j: its cosine, whether it is of one person, and whether both labels are known."""
    unit = _unit(embeddings_BD)
    left, right = torch.triu_indices(len(unit), len(unit), 1, device=unit.device)
    known = (labels_B[left] >= 0) & (labels_B[right] >= 0)
    return (unit @ unit.T)[left, right], labels_B[left] == labels_B[right], known
