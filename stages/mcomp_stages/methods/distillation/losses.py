"""Distances between what a student and a teacher say about the classes."""

# N = samples, C = classes
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, logsigmoid


def kd(student_NC: Tensor, teacher_NC: Tensor, temperature: float) -> Tensor:
    """Return T^2 times the mean divergence KL(teacher || student) of logits softened by T, a scalar.

    The factor keeps the gradient's size independent of T (Hinton et al. 2015, arXiv:1503.02531, section 2.1).
    """
    student = log_softmax(student_NC / temperature, dim=1)
    teacher = log_softmax(teacher_NC / temperature, dim=1)
    return kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def dkd(
    student_NC: Tensor, teacher_NC: Tensor, target_N: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """Return T^2 * (alpha * TCKD + beta * NCKD), the mean over the batch, a scalar.

    TCKD compares the probability of the target class with that of all others together; NCKD compares the
    other classes among themselves (Zhao et al. 2022, arXiv:2203.08679, equations 5 to 7). With alpha = 1
    and beta = 1 - the teacher's probability of the target, sample by sample, this is `kd`.
    Needs at least two classes.
    """
    is_target_NC = torch.zeros_like(student_NC, dtype=torch.bool).scatter_(1, target_N[:, None], True)
    student, teacher = student_NC / temperature, teacher_NC / temperature
    target_term = kl_div(
        target_or_not(student, is_target_NC),
        target_or_not(teacher, is_target_NC),
        reduction="batchmean",
        log_target=True,
    )
    others_term = kl_div(
        log_softmax(without_target(student, is_target_NC), dim=1),
        log_softmax(without_target(teacher, is_target_NC), dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (alpha * target_term + beta * others_term) * temperature**2


def target_or_not(logits_NC: Tensor, is_target_NC: Tensor) -> Tensor:
    """Return the log-probabilities (N, 2) of the target class and of all the others together."""
    others_N = logits_NC.masked_fill(is_target_NC, -torch.inf).logsumexp(dim=1)
    margin_N = logits_NC[is_target_NC] - others_N
    # log(1 - p) from the margin: 1 - p itself would be zero for a sure teacher.
    return torch.stack([logsigmoid(margin_N), logsigmoid(-margin_N)], dim=1)


def without_target(logits_NC: Tensor, is_target_NC: Tensor) -> Tensor:
    """Return the logits of the other classes (N, C - 1), in their order."""
    return logits_NC[~is_target_NC].reshape(len(logits_NC), -1)
