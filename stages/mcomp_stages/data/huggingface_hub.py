"""Data sets on the Hugging Face hub: downloaded once, as tables; no script of theirs is run."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from mcomp.data.contract import SplitName
from mcomp.errors import printable
from mcomp_stages.data.huggingface_tables import INSTALL, Table, Tables, picked, wrong


def hub_tables(name: str, subset: str | None, revision: str, names: Mapping[SplitName, str]) -> Tables:
    """Return the tables of a data set. Raises RecipeError, with what to do, if the hub cannot be reached."""
    if find_spec("datasets") is None:
        raise wrong("type", "needs the package datasets, which is not installed", INSTALL)
    import datasets

    try:
        found = datasets.load_dataset(name, subset, revision=revision)
    except Exception as error:  # the library passes on what its own libraries raise
        first = printable(str(error).strip().partition("\n")[0]) or type(error).__name__
        what = f"{name} could not be had from the Hugging Face hub: {first}"
        local = (
            "copy its Parquet files, or a folder of save_to_disk, from where it is, and write path: FOLDER"
        )
        raise wrong("hub", what, local) from error
    tables = {
        str(split): Table(rows, tuple(Path(each["filename"]) for each in rows.cache_files))
        for split, rows in found.items()
    }
    return picked(tables, names, name)
