"""Flips and shifts of training images, drawn for each sample from the epoch's number, so that they can be
replayed.
"""

# N = samples, C = channels, H, W = height, width
from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.config import Config

if TYPE_CHECKING:
    from torch import Tensor


class Augment(Config):
    """How training images change from epoch to epoch (He et al. 2016, arXiv:1512.03385, section 4.2)."""

    flip: Annotated[
        Literal["horizontal", "none"], Field(description="mirror every second image, by chance")
    ] = "none"
    crop_padding: Annotated[int, Field(ge=0, description="shift by up to this many pixels")] = 0

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return self.flip != "none" or self.crop_padding > 0

    def applied(self, image_NCHW: Tensor, indices_N: Tensor, draw: int) -> Tensor:
        """Return the images as `draw` chooses: what a sample gets does not depend on the rest of the batch.

        What a shift brings in from outside is 0, the mean of normalised images.
        """
        import torch
        from torch.nn.functional import pad

        height, width = image_NCHW.shape[-2:]
        choices = torch.tensor([self.choice(draw, index) for index in indices_N.tolist()])
        down_N, right_N, mirrored_N = choices.unbind(dim=1)
        row_NH = down_N[:, None] + torch.arange(height)
        column_NW = right_N[:, None] + torch.arange(width)
        column_NW = torch.where(mirrored_N[:, None].bool(), column_NW.flip(1), column_NW)
        padded_NHWC = pad(image_NCHW, [self.crop_padding] * 4).permute(0, 2, 3, 1)
        sample_N = torch.arange(len(indices_N))[:, None, None]
        chosen_NHWC = padded_NHWC[sample_N, row_NH[:, :, None], column_NW[:, None, :]]
        return chosen_NHWC.permute(0, 3, 1, 2).contiguous()

    def choice(self, draw: int, index: int) -> tuple[int, int, int]:
        """Return how far down and right a sample's window lies in the padded image, and if it is mirrored."""
        digest = hashlib.sha256(f"{draw}/{index}".encode()).digest()
        down, right, coin = (int.from_bytes(digest[start : start + 8], "big") for start in (0, 8, 16))
        steps = 2 * self.crop_padding + 1
        return down % steps, right % steps, coin % 2 if self.flip == "horizontal" else 0
