"""The reference says what the schemas, the manuals and the command line say."""

from __future__ import annotations

import importlib.util

import pytest

from tests.docs.pages import ROOT


def generated() -> dict[str, str]:
    """Return the pages as docs/generate.py makes them now."""
    specification = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    pages: dict[str, str] = module.pages()
    return pages


PAGES = generated()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_would_be_written_now(name: str) -> None:
    page = ROOT / "docs" / "reference" / name
    assert page.read_text(encoding="utf-8") == PAGES[name], "run: python docs/generate.py"


def test_no_page_is_left_over() -> None:
    assert {page.name for page in (ROOT / "docs" / "reference").iterdir()} == set(PAGES)
