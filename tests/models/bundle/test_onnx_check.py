"""No model file reaches ONNX Runtime that could read other files or run what we did not build."""

import onnx
import pytest
from onnx import TensorProto, helper

from contract.errors import BundleError
from models.bundle import onnx_check
from models.serving import encoder
from tests.support.bundles import catalogue, learner_of


def model_of(*nodes, initializers=(), functions=(), domains=("",)):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(list(nodes), "g", [x], [y], initializer=list(initializers))
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    return model.SerializeToString()


def external(name="w"):
    tensor = helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secrets"
    return tensor


def refused(data, reason):
    with pytest.raises(BundleError, match=reason):
        onnx_check.check("m.onnx", data)


RELU = helper.make_node("Relu", ["x"], ["y"])


def test_our_own_towers_pass():
    """The list of operators is the list that our exports use."""
    files = learner_of(catalogue()).bundle_files()

    onnx_check.check("user", files[encoder.USER_TOWER])
    onnx_check.check("item", files[encoder.ITEM_TOWER])


def test_external_data_of_a_weight_is_refused():
    """ONNX Runtime would read the file, next to the model or through a hard link."""
    refused(model_of(RELU, initializers=[external()]), "outside of itself")


def test_external_data_without_the_mark_is_refused():
    """The location alone is enough to refuse."""
    tensor = external()
    tensor.data_location = TensorProto.DEFAULT

    refused(model_of(RELU, initializers=[tensor]), "outside of itself")


def test_external_data_within_an_attribute_is_refused():
    """Constants carry tensors too."""
    node = helper.make_node("Constant", [], ["y"], value=external())

    refused(model_of(node), "outside of itself")


def test_an_operator_that_no_tower_uses_is_refused():
    """The list says what is allowed, not what is forbidden."""
    refused(model_of(helper.make_node("Loop", ["x"], ["y"])), "operator 'Loop'")


def test_a_subgraph_is_refused():
    """Whatever hides in it would not be walked."""
    inner = helper.make_graph([RELU], "inner", [], [])
    node = helper.make_node("Relu", ["x"], ["y"], body=inner)

    refused(model_of(node), "subgraphs")


def test_another_domain_is_refused():
    """Custom operators are native code."""
    node = helper.make_node("Relu", ["x"], ["y"], domain="com.example")

    refused(model_of(node, domains=("", "com.example")), "another domain")


def test_functions_are_refused():
    """A function is a subgraph by another name."""
    function = helper.make_function(
        "com.example", "F", ["x"], ["y"], [RELU], [helper.make_opsetid("", 17)]
    )

    refused(model_of(RELU, functions=[function]), "functions")


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, b"hello", b"\x0b\x0c"])
def test_bytes_that_are_not_a_model_are_rejected(data):
    """An error of ours, not of a parser."""
    refused(data, "m.onnx")


def test_a_cut_model_is_refused():
    """At any byte: either cut, or without its graph."""
    whole = model_of(RELU)
    assert onnx.load_from_string(whole)

    for kept in range(len(whole) - 8):
        with pytest.raises(BundleError):
            onnx_check.check("m.onnx", whole[:kept])
