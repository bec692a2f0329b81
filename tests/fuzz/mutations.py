"""Random changes: of bytes, and of JSON so that it is JSON again."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

ESCAPES = "\x1b[2J\x9b31m\u202e\n'\"><script>"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400),
    *(0.5, -0.0, 1e308, 5e-324),
    *("", "x", "1", "nan", "evil.run", "../../etc/passwd", "/dev/zero", "\ud800", "\0", "f" * 64),
    *("9" * 5000, "a" * 3000, ESCAPES),
    *([], {}, [[]], [None], {"": {}}, {"type": "x"}, [0] * 200, [1, 2, 3], {ESCAPES: ESCAPES}),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return the container and key of every value inside one."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    inside = [(value, key) for key in keys]
    return inside + [place for key in keys for place in places(value[key])]


def change(value: Any, chance: random.Random) -> None:
    """Change something in a value, in place."""
    found = places(value)
    if not found:
        return
    container, key = chance.choice(found)
    other, other_key = chance.choice(found)
    what = chance.randrange(5)
    if what == 0:
        del container[key]
    elif what == 1 and isinstance(container, list):
        container.insert(key, deepcopy(other[other_key]))
    elif what == 1:
        container[str(chance.choice(VALUES))[:80]] = deepcopy(container[key])
    elif what == 2:
        container[key] = deepcopy(other[other_key])
    else:
        container[key] = deepcopy(chance.choice(VALUES))


def changed_bytes(data: bytes, chance: random.Random) -> bytes:
    """Change, insert or remove some bytes."""
    content = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(content) + 1)
        content[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(content)


def changed_json(data: bytes, max_size: int, seed: int) -> bytes:
    """Return other JSON; now and then, and for what is none, other bytes. A mutator for libFuzzer."""
    chance = random.Random(seed)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict | list) or chance.random() < 0.1:
        return changed_bytes(data, chance)[:max_size]
    try:
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            change(value, chance)
        return json.dumps(value).encode()[:max_size]
    except (ValueError, RecursionError):  # nested too deep, or a number of too many digits
        return changed_bytes(data, chance)[:max_size]
