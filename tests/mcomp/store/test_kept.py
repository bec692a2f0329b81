"""What another version of mcomp wrote is no result and no figure of this one, and no bug either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcomp.errors import CorruptArtifact
from mcomp.store.kept import Cost, Pair, read_figures, read_report
from mcomp.store.ledger import Figures
from mcomp.store.store import Store
from tests.mcomp.report.ledgers import baseline, exported
from tests.mcomp.store.example import ABOUT, key, key_json


def published(store: Store, report: str) -> None:
    with store.workspace(key("a")) as folder:
        (folder / "content").mkdir()
        (folder / "content" / "report.json").write_text(report)
        store.publish(key("a"), key_json("a"), folder / "content", ABOUT)


def test_a_report_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    published(store, '{"figures": {"validation": 0.5}, "facts": {"groups": 3}}')
    artifact = store.find(key("a"))
    assert artifact is not None
    report = read_report(artifact)
    assert (report.figures, report.facts) == (Figures(validation=0.5), {"groups": 3})


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"figures": {"macs": -1}, "facts": {}}', "[" * 100_000, '{"figures": 1}']
)
def test_what_is_no_report_is_set_aside_and_told(text: str, tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path, on_problem=told.append)
    published(store, text)
    artifact = store.find(key("a"))
    assert artifact is not None
    with pytest.raises(CorruptArtifact, match="no report of this version"):
        read_report(artifact)
    assert len(told) == 1
    assert store.find(key("a")) is None


def test_figures_come_back_as_they_were_kept(tmp_path: Path) -> None:
    store, pair = Store(tmp_path), Pair(result=exported(), baseline=baseline())
    store.put_measurement(key("a"), "served", pair.model_dump(mode="json"))
    assert read_figures(store, Pair, key("a"), "served") == pair
    assert read_figures(store, Pair, key("b"), "served") is None


@pytest.mark.parametrize("figures", [{"seconds": "x"}, {"peak_memory_bytes": -1}, {"other": 1}])
def test_figures_of_another_version_count_as_none(figures: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_measurement(key("a"), "cost", figures)
    assert read_figures(store, Cost, key("a"), "cost") is None
