"""Keep a thread of this process in native code, which opens one model after the other."""

from threading import Event
from time import monotonic

import onnxruntime
from onnx import TensorProto, helper

BUSY_S = 1.5

is_busy = Event()
"""Is set once the first model is open."""


def stay() -> None:
    """Open models for `BUSY_S` seconds."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    until_s = monotonic() + BUSY_S
    while monotonic() < until_s:
        onnxruntime.InferenceSession(model)
        is_busy.set()
