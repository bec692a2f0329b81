"""Results by key, runs by time, in one folder.

    <root>/store.json                   the format, written last: a folder without it is not (yet) a store
           artifacts/<ke>/<key>/        results (mcomp.store.artifact)
           measurements/<key>/<name>.json   figures that depend on the machine
           runs/<time>-<recipe>-<xxxx>/ events, ledger and resolved recipe of each run
           sweeps/<time>-<recipe>-<xxxx>/  plan and results of each sweep (mcomp.store.sweeps)
           leases/                      who works on which key (mcomp.store.lease)
           work/                        what is unfinished: scratch space of steps, files that get their name
           checkpoints/<key>/           what a step that is not finished has done (mcomp.store.checkpoints)
           digests/                     of files outside that need not be read again (mcomp.store.digests)
           quarantine/  replaced/       results found broken; results replaced on request

Nothing here is global: a store may be opened any number of times, in any process, also after a fork.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

from mcomp.errors import CorruptArtifact, StoreError, named
from mcomp.fingerprint import canonical, fingerprint
from mcomp.signals import deferred
from mcomp.store.artifact import STORE_FORMAT, Artifact, Checked, inspect, seal
from mcomp.store.disk import Disk, explained
from mcomp.store.lease import hold, is_left_behind, temporary_name
from mcomp.store.runs import LEDGER, Run, make_run, run_ids
from mcomp.store.sweeps import SweepFolder

FOLDERS = (
    "artifacts", "measurements", "runs", "sweeps", "leases", "work", "checkpoints", "digests", "quarantine",
    "replaced",
)  # fmt: skip
MARKER, IGNORE = "store.json", ".gitignore"
MARKER_LIMIT_BYTES = 1024


def warn(message: str) -> None:
    """Tell a problem that costs time but no result."""
    warnings.warn(message, stacklevel=3)


class Store:
    """A folder of results. It is made when something is first written to it.

    `on_problem` is told what was found broken and set aside. All methods raise StoreError, naming the file.
    """

    def __init__(
        self, root: Path, disk: Disk | None = None, on_problem: Callable[[str], None] = warn
    ) -> None:
        self.root = root
        self.disk = disk or Disk()
        self.on_problem = on_problem
        self.checked: Checked = set()
        self.is_prepared = False
        self.is_checked = False

    def find(self, key: str, key_json: Any = None) -> Artifact | None:
        """Return the result of a key, or None. A bad one is moved to quarantine and is no result.

        Manifest, key and sizes are checked here, the bytes of a file when it is used (`Artifact.file`).
        """
        self.require_format()
        folder = self.artifact_folder(key)
        with explained("read", folder):
            if not folder.is_symlink() and not folder.exists():
                return None
        try:
            manifest = inspect(self.disk, folder, key, key_json)
        except StoreError as error:
            if not os.path.lexists(folder):
                return None  # it was cleaned away at this moment
            if not isinstance(error, CorruptArtifact):
                raise
            self.quarantine(key, str(error))
            return None
        return Artifact(key, folder, manifest, self.disk, partial(self.quarantine, key), self.checked)

    @deferred()
    def publish(self, key: str, key_json: Any, folder: Path, about: dict[str, Any]) -> Artifact:
        """Make the files of `folder` the result of `key`; the folder is moved, so it must lie in a workspace.

        When this returns, the result is kept whatever happens. If somebody else was first, theirs stays: same
        key, same content. `key` is the fingerprint of `key_json`; `about` is plain JSON.
        """
        if fingerprint(key_json) != key:
            raise ValueError(f"{key} is not the fingerprint of its own JSON")
        self.prepare()
        target = self.artifact_folder(key)
        with suppress(FileExistsError):
            self.disk.mkdir(target.parent)
        # Also if the shard was there: the process that made it may not have come to this line yet.
        self.disk.sync_folder(target.parent.parent)
        unfinished = target.with_name(temporary_name(key))
        self.disk.rename(folder, unfinished)
        try:
            seal(self.disk, unfinished, key, key_json, about)
            self.place(unfinished, target, key, key_json)
        except BaseException:
            with suppress(StoreError):
                self.disk.remove(unfinished)
            raise
        self.disk.sync_folder(target.parent)
        artifact = self.find(key, key_json)
        if artifact is None:
            raise StoreError(f"{target} was changed while it was published; run again")
        return artifact

    def place(self, unfinished: Path, target: Path, key: str, key_json: Any) -> None:
        """Give a sealed folder its name, or drop it if a good one has it already."""
        while True:
            try:
                self.disk.rename(unfinished, target)
                return
            except FileExistsError:
                if self.find(key, key_json) is not None:
                    self.disk.remove(unfinished)
                    return

    def quarantine(self, key: str, reason: str) -> None:
        """Move a result that is broken out of the way, by name; it is never deleted."""
        moved = self.move(key, "quarantine")
        self.on_problem(f"the stored result {key[:12]} is broken ({reason}); it was moved to {moved}")

    @deferred()
    def set_aside(self, key: str) -> None:
        """Move a good result out of the way, so that it is computed again; its figures are forgotten."""
        self.disk.remove(self.checkpoints_folder(key))
        self.disk.remove(self.root / "measurements" / valid(key))
        if self.artifact_folder(key).exists():
            self.move(key, "replaced")

    def move(self, key: str, to: str) -> Path:
        """Move a result, if it is still there, to a numbered name in another folder, and return that."""
        self.prepare()
        source = self.artifact_folder(key)
        for number in count(1):
            target = self.root / to / f"{key}-{number}"
            if target.exists():
                continue
            try:
                self.disk.rename(source, target)
            except FileExistsError:
                continue
            except StoreError:
                if source.exists():
                    raise
            break
        self.disk.sync_folder(target.parent)
        return target

    @contextmanager
    def workspace(self, key: str) -> Iterator[Path]:
        """Give an empty folder on the store's disk; it is removed at the end, with what is still in it."""
        self.prepare()
        folder = self.root / "work" / temporary_name(valid(key))
        try:
            self.disk.mkdir(folder)
            yield folder
        finally:
            # What cannot be removed now is removed at the next lease; it must not hide the step's error.
            with deferred(), suppress(StoreError):
                self.disk.remove(folder)

    @contextmanager
    def lease(self, key: str, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Hold the key while working on it; `on_wait` is told for whom this process has to wait, if so."""
        self.prepare()
        with hold(self.disk, self.root / "leases", valid(key), on_wait):
            self.remove_leftovers(key)
            yield

    def remove_checkpoints(self, key: str) -> None:
        """Remove what was kept of the work on a key: its result is there. Only room is lost if this fails."""
        folder = self.checkpoints_folder(key)
        if folder.exists():
            with suppress(StoreError):
                self.disk.remove(folder)

    def tidy(self) -> None:
        """Remove what dead processes left in work/, whatever it was of. Only room is lost if this fails."""
        for path in self.glob("work/*"):
            if is_left_behind(path.name):
                with suppress(StoreError):
                    self.disk.remove(path)

    def remove_leftovers(self, key: str) -> None:
        """Remove what dead processes left unfinished of a key."""
        for folder in (self.root / "work", self.artifact_folder(key).parent):
            for path in folder.glob(f"{key}-*"):
                if is_left_behind(path.name, key):
                    self.disk.remove(path)

    def measurement(self, key: str, name: str) -> dict[str, Any] | None:
        """Return a figure kept about a result, or None; a broken one is reported and counts as none."""
        path = self.measurement_file(key, name)
        if not path.is_file():
            return None
        try:
            return read_figure(self.disk, path)
        except CorruptArtifact:
            self.on_problem(f"{path} is broken; it is measured again")
            return None

    def put_measurement(self, key: str, name: str, value: dict[str, Any]) -> None:
        """Keep a figure about a result, in place of a former one of that name; `value` is plain JSON."""
        self.prepare()
        path = self.measurement_file(key, name)
        with suppress(FileExistsError):
            self.disk.mkdir(path.parent)
        self.disk.sync_folder(path.parent.parent)
        self.disk.put(path, encoded_figure(path, value), self.root / "work" / temporary_name(key))

    def new_run(self, recipe_name: str) -> Run:
        """Begin the record of a run, in a store without scratch of runs that were killed."""
        self.prepare()
        self.tidy()
        return make_run(self.disk, self.root / "runs", recipe_name)

    def runs(self) -> list[str]:
        """Return the ids of the runs, newest first."""
        self.require_format()
        return self.ids("runs")

    def ids(self, kind: Literal["runs", "sweeps"]) -> list[str]:
        """Return the ids of runs or sweeps, newest first."""
        folder = self.root / kind
        with explained("read", folder):
            names = run_ids([path.name for path in folder.iterdir()]) if folder.is_dir() else []
        for name in names:
            self.inside(folder / name / LEDGER)
        return names

    def run(self, run_id: str) -> Run:
        """Return the record of a run. Raises StoreError if there is none of that id."""
        if run_id not in self.runs():
            raise StoreError(f"{self.root} has no run {named(run_id)}")
        return Run(run_id, self.root / "runs" / run_id, self.disk)

    def new_sweep(self, recipe_name: str) -> SweepFolder:
        """Begin the record of a sweep."""
        self.prepare()
        self.make_folder(self.root / "sweeps")  # a store of before there were any has no such folder
        made = make_run(self.disk, self.root / "sweeps", recipe_name)
        return SweepFolder(made.id, made.folder, self.disk)

    def sweeps(self) -> list[str]:
        """Return the ids of the sweeps, newest first."""
        self.require_format()
        return self.ids("sweeps")

    def sweep(self, sweep_id: str) -> SweepFolder:
        """Return the record of a sweep. Raises StoreError if there is none of that id."""
        if sweep_id not in self.sweeps():
            raise StoreError(f"{self.root} has no sweep {named(sweep_id)}")
        return SweepFolder(sweep_id, self.root / "sweeps" / sweep_id, self.disk)

    def artifact_folder(self, key: str) -> Path:
        """Return where the result of a key is, or would be."""
        return self.inside(self.root / "artifacts" / valid(key)[:2] / key)

    def checkpoints_folder(self, key: str) -> Path:
        """Return where the checkpoints of a key are, or would be."""
        return self.inside(self.root / "checkpoints" / valid(key))

    def measurement_file(self, key: str, name: str) -> Path:
        """Return where a figure is, or would be."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
            raise ValueError(f"{name!r} cannot be the name of a measurement")
        return self.inside(self.root / "measurements" / valid(key) / f"{name}.json")

    def inside(self, path: Path) -> Path:
        """Return a path in the store. Raises StoreError if a link stands for a folder on the way to it."""
        with explained("read", path):
            for folder in path.parents:
                if folder == self.root:
                    break
                if folder.is_symlink():
                    raise StoreError(f"{folder} is a link: a store's own folders never are; remove the link")
        return path

    def glob(self, pattern: str) -> list[Path]:
        """Return the paths in the store that match a pattern, sorted. Raises StoreError as `inside` does."""
        found = [self.root]
        for part in pattern.split("/"):  # level by level: what lies behind a link is not even listed
            found = [path for folder in found for path in self.inside(folder / part).parent.glob(part)]
        return sorted(found)

    def prepare(self) -> None:
        """Make the folder a store if it is not one yet. Raises StoreError if it is full of other things."""
        if self.is_prepared:
            return
        if not self.require_format():
            self.require_ours()
            self.require_own_folders()
            self.make_folder(self.root)
            for name in FOLDERS:
                with suppress(FileExistsError):
                    self.disk.mkdir(self.root / name)
            self.disk.write(self.root / IGNORE, b"*\n")
            self.disk.sync_file(self.root / IGNORE)
            self.disk.sync_folder(self.root)
            text = canonical({"store_format": STORE_FORMAT})
            self.disk.put(self.root / MARKER, text, self.root / temporary_name(MARKER))
        self.is_prepared = True

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those above it, so that a power cut does not take them away again."""
        if not folder.parent.exists():
            self.make_folder(folder.parent)
        with suppress(FileExistsError):
            self.disk.mkdir(folder)
        if not folder.is_dir():
            raise StoreError(f"{folder} is a file; the store must be a folder: choose another with --store")
        self.disk.sync_folder(folder.parent)

    def require_format(self) -> bool:
        """Return whether there is a store yet. Raises StoreError if this version cannot read it."""
        marker = self.root / MARKER
        with explained("read", marker):
            if not marker.is_file():
                return False
        self.require_own_folders()
        try:
            found = json.loads(self.disk.read(marker, MARKER_LIMIT_BYTES))
        except (ValueError, RecursionError):
            found = None
        if found != {"store_format": STORE_FORMAT}:
            raise StoreError(f"{marker} is not of format {STORE_FORMAT}: choose another store with --store")
        return True

    def require_own_folders(self) -> None:
        """Raise StoreError if one of the store's folders is a link. Looked at once."""
        if not self.is_checked:
            for name in FOLDERS:
                self.inside(self.root / name / "any")
            self.is_checked = True

    def require_ours(self) -> None:
        """Raise StoreError if the folder holds what no store holds: it is a person's, not ours to fill."""
        with explained("read", self.root):
            names = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
        foreign = [name for name in names if name not in (*FOLDERS, IGNORE) and not name.startswith(MARKER)]
        if foreign:
            raise StoreError(
                f"{self.root} is not a store and not empty (it has {sorted(foreign)[0]}); "
                "name an empty or a new folder with --store"
            )


def encoded_figure(path: Path, value: dict[str, Any]) -> bytes:
    """Return the bytes of a figure that is kept at a path; which one of which result is in its digest."""
    digest = fingerprint({"key": path.parent.name, "name": path.stem, "value": value})
    return canonical({"value": value, "sha256": digest})


def read_figure(disk: Disk, path: Path) -> dict[str, Any]:
    """Return a figure that was kept. Raises CorruptArtifact if it is not as it was written."""
    data = disk.read(path)
    try:
        value: dict[str, Any] = json.loads(data)["value"]
        is_whole = encoded_figure(path, value) == data
    except (ValueError, KeyError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise CorruptArtifact("it has other bytes than were written")
    return value


def valid(key: str) -> str:
    """Return the key. Raises ValueError unless it is 64 hex digits, so that it is a safe name."""
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise ValueError(f"{key!r} is not a key: 64 hex digits")
    return key
