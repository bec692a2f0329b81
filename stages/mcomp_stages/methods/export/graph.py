"""The graph of a model as it is served: in inference mode, in the form that exports best."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.fx import GraphModule

from mcomp.model.model import Model
from mcomp_stages.methods.quantization.canonical import lower_pooling
from mcomp_stages.methods.quantization.training_graph import canonical_graph


def served_graph(model: Model, example: Mapping[str, Tensor]) -> GraphModule:
    """Return the captured graph of a float model, or the integers of a quantized one.

    Both take global pooling as one operator: a float file shall be as fast as it can be beside integers.
    """
    if model.quantized:
        converted = model.inference_module(example)
        assert isinstance(converted, GraphModule)
        return converted
    captured = canonical_graph(model.module, example)
    lower_pooling(captured.graph)
    # Anew: torch.export marks its graphs as training and refuses to switch them.
    served = GraphModule(captured, captured.graph)
    served.eval()
    return served
