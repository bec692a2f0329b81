from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.data.fractions import Fractions, place
from mcomp.errors import RecipeError
from mcomp_stages.data.class_folders import SHOWN, Images, find_images

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make files of a few bytes below a folder; a name that ends in / makes a folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "images" / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name.encode())
        return tmp_path / "images"

    return make


def many(*folders: str, count: int = 40) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]


def names_in(images: Images, split: str) -> list[str]:
    return [images.names[position] for position in images.parts[split]]


def said(root: Path, fractions: Fractions | None = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        find_images(root, fractions or Fractions())
    return [str(problem).replace(str(root), "ROOT") for problem in caught.value.problems]


def test_classes_are_numbered_by_sorted_name_and_images_sorted(make: Make) -> None:
    images = find_images(make(*many("dog", "cat", "10", "9")), Fractions())
    assert images.classes == ("10", "9", "cat", "dog")
    assert list(images.names) == sorted(images.names)
    assert [images.classes[label] for label in images.labels] == [name.split("/")[0] for name in images.names]


def test_splits_by_share_cover_every_image_once(make: Make) -> None:
    images = find_images(make(*many("cat", "dog")), Fractions(validation=0.2, test=0.2))
    assert sorted(position for part in images.parts.values() for position in part) == list(range(80))
    assert 8 <= len(images.parts["test"]) <= 24


def test_a_new_image_and_a_new_class_move_no_other_image(make: Make) -> None:
    before = find_images(make(*many("cat", "dog")), Fractions())
    after = find_images(make(*many("ant"), "cat/new.png"), Fractions())
    for split in ("train", "validation", "test"):
        kept = [name for name in names_in(after, split) if name != "cat/new.png" and name[:3] != "ant"]
        assert kept == names_in(before, split)


def test_folders_are_the_splits_where_they_are_there(make: Make) -> None:
    folders = ("train/a", "train/b", "val/a", "val/b", "test/b")
    images = find_images(make(*many(*folders, count=3)), Fractions())
    assert images.classes == ("a", "b")
    assert names_in(images, "validation") == many("val/a", "val/b", count=3)
    assert names_in(images, "test") == many("test/b", count=3)
    assert names_in(images, "train") == many("train/a", "train/b", count=3)


def test_a_split_without_a_folder_takes_its_share_of_train(make: Make) -> None:
    images = find_images(make(*many("train/a", "train/b", "test/a")), Fractions(validation=0.3))
    assert names_in(images, "test") == sorted(many("test/a"))
    assert {name.split("/")[0] for name in names_in(images, "validation")} == {"train"}
    assert len(images.parts["train"]) + len(images.parts["validation"]) == 80


def test_a_folder_of_trains_is_a_class(make: Make) -> None:
    assert find_images(make(*many("car", "plane", "train")), Fractions()).classes == ("car", "plane", "train")


def test_what_is_hidden_is_no_image_and_no_class(make: Make) -> None:
    litter = ("cat/.DS_Store", ".git/x.png", "cat/Thumbs.db", "desktop.ini", "LICENSE", "cat/._1.png")
    images = find_images(make(*many("cat", "dog"), *litter), Fractions())
    assert images.classes == ("cat", "dog")
    assert len(images.names) == 80


def test_linked_classes_are_followed(make: Make, tmp_path: Path) -> None:
    root = make(*many("cat"))
    (root.rename(tmp_path / "elsewhere") / "cat").rename(tmp_path / "dogs")
    root = make(*many("cat"))
    (root / "dog").symlink_to(tmp_path / "dogs")
    assert find_images(root, Fractions()).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "problems"),
    [
        ([], ["path: ROOT holds no folder; give each of two classes or more a folder with its images"]),
        (
            many("cat"),
            ["path: ROOT holds one class, cat; give each of two classes or more a folder with its images"],
        ),
        (
            [*many("cat", "dog"), "ant/", "bee/"],
            [
                "path: ROOT/ant holds no image; add images, or remove the folder",
                "path: ROOT/bee holds no image; add images, or remove the folder",
            ],
        ),
        (
            [*many("cat", "dog"), "lost.png"],
            ["path: ROOT/lost.png is in no class; move it into a class's folder"],
        ),
        (
            [*many("cat", "dog"), "cat/more/1.png"],
            ["path: ROOT/cat/more is a folder inside a class; move its images up, or remove it"],
        ),
        (
            [*many("cat", "dog"), "cat/notes.txt"],
            [
                "path: ROOT/cat/notes.txt is no image by its name; known are .bmp, .jpeg, .jpg, .pgm, .png, "
                ".ppm, .tif, .tiff, .webp; convert it, remove it, or hide it by a dot before its name"
            ],
        ),
        (
            many("train/cat", "train/dog", "tests/cat"),
            ["path: ROOT/tests stands beside train/ and is no split; did you mean 'test'?"],
        ),
        (
            many("train/cat", "train/dog", "val/cat", "validation/cat"),
            ["path: ROOT/validation and ROOT/val are the same split; put the images into one of them"],
        ),
        (
            many("train/cat", "train/dog", "test/cats"),
            ["path: ROOT/test/cats is a class that train does not have; did you mean 'cat'?"],
        ),
    ],
    ids=lambda value: value[-1][:40] if value else "nothing",
)
def test_what_is_in_a_wrong_place_is_said(names: list[str], problems: list[str], make: Make) -> None:
    assert said(make("./", *names)) == problems


