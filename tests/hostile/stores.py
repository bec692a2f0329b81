"""Stores that somebody else had a hand in: links, devices, sizes, forged records, names that lead outside."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.hostile.attack import Attack, Prepare, both, command, each_of, hole, link, pipe
from tests.hostile.pickles import ESCAPES
from tests.mcomp.store.damage import SEEN_ON_A_HIT, rewrite_manifest
from tests.mcomp.store.example import RUN, SWEEP, furnish, key, key_json

OUTSIDE = "../../../outside"  # from a store in an attack's folder, which lies two below
A, C = key("a"), key("c")
RESULT, STATE = f"artifacts/{A[:2]}/{A}", f"checkpoints/{C}/train/00000002"
RUN_FOLDER, SWEEP_FOLDER = f"runs/{RUN}", f"sweeps/{SWEEP}"
FAR = "../../../../../../outside"


@cache
def template() -> Path:
    """A store with some of everything."""
    folder = Path(tempfile.mkdtemp(prefix="mcomp-hostile-"))
    furnish(folder / "store")
    return folder / "store"


def store_with(*changes: Prepare) -> Prepare:
    """Return what makes a store, and then changes in it."""

    def make(folder: Path) -> None:
        shutil.copytree(template(), folder / "store")
        for change in changes:
            change(folder / "store")

    return make


def gone(name: str) -> Prepare:
    """Return what removes a file or folder."""
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def instead(name: str, make: Callable[[str], Prepare]) -> Prepare:
    """Return what puts something else in the place of a file or folder."""
    return both(gone(name), make(name))


def linked(name: str, target: str) -> Prepare:
    """Return what puts a link in the place of a file or folder."""
    return instead(name, lambda name: link(name, target))


def text(name: str, content: str | bytes) -> Prepare:
    """Return what writes a file."""
    data = content if isinstance(content, bytes) else content.encode()
    return lambda root: (root / name).write_bytes(data)


def moved_out(name: str) -> Prepare:
    """Return what moves a folder beside the store and leaves a link."""

    def move(root: Path) -> None:
        shutil.move(root / name, root.parent / "moved")
        (root / name).symlink_to(root.parent / "moved")

    return move


def ledger(**changes: Any) -> Prepare:
    """Return what forges a run's ledger, with its digest."""
    return sealed_file(f"{RUN_FOLDER}/ledger.json", {**LEDGER, **changes})


def sealed_file(name: str, plain: dict[str, Any]) -> Prepare:
    """Return what forges a file whose digest stands in it."""
    from mcomp.store.sealed import sealed

    return text(name, sealed(plain))


ROW = {"recipe": "r", "stage": "s", "type": "t", "key": A, "status": "computed"}
LEDGER: dict[str, Any] = {
    "mcomp": "0",
    "run": RUN,
    "recipe": "tiny",
    "started": "now",
    "status": "done",
    "metric": "accuracy",
    "direction": "higher",
    "machine": {},
    "rows": [ROW],
}
RECORD = {"mcomp": "0", "sweep": SWEEP, "recipe": "r", "started": "", "status": "done", "jobs": []}
JOB = {"number": 1, "overrides": [], "status": "done", "exit_code": 0}


def attack(
    prepare: Prepare, act: Callable[[Path], object], told: str, source: str = "own", code: int = 6
) -> Attack:
    """Return an attack on a person who looks after a store, or uses it."""
    return Attack(source, prepare, act, told, code, writes=True)


def after(arguments: str, *changes: Prepare, told: str, source: str = "own", code: int = 6) -> Attack:
    """Return an attack that `mcomp` meets when it is called so; it uses the store in the folder."""
    return attack(store_with(*changes), command(*arguments.split(), "--store", "store"), told, source, code)


def opened(folder: Path) -> Any:
    """Return the store as a run uses it; what it tells is printed."""
    from mcomp.store.store import Store

    return Store(folder / "store", on_problem=print)


def use(folder: Path) -> None:
    """Look a result up and use all of it."""
    artifact = opened(folder).find(A, key_json("a"))
    for name in artifact.names() if artifact else ():
        artifact.file(name)


def publish(folder: Path) -> None:
    """Publish a result, as a step does."""
    from tests.mcomp.store.example import publish

    with opened(folder).lease(key("d"), print):
        publish(opened(folder), "d")


