"""Distances between features inside a student and a teacher, each a scalar for the batch."""

# N = samples, C = channels, D = numbers of one sample, P = places (pixels or tokens)
from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize, smooth_l1_loss

NORM_FLOOR = 1e-12


def squared_difference(student: Tensor, teacher: Tensor, mask_NP: Tensor | None = None) -> Tensor:
    """Return the mean squared difference (Romero et al. 2015, arXiv:1412.6550, equation 3).

    Features of tokens (N, P, D) are averaged over the tokens that `mask_NP` says are real.
    """
    squares = (student - teacher).square()
    if mask_NP is None:
        return squares.mean()
    return (squares.mean(dim=2) * mask_NP).sum() / mask_NP.sum().clamp(min=1)


def attention_distance(student_NCP: Tensor, teacher_NCP: Tensor) -> Tensor:
    """Return the mean squared distance of maps of attention: squares summed over channels, of length 1.

    Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2 with p = 2. The places must be the same; the
    channels need not. Differs: the distance is squared, as in the authors' code, so it has a gradient at 0.
    """
    student, teacher = attention_map(student_NCP), attention_map(teacher_NCP)
    return (student - teacher).square().sum(dim=1).mean()


def attention_map(features_NCP: Tensor) -> Tensor:
    """Return how much each place is attended to, (N, places), of length 1 for each sample."""
    return normalize(features_NCP.square().mean(dim=1).flatten(1), dim=1, eps=NORM_FLOOR)


def similarity_distance(student_ND: Tensor, teacher_ND: Tensor) -> Tensor:
    """Return the mean squared difference of how similar the samples of a batch are to each other.

    Tung and Mori 2019, arXiv:1907.09682, equations 2 to 4: rows of the Gram matrix of length 1.
    """
    student, teacher = similarities(student_ND), similarities(teacher_ND)
    return (student - teacher).square().mean()


def similarities(features: Tensor) -> Tensor:
    """Return the Gram matrix of the samples (N, N) with rows of length 1."""
    features_ND = features.flatten(1)
    return normalize(features_ND @ features_ND.T, dim=1, eps=NORM_FLOOR)


def relation_distance(student_ND: Tensor, teacher_ND: Tensor, distance: float, angle: float) -> Tensor:
    """Return how much the distances and angles among the samples of a batch differ (Huber loss).

    Park et al. 2019, arXiv:1904.05068, equations 5 to 8: distances in units of their mean, and cosines of the
    angle at one sample between two others.
    """
    student, teacher = student_ND.flatten(1), teacher_ND.flatten(1)
    of_distances = smooth_l1_loss(relative_distances(student), relative_distances(teacher))
    of_angles = smooth_l1_loss(cosines_of_angles(student), cosines_of_angles(teacher))
    return distance * of_distances + angle * of_angles


def relative_distances(features_ND: Tensor) -> Tensor:
    """Return the distances among samples (N, N) divided by the mean of those that are not 0."""
    difference = features_ND[:, None] - features_ND[None]
    squares = difference.square().sum(dim=2)
    # The root has no gradient at 0, where the diagonal always is.
    distances = squares.clamp(min=NORM_FLOOR).sqrt() * (squares > 0)
    positive = distances[distances > 0]
    return distances / positive.mean() if len(positive) else distances


def cosines_of_angles(features_ND: Tensor) -> Tensor:
    """Return the cosine of the angle at sample i between j and k, (N, N, N)."""
    unit = normalize(features_ND[None] - features_ND[:, None], dim=2, eps=NORM_FLOOR)
    return unit @ unit.transpose(1, 2)


def contrastive_distance(
    student_ND: Tensor, teacher_ND: Tensor, is_other_NN: Tensor, temperature: float
) -> Tensor:
    """Return how badly pairs of the same sample are told from pairs of different ones, both ways.

    Tian et al. 2020, arXiv:1910.10699, equations 17 and 18: with h = e / (e + K / M), K others for each
    sample and M samples in the data, -log h of the pair and -log (1 - h) of the others; once with the
    student's others and once with the teacher's. e is exp(cosine / T) over its sum for all M, which is
    estimated as M times its mean over pairs (Wu et al. 2018, arXiv:1805.01978, equation 8), so M cancels.
    Differs: the others and the mean are those of the batch, and the mean has a gradient.
    `is_other_NN` says which pairs are others.
    """
    cosines_NN = normalize(student_ND, dim=1) @ normalize(teacher_ND, dim=1).T / temperature
    both = (cosines_NN, is_other_NN), (cosines_NN.T, is_other_NN.T)
    return torch.stack([told_apart(*each) for each in both]).sum()


def told_apart(scores_NN: Tensor, is_other_NN: Tensor) -> Tensor:
    """Return how badly the sample of each row is told from the others of the row, a scalar."""
    num_others_N1 = is_other_NN.sum(dim=1, keepdim=True).clamp(min=1)
    log_mean = scores_NN.logsumexp(dim=(0, 1)) - math.log(scores_NN.numel())
    # log h as a sigmoid of the score: the power itself would leave few digits.
    margin_NN = scores_NN - num_others_N1.log() - log_mean
    of_others_N = (logsigmoid(-margin_NN) * is_other_NN).sum(dim=1)
    return -(logsigmoid(margin_NN.diagonal()) + of_others_N).mean()
