"""Every YAML block in the documentation and in the manuals of plugins is right, read as strictly as a recipe.

A block with `version` is a recipe. The others are parts of one: some of its keys, or some of its stages.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from mcomp.plan import make_plan
from mcomp.recipe.build import load_recipe
from mcomp.recipe.schema import Recipe
from tests.docs.conftest import Open
from tests.docs.pages import ROOT, Block, blocks, pages, write_files

PARTS = {
    "version": "version: 1",
    "name": "name: part",
    "model": "model: {type: resnet}",
    "data": "data: {type: digits}",
    "task": "task: {type: fidelity}",
    "stages": "stages: {train: {type: train, training: {epochs: 1}}, export: {type: export.onnx}}",
}
GROUPS = ("mcomp.stages", "mcomp.models", "mcomp.data", "mcomp.tasks")
YAML_BLOCKS = [block for page in pages() for block in blocks(page) if block.language == "yaml"]
MANUALS = sorted(
    entry.module
    for group in GROUPS
    for entry in entry_points(group=group)
    if entry.module.startswith("mcomp_stages.")
)


def completed(text: str) -> str:
    """Return the text of a recipe that the text is a part of."""
    keys = yaml.safe_load(text).keys()
    if not keys & Recipe.model_fields.keys():
        text = f"stages:\n{textwrap.indent(text, '  ')}"
        keys = {"stages"}
    return "\n".join([text, *(line for key, line in PARTS.items() if key not in keys)])


def require_right(text: str, folder: Path) -> None:
    """Read a block as the recipe that it is, or a part of."""
    whole = "version" in yaml.safe_load(text)
    path = folder / "block.yaml"
    path.write_text(text if whole else completed(text), encoding="utf-8")
    loaded = load_recipe(path)
    if whole:
        make_plan(loaded)


@pytest.fixture(autouse=True)
def every_library_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe is only read here."""
    monkeypatch.setattr("mcomp_stages.models.installed.find_spec", lambda name: name)


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=str)
def test_every_block_of_the_documentation_is_right(block: Block, open_page: Open) -> None:
    require_right(block.text, open_page(block.page))


@pytest.mark.parametrize("module", MANUALS)
def test_every_sample_in_a_manual_is_right(module: str, tmp_path: Path) -> None:
    write_files(ROOT / "README.md", tmp_path)
    manual = inspect.cleandoc(importlib.import_module(module).__doc__ or "")
    samples = [part for part in manual.split("\n\n") if part.startswith("    ")]
    for sample in samples:
        require_right(textwrap.dedent(sample), tmp_path)
