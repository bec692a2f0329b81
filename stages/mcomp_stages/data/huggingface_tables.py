"""Tables of the library datasets on this machine: which rows each split has, and of which class they are.

No script of a data set is run, and nothing is copied into a cache: files are read
where they lie. Free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcomp.data.contract import SplitName
from mcomp.data.fractions import Fractions, shared_out, spread
from mcomp.errors import Problem, RecipeError, named, printable
from mcomp.recipe.nearest import did_you_mean

INSTALL = "pip install 'mcomp[datasets]'"
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
USUAL: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk leaves in its folder
SUFFIXES = (".parquet", ".csv", ".jsonl", ".json")


@dataclass(frozen=True)
class Table:
    """The rows of one split, a `datasets.Dataset`, and the files that they lie in."""

    rows: Any
    files: tuple[Path, ...]


Tables = Mapping[SplitName, Table]


@dataclass(frozen=True)
class Rows:
    """The rows of a split: of which table, where in it, and the index of the table's first row among all."""

    table: SplitName
    rows: Sequence[int]
    first: int


@dataclass(frozen=True)
class Labels:
    """The names of the classes, and of each table the number of every row's class."""

    classes: tuple[str, ...]
    numbers: Mapping[SplitName, Sequence[int]]


def open_tables(path: Path, names: Mapping[SplitName, str]) -> Tables:
    """Return the table of each split that is there. Raises RecipeError for what is missing or broken."""
    if find_spec("datasets") is None:
        raise wrong("type", "needs the package datasets, which is not installed", INSTALL)
    if path.is_dir() and any((path / name).is_file() for name in SAVED):
        return picked(saved_tables(path), names, path)
    files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.suffix in SUFFIXES)
    if not files or path.suffix not in ("", *SUFFIXES):
        what = f"{path} holds no table; known are {', '.join(SUFFIXES)} and folders of save_to_disk"
        raise wrong("path", what, "name its files after their splits: train.parquet")
    if path.is_file():
        return {"train": Table(read_table(path), (path,))}
    return picked({each.stem: Table(read_table(each), (each,)) for each in files}, names, path)


def saved_tables(path: Path) -> dict[str, Table]:
    """Return the tables of a folder that `save_to_disk` wrote."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # a broken folder raises whatever it likes
        raise unreadable(path, error) from error
    whole = {"train": found} if isinstance(found, datasets.Dataset) else dict(found)
    return {
        str(name): Table(rows, tuple(Path(each["filename"]) for each in rows.cache_files))
        for name, rows in whole.items()
    }


def read_table(path: Path) -> Any:
    """Return the rows of one file. Raises RecipeError if it is broken."""
    import datasets
    from pyarrow import csv, json, parquet

    readers = {".parquet": parquet.read_table, ".csv": csv.read_csv}
    try:
        return datasets.Dataset(readers.get(path.suffix, json.read_json)(str(path)))
    except Exception as error:  # as above
        raise unreadable(path, error) from error


def picked(found: Mapping[str, Table], names: Mapping[SplitName, str], place: object) -> Tables:
    """Return the tables by our names for splits. Raises RecipeError for a name that is not there."""
    tables: dict[SplitName, Table] = {}
    for split in SPLITS:
        name = names.get(split) or next((each for each in USUAL[split] if each in found), None)
        if name is not None and name not in found:
            near = did_you_mean(name, found) or f"there are {', '.join(sorted(found))}"
            raise wrong(f"split_names.{split}", f"{place} has no split {named(name)}", near)
        if name is not None:
            tables[split] = found[name]
    if "train" not in tables:
        has = ", ".join(map(named, sorted(found)))
        raise wrong(
            "split_names", f"{place} has no split train, but {has}", "write split_names: {train: ...}"
        )
    return tables


def require_column(table: Table, column: str, split: SplitName, field: str) -> None:
    """Raise RecipeError if a table has no such column."""
    columns = list(table.rows.column_names)
    if column not in columns:
        near = did_you_mean(column, columns) or f"there are {', '.join(map(named, columns))}"
        raise wrong(field, f"{split} has no column {named(column)}", near)


def rows_of(tables: Tables, fractions: Fractions, calibration: int) -> Mapping[SplitName, Rows]:
    """Return the rows of every split; one without a table takes its share of train, by the rows' numbers.

    Raises RecipeError for a share that does nothing, and for a split with too few rows.
    """
    for split in tables:
        if split in fractions.model_fields_set:
            raise wrong(f"splits.{split}", f"does nothing: the data has a split {split}", "remove it")
    held_out: tuple[SplitName, ...] = ("validation", "test")
    shares = {split: getattr(fractions, split) for split in held_out if split not in tables}
    shared = shared_out([str(row) for row in range(len(tables["train"].rows))], shares, fractions.seed)
    chosen = spread([str(row) for row in shared["train"]], calibration, fractions.seed)
    found = {split: Rows("train", rows, 0) for split, rows in shared.items()}
    found["calibration"] = Rows("train", [shared["train"][at] for at in chosen], 0)
    first = len(tables["train"].rows)
    for split in held_out:
        if split in tables:
            found[split] = Rows(split, range(len(tables[split].rows)), first)
            first += len(tables[split].rows)
    few = [split for split, each in found.items() if len(each.rows) < 2]
    if few:
        raise RecipeError(f"the data gives {few[0]} fewer than 2 samples; add some, or change `splits`")
    return found


def labels_of(tables: Tables, column: str) -> Labels:
    """Return the classes of all rows: named by the data set, by their own texts, or numbered from 0.

    Raises RecipeError for other values, labels out of range, and a class that train has no sample of.
    """
    values = {split: list(table.rows[column]) for split, table in tables.items()}
    known = getattr(tables["train"].rows.features[column], "names", None)
    if known is None and all(isinstance(value, str) for value in values["train"]):
        known = sorted(set(values["train"]))
        number = {name: place for place, name in enumerate(known)}
        values = {split: [number.get(value, value) for value in each] for split, each in values.items()}
    if known is None and all(type(value) is int for value in values["train"]):
        known = [str(number) for number in range(max(values["train"]) + 1)]
    if known is None:
        what = f"the column {named(column)} holds no classes, but {type(values['train'][0]).__name__}"
        raise wrong("label", what, "name a column of whole numbers or names")
    for split, each in values.items():
        require_in_range(each, split, len(known))
    absent = sorted(set(range(len(known))) - set(values["train"]))
    if absent:
        what = f"train has no sample of class {named(known[absent[0]])}"
        raise wrong("label", what, "add some, or number the classes without a gap")
    return Labels(tuple(map(str, known)), values)


def require_in_range(labels: Sequence[Any], split: SplitName, num_classes: int) -> None:
    """Raise RecipeError for the first label of a split that is no class."""
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < num_classes:
            what = f"{split} has the label {named(str(label))} in row {row}, and train has no such class"
            told = "the split has no labels: name another" if label == -1 else "correct it, or remove the row"
            raise wrong("label", what, told)


def unreadable(path: Path, error: Exception) -> RecipeError:
    """Return the error for a file that nobody can read."""
    first = printable(str(error).strip().partition("\n")[0]) or type(error).__name__
    return wrong("path", f"{path} cannot be read: {first}", "write it again")


def wrong(field: str, what: str, next_step: str) -> RecipeError:
    """Return the error for a field of the data."""
    return RecipeError(Problem("", field, what, next_step))
