"""Flips, transposes and shifts of training images, drawn for each sample from the epoch's number, so that
they can be replayed.
"""

# N = samples, C = channels, H, W = height, width
from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from mcomp.config import Config

if TYPE_CHECKING:
    from torch import Tensor


class Choice(NamedTuple):
    """What happens to one image: where its window lies in the padded one, and how that is turned."""

    down: int
    right: int
    mirrored: bool
    upside_down: bool
    transposed: bool


class Augment(Config):
    """How training images change from epoch to epoch (He et al. 2016, arXiv:1512.03385, section 4.2).

    Flips in both directions with transposes give all eight symmetries of a square.
    """

    flip: Annotated[
        Literal["horizontal", "vertical", "both", "none"],
        Field(description="mirror every second image, by chance; both: each direction by itself"),
    ] = "none"
    transpose: Annotated[
        bool, Field(description="swap rows and columns of every second image, by chance; needs squares")
    ] = False
    crop_padding: Annotated[int, Field(ge=0, description="shift by up to this many pixels")] = 0

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return self.flip != "none" or self.transpose or self.crop_padding > 0

    def applied(self, image_NCHW: Tensor, indices_N: Tensor, draw: int) -> Tensor:
        """Return the images as `draw` chooses: what a sample gets does not depend on the rest of the batch.

        What a shift brings in from outside is 0, the mean of normalised images.
        """
        import torch
        from torch.nn.functional import pad

        height, width = image_NCHW.shape[-2:]
        choices = torch.tensor([self.choice(draw, index) for index in indices_N.tolist()])
        down_N, right_N, mirrored_N, upside_down_N, transposed_N = choices.unbind(dim=1)
        row_NH = reversed_where(upside_down_N, down_N[:, None] + torch.arange(height))
        column_NW = reversed_where(mirrored_N, right_N[:, None] + torch.arange(width))
        padded_NHWC = pad(image_NCHW, [self.crop_padding] * 4).permute(0, 2, 3, 1)
        sample_N = torch.arange(len(indices_N))[:, None, None]
        chosen_NHWC = padded_NHWC[sample_N, row_NH[:, :, None], column_NW[:, None, :]]
        if self.transpose:
            turned = transposed_N.bool()[:, None, None, None]
            chosen_NHWC = torch.where(turned, chosen_NHWC.transpose(1, 2), chosen_NHWC)
        return chosen_NHWC.permute(0, 3, 1, 2).contiguous()

    def choice(self, draw: int, index: int) -> Choice:
        """Return what happens to a sample."""
        digest = hashlib.sha256(f"{draw}/{index}".encode()).digest()
        down, right, mirrored, turned = (
            int.from_bytes(digest[start : start + 8], "big") for start in (0, 8, 16, 24)
        )
        steps = 2 * self.crop_padding + 1
        return Choice(
            down % steps,
            right % steps,
            self.flip in ("horizontal", "both") and mirrored % 2 == 1,
            self.flip in ("vertical", "both") and turned % 2 == 1,
            self.transpose and turned // 2 % 2 == 1,
        )


def reversed_where(turned_N: Tensor, places_NL: Tensor) -> Tensor:
    """Return the rows of places, those in reverse order where `turned_N` is not zero."""
    import torch

    return torch.where(turned_N[:, None].bool(), places_NL.flip(1), places_NL)
