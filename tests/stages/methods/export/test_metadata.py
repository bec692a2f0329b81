from __future__ import annotations

import json
from dataclasses import replace

from mcomp.data.splits import Splits
from mcomp_stages.methods.export.metadata import metadata
from tests.mcomp.training.setting import make_context, small_data


def test_a_file_says_what_it_was_made_of_and_how_it_is_served() -> None:
    facts = {"mean": [0.5], "std": [0.2], "classes": ["dark", "bright"], "samples": {"train": 9}}
    data = Splits(small_data().by_name, facts)
    context = replace(make_context(data), key="ab", made_of={"seed": 0})
    told = metadata(context)
    assert told["mcomp.key"] == "ab"
    assert json.loads(told["mcomp.preprocessing"]) == {"mean": [0.5], "std": [0.2]}
    assert json.loads(told["mcomp.labels"]) == ["dark", "bright"]
    assert json.loads(told["mcomp.recipe"]) == {"seed": 0}


def test_what_is_not_known_is_not_told() -> None:
    assert metadata(make_context()) == {}
