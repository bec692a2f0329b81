"""Distances between what a student and a teacher give for each sample of a batch, (N,)."""

# N = samples, C = classes, O = numbers of an output
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, kl_div, log_softmax, logsigmoid, softmax

STANDARD_DEVIATION_FLOOR = 1e-7
CORRELATION_FLOOR = 1e-8


def kd(student_NC: Tensor, teacher_NC: Tensor, temperature: float) -> Tensor:
    """Return T^2 times the divergence KL(teacher || student) of logits softened by T, (N,).

    The factor keeps the gradient's size independent of T (Hinton et al. 2015, arXiv:1503.02531, section 2.1).
    """
    student = log_softmax(student_NC / temperature, dim=1)
    teacher = log_softmax(teacher_NC / temperature, dim=1)
    return divergence(student, teacher) * temperature**2


def dkd(
    student_NC: Tensor, teacher_NC: Tensor, target_N: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """Return T^2 * (alpha * TCKD + beta * NCKD), (N,).

    TCKD compares the probability of the target class with that of all others together; NCKD compares the
    other classes among themselves (Zhao et al. 2022, arXiv:2203.08679, equations 5 to 7). With alpha = 1
    and beta = 1 - the teacher's probability of the target, sample by sample, this is `kd`.
    Needs at least two classes.
    """
    # Both at once: on logits of few classes each operation costs the same, however large it is.
    both_2NC = torch.stack([student_NC, teacher_NC]) / temperature
    others_2NO = both_2NC.gather(2, other_classes(target_N, student_NC.shape[1]).expand(2, -1, -1))
    rest_2N1 = others_2NO.logsumexp(dim=2, keepdim=True)
    margin_2N1 = both_2NC.gather(2, target_N[:, None].expand(2, -1, -1)) - rest_2N1
    # log(1 - p) from the margin: 1 - p itself would be zero for a sure teacher.
    target_term = divergence(*logsigmoid(torch.cat([margin_2N1, -margin_2N1], dim=2)))
    others_term = divergence(*(others_2NO - rest_2N1))
    return (alpha * target_term + beta * others_term) * temperature**2


def dist(student_NC: Tensor, teacher_NC: Tensor, temperature: float, inter: float, intra: float) -> Tensor:
    """Return T^2 * (inter * d(samples) + intra * d(classes)), (N,): 1 minus correlations of probabilities.

    d(samples) correlates the classes of each sample, d(classes) the samples of each class and is the same for
    the whole batch (Huang et al. 2022, arXiv:2205.10536, equations 9 to 11). A class or sample without any
    spread correlates with nothing.
    """
    student, teacher = softmax(student_NC / temperature, dim=1), softmax(teacher_NC / temperature, dim=1)
    of_samples_N = 1 - correlation(student, teacher, dim=1)
    of_classes = (1 - correlation(student, teacher, dim=0)).mean()
    return (inter * of_samples_N + intra * of_classes) * temperature**2


def squared_error(student_NO: Tensor, teacher_NO: Tensor) -> Tensor:
    """Return the mean squared difference of each sample's numbers, (N,)."""
    return (student_NO - teacher_NO).square().flatten(1).mean(dim=1)


def cosine_distance(student_NO: Tensor, teacher_NO: Tensor) -> Tensor:
    """Return 1 minus the cosine of each sample's whole outputs, (N,)."""
    return 1 - cosine_similarity(student_NO.flatten(1), teacher_NO.flatten(1), dim=1)


def standardized(logits_NC: Tensor) -> Tensor:
    """Return logits with mean 0 and deviation 1 in each sample (Sun et al. 2024, arXiv:2403.01427, eq. 8).

    A distance of them does not see how large the logits are, so a small student need not match that.
    Differs: the floor of the deviation is inside the root, so that equal logits have a gradient.
    """
    centred = logits_NC - logits_NC.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / (logits_NC.shape[1] - 1)
    return centred / (variance + STANDARD_DEVIATION_FLOOR**2).sqrt()


def divergence(log_student_NC: Tensor, log_teacher_NC: Tensor) -> Tensor:
    """Return KL(teacher || student) of log-probabilities over axis 1, (N,)."""
    return kl_div(log_student_NC, log_teacher_NC, reduction="none", log_target=True).sum(dim=1)


def correlation(left: Tensor, right: Tensor, dim: int) -> Tensor:
    """Return Pearson's correlation of two matrices along an axis."""
    left, right = left - left.mean(dim, keepdim=True), right - right.mean(dim, keepdim=True)
    return cosine_similarity(left, right, dim=dim, eps=CORRELATION_FLOOR)


def other_classes(target_N: Tensor, num_classes: int) -> Tensor:
    """Return the numbers of the other classes of each sample (N, C - 1), in their order."""
    # Not a mask: what one picks has no size before it is computed, so a device would be waited for.
    number_O = torch.arange(num_classes - 1, device=target_N.device)
    return number_O + (number_O >= target_N[:, None])