def measure(folder: Path) -> None:
    """Keep a figure."""
    opened(folder).put_measurement(A, "cost", {"seconds": 1})


def begin(folder: Path) -> None:
    """Begin a run."""
    from tests.mcomp.store.example import ledger

    run = opened(folder).new_run("tiny")
    with run.under_way([A]):
        run.write_ledger(ledger("done", run.id))


def resume(folder: Path) -> None:
    """Look for a state to go on from, and keep one."""
    import torch

    from mcomp.stage import Checkpoint
    from mcomp.store.checkpoints import StepCheckpoints

    states = StepCheckpoints(opened(folder), C, dict, print)
    found = states.load("train")
    print("goes on from", found.numbers if found else "the beginning")
    states.save("train", Checkpoint({"weight": torch.zeros(2)}, {"number": 3}))


def forged_state(tensors: bytes, **changes: Any) -> Prepare:
    """Return what forges the newest state, with its digests."""

    def forge(root: Path) -> None:
        import hashlib

        from mcomp.fingerprint import canonical, fingerprint

        path = root / STATE / "numbers.json"
        plain = json.loads(path.read_bytes())["checkpoint"]
        plain["tensors"] = {"size": len(tensors), "sha256": hashlib.sha256(tensors).hexdigest()}
        plain |= changes
        path.write_bytes(canonical({"checkpoint": plain, "sha256": fingerprint(plain)}) + b"\n")
        (root / STATE / "tensors.safetensors").write_bytes(tensors)

    return forge


def manifest_files(**entries: Any) -> Prepare:
    """Return what forges the list of a result's files, with its digest."""
    return lambda root: rewrite_manifest(root / RESULT, files=entries)


def damaged(name: str) -> Attack:
    """Return an attack by one of the changes that the tests of bit rot make to a result."""
    return after("verify", lambda root: SEEN_ON_A_HIT[name](root / RESULT), told="moved to", source="own")


FOLDERS = (
    "artifacts", "measurements", "runs", "sweeps", "leases", "work", "checkpoints", "digests", "quarantine",
    "replaced",
)  # fmt: skip


def folder_linked(name: str) -> Attack:
    """Return an attack by a link in the place of one of the store's folders."""
    return after("clean --yes", linked(name, OUTSIDE), told="is a link", source="cwe-59")


def to_device(name: str) -> Prepare:
    """Return what makes a link to a device that never ends."""
    return link(name, "/dev/zero")


ENTRY = {"size": 64, "sha256": "0" * 64}
DEEP = "[" * 200_000
BROKEN_LEDGER = "is broken: its bytes are not the ones that were written"