def test_a_class_whose_images_all_went_to_other_splits_is_said(make: Make) -> None:
    root = make(*many("cat", "dog"), "rare/1.png")
    seed = next(seed for seed in range(99) if place("rare/1.png", seed) < 0.3)
    assert said(root, Fractions(seed=seed)) == [
        "path: no image of class rare is left for training; add images of it"
    ]


def test_a_split_that_gets_no_image_is_said(make: Make) -> None:
    root = make("cat/1.png", "dog/1.png")
    seed = next(
        seed for seed in range(99) if all(place(f"{name}/1.png", seed) > 0.3 for name in ("cat", "dog"))
    )
    next_step = "add images, or raise the split's share"
    assert said(root, Fractions(seed=seed)) == [
        f"path: ROOT gives validation no image; {next_step}",
        f"path: ROOT gives test no image; {next_step}",
    ]


def test_a_file_in_place_of_the_folder_is_said(make: Make) -> None:
    root = make("cat.png") / "cat.png"
    assert said(root) == ["path: ROOT is a file; name the folder that holds the classes"]


def test_a_share_of_a_split_that_has_a_folder_is_refused(make: Make) -> None:
    root = make(*many("train/a", "train/b", "test/a"))
    assert said(root, Fractions(test=0.2)) == ["splits.test: does nothing: ROOT/test is the split; remove it"]


def test_a_pipe_is_not_waited_for(make: Make) -> None:
    root = make(*many("cat", "dog"))
    os.mkfifo(root / "cat" / "pipe.png")
    assert said(root) == ["path: ROOT/cat/pipe.png is no ordinary file; remove it"]


@pytest.mark.parametrize("name", [b"cat/\xff.png", b"c\nat/1.png"])
def test_a_name_that_cannot_be_printed_is_refused(name: bytes, make: Make) -> None:
    root = make(*many("cat", "dog"))
    path = os.fsencode(root) + b"/" + name
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    (problem,) = said(root)
    assert problem.isprintable()
    assert problem.endswith("has a name that cannot be printed; rename it")


def test_a_long_list_of_problems_is_cut(make: Make) -> None:
    problems = said(make(*many("cat", "dog"), *(f"cat/{number}.txt" for number in range(SHOWN + 5))))
    assert len(problems) == SHOWN + 1
    assert problems[-1] == "path: and 5 more like these"


def test_the_digest_follows_names_and_bytes_and_not_the_place(make: Make, tmp_path: Path) -> None:
    root = make(*many("cat", "dog"))
    first = find_images(root, Fractions()).digest()
    moved = root.rename(tmp_path / "moved")
    assert find_images(moved, Fractions()).digest() == first
    (moved / "cat" / "0.png").write_bytes(b"other bytes")
    second = find_images(moved, Fractions()).digest()
    (moved / "cat" / "0.png").rename(moved / "cat" / "renamed.png")
    third = find_images(moved, Fractions()).digest()
    assert len({first, second, third}) == 3
