"""What a stage offers to be measured. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Levels = Mapping[str, float | None]
"""By part: the strongest change that it bears, None if it bears none of those that were tried."""


@dataclass(frozen=True)
class Trial:
    """The model with one part of it changed.

    `part`: what a person calls it, mostly a module path; `level`: how much it is changed; `module` gives the
    model so, in inference mode, as long as the block runs.
    """

    part: str
    level: float
    module: Callable[[], AbstractContextManager[nn.Module]]


@dataclass(frozen=True)
class Patch:
    """What follows from the costs: fields of the stage, as plain JSON, and a sentence about them.

    No fields: the stage is right as it is, or cannot be mended, as `said` says.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    said: str = ""


@dataclass(frozen=True)
class Timing:
    """Milliseconds in the runtime: of the whole model, and of the model with a trial's change."""

    whole_ms: float
    ms: Callable[[Trial], float]


@dataclass(frozen=True)
class Trials:
    """Everything that is tried; of each part from the mildest change to the strongest.

    `module` gives the model that nothing was done to. `patch` turns what each part bears into the fields of
    the stage; a part that has no place in the fields (a sum) may be among them. `timing`, for a stage whose
    parts change the time, exports the whole model.
    """

    module: nn.Module
    trials: tuple[Trial, ...]
    patch: Callable[[Levels], Patch]
    timing: Callable[[], Timing] | None = None