ATTACKS: dict[str, Attack] = {
    # links for folders
    **{f"a link for {name}": each for name, each in each_of(folder_linked, FOLDERS).items()},
    "a link for the runs, when one begins": attack(
        store_with(linked("runs", OUTSIDE)), begin, "is a link", "cwe-59"
    ),
    "a link for the folder of some results": after(
        "clean --yes", moved_out(f"artifacts/{A[:2]}"), told="is a link", source="cwe-59"
    ),
    "a link for the folder of some results, verified": after(
        "verify", linked(f"artifacts/{A[:2]}", f"../{OUTSIDE}/shard"), told="is a link", source="cwe-59"
    ),
    "a link for the folder of some results, used": attack(
        store_with(linked(f"artifacts/{A[:2]}", f"../{OUTSIDE}/shard")), use, "is a link", "cwe-59"
    ),
    "a link for where a result will be": attack(
        store_with(lambda root: (root / "artifacts" / key("d")[:2]).symlink_to(f"../{OUTSIDE}")),
        publish,
        "is a link",
        "cwe-59",
    ),
    "a link for a result": after(
        "verify", linked(RESULT, f"../../{OUTSIDE}/shard"), told="is not a folder; moved to", source="cwe-59"
    ),
    "a link for a result's figures": attack(
        store_with(linked(f"measurements/{A}", f"../{OUTSIDE}")), measure, "is a link", "cwe-59"
    ),
    "a link for a run": after(
        "report", linked(RUN_FOLDER, f"../{OUTSIDE}"), told="is a link", source="cwe-59"
    ),
    "a link for a sweep": after(
        f"report {SWEEP}", linked(SWEEP_FOLDER, f"../{OUTSIDE}"), told="is a link", source="cwe-59"
    ),
    "a link for a step's states": attack(
        store_with(linked(f"checkpoints/{C}/train", f"../../{OUTSIDE}")), resume, "is a link", "cwe-59"
    ),
    "a link for a state": attack(
        store_with(linked(STATE, f"../../../{OUTSIDE}")), resume, "it is a link", "cwe-59", 0
    ),
    "a link for what somebody left": after(
        "clean --yes",
        lambda root: (root / "work" / f"{A}-999999999-0badcafe").symlink_to(f"../{OUTSIDE}"),
        told="",
        source="cwe-59",
        code=0,
    ),
    "a link in quarantine": after(
        "clean --quarantine --yes",
        lambda root: (root / "quarantine" / f"{A}-1").symlink_to(f"../{OUTSIDE}"),
        told="removed",
        source="cwe-59",
        code=0,
    ),
    # links, pipes and devices for files
    "a link for the lock of a step": attack(
        store_with(
            lambda root: (root / "leases" / f"{key('d')}.lock").symlink_to(f"../{OUTSIDE}/secret.bin")
        ),
        publish,
        "cannot lock",
        "cve-2025-68146",
    ),
    "a link for the note of a lease": attack(
        store_with(
            lambda root: (root / "leases" / f"{key('d')}.json").symlink_to(f"../{OUTSIDE}/secret.bin")
        ),
        publish,
        "a link stands where a file is needed",
        "cve-2025-68146",
    ),
    "a link for the mark of a store": after(
        "runs", linked("store.json", f"{OUTSIDE}/secret.bin"), told="a link stands", source="cwe-59"
    ),
    "a link for a ledger": after(
        f"report {RUN}",
        linked(f"{RUN_FOLDER}/ledger.json", f"../../{OUTSIDE}/secret.bin"),
        told="a link stands",
        source="cwe-59",
    ),
    "a link for a log": after(
        f"explain {RUN}",
        ledger(),
        linked(f"{RUN_FOLDER}/events.jsonl", f"../../{OUTSIDE}/secret.bin"),
        told="a link stands",
        source="cwe-59",
    ),
    "a link for a recipe": after(
        f"diff {RUN} {RUN}",
        lambda root: (root / RUN_FOLDER / "recipe.yaml").symlink_to(f"../../{OUTSIDE}/secret.yaml"),
        told="is a link",
        source="cwe-59",
    ),
    "a link for a file of a result": after(
        "verify",
        linked(f"{RESULT}/report.json", f"{FAR}/secret.bin"),
        told="report.json has None bytes",
        source="cwe-59",
    ),
    "a link for a folder in a result": after(
        "verify", linked(f"{RESULT}/model", FAR), told="was added", source="cwe-59"
    ),
    "a link for the key of a result": after(
        "verify", linked(f"{RESULT}/key.json", f"{FAR}/secret.bin"), told="no plain file", source="cwe-59"
    ),
    "a link for a figure": after(
        "verify",
        linked(f"measurements/{A}/cost.json", f"../../{OUTSIDE}/secret.bin"),
        told="a link stands",
        source="cwe-59",
    ),
    "a pipe for a ledger": after(
        f"report {RUN}", instead(f"{RUN_FOLDER}/ledger.json", pipe), told="no plain file", source="cwe-67"
    ),
    "a pipe for the mark of a store": after(
        "runs", instead("store.json", pipe), told="tiny", source="cwe-67", code=0
    ),
    "a pipe for a log": after(
        f"explain {RUN}",
        ledger(),
        instead(f"{RUN_FOLDER}/events.jsonl", pipe),
        told="no plain file",
        source="cwe-67",
    ),
    "a device for a ledger": after(
        f"report {RUN}",
        instead(f"{RUN_FOLDER}/ledger.json", to_device),
        told="a link stands",
        source="cwe-67",
    ),
    "a device for a file of a state": attack(
        store_with(instead(f"{STATE}/numbers.json", to_device)), resume, "is not used", "cwe-67", 0
    ),
    "a pipe for a file of a result": after(
        "verify", instead(f"{RESULT}/report.json", pipe), told="has None bytes", source="cwe-67"
    ),
    # sizes
    "a ledger of a terabyte": after(
        f"report {RUN}",
        instead(f"{RUN_FOLDER}/ledger.json", hole),
        told="it is larger than",
        source="cwe-770",
    ),
    "a log of a terabyte": after(
        f"explain {RUN}",
        ledger(),
        instead(f"{RUN_FOLDER}/events.jsonl", hole),
        told="it is larger than",
        source="cwe-770",
    ),
    "a record of a terabyte": after(
        f"report {SWEEP}",
        instead(f"{SWEEP_FOLDER}/sweep.json", hole),
        told="it is larger than",
        source="cwe-770",
    ),
    "a plan of a terabyte": after(
        "clean", instead(f"{SWEEP_FOLDER}/plan.json", hole), told="it is larger than", source="cwe-770"
    ),
    "a mark of a terabyte": after(
        "runs", instead("store.json", hole), told="it is larger than", source="cwe-770"
    ),
    "a manifest of a terabyte": after(
        "verify", instead(f"{RESULT}/manifest.json", hole), told="too large", source="cwe-770"
    ),
    "a figure of a terabyte": after(
        "verify", instead(f"measurements/{A}/cost.json", hole), told="it is larger than", source="cwe-770"
    ),
    "a state of a terabyte": attack(
        store_with(instead(f"{STATE}/tensors.safetensors", hole)), resume, "instead of", "cwe-770", 0
    ),
    "the numbers of a state of a terabyte": attack(
        store_with(instead(f"{STATE}/numbers.json", hole)), resume, "is not used", "cwe-770", 0
    ),
    # manifests
    **{f"in a result, {name}": each for name, each in each_of(damaged, tuple(SEEN_ON_A_HIT)).items()},
    "a file outside by a path": attack(
        store_with(manifest_files(**{f"{FAR}/secret.bin": ENTRY})), use, "is missing", "cwe-22", 0
    ),
    "a file outside by an absolute path": attack(
        store_with(manifest_files(**{"/etc/passwd": ENTRY})), use, "is missing", "cwe-22", 0
    ),
    "a file with escapes": after(
        "verify", text(f"{RESULT}/\x1b[2J\x1b]0;pwned\x07", b""), told="was added", source="cwe-150"
    ),
    "a file with escapes in the manifest": attack(
        store_with(manifest_files(**{ESCAPES: ENTRY})), use, r"\x1b[2J", "cwe-150", 0
    ),
    "a size below zero": after(
        "verify", manifest_files(**{"report.json": {**ENTRY, "size": -1}}), told="not a manifest"
    ),
    "a size beyond everything": after(
        "verify",
        manifest_files(**{"report.json": {**ENTRY, "size": 2**80}}),
        told="was added",
        source="cwe-770",
    ),
    "a manifest of a number of many digits": after(
        "verify", text(f"{RESULT}/manifest.json", b'{"manifest": ' + b"9" * 9999), told="manifest.json:"
    ),
    # sealed records
    "a ledger nested too deep": after(
        f"report {RUN}", text(f"{RUN_FOLDER}/ledger.json", DEEP), told=BROKEN_LEDGER, source="cwe-674"
    ),
    "a ledger that is a list": after(
        f"report {RUN}", text(f"{RUN_FOLDER}/ledger.json", "[1]"), told=BROKEN_LEDGER
    ),
    "a ledger of half a surrogate pair": after(
        f"report {RUN}", ledger(recipe="\ud800"), told="another version"
    ),
    "a ledger of another run": after(f"report {RUN}", ledger(run="other"), told="that of another run"),
    "a ledger with an unknown key": after(f"report {RUN}", ledger(code="evil.run"), told="another version"),
    "a key that is a path": after(
        f"explain {RUN}",
        ledger(rows=[{**ROW, "key": f"{FAR}/secret"}]),
        told="another version",
        source="cwe-22",
    ),
    "a key with escapes": after(
        f"explain {RUN}", ledger(rows=[{**ROW, "key": ESCAPES}]), told="another version", source="cwe-150"
    ),
    "a count below zero": after(
        f"report {RUN}", ledger(rows=[{**ROW, "figures": {"macs": -1}}]), told="another version"
    ),
    "a count of a thousand digits": after(
        f"report {RUN}", ledger(rows=[{**ROW, "figures": {"macs": 10**1000}}]), told="another version"
    ),
    "a figure that is none": after(
        f"report {RUN}", text(f"{RUN_FOLDER}/ledger.json", '{"loss": NaN}'), told=BROKEN_LEDGER
    ),
    "a run that a sweep names by a path": after(
        f"report {SWEEP}",
        sealed_file(f"{SWEEP_FOLDER}/sweep.json", {**RECORD, "jobs": [{**JOB, "run": "../../outside"}]}),
        told="has no run ../../outside",
        source="cwe-22",
    ),
    "a run that a sweep names with escapes": after(
        f"report {SWEEP}",
        sealed_file(f"{SWEEP_FOLDER}/sweep.json", {**RECORD, "jobs": [{**JOB, "run": ESCAPES}]}),
        told=r"has no run \x1b[2J",
        source="cwe-150",
    ),
    "ledgers of a sweep for a list": after(
        f"report {SWEEP}",
        sealed_file(f"{SWEEP_FOLDER}/answered.json", {"sweep": SWEEP, "ledgers": [1]}),
        told="holds no ledgers",
    ),
    "a figure nested too deep": after(
        "verify", text(f"measurements/{A}/cost.json", DEEP), told="other bytes", source="cwe-674"
    ),
    "a mark nested too deep": after(
        "runs", text("store.json", DEEP[:1000]), told="is not of format", source="cwe-674"
    ),
    "a mark of another format": after("runs", text("store.json", '{"store_format": 2}'), told="format 1"),
    # states
    "a state nested too deep": attack(
        store_with(text(f"{STATE}/numbers.json", DEEP)), resume, "is not of this version", "cwe-674", 0
    ),
    "a state with a header of another kind": attack(
        store_with(forged_state(b"\xff" * 64)), resume, "is not used", "safetensors-fuzz", 0
    ),
    "a state of nothing by very much": attack(
        store_with(
            forged_state(
                (lambda head: len(head).to_bytes(8, "little") + head)(
                    b'{"w":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'
                )
            )
        ),
        resume,
        "is not used",
        "safetensors-fuzz",
        0,
    ),
    "a state made elsewhere, with escapes": attack(
        store_with(forged_state(b"", environment={ESCAPES: ESCAPES})),
        resume,
        r"made elsewhere (\x1b[2J",
        "cwe-150",
        0,
    ),
    "a state of half a surrogate pair": attack(
        store_with(forged_state(b"", numbers={"best": {"metric": 0.5, "\ud800": 0.5}})),
        resume,
        "is not of this version",
        "fuzz",
        0,
    ),
    "a state of more files": attack(
        store_with(text(f"{STATE}/evil.py", b"")), resume, "its files are not the ones", "own", 0
    ),
    # logs and names
    "a log of other things": after(
        f"explain {RUN}",
        ledger(),
        text(
            f"{RUN_FOLDER}/events.jsonl",
            "\n".join([DEEP, "[1]", "{}", '{"event": "step ended"}', '{"time": 1, "event": []}', "\0"]),
        ),
        told="tiny",
        source="cwe-674",
        code=0,
    ),
    "a log with escapes": after(
        f"explain {RUN}",
        ledger(),
        text(
            f"{RUN_FOLDER}/events.jsonl",
            json.dumps({"time": "\x1b[2J" * 5, "event": "step ended", "key": A}),
        ),
        told="tiny",
        source="cwe-150",
        code=0,
    ),
    "runs with other names": after(
        "runs",
        lambda root: [(root / "runs" / name).mkdir() for name in ("\x1b[2J", "..x", f"{RUN}\n", "x" * 200)],
        told="tiny",
        source="cwe-150",
        code=0,
    ),
    "results with other names": after(
        "clean --yes",
        lambda root: [(root / "artifacts" / name).mkdir() for name in ("\x1b[2J", A[:2] + "x", "x" * 200)],
        told="",
        source="cwe-150",
        code=0,
    ),
    "a recipe that runs code": after(
        f"diff {RUN} {RUN}",
        text(f"{RUN_FOLDER}/recipe.yaml", "a: !!python/object/apply:os.system [touch pwned]"),
        told="the tag !!python",
        code=2,
    ),
    "somebody's folder": attack(
        lambda folder: [os.mkdir(folder / "store"), (folder / "store" / "thesis.tex").touch()],
        publish,
        "is not a store and not empty",
    ),
}
