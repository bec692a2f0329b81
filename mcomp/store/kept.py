"""What is kept of a result's making and measuring, read as what it must be.

Digests show that bytes are those that were written, not that this version of mcomp wrote them.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mcomp.config import Config
from mcomp.errors import CorruptArtifact
from mcomp.store.artifact import Artifact
from mcomp.store.layout import REPORT
from mcomp.store.ledger import Count, Figures, Served
from mcomp.store.store import Store

Kept = TypeVar("Kept", bound=BaseModel)


class Cost(Config):
    """What it took to compute a result, as far as that is known."""

    seconds: float = 0.0
    peak_memory_bytes: Count | None = None


class Pair(Config):
    """An exported file and the baseline's, as their runtime serves them."""

    result: Served
    baseline: Served


class StepReport(Config):
    """The report that lies in a result."""

    figures: Figures
    facts: dict[str, Any]


def read_figures(store: Store, kind: type[Kept], key: str, name: str) -> Kept | None:
    """Return figures about a result; None if there are none, or those of another version."""
    known = store.measurement(key, name)
    try:
        # By JSON: its keys are text, also those that are batch sizes.
        return None if known is None else kind.model_validate_json(json.dumps(known))
    except ValidationError:
        return None


def read_report(artifact: Artifact) -> StepReport:
    """Return the report of a result. Raises CorruptArtifact, and sets it aside, if it is none."""
    path = artifact.file(REPORT)
    try:
        return StepReport.model_validate_json(path.read_bytes())
    except ValidationError as error:
        artifact.on_corrupt(f"{REPORT} is none of this version")
        raise CorruptArtifact(f"{path} is no report of this version; it was set aside") from error
