"""Branches on one trunk: networks that share all but some modules, of which the trunk is computed once."""

# N = samples, K = branches
from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mcomp.errors import StageError
from mcomp.model.select import select_modules
from mcomp_stages.methods.distillation.adapters import pooled, shape_of, width
from mcomp_stages.methods.distillation.peers import Peers
from mcomp_stages.methods.distillation.proposals import called_once
from mcomp_stages.methods.distillation.taps import first_tensor


class Record:
    """What the shared modules gave in the last call of the trunk, by path, in order."""

    def __init__(self) -> None:
        self.given: dict[str, list[Any]] = {}
        self.played: dict[str, int] = {}
        self.branch_input: Tensor | None = None

    def start(self) -> None:
        """Begin a new call."""
        self.given, self.played, self.branch_input = {}, {}, None

    def rewind(self) -> None:
        """Let what was given be given again from its beginning."""
        self.played = {}


class Replay(nn.Module):
    """Gives what the shared module at a path gave, without computing it again."""

    def __init__(self, record: Record, path: str) -> None:
        super().__init__()
        self.record, self.path = record, path

    def forward(self, *arguments: Any, **named: Any) -> Any:
        number = self.record.played.get(self.path, 0)
        self.record.played[self.path] = number + 1
        return self.record.given[self.path][number]


class Branched(Peers):
    """A student and branches that are its copies from some modules on; a gate weighs what they say."""

    def __init__(
        self,
        student: nn.Module,
        own: Sequence[str],
        fresh: Sequence[nn.Module],
        example: Mapping[str, Tensor],
        num_updates: int,
    ) -> None:
        """`own` are the paths that each branch has for itself, `fresh` where their weights come from."""
        record, shared = Record(), shared_paths(student, own)
        copies = [branch(student, own, shared, other, record) for other in fresh]
        super().__init__(student, copies, num_updates)
        self.own, self.record = tuple(own), record
        self.handles = recorded(student, own, shared, record)
        called_once(student, example)
        features = self.branch_input()
        num_branches = len(copies) + 1
        self.gate = nn.Sequential(
            nn.Linear(width(shape_of(features)), num_branches),
            nn.BatchNorm1d(num_branches),
            nn.ReLU(),
            nn.Softmax(dim=1),
        ).to(features.device)

    def forward(self, **inputs: Tensor) -> Any:
        """Return what each branch says, and the gate's weights (N, K); in inference the speaker's answer."""
        self.record.start()
        first = self.student(**inputs)
        if not self.training:
            return first if self.speaker == 0 else self.replayed(self.speaker - 1, inputs)
        self.num_made += 1
        gates_NK = self.gate(pooled(self.branch_input()))
        others = [self.replayed(number, inputs) for number in range(len(self.others))]
        return [first, *others], gates_NK

    def replayed(self, number: int, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return what one of the other branches says behind the trunk as it was just computed."""
        self.record.rewind()
        answer: Tensor = self.others[number](**inputs)
        return answer

    def branch_input(self) -> Tensor:
        """Return what came out of the trunk. Raises StageError if no branch was reached."""
        if self.record.branch_input is None:
            raise StageError("the model does not call the modules that are to be branches")
        return self.record.branch_input

    def chosen(self, number: int) -> dict[str, Tensor]:
        """Return the weights of a branch, by the names that they have in the student."""
        own = self.peers()[number].state_dict()
        return {name: own[name] for name in own if is_own(name, self.own)}

    def release(self) -> None:
        for handle in self.handles:
            handle.remove()


def branch_paths(module: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the modules that each branch has for itself.

    Raises StageError for a pattern that matches nothing, and if nothing or everything would be shared.
    """
    own = select_modules(module, patterns)
    weights = [name for name, _ in module.named_parameters()]
    apart = [name for name in weights if is_own(name, own)]
    if not apart or len(apart) == len(weights):
        how_much = "no weight" if not apart else "every weight"
        raise StageError(f"the branches have {how_much} of the model for themselves; choose a part of it")
    return own


def is_own(name: str, own: Sequence[str]) -> bool:
    """Return whether a module or tensor is one of those at `own`, or inside one."""
    return any(name == path or name.startswith(f"{path}.") for path in own)


def shared_paths(module: nn.Module, own: Sequence[str]) -> tuple[str, ...]:
    """Return the largest modules with weights that no branch has a part of: these are computed once."""
    found: list[str] = []
    for path, part in module.named_modules():
        if not path or is_own(path, own) or is_own(path, found):
            continue
        holds_own = any(name.startswith(f"{path}.") for name in own)
        if not holds_own and next(part.parameters(), None) is not None:
            found.append(path)
    return tuple(found)


def branch(
    student: nn.Module, own: Sequence[str], shared: Sequence[str], fresh: nn.Module, record: Record
) -> nn.Module:
    """Return a copy of the student that replays the trunk, with the weights of `fresh` in its own modules."""
    memo: dict[int, Any] = {id(student.get_submodule(path)): Replay(record, path) for path in shared}
    for name, tensor in (*student.named_parameters(), *student.named_buffers()):
        if not is_own(name, own):
            memo[id(tensor)] = tensor  # what a container holds itself is shared as well
    made = copy.deepcopy(student, memo)
    for path in own:
        made.get_submodule(path).load_state_dict(fresh.get_submodule(path).state_dict())
    return made


def recorded(
    student: nn.Module, own: Sequence[str], shared: Sequence[str], record: Record
) -> list[RemovableHandle]:
    """Let shared modules of the student leave what they give in `record`, and the branches their input."""

    def keep(path: str) -> RemovableHandle:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            record.given.setdefault(path, []).append(output)

        return student.get_submodule(path).register_forward_hook(hook)

    def look(module: nn.Module, arguments: Any) -> None:
        if record.branch_input is None:
            record.branch_input = first_tensor(arguments)

    handles = [keep(path) for path in shared]
    return [*handles, *(student.get_submodule(path).register_forward_pre_hook(look) for path in own)]
