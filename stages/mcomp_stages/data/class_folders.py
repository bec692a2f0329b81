"""Which images a folder holds, of which class and in which split. Opens no image, and needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcomp.data.contract import SplitName
from mcomp.data.digests import content_digest
from mcomp.data.fractions import Fractions, shared_out
from mcomp.errors import Problem, RecipeError
from mcomp.fingerprint import fingerprint
from mcomp.recipe.nearest import did_you_mean

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
LITTER = frozenset({"thumbs.db", "desktop.ini"})  # what a desktop leaves behind without hiding it
SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}
HELD_OUT: tuple[SplitName, ...] = ("validation", "test")
SHOWN = 20  # problems of one folder


@dataclass(frozen=True)
class Images:
    """Every image below `root` in the order of its name, with the position of its class.

    `parts` are positions by split; `calibration`, a part of train, is not among them.
    """

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    parts: Mapping[SplitName, tuple[int, ...]]

    def digest(self) -> str:
        """Return a sha256 of the images' names and bytes. Raises RecipeError if one cannot be read."""
        return fingerprint([[name, content_digest(self.root / name)] for name in self.names])


def find_images(root: Path, fractions: Fractions) -> Images:
    """Return the images in `root/CLASS/`, or in `root/train/CLASS/` and beside it for the other splits.

    Raises RecipeError with everything that is in a wrong place.
    """
    folders = split_folders(root)
    refuse_unused(fractions, folders)
    classes = tuple(folder.name for folder in visible(folders["train"]) if is_folder(folder))
    problems = [] if len(classes) > 1 else [no_classes(folders["train"], classes)]
    found = {split: images_in(folder, classes, problems) for split, folder in folders.items()}
    for name in sorted(set(classes) - {label for _, label in found["train"]}):
        what = f"{folders['train'] / name} holds no image"
        problems.append(Problem("", "path", what, "add images, or remove the folder"))
    if problems:
        raise RecipeError(limited(problems))
    return in_splits(root, classes, found, fractions)


def split_folders(root: Path) -> dict[SplitName, Path]:
    """Return the folder of each split, or the whole as "train" if `root` holds classes and no splits.

    A folder `train` with folders in it is a split; with images in it, it is a class of trains.
    """
    if not root.is_dir():
        raise RecipeError(Problem("", "path", f"{root} is a file", "name the folder that holds the classes"))
    train = root / "train"
    if not (train.is_dir() and any(map(is_folder, visible(train)))):
        return {"train": root}
    folders: dict[SplitName, Path] = {}
    problems = []
    for folder in [root / entry.name for entry in visible(root) if is_folder(entry)]:
        split = SPLIT_FOLDERS.get(folder.name)
        if split is None:
            near = did_you_mean(folder.name, SPLIT_FOLDERS) or "move it into a split, or out of the folder"
            problems.append(Problem("", "path", f"{folder} stands beside train/ and is no split", near))
        elif split in folders:
            what = f"{folder} and {folders[split]} are the same split"
            problems.append(Problem("", "path", what, "put the images into one of them"))
        else:
            folders[split] = folder
    if problems:
        raise RecipeError(problems)
    return folders


def refuse_unused(fractions: Fractions, folders: Mapping[SplitName, Path]) -> None:
    """Raise RecipeError for a share that somebody set for a split that has a folder."""
    problems = [
        Problem("", f"splits.{split}", f"does nothing: {folders[split]} is the split", "remove it")
        for split in HELD_OUT
        if split in folders and split in fractions.model_fields_set
    ]
    if problems:
        raise RecipeError(problems)


def images_in(folder: Path, classes: Sequence[str], problems: list[Problem]) -> list[tuple[str, str]]:
    """Return path and class of the images of one split; notes in `problems` what is in a wrong place."""
    found = []
    for entry in visible(folder):
        if entry.name in classes and is_folder(entry):
            found += [(file.path, entry.name) for file in visible(entry.path) if is_image(file, problems)]
        elif is_folder(entry):
            near = did_you_mean(entry.name, classes) or "add the class to train, or remove the folder"
            problems.append(Problem("", "path", f"{entry.path} is a class that train does not have", near))
        elif suffix(entry) in SUFFIXES:
            problems.append(
                Problem("", "path", f"{entry.path} is in no class", "move it into a class's folder")
            )
    return found


