"""Figures and names as a person reads them: `1.18 MB`, `4.33 M`, `10.3×`."""

from __future__ import annotations

import unicodedata

# Control, format (also those that turn the writing direction), surrogate and separator characters.
UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
NONE = "–"

SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def clean(text: str) -> str:
    """Return a text from a recipe or a plugin as one line that cannot steer a terminal."""
    spaced = text.replace("\n", " ").replace("\t", " ")
    return "".join("�" if unicodedata.category(letter) in UNSAFE else letter for letter in spaced)


def figure(value: float | str) -> str:
    """Return a number with four digits; a text as it is."""
    return value if isinstance(value, str) else f"{value:.4g}"


def metric(value: float | None) -> str:
    """Return a metric with four decimals, or four digits where it is large."""
    if value is None:
        return NONE
    return f"{value:.4f}" if abs(value) < 10 else figure(value)


def change(value: float | None) -> str:
    """Return a difference of metrics with its sign."""
    if value is None:
        return NONE
    sign = "−" if value < 0 else "+"
    return f"{sign}{metric(abs(value))}" if metric(abs(value)) != metric(0.0) else "±0"


def size(num_bytes: float | None) -> str:
    """Return bytes in powers of 1000."""
    return scaled(num_bytes, SIZES, "B")


def count(number: float | None) -> str:
    """Return a count in powers of 1000."""
    return scaled(number, COUNTS, "")


def scaled(number: float | None, units: tuple[tuple[float, str], ...], smallest: str) -> str:
    """Return a number of three digits with the largest unit below it."""
    if number is None:
        return NONE
    for factor, unit in units:
        if number >= 0.9995 * factor:
            return f"{three_digits(number / factor)} {unit}"
    return f"{number:.0f} {smallest}".rstrip()


def three_digits(value: float) -> str:
    """Return a number with three digits, or more if its whole part has more; no exponent."""
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{decimals}f}"


def ratio(value: float | None) -> str:
    """Return a factor."""
    return NONE if value is None else f"{three_digits(value)}×"


def milliseconds(value: float | None) -> str:
    """Return a latency."""
    if value is None:
        return NONE
    return f"{value:.3f} ms" if value < 1 else f"{three_digits(value)} ms"


def seconds(value: float) -> str:
    """Return a duration."""
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
