"""AdaDistill: the student learns on class centers that follow the teacher's embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from facekd.losses.heads import arcface


def moved_centers(
    centers_CD: Tensor, student_BD: Tensor, teacher_BD: Tensor, labels_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the centers of the identities in a batch move: w ← α w + (1 − α) t̂, mean over an identity's crops.

    α = cos(s, t) · cos(w, t), held in [0, 1]: while the student is far from its teacher the center is the teacher's
    embedding of the very crop, later it becomes the identity's steady mean, to which an unusual crop adds little.
    Source: F. Boutros, V. Štruc, N. Damer, "AdaDistill", arXiv 2407.01332, section 3.

    Args:
        centers_CD: float[C, D]; zero where an identity was not seen yet.
        labels_B: int64[B]; crops with -1 move nothing.

    Returns:
        int64[I] identities and float[I, D] their new centers, without gradient.
    """
    with torch.no_grad():
        known = labels_B >= 0
        labels, student, teacher = labels_B[known], student_BD[known], F.normalize(teacher_BD[known].to(centers_CD))
        old = centers_CD[labels]
        nearness = F.cosine_similarity(student.to(centers_CD), teacher) * F.cosine_similarity(old, teacher).clamp(min=0)
        keep = nearness.clamp(0, 1)[:, None]
        new = keep * old + (1 - keep) * teacher
        found = labels.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
        identities, place, count = found
        total = torch.zeros_like(centers_CD[identities]).index_add_(0, place, new)
        return identities, total / count[:, None]


def on_centers(
    student_BD: Tensor, centers_CD: Tensor, labels_B: Tensor, *, margin_rad: float = 0.45, scale: float = 64.0
) -> Tensor:
    """ArcFace of the student's embeddings on centers that do not learn; margin and scale are AdaDistill's.

    Args:
        student_BD: float[B, D] embeddings of any length.
        centers_CD: float[C, D] of any length; they get no gradient.
        labels_B: int64[B]; crops with -1 are left out.
    """
    wide = student_BD.float() if student_BD.dtype in (torch.float16, torch.bfloat16) else student_BD
    cosines = F.linear(F.normalize(wide), F.normalize(centers_CD.detach().to(wide)))
    return arcface(cosines, labels_B, margin_rad=margin_rad, scale=scale)
