"""What a student learns from its teacher's logits and embeddings: tensors in, a scalar out; arguments stay as they are.

The teacher's side never gets a gradient. Every term is zero where the two agree, save `hard_targets` and
`sigmoid_targets`, which keep the entropy of their targets.
"""

from __future__ import annotations

import torch
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


def hard_targets(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of the student's logits against the class that the teacher holds likeliest.

    The limit of softened targets as T goes to 0.
    """
    return F.cross_entropy(student_BC, teacher_BC.detach().argmax(dim=1))


def sigmoid_targets(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Binary cross-entropy against σ(teacher), each class a question of its own.

    Summed over classes, mean over the batch: that gives each logit the gradient (σ(student) − σ(teacher)) / B, of the
    size that softmax targets give.
    """
    targets = teacher_BC.detach().sigmoid()
    total = F.binary_cross_entropy_with_logits(student_BC, targets.to(student_BC), reduction="sum")
    return total / len(student_BC)


def decoupled(
    student_BC: Tensor,
    teacher_BC: Tensor,
    labels_B: Tensor,
    temperature: float,
    target_weight: float = 1.0,
    others_weight: float = 8.0,
) -> Tensor:
    """DKD: T² (α KL of own class against the rest + β KL among the others), mean over the labeled crops, in nats.

    Plain softened logits are α = 1 and β = the teacher's probability of the other classes, which a sure teacher
    makes vanish. Source: B. Zhao et al., "Decoupled Knowledge Distillation", arXiv 2203.08679, equation 7.

    Args:
        labels_B: int64[B]; crops with -1 are left out.
        target_weight: α; the paper's is 1.
        others_weight: β; the paper takes 0.5 to 10, 8 where the teacher is sure.
    """
    labeled = labels_B >= 0
    own = labels_B[labeled][:, None]
    student = F.log_softmax(student_BC[labeled] / temperature, dim=1)
    teacher = F.log_softmax(teacher_BC[labeled].detach() / temperature, dim=1)
    target = _kl(_own_and_rest(student, own), _own_and_rest(teacher, own))
    others = _kl(_among_others(student, own), _among_others(teacher, own))
    total = target_weight * target + others_weight * others
    return total.sum() * temperature**2 / labeled.sum().clamp(min=1)


def grouped(student_BC: Tensor, teacher_BC: Tensor, temperature: float, mass: float = 0.9) -> Tensor:
    """GKD: softened logits with the tail of the teacher's classes taken as one class, mean over the batch, in nats.

    The primary group is the fewest classes that hold `mass` of the teacher's softened probability. KL falls apart into
    primary, binary (primary against tail) and secondary (within the tail); the last, which a small student can't
    follow, is left out. Source: W. Zhao et al., "Grouped Knowledge Distillation for Deep Face Recognition",
    arXiv 2304.04462; the three parts have the weights of the decomposition, the value of `mass` is ours.
    """
    student = F.log_softmax(student_BC / temperature, dim=1)
    teacher = F.log_softmax(teacher_BC.detach() / temperature, dim=1)
    ranked, places = teacher.exp().sort(dim=1, descending=True)
    before = ranked.cumsum(1) - ranked  # what the likelier classes hold
    primary = torch.zeros_like(teacher, dtype=torch.bool).scatter(1, places, before < mass)
    head = (teacher.exp() * (teacher - student)).where(primary, 0.0).sum(1)
    tailed = ~primary.all(dim=1)
    no_tail = primary & tailed[:, None]  # a row without a tail keeps all classes here, and its sum is not used
    student_tail, teacher_tail = (x.masked_fill(no_tail, -torch.inf).logsumexp(1) for x in (student, teacher))
    rest = (teacher_tail.exp() * (teacher_tail - student_tail)).where(tailed, 0.0)
    return (head + rest).mean() * temperature**2


def likeliest(student_BC: Tensor, teacher_BC: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Both sides' logits of the `count` classes that the teacher holds likeliest, in its order: float[B, count] twice.

    With a hundred thousand identities the others carry next to nothing and cost memory.
    """
    top, places = teacher_BC.detach().topk(min(count, teacher_BC.shape[1]), dim=1)
    return student_BC.gather(1, places), top


def embedding_mse(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """Mean over the batch of ‖ŝ − t̂‖², the squared distance of the unit vectors: 2 − 2 cos, in [0, 4].

    On unit vectors, because embeddings are compared by angle and a length would drown it.

    Args:
        student_BD: float[B, D] embeddings of any length.
        teacher_BD: float[B, D], the same crops' views.
    """
    difference = F.normalize(student_BD) - F.normalize(teacher_BD.detach())
    return difference.square().sum(dim=1).mean()


def embedding_mse_raw(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """Mean over batch and dimensions of (s − t)², lengths included.

    Source: A. Romero et al., "FitNets", arXiv 1412.6550, equation 3, on the last layer.
    """
    return F.mse_loss(student_BD, teacher_BD.detach().to(student_BD))


def embedding_cosine(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """Mean over the batch of 1 − cos(s, t), in [0, 2]: half of `embedding_mse`."""
    return 1 - F.cosine_similarity(student_BD, teacher_BD.detach()).mean()


def embedding_huber(student_BD: Tensor, teacher_BD: Tensor, delta: float = 0.5) -> Tensor:
    """Mean over the batch of Huber's function of d = ‖ŝ − t̂‖: d²/2 up to `delta`, then delta (d − delta/2).

    A crop that the student can't follow at all pulls no harder than one at `delta` (0.5 is a cosine of 0.875).
    Source: P. Huber, "Robust Estimation of a Location Parameter", 1964.
    """
    square = (F.normalize(student_BD) - F.normalize(teacher_BD.detach())).square().sum(dim=1)
    near = square <= delta**2
    distance = square.where(~near, delta**2).sqrt()  # kept from 0, where its slope has no end
    return torch.where(near, square / 2, delta * (distance - delta / 2)).mean()


def _kl(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """float[B]: Σ p (log p − log q) of log-probabilities; a place where both are 0 counts nothing."""
    return (teacher_BC.exp() * (teacher_BC - student_BC)).sum(1)


def _own_and_rest(logs_BC: Tensor, own_B1: Tensor) -> Tensor:
    """float[B, 2] log-probabilities of the own class and of all others together."""
    rest = logs_BC.scatter(1, own_B1, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([logs_BC.gather(1, own_B1), rest], 1)


def _among_others(logs_BC: Tensor, own_B1: Tensor) -> Tensor:
    """float[B, C] log-probabilities given that it is another class than the own, whose place holds 0."""
    rest = logs_BC.scatter(1, own_B1, -torch.inf).logsumexp(1, keepdim=True)
    return (logs_BC - rest).scatter(1, own_B1, 0.0)
