"""Keep a thread of this process in native code: import this module in it."""

from time import monotonic

import onnxruntime
from onnx import TensorProto, helper

BUSY_S = 1.5

_value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
_graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", _value[:1], _value[1:])
_opset = helper.make_opsetid("", 17)
_model = helper.make_model(_graph, opset_imports=[_opset], ir_version=8).SerializeToString()

busy_until_s = monotonic() + BUSY_S
while monotonic() < busy_until_s:
    onnxruntime.InferenceSession(_model)
