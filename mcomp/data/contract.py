"""What a data provider is.

A provider gives four splits. Training uses `train`; quantizer ranges come from `calibration`; every choice
(best epoch, early stop, sensitivity) is made on `validation`; only the final measurement touches `test`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field

from mcomp.config import Config, PluginConfig, no_effect

if TYPE_CHECKING:
    from torch import Tensor

SplitName = Literal["train", "calibration", "validation", "test"]


@dataclass(frozen=True)
class VaryingSize:
    """A size that differs from batch to batch. Axes with the same one are equally long, `largest` at most."""

    name: str
    largest: int


Varying = Mapping[str, Mapping[int, VaryingSize]]
"""By the name of an input: its axes whose size varies. The batch, axis 0, always does and is not named."""


@dataclass(frozen=True)
class DataFacts:
    """What is known of the data before anything is loaded: an architecture may ask for it.

    `varying`: which sizes of the inputs differ from batch to batch. `labelled`: whether samples have a
    target; if not, a batch's is empty (N, 0), and the task must take it from elsewhere. `class_counts`: how
    many samples of train each class has.
    """

    channels: int | None = None
    image_size: int | None = None
    num_classes: int | None = None
    varying: Varying = field(default_factory=dict)
    labelled: bool = True
    class_counts: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Batch:
    """`indices` (N,) are stable over epochs and runs; `inputs` by the name of the model's argument."""

    indices: Tensor
    inputs: dict[str, Tensor]
    target: Tensor


class Split(Protocol):
    """One split: its length, and the batch at given positions.

    `augmented`: whether training sees the same sample in other ways each time.
    """

    @property
    def augmented(self) -> bool: ...

    def __len__(self) -> int: ...

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        """Return the samples at `positions` (N,), in that order.

        `draw` chooses how they are augmented: equal draws give equal inputs, and none gives the samples as
        they are.
        """
        ...


class Data(Protocol):
    """The loaded splits.

    `facts` are kept with every result, as plain JSON: what whoever serves the model must do with the inputs
    (their mean and deviation), and the names of the classes.
    """

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def split(self, name: SplitName) -> Split: ...


class Shortened(Config):
    """Only a part of each split: `share` of it, but at least `batches` whole batches, or one of a split that
    is only measured on. What is made from it is not judged.
    """

    share: Annotated[float, Field(ge=0, lt=1, description="share of the samples of each split")] = 0.01
    batches: Annotated[int, Field(ge=1, description="at least so many batches of train and calibration")] = 1


@dataclass(frozen=True)
class Serving:
    """How one input is made of what a person has: plain JSON for `mcomp.serve.predict`, and files for it."""

    settings: Mapping[str, Any]
    files: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def image(cls, facts: Mapping[str, Any], image_size: int, channels: int, fit: str) -> Serving:
        """Return how an image file becomes the input `image`; `facts` has its `mean` and `std`, of pixels
        from 0 to 1.
        """
        normal = {"mean": list(facts["mean"]), "std": list(facts["std"])}
        fields = {"image_size": image_size, "channels": channels, "fit": fit}
        return cls({"kind": "image", "name": "image", **fields, **normal})


class DataConfig(PluginConfig):
    """Base of the data providers. This part is read by `plan` and must not import torch."""

    batch_size: Annotated[int, Field(ge=1, description="samples in a training batch")] = 64
    licence: str = no_effect(default="", description="of the samples; the card of a served model says it")
    shortened: Annotated[
        Shortened | None, Field(description="try the recipe on a part of the data; nothing is judged")
    ] = None

    def facts(self) -> DataFacts:
        """Return what is known without loading anything.

        Raises RecipeError if the files are missing or in the wrong places; `path` of each of its problems is
        the field of this configuration to blame.
        """
        return DataFacts()

    def serving(self, facts: Mapping[str, Any]) -> Serving | None:
        """Return how an image file or a text becomes an input, None if this data says nothing of it.

        `facts` are those that were kept with the result. Free of torch.
        """
        return None

    def digest(self) -> str:
        """Return a sha256 of what the samples depend on beside this configuration: the files' contents."""
        raise NotImplementedError

    def load(self) -> Data:
        """Load the splits. Raises RecipeError if the files are missing or are not what they should be."""
        raise NotImplementedError
