"""What the plots have in common.

Colours are names (`@accent`) that the page replaces by those of its light or dark theme.
"""

from __future__ import annotations

import html
from typing import Any

from mcomp.report.text import clean

Figure = dict[str, Any]

LONGEST_LABEL = 36
SERIES = ("@accent", "@series2", "@series3", "@series4", "@series5")


def label(name: str) -> str:
    """Return a name that plotly shows as it is (it reads tags in labels), cut if it would fill the plot."""
    cleaned = clean(name)
    shown = cleaned if len(cleaned) <= LONGEST_LABEL else f"{cleaned[: LONGEST_LABEL - 1]}…"
    return html.escape(shown, quote=False)


def axis(title: str, **changes: Any) -> Figure:
    """Return an axis with a grid and a title of the size of its numbers."""
    grid = {"gridcolor": "@line", "zeroline": False, "fixedrange": True, "automargin": True}
    return {**grid, "title": {"text": title, "font": {"size": 13}, "standoff": 12}, **changes}
