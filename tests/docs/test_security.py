"""The page on security names tests that are there, attacks that are made and limits that hold."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from mcomp.errors import LONGEST_NAME
from mcomp.model.checkpoint import MODEL_LIMIT_BYTES
from mcomp.model.shards import INDEX_LIMIT_BYTES
from mcomp.model.weights import HEADER_LIMIT_BYTES
from mcomp.recipe.load import MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_SCALAR
from mcomp.store.artifact import MANIFEST_LIMIT_BYTES
from mcomp.store.checkpoints import NUMBERS_LIMIT_BYTES
from mcomp.store.disk import READ_LIMIT_BYTES
from mcomp.store.lease import NOTE_LIMIT_BYTES
from mcomp.store.store import MARKER_LIMIT_BYTES
from mcomp_stages.data.array_files import MOST_ARRAYS, UNPACKED_BYTES
from mcomp_stages.data.image_file import MAX_PIXELS
from mcomp_stages.data.text_lines import TEXT_LIMIT_BYTES
from mcomp_stages.data.tokenizer_file import TOKENIZER_LIMIT_BYTES
from mcomp_stages.models.exported_archive import JSON_LIMIT_BYTES
from mcomp_stages.models.huggingface_folder import CONFIG_LIMIT_BYTES, MOST_CLASSES
from tests.docs.pages import ROOT
from tests.docs.test_reliability import names_in
from tests.hostile.corpus import ATTACKS

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
MIB = 2**20


@pytest.mark.parametrize(("path", "name"), sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE))))
def test_every_test_that_is_named_is_there(path: str, name: str) -> None:
    assert name in names_in(path)


@pytest.mark.parametrize("number", range(1, 7))
def test_every_promise_has_a_test(number: int) -> None:
    (promise,) = re.findall(rf"^\*\*{number}\. .*?(?=^\*\*|^How the kinds)", PAGE, re.DOTALL | re.MULTILINE)
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", promise)


def test_the_attacks_are_counted() -> None:
    assert f"holds {len(ATTACKS)} attacks" in WORDS
    for kind, number in Counter(name.partition(":")[0] for name in ATTACKS).items():
        assert f"{number} by {kind}" in WORDS


@pytest.mark.parametrize(
    "row",
    [
        f"| a recipe | {MAX_BYTES:,} bytes, {MAX_NODES:,} values, {MAX_DEPTH} deep, texts of {MAX_SCALAR:,} ",
        f"| the header of a safetensors file | {HEADER_LIMIT_BYTES // MIB} MiB |",
        f"| an index of a checkpoint in parts | {INDEX_LIMIT_BYTES // MIB} MiB |",
        f"| `config.json` of a hub folder | {CONFIG_LIMIT_BYTES // MIB} MiB |",
        f"| the graph of a program of torch.export | {JSON_LIMIT_BYTES // MIB} MiB |",
        f"| `model.json` | {MODEL_LIMIT_BYTES // MIB} MiB |",
        f"| a manifest, a key, the numbers of a checkpoint | {MANIFEST_LIMIT_BYTES // MIB} MiB |",
        f"| a manifest, a key, the numbers of a checkpoint | {NUMBERS_LIMIT_BYTES // MIB} MiB |",
        f"| a ledger, a log, another record of a store | {READ_LIMIT_BYTES // MIB} MiB |",
        f"| `store.json`; the note of a lease | {MARKER_LIMIT_BYTES:,} bytes; {NOTE_LIMIT_BYTES:,} bytes |",
        f"| arrays in a file or folder | {MOST_ARRAYS} |",
        f"| what compressed arrays unpack to | {UNPACKED_BYTES // 2**30} GiB |",
        f"| a file of sentences; `tokenizer.json` and the files beside it | {TEXT_LIMIT_BYTES // MIB} MiB; "
        f"{TOKENIZER_LIMIT_BYTES // MIB} MiB |",
        f"| the classes that a hub folder names | {MOST_CLASSES:,} |",
        f"| an image | {MAX_PIXELS:,} pixels",
        f"| a name from a file in an error | {LONGEST_NAME} characters |",
    ],
)
def test_every_limit_is_the_one_that_holds(row: str) -> None:
    assert row in WORDS
