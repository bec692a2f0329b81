"""The record of one run: what happened when (events.jsonl), and what came of it (ledger.json)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mcomp import plainfile
from mcomp.errors import CorruptArtifact, StoreError
from mcomp.store.disk import Disk
from mcomp.store.lease import claim, hold_if_free, is_held, temporary_name
from mcomp.store.ledger import Ledger
from mcomp.store.sealed import sealed, unsealed

LEDGER = "ledger.json"
RUN_ID = re.compile(r"(\d{8}-\d{6})-[A-Za-z0-9_-]+-([0-9a-f]{4})")


@dataclass(frozen=True)
class Run:
    """One run's folder in the store; only the process that made it writes there."""

    id: str
    folder: Path
    disk: Disk = field(repr=False)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to the log: the time (UTC), what happened, and plain JSON fields."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": kind, **fields}, allow_nan=False).encode() + b"\n"
        path = self.folder / "events.jsonl"
        # A write that was cut short left half a line: this one must not be lost with it.
        self.disk.append(path, b"\n" + line if ends_torn(path) else line)

    @contextmanager
    def under_way(self, keys: Sequence[str]) -> Iterator[None]:
        """Say, while the block runs, that this run needs the results of `keys`: nobody cleans them away."""
        with hold_if_free(self.disk, self.leases, self.id):
            with claim(self.leases):
                self.event("run started", keys=list(keys))
            yield

    @property
    def is_under_way(self) -> bool:
        """Whether the process that runs it is alive."""
        return is_held(self.leases, self.id)

    @property
    def leases(self) -> Path:
        """The store's folder of leases."""
        return self.folder.parent.parent / "leases"

    def events(self) -> list[dict[str, Any]]:
        """Return the log in order, without lines that were cut short."""
        path = self.folder / "events.jsonl"
        lines = self.disk.read(path).splitlines() if path.exists() else []
        return [event for event in map(parsed, lines) if event is not None]

    @property
    def recipe_file(self) -> Path:
        """Where the recipe of the run is kept as it was resolved. Raises StoreError for a link."""
        path = self.folder / "recipe.yaml"
        if path.is_symlink():
            raise StoreError(f"{path} is a link: a run's recipe never is; remove the link")
        return path

    def write_recipe(self, text: str) -> None:
        """Keep the recipe of the run as it was resolved."""
        self.write_text(self.recipe_file.name, text)

    def write_ledger(self, ledger: Ledger) -> None:
        """Put the ledger in the place of the former one."""
        self.write_text(LEDGER, sealed(json.loads(ledger.model_dump_json())).decode())

    def read_ledger(self) -> Ledger:
        """Return the last ledger written.

        Raises StoreError if there is none, or one of another version, CorruptArtifact if it is broken.
        """
        path = self.folder / LEDGER
        if not path.exists():
            raise StoreError(f"run {self.id} has no ledger: it ended before its first step did")
        try:
            plain = unsealed(self.disk.read(path))
            if plain.get("run") != self.id:
                raise ValueError("it is that of another run")
        except ValueError as error:
            raise CorruptArtifact(f"{path} is broken: {error}; run the recipe again") from error
        try:
            # By JSON: its keys are text, also those that are batch sizes.
            return Ledger.model_validate_json(json.dumps(plain))
        except ValueError as error:
            raise StoreError(f"{path} is of another version of mcomp; run the recipe again") from error

    def write_text(self, name: str, text: str) -> None:
        """Write one of the run's files, whole or not at all; when this returns, it is kept."""
        work = self.folder.parent.parent / "work"
        self.disk.put(self.folder / name, text.encode(), work / temporary_name(self.id))


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return the event of a line, None if it was cut short."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(event, dict) and all(isinstance(event.get(name), str) for name in ("time", "event"))
    return event if is_ours else None


def ends_torn(path: Path) -> bool:
    """Return whether the last line of a file was cut short."""
    try:
        with plainfile.opened(path, follow_links=False) as file:
            return file.seek(0, 2) > 0 and file.seek(-1, 2) >= 0 and file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def make_run(disk: Disk, folder: Path, recipe_name: str) -> Run:
    """Make the folder of a new run. Ids hold the time (UTC), its last four digits the second's fraction."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", recipe_name):
        raise ValueError(f"{recipe_name!r} cannot be part of a folder's name")
    while True:
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%d-%H%M%S}-{recipe_name}-{now.microsecond * 65536 // 1_000_000:04x}"
        try:
            disk.mkdir(folder / run_id)
        except FileExistsError:
            continue
        disk.sync_folder(folder)
        return Run(run_id, folder / run_id, disk)


def run_ids(names: list[str]) -> list[str]:
    """Return those of the names that are ids of runs, newest first."""
    matches = [match for match in map(RUN_ID.fullmatch, names) if match]
    return [match[0] for match in sorted(matches, key=lambda match: match.groups(), reverse=True)]
