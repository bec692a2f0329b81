"""What `mcomp bench` prints."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from mcomp.bench.record import Bench, BenchedFile, Layer, Timing
from mcomp.report import text
from mcomp.report.table import Column, Encodable, Lines
from mcomp.report.text import clean


def bench_table(found: Bench) -> RenderableType:
    """Return the figures, the profile of each file, why a file is slower, and the machine."""
    parts: list[RenderableType] = [Lines(TIMINGS, found.timings), Text(), Lines(FILES, found.files)]
    for file in found.files:
        name = clean(file.file)
        parts += [Text(f"{name} is slower: {clean(each)}", style="yellow") for each in file.slower_because]
        if file.layers:
            parts += [Text(), Text(f"{name}: milliseconds in a call"), *map(layer_line, file.layers)]
    parts += [
        Text(),
        Text(", ".join(f"{name} {value}" for name, value in found.machine.items()), style="dim"),
    ]
    return Encodable(Group(*parts))


def layer_line(layer: Layer) -> Text:
    """Return one line of a profile."""
    return Text(f"  {layer.milliseconds:8.3f}  {clean(layer.operator)}  {clean(layer.name)}")


TIMINGS: list[Column[Timing]] = [
    Column("file", lambda each: clean(each.file), right=False),
    Column("runtime", lambda each: clean(each.runtime), right=False),
    Column("threads", lambda each: str(each.threads)),
    Column("batch", lambda each: str(each.batch_size)),
    Column("median", lambda each: text.milliseconds(each.latency.median_ms)),
    Column("spread", lambda each: f"{each.spread:.0%}"),
    Column("faster", lambda each: text.ratio(each.speedup)),
]
FILES: list[Column[BenchedFile]] = [
    Column("file", lambda each: clean(each.file), right=False),
    Column("bytes", lambda each: text.size(each.size_bytes)),
    Column("peak memory", lambda each: ", ".join(map(text.size, each.peak_memory_bytes.values())) or "–"),
]
