"""Rows of tables as batches of images or texts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mcomp.data.augment import Augment
from mcomp.data.contract import SplitName
from mcomp.errors import Problem, RecipeError
from mcomp_stages.data.huggingface_tables import Labels, Rows, Tables
from mcomp_stages.data.image_file import Fit, decoded_image
from mcomp_stages.data.image_split import Decoder, ImageSplit, kept, mean_and_deviation
from mcomp_stages.data.tokens import SentenceSplit, tokenized

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INPUTS = ("input_ids", "attention_mask")
KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Look:
    """How images become inputs. `normalize`: mean and deviation of each channel; None: as train's are."""

    image_size: int
    channels: int
    fit: Fit
    normalize: tuple[tuple[float, ...], tuple[float, ...]] | None
    augment: Augment


@dataclass(frozen=True)
class Cell:
    """An image in a table."""

    table: Any
    split: SplitName
    row: int
    column: str


def image_splits(
    tables: Tables, column: str, rows: Mapping[SplitName, Rows], labels: Labels | None, look: Look
) -> tuple[dict[SplitName, ImageSplit], dict[str, Any]]:
    """Return the splits, and the mean and deviation that they are normalised by.

    Raises RecipeError for images that are broken, and for training images that are all alike.
    """
    undecoded = {split: without_decoding(table.rows, column) for split, table in tables.items()}
    cells = [
        Cell(table, split, row, column) for split, table in undecoded.items() for row in range(len(table))
    ]
    read = partial(read_cell, image_size=look.image_size, channels=look.channels, fit=look.fit)
    decoder = Decoder(cells, read, 1)
    pixels = kept(decoder) if len(cells) * look.channels * look.image_size**2 <= KEPT_BYTES else decoder
    parts = {name: torch.tensor(each.rows) + each.first for name, each in rows.items()}
    mean, deviation = look.normalize or mean_and_deviation(pixels, parts["train"])
    if min(deviation) == 0:
        raise RecipeError("every pixel of a channel is the same in all training images")
    target = targets(tables, labels)
    shape = (look.channels, 1, 1)
    splits = {
        name: ImageSplit(
            at,
            target[at],
            pixels,
            torch.tensor(mean).view(shape),
            torch.tensor(deviation).view(shape),
            look.augment if name == "train" else Augment(),
        )
        for name, at in parts.items()
    }
    return splits, {"mean": list(mean), "std": list(deviation)}


def text_splits(
    tables: Tables,
    column: str,
    rows: Mapping[SplitName, Rows],
    labels: Labels | None,
    tokenizer: tuple[Path, str, int],
) -> dict[SplitName, SentenceSplit]:
    """Return the splits. `tokenizer`: its file, the token to fill up with, and how many tokens are kept.

    Raises RecipeError for a row without text, and for a tokenizer that is broken.
    """
    lines: list[str] = []
    for split, table in tables.items():
        for row, text in enumerate(table.rows[column]):
            if not isinstance(text, str):
                what = f"{split} has no text in row {row} of {column}, but {type(text).__name__}"
                raise RecipeError(Problem("", "text", what, "name a column of texts, or remove the row"))
            lines.append(text)
    tokens = tokenized(lines, *tokenizer)
    target = targets(tables, labels)
    return {
        name: SentenceSplit(tokens, [each.first + row for row in each.rows], INPUTS, None, target)
        for name, each in rows.items()
    }


def targets(tables: Tables, labels: Labels | None) -> Tensor:
    """Return the class of every row of all tables (N,), or nothing for each (N, 0)."""
    if labels is None:
        return torch.empty(sum(len(table.rows) for table in tables.values()), 0)
    return torch.tensor([number for split in tables for number in labels.numbers[split]])


def without_decoding(table: Any, column: str) -> Any:
    """Return a table whose images are the bytes of their files."""
    import datasets

    if isinstance(table.features[column], datasets.Image):
        return table.cast_column(column, datasets.Image(decode=False))
    return table


def read_cell(cell: Cell, image_size: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return the pixels of an image in a table. Raises RecipeError for what is broken, or no image."""
    place = Path(f"{cell.split}: row {cell.row} of {cell.column}")
    found = cell.table[cell.row][cell.column]
    content = found.get("bytes") if isinstance(found, Mapping) else found
    if not isinstance(content, bytes):
        next_step = "name a column of images with their bytes in the table"
        raise RecipeError(Problem(str(place), "", "holds no image", next_step))
    return decoded_image(io.BytesIO(content), place, image_size, channels, fit)
