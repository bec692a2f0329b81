from __future__ import annotations

import pytest

from mcomp.report.facts import flat, history
from tests.mcomp.report.ledgers import history as training
from tests.mcomp.report.ledgers import row


@pytest.mark.parametrize(
    "facts", [{"history": training(3, 0, 1)}, {"recover": {"history": training(3, 0, 1)}}]
)
def test_a_history_is_found_at_the_top_and_one_level_down(facts: dict) -> None:
    assert [epoch.number for epoch in history(row("r", "s", "t", facts=facts))] == [1, 2, 3]


@pytest.mark.parametrize(
    "found", ["text", 7, [{"number": 1}], [{**training(1, 0, 1)[0], "metric": float("nan")}]]
)
def test_what_is_no_history_is_no_training(found: object) -> None:
    assert history(row("r", "s", "t", facts={"history": found})) == []


def test_facts_are_flat_names_with_readable_values() -> None:
    facts = {
        "groups": 672,
        "share": 0.123456,
        "kept": True,
        "why": None,
        "parts": {"inner": {"names": ["a", "b"]}},
        "history": training(3, 0, 1),
        "many": list(range(14)),
    }
    many = ", ".join(map(str, range(12))) + ", and 2 more"
    assert list(flat(facts)) == [
        ("groups", "672"),
        ("share", "0.1235"),
        ("kept", "yes"),
        ("why", "none"),
        ("parts.inner.names", "a, b"),
        ("many", many),
    ]
