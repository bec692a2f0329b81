"""Blocks that are left out, as an edit: what runs in their place hands its input on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.config import Config
from mcomp.model.edits import Edit, State

if TYPE_CHECKING:
    from torch import nn


class RemovedBlock(Config):
    """The path of a block, and whether it gave its output in a tuple."""

    module: Annotated[str, Field(min_length=1)]
    in_tuple: bool = False


class RemovedBlocks(Edit):
    """Leave blocks out. The paths of the others stay as they are, so that patterns still name them."""

    kind: Literal["removed_blocks"] = "removed_blocks"
    blocks: tuple[RemovedBlock, ...]

    def apply(self, module: nn.Module, state: State) -> None:
        from mcomp_stages.methods.blocks.passing import Passing

        for block in self.blocks:
            try:
                module.get_submodule(block.module)
            except AttributeError as error:
                raise ValueError(f"there is no module {block.module}") from error
            module.set_submodule(block.module, Passing(block.in_tuple))
            inside = f"masks.{block.module}."
            for name in [name for name in state if name.startswith(inside)]:
                del state[name]
