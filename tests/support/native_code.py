"""Keep a thread of this process in native code, so that Python's end would fail."""

from threading import Event, Thread
from time import monotonic

import onnxruntime
from onnx import TensorProto, helper

BUSY_S = 1.5


def open_models() -> None:
    """Open models in a thread for `BUSY_S` seconds; return once the first one is open."""
    is_busy = Event()
    Thread(target=_open_models, args=(is_busy,), daemon=True).start()
    is_busy.wait()


def _open_models(is_busy: Event) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    until_s = monotonic() + BUSY_S
    while monotonic() < until_s:
        onnxruntime.InferenceSession(model)
        is_busy.set()
