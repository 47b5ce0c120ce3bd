"""What a student learns from its teacher: tensors in, a scalar out; the arguments are left as they are.

The teacher's side never gets a gradient.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def softened_logits(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher/T ‖ student/T), mean over the batch, in nats; zero where the two agree.

    T² keeps the gradient's size as T grows. Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in
    a Neural Network", arXiv 1503.02531, section 2.

    Args:
        student_BC: float[B, C] logits.
        teacher_BC: float[B, C] logits over the same classes in the same order.
        temperature: T > 0.
    """
    student = F.log_softmax(student_BC / temperature, dim=1)
    teacher = F.log_softmax(teacher_BC.detach() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def embedding_mse(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """Mean over the batch of ‖ŝ − t̂‖², the squared distance of the unit vectors: 2 − 2 cos, in [0, 4].

    On unit vectors, because embeddings are compared by angle and a length would drown it.

    Args:
        student_BD: float[B, D] embeddings of any length.
        teacher_BD: float[B, D], the same crops' views.
    """
    difference = F.normalize(student_BD) - F.normalize(teacher_BD.detach())
    return difference.square().sum(dim=1).mean()