def is_image(file: os.DirEntry[str], problems: list[Problem]) -> bool:
    """Return whether a file is an image by its name; notes in `problems` what else it is."""
    if suffix(file) in SUFFIXES and is_plain(file):
        return True
    if is_folder(file):
        what, next_step = "is a folder inside a class", "move its images up, or remove it"
    elif not is_plain(file):
        what, next_step = "is no ordinary file", "remove it"
    else:
        what = f"is no image by its name; known are {', '.join(sorted(SUFFIXES))}"
        next_step = "convert it, remove it, or hide it by a dot before its name"
    problems.append(Problem("", "path", f"{file.path} {what}", next_step))
    return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def is_plain(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a plain file, or a link to one: no pipe and no device."""
    try:
        return entry.is_file()
    except OSError:
        return False


def in_splits(
    root: Path,
    classes: tuple[str, ...],
    found: Mapping[SplitName, Sequence[tuple[str, str]]],
    fractions: Fractions,
) -> Images:
    """Return the images, with train's shared out to the splits that have no folder."""
    paths, labels, owners = zip(
        *sorted((path, label, split) for split in found for path, label in found[split]), strict=True
    )
    names = tuple(Path(path).relative_to(root).as_posix() for path in paths)
    parts = {
        split: tuple(position for position, owner in enumerate(owners) if owner == split) for split in found
    }
    train = parts["train"]
    shares = {split: getattr(fractions, split) for split in HELD_OUT if split not in found}
    shared = shared_out([names[position] for position in train], shares, fractions.seed)
    parts |= {split: tuple(train[at] for at in shared[split]) for split in ("train", *shares)}
    numbers = {name: number for number, name in enumerate(classes)}
    images = Images(root, names, tuple(numbers[label] for label in labels), classes, parts)
    require_samples(images)
    return images


def require_samples(images: Images) -> None:
    """Raise RecipeError for a split without images, and for a class that train has no image of."""
    problems = [
        Problem("", "path", f"{images.root} gives {split} no image", "add images, or raise the split's share")
        for split in HELD_OUT
        if not images.parts[split]
    ]
    trained = {images.labels[position] for position in images.parts["train"]}
    problems += [
        Problem("", "path", f"no image of class {name} is left for training", "add images of it")
        for number, name in enumerate(images.classes)
        if number not in trained
    ]
    if problems:
        raise RecipeError(limited(problems))


def no_classes(folder: Path, classes: Sequence[str]) -> Problem:
    """Return the problem of a folder with fewer than two classes."""
    what = f"{folder} holds one class, {classes[0]}" if classes else f"{folder} holds no folder"
    return Problem("", "path", what, "give each of two classes or more a folder with its images")


def visible(folder: Path | str) -> list[os.DirEntry[str]]:
    """Return what a folder holds, sorted, without what is hidden. Raises RecipeError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise RecipeError(Problem("", "path", f"{folder} cannot be read: {error.strerror}")) from error
    unreadable = [entry.path for entry in shown if not entry.name.isprintable()]
    if unreadable:
        what = f"{unreadable[0]!a} has a name that cannot be printed"
        raise RecipeError(Problem("", "path", what, "rename it"))
    return sorted(shown, key=lambda entry: entry.name)


def is_hidden(name: str) -> bool:
    """Return whether a name is hidden, or of a file that a desktop leaves behind."""
    return name.startswith(".") or name.lower() in LITTER


def suffix(file: os.DirEntry[str]) -> str:
    """Return the end of a file's name, in small letters."""
    return os.path.splitext(file.name)[1].lower()


def limited(problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problems, and how many there are beyond them."""
    more = len(problems) - SHOWN
    rest = [Problem("", "path", f"and {more} more like these")] if more > 0 else []
    return [*problems[:SHOWN], *rest]
