"""A folder with the files of a page, whose modules can be imported and are forgotten afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcomp import plugins
from tests.docs.pages import Block, blocks, write_files

Open = Callable[[Path], Path]


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Write the files of a page into a folder, import those that register plugins, and return the folder."""
    before, decorated = set(sys.modules), dict(plugins.decorated)

    def open_page(page: Path) -> Path:
        write_files(page, tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        for block in filter(registers, blocks(page)):
            plugins.import_module(str(block.file).removesuffix(".py"))
        return tmp_path

    yield open_page
    plugins.decorated.clear()
    plugins.decorated.update(decorated)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def registers(block: Block) -> bool:
    """Whether a block is a module with a plugin in it."""
    return block.language == "python" and "@mcomp.plugins." in block.text
