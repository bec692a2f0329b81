"""Solar cells in electroluminescence: is a cell defective?

    data:
      type: elpv
      image_size: 96
      threshold: 0.5
      labels: hard
      batch_size: 32
      augment: {flip: both, transpose: true}

2,624 gray photographs of 300 pixels a side, which come with the package elpv-dataset (`pip install
'mcomp[data]'`; CC BY-NC-SA 4.0, not for commercial use). Experts gave each a probability of a defect: 0, 1/3,
2/3 or 1. From `threshold` on a cell counts as defective, class 1. With `labels: soft` the training split has
the probabilities themselves as targets; what is measured always has classes.

The splits have each probability and each kind of cell (mono- and polycrystalline) in the proportions of the
whole; another `seed` of `splits` deals them anew. `calibration` images of train set the ranges of quantizers.

Source: Deitsch et al. 2019, arXiv:1807.02894; Buerhop-Lutz et al. 2018, "A benchmark for visual
identification of defective solar cells in electroluminescence imagery".
"""

# N = samples
from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mcomp.config import no_effect
from mcomp.data.augment import Augment
from mcomp.data.contract import DataConfig, DataFacts, Serving, SplitName
from mcomp.data.digests import content_digest
from mcomp.data.fractions import Fractions
from mcomp.errors import Problem, RecipeError
from mcomp.fingerprint import fingerprint
from mcomp_stages.data.packaged import packaged

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from mcomp.data.splits import Splits
    from mcomp_stages.data.image_split import Pixels

CLASSES = ("intact", "defective")
LICENCE = "CC BY-NC-SA 4.0: not for commercial use"
KINDS = ("mono", "poly")


class ElpvConfig(DataConfig):
    """Inputs `image` (N, 1, image_size, image_size), normalised as the training split is."""

    type: Literal["elpv"] = "elpv"
    licence: str = no_effect(default=LICENCE, description="of the samples, as their package states it")
    image_size: Annotated[int, Field(ge=16, le=300, description="pixels a side, from 300")] = 96
    threshold: Annotated[
        float, Field(gt=0, le=1, description="probability from which a cell counts as defective")
    ] = 0.5
    labels: Annotated[
        Literal["hard", "soft"], Field(description="train on classes, or on the experts' probabilities")
    ] = "hard"
    splits: Fractions = Fractions(validation=0.125, test=0.25)
    calibration: Annotated[int, Field(ge=2, description="images of train that quantizers are set by")] = 256
    augment: Augment = Augment()
    workers: int = no_effect(default=1, ge=1, le=64, description="threads that decode")

    def facts(self) -> DataFacts:
        return DataFacts(channels=1, image_size=self.image_size, num_classes=len(CLASSES))

    @cached_property
    def content(self) -> str:
        """What `digest` returns: every step of a plan asks for it."""
        files = [elpv_folder() / "labels.csv", *(path for path, _, _ in read_labels(elpv_folder()))]
        return fingerprint({"files": [content_digest(file) for file in files], "pillow": version("pillow")})

    def digest(self) -> str:
        return self.content

    def load(self) -> Splits:
        """Load the splits. Raises RecipeError if the package or an image is missing or broken."""
        import torch

        from mcomp.data.splits import Splits
        from mcomp_stages.data.image_split import ImageSplit, mean_and_deviation

        cells = read_labels(elpv_folder())
        pixels = self.pixels([path for path, _, _ in cells])
        probability = torch.tensor([probability for _, probability, _ in cells], dtype=torch.float32)
        # A third is no float: what lies on the threshold is meant to reach it.
        hard = (probability > self.threshold - 1e-6).long()
        soft = torch.stack([1 - probability, probability], dim=1)
        parts = self.positions(strata(cells))
        used = mean_and_deviation(pixels, parts["train"])
        mean, deviation = (torch.tensor(each).view(-1, 1, 1) for each in used)
        targets = {"train": soft} if self.labels == "soft" else {}
        augments = {"train": self.augment}
        splits = {
            name: ImageSplit(
                at, targets.get(name, hard)[at], pixels, mean, deviation, augments.get(name, Augment())
            )
            for name, at in parts.items()
        }
        samples = {name: len(split) for name, split in splits.items()}
        return Splits(splits, {"mean": used[0], "std": used[1], "classes": list(CLASSES), "samples": samples})

    def serving(self, facts: Mapping[str, Any]) -> Serving | None:
        return Serving.image(facts, self.image_size, 1, "squash")

    def pixels(self, files: list[Path]) -> Pixels:
        """Return what gives the pixels of images, decoded once. Raises RecipeError for broken ones."""
        from mcomp_stages.data.image_file import read_image
        from mcomp_stages.data.image_split import Decoder, kept

        read = partial(read_image, image_size=self.image_size, channels=1, fit="squash")
        return kept(Decoder(files, read, self.workers))

    def positions(self, strata_N: Tensor) -> dict[SplitName, Tensor]:
        """Return the positions of each split's images; `calibration` is a part of `train`."""
        import torch

        from mcomp.data.splits import stratified_parts

        generator = torch.Generator().manual_seed(self.splits.seed)
        size = len(strata_N)
        sizes = {"test": round(self.splits.test * size), "validation": round(self.splits.validation * size)}
        parts = stratified_parts(strata_N, sizes, generator)
        train = parts["rest"]
        if min(len(train), *sizes.values()) < 2 or self.calibration > len(train):
            what = f"leave {len(train)} images of {size} to train, {self.calibration} of them to calibrate"
            raise RecipeError(Problem("", "splits", what, "take smaller shares, or a smaller `calibration`"))
        chosen = stratified_parts(strata_N[train], {"calibration": self.calibration}, generator)
        return {
            "train": train,
            "calibration": train[chosen["calibration"]],
            "validation": parts["validation"],
            "test": parts["test"],
        }


def elpv_folder() -> Path:
    """Return where the package keeps the images, without importing it. Raises RecipeError."""
    return packaged("elpv_dataset", "data", "pip install 'mcomp[data]'")


def read_labels(folder: Path) -> list[tuple[Path, float, str]]:
    """Return the file, the probability of a defect and the kind of each cell.

    Raises RecipeError if the list is broken.
    """
    path = folder / "labels.csv"
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        cells = [(folder / name, float(probability), kind) for name, probability, kind in rows]
    except OSError as error:
        raise RecipeError(f"elpv: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"elpv: {path} is broken ({error}); reinstall elpv-dataset") from error
    if not cells or not all(0 <= probability <= 1 and kind in KINDS for _, probability, kind in cells):
        raise RecipeError(f"elpv: {path} is not the list of the package; reinstall elpv-dataset")
    return cells


def strata(cells: list[tuple[Path, float, str]]) -> Tensor:
    """Return a number for each combination of probability and kind of cell (N,)."""
    import torch

    found = sorted({(probability, kind) for _, probability, kind in cells})
    return torch.tensor([found.index((probability, kind)) for _, probability, kind in cells])
