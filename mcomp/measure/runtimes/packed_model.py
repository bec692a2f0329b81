"""PyTorch on the CPU, running a model that is rebuilt from one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mcomp.errors import McompError
from mcomp.measure.runtime import Runtime, Session, Sizes, refused, require_file
from mcomp.measure.runtimes.torch_program import ModuleSession
from mcomp.model.one_file import read_one_file


class PackedModel(Runtime):
    """The model as `mcomp` itself builds it; kernels and loaders of your own read `mcomp.model.unpack`."""

    name = "safetensors"
    title = "mcomp"

    def load(self, path: Path, threads: int = 1) -> Session:
        require_file(path)
        try:
            model, example = read_one_file(path)
            module = model.inference_module(example)
        except McompError as error:
            raise refused(self.title, "load", path, error) from error
        varying = {name: {0, *example.varying.get(name, {})} for name in example}
        sizes: dict[str, Sizes] = {
            name: tuple(None if axis in varying[name] else size for axis, size in enumerate(value.shape))
            for name, value in example.items()
        }
        types: Mapping[str, np.dtype[Any]] = {name: value.numpy().dtype for name, value in example.items()}
        return ModuleSession(path, module, sizes, types, threads)
