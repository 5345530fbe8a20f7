"""Check what an ONNX file contains before ONNX Runtime reads it.

ONNX Runtime follows references to external data, from hard links and from models given as
bytes too, so a model file could name any file of the machine as its weights. This walks the
protobuf wire format itself, since the ``onnx`` package belongs to training: no external data,
no subgraphs, no functions, no foreign domains, and only the operators that our towers use.

Source of the field numbers: onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from collections.abc import Iterator

from contract.errors import BundleError

MAX_MODEL_BYTES = 64 << 20
# fmt: off
OPERATORS = frozenset({
    "Add", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Erf",
    "Exp", "Expand", "Flatten", "GRU", "Gather", "Gemm", "Identity", "LSTM", "LayerNormalization", "Log",
    "MatMul", "Max", "Mul", "Neg", "Pow", "ReduceL2", "ReduceMax", "ReduceSum", "Relu", "Reshape",
    "Shape", "Sigmoid", "Slice", "Softmax", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    "Where",
})
# fmt: on

_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_GRAPHS_AND_SPARSE = frozenset({6, 11, 22, 23})
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


def check(name: str, data: bytes) -> None:
    """Reject a model with anything that our towers do not contain.

    Raises:
        BundleError: the model in *data* is too large, cannot be walked, refers to data
            outside of itself, or uses anything that is not on the list.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise BundleError(
            f"{name} has {len(data)} bytes, at most {MAX_MODEL_BYTES}", word="unsafe_model"
        )
    num_graphs = 0
    for field, value in _fields(name, memoryview(data)):
        if field == _MODEL_FUNCTIONS:
            raise BundleError(f"{name} defines functions", word="unsafe_model")
        if field == _MODEL_GRAPH:
            num_graphs += 1
            _check_graph(name, _message(name, value))
    if num_graphs != 1:
        raise BundleError(f"{name} holds {num_graphs} graphs, expected 1", word="unsafe_model")


def _check_graph(name: str, graph: memoryview) -> None:
    for field, value in _fields(name, graph):
        if field == _GRAPH_SPARSE:
            raise BundleError(f"{name} has sparse weights", word="unsafe_model")
        if field == _GRAPH_INITIALIZER:
            _check_tensor(name, _message(name, value))
        elif field == _GRAPH_NODE:
            _check_node(name, _message(name, value))


def _check_node(name: str, node: memoryview) -> None:
    for field, value in _fields(name, node):
        if field == _NODE_OP_TYPE:
            operator = bytes(_message(name, value)).decode("ascii", "replace")
            if operator not in OPERATORS:
                raise BundleError(
                    f"{name} uses the operator {operator[:40]!r}", word="unsafe_model"
                )
        elif field == _NODE_DOMAIN and len(_message(name, value)):
            raise BundleError(f"{name} uses operators of another domain", word="unsafe_model")
        elif field == _NODE_ATTRIBUTE:
            _check_attribute(name, _message(name, value))


def _check_attribute(name: str, attribute: memoryview) -> None:
    for field, value in _fields(name, attribute):
        if field in _ATTRIBUTE_GRAPHS_AND_SPARSE:
            raise BundleError(f"{name} has subgraphs or sparse weights", word="unsafe_model")
        if field in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(name, _message(name, value))


def _check_tensor(name: str, tensor: memoryview) -> None:
    for field, value in _fields(name, tensor):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0):
            raise BundleError(f"{name} refers to data outside of itself", word="unsafe_model")


def _message(name: str, value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise BundleError(f"{name} is not an ONNX model", word="unsafe_model")
    return value


def _fields(name: str, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of one protobuf message."""
    at = 0
    while at < len(data):
        key, at = _varint(name, data, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(name, data, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(name, data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise BundleError(f"{name} is not an ONNX model", word="unsafe_model")
        if at + size > len(data):
            raise BundleError(f"{name} is cut", word="unsafe_model")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(name: str, data: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - the high bit says that more follows
            return number, at + place + 1
    raise BundleError(f"{name} is cut", word="unsafe_model")
