"""A store that is thrown away, in the system's temporary folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from mcomp.store.lease import is_left_behind, temporary_name
from mcomp.store.store import Store


@contextmanager
def temporary_store(name: str) -> Iterator[Store]:
    """Give a new store for the block; those of the same name that killed processes left go as well."""
    for left in Path(gettempdir()).glob(f"{name}-*"):
        if is_left_behind(left.name, name):
            shutil.rmtree(left, ignore_errors=True)  # it may be somebody else's
    folder = Path(gettempdir()) / temporary_name(name)
    folder.mkdir(mode=0o700)
    try:
        yield Store(folder / "store")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
