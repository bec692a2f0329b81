"""What must be true of every error that a person is shown."""

from __future__ import annotations

from mcomp.errors import McompError


def require_good_words(error: McompError) -> None:
    """Raise AssertionError if an error could steer a terminal, says nothing, or goes on without end."""
    text = str(error)
    assert text.strip()
    assert text.replace("\n", "").isprintable(), ascii(text[:500])
    assert len(text) < 100_000, len(text)
