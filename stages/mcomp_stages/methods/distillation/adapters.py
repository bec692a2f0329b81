"""Small modules that bring a student's features to the shape of a teacher's; they are trained with it."""

# N = samples, C = channels, H, W = height, width, P = places (pixels or tokens), D = channels of a place
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from mcomp.errors import StageError

Shape = tuple[int, ...]


class Adapter(nn.Module):
    """Brings features of a student and a teacher to one shape: places by pooling, channels by `project`.

    The teacher's channels stay as they are.
    """

    def __init__(self, student: Shape, teacher: Shape) -> None:
        """`student` and `teacher` are shapes of one sample's features: (C, H, W), (P, D) or (D).

        Raises StageError for others, and for maps or tokens beside a single vector of another kind.
        """
        super().__init__()
        require_adaptable(student, teacher)
        self.student, self.teacher = student, teacher
        self.project = nn.Identity() if width(student) == width(teacher) else projection(student, teacher)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return both features in one shape."""
        student, teacher = same_places(student, teacher)
        return self.project(student), teacher


def same_places(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both features with the places of the one that has fewer.

    A map beside tokens becomes tokens, row by row; anything beside a vector becomes its mean.
    """
    if student.ndim == teacher.ndim == 4:
        height, width = map(min, student.shape[2:], teacher.shape[2:])
        size = (height, width)
        return pooled_map(student, size), pooled_map(teacher, size)
    if 2 in (student.ndim, teacher.ndim):
        return pooled(student), pooled(teacher)
    student, teacher = as_tokens(student), as_tokens(teacher)
    places = min(student.shape[1], teacher.shape[1])
    return pooled_tokens(student, places), pooled_tokens(teacher, places)


def pooled_map(features_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map of that height and width."""
    if features_NCHW.shape[2:] == size:
        return features_NCHW
    return adaptive_avg_pool2d(features_NCHW, size)


def pooled_tokens(features_NPD: Tensor, places: int) -> Tensor:
    """Return so many tokens, means of neighbours."""
    if features_NPD.shape[1] == places:
        return features_NPD
    return adaptive_avg_pool1d(features_NPD.transpose(1, 2), places).transpose(1, 2)


def as_tokens(features: Tensor) -> Tensor:
    """Return features (N, P, D); those of a map row by row."""
    return features.flatten(2).transpose(1, 2) if features.ndim == 4 else features


def pooled(features: Tensor) -> Tensor:
    """Return the mean over the places, (N, D)."""
    return features if features.ndim == 2 else as_tokens(features).mean(dim=1)


def width(shape: Shape) -> int:
    """Return the channels of one sample's features."""
    return shape[0] if len(shape) == 3 else shape[-1]


def convolution(student: Shape, teacher: Shape) -> nn.Module:
    """Return a 1x1 convolution between the widths."""
    return nn.Conv2d(width(student), width(teacher), 1)


def linear(student: Shape, teacher: Shape) -> nn.Module:
    """Return a linear between the widths."""
    return nn.Linear(width(student), width(teacher))


PROJECTIONS: dict[bool, Callable[[Shape, Shape], nn.Module]] = {True: convolution, False: linear}


def projection(student: Shape, teacher: Shape) -> nn.Module:
    """Return what brings the width of one to that of the other, after the places are the same."""
    return PROJECTIONS[len(student) == len(teacher) == 3](student, teacher)


def require_adaptable(student: Shape, teacher: Shape) -> None:
    """Raise StageError unless both shapes are those of a map, of tokens or of a vector."""
    for who, shape in (("student", student), ("teacher", teacher)):
        if not 1 <= len(shape) <= 3:
            raise StageError(
                f"the features of the {who} have shape {shape} for a sample; adapters take maps (C, H, W), "
                "tokens (L, D) and vectors (D)"
            )


class Embedding(nn.Module):
    """Brings features of both to vectors of one width, by a linear for each."""

    def __init__(self, student: Shape, teacher: Shape, dimensions: int) -> None:
        super().__init__()
        require_adaptable(student, teacher)
        self.of_student = nn.Linear(width(student), dimensions)
        self.of_teacher = nn.Linear(width(teacher), dimensions)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return both embeddings, (N, dimensions)."""
        return self.of_student(pooled(student)), self.of_teacher(pooled(teacher))


def shape_of(features: Tensor) -> Shape:
    """Return the shape of one sample's features."""
    return tuple(torch.Size(features.shape[1:]))
