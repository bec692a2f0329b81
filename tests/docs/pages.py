"""What stands in the blocks of the documentation. A block whose first line is `# name.yaml` is that file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.hostile.programs import packed
from tests.stages.data.pictures import digits_folder
from tests.stages.data.words import SENTENCES, word_tokenizer

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAME = re.compile(r"# ([\w/]+\.\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block is."""
        found = NAME.match(self.text)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


WRITTEN = ("text_model", "minilm", "photographs")  # by the scripts beside the recipes, and large


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows into a folder, beside the recipes and the data that it may name."""
    shutil.copytree(ROOT / "recipes", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*WRITTEN))
    digits_folder(folder / "images", 200)
    image = np.zeros((100, 1, 8, 8), np.uint8)
    np.savez(folder / "digits.npz", image=image, target=np.arange(100) % 10)
    (folder / "sentences.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    word_tokenizer(folder / "tokenizer")
    (folder / "model.pt2").write_bytes(packed())
    (folder / "reviews").mkdir(exist_ok=True)
    rows = [f"{text},{number % 2}" for number, text in enumerate(SENTENCES)]
    (folder / "reviews" / "train.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    for block in blocks(page):
        if block.file:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text, encoding="utf-8")
