"""Export the ranking network as ONNX, from its weights (onnx; training only).

Three matrix products with ReLU between them, written node by node: nothing is traced, so
there is nothing that an exporter could get wrong, and the golden outputs still say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
import safetensors.numpy
from jaxtyping import Float32

from models.bundle import onnx_check
from models.serving.encoder import session
from models.serving.mlp_ranker import GOLDEN, INPUT, MODEL, OUTPUT, PAIR_FEATURES

# Shape legend: I = width in, O = width out, M = pairs, F = features of a pair.

HIDDEN = (256, 128)
_OPSET = 17
_NUM_GOLDEN = 8


@dataclass(frozen=True, slots=True)
class Layer:
    """One linear layer."""

    weight_IO: Float32[np.ndarray, "I O"]
    bias_O: Float32[np.ndarray, "O"]


def drawn(vector_dim: int, *, seed: int, hidden: Sequence[int] = HIDDEN) -> list[Layer]:
    """Return layers of random weights for vectors of width *vector_dim*, scaled for ReLU."""
    rng = np.random.Generator(np.random.PCG64(seed))
    widths = (vector_dim + len(PAIR_FEATURES), *hidden, 1)
    return [
        Layer(
            rng.normal(0.0, np.sqrt(2 / num_in), (num_in, num_out)).astype(np.float32),
            rng.normal(0.0, 0.1, num_out).astype(np.float32),
        )
        for num_in, num_out in pairwise(widths)
    ]


def export(layers: Sequence[Layer]) -> dict[str, bytes]:
    """Return the files of a bundle: the network and its golden outputs, by name."""
    model = onnx_bytes(layers)
    onnx_check.check(MODEL, model)
    rng = np.random.Generator(np.random.PCG64(0))
    features_MF = rng.random((_NUM_GOLDEN, len(layers[0].weight_IO)), np.float32)
    logit_M1 = session(model).run([OUTPUT], {INPUT: features_MF})[0]
    golden = {INPUT: features_MF, OUTPUT: logit_M1}
    return {MODEL: model, GOLDEN: safetensors.numpy.save(golden)}


def onnx_bytes(layers: Sequence[Layer]) -> bytes:
    """Return the network: *layers* with ReLU between them, from ``features`` to ``logit``."""
    nodes, weights, name = [], [], INPUT
    for number, layer in enumerate(layers):
        is_last = number == len(layers) - 1
        weights += [
            onnx.numpy_helper.from_array(layer.weight_IO, f"weight{number}"),
            onnx.numpy_helper.from_array(layer.bias_O, f"bias{number}"),
        ]
        out = OUTPUT if is_last else f"sum{number}"
        inputs = [name, f"weight{number}", f"bias{number}"]
        nodes.append(onnx.helper.make_node("Gemm", inputs, [out]))
        if not is_last:
            name = f"hidden{number}"
            nodes.append(onnx.helper.make_node("Relu", [out], [name]))
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "ranker",
        [onnx.helper.make_tensor_value_info(INPUT, kind, ["M", len(layers[0].weight_IO)])],
        [onnx.helper.make_tensor_value_info(OUTPUT, kind, ["M", 1])],
        weights,
    )
    opset = onnx.helper.make_opsetid("", _OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    data: bytes = model.SerializeToString()
    return data
