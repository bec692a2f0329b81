"""What an error says to do about a layer whose integers are not what they should be. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable

LAYERS = ("conv", "linear")


def left_in_float(layers: Iterable[str]) -> str:
    """Return how an error goes on: what to put into the recipe to leave layers in float."""
    paths = list(layers)
    what = "it" if len(paths) == 1 else "them"
    return f"; to leave {what} in float, add to the stage that quantizes: keep_float: [{', '.join(paths)}]"


def repair_of(site: str) -> str:
    """Return how an error about a site goes on; nothing if the site is of no layer (a sum, an input)."""
    layer, _, operation = site.partition("#")
    return left_in_float([layer]) if layer and operation.startswith(LAYERS) else ""
