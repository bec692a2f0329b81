"""What `mcomp doctor` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mcomp.doctor import Finding
from mcomp.report.table import Encodable
from mcomp.report.text import clean

STYLE = {"broken": "red", "trap": "yellow"}


def doctor_table(sections: Sequence[Mapping[str, str]], findings: Sequence[Finding]) -> RenderableType:
    """Return facts in sections, and below them what is broken or may go wrong."""
    parts: list[RenderableType] = []
    for section in sections:
        parts += [facts(section), Text()]
    parts += [line(finding) for finding in findings]
    broken = sum(finding.level == "broken" for finding in findings)
    traps = len(findings) - broken
    parts.append(Text(f"{broken} broken, {traps} to know of" if findings else "nothing is wrong"))
    return Encodable(Group(*parts))


def facts(section: Mapping[str, str]) -> Table:
    """Return names and values."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in section.items():
        table.add_row(Text(clean(name)), Text(clean(value)))
    return table


def line(finding: Finding) -> Text:
    """Return one finding."""
    shown = Text.assemble((f"{finding.level}: ", STYLE[finding.level]), clean(finding.what))
    return shown.append(f"; {clean(finding.next_step)}", style="dim")
