"""What a program of torch.export does, as plain data: its tensors, and one operator after the other.

It is kept with every model that is made of it, so that a result needs the .pt2 no more. Free of torch.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from mcomp.config import Config

# What stands here becomes a part of Python code that torch writes: it must be nothing but a name.
Name = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$", max_length=200)]
Path = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.\w+)*$", max_length=500)]
Operator = Annotated[str, Field(pattern=r"^(aten|operator)\.\w+(\.\w+)?$", max_length=100)]


class ProgramTensor(Config):
    """A parameter or a buffer: its name in the program, type and shape."""

    name: Name
    parameter: bool
    dtype: Name
    shape: tuple[Annotated[int, Field(ge=0, lt=2**40)], ...]


class Call(Config):
    """One operator. An argument is plain JSON, `{"of": value}`, `{"torch": a type or format}`, or
    `{"float": "inf"}`. `results` name what it gives, `dims` the axes of its first argument, `module` the path
    of the module that it stood in.
    """

    operator: Operator
    arguments: tuple[Any, ...] = ()
    keywords: dict[Name, Any] = {}
    results: tuple[Name, ...]
    several: bool = False
    dims: int = 0
    module: str = ""


class Program(Config):
    """A whole program: its inputs as the data calls them and what they are called in it, its tensors by path,
    its calls in order, and what it returns.
    """

    inputs: dict[Name, Name]
    tensors: dict[Path, ProgramTensor]
    calls: tuple[Call, ...]
    output: Name
