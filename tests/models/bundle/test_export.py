"""An export equals torch, or there is none."""

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from onnx import numpy_helper

from contract.errors import BundleError
from models.bundle import export
from models.serving import encoder
from models.towers.item_tower import ItemTower
from models.towers.youtube_dnn import YoutubeDnnTower
from tests.support.bundles import SMALL


@pytest.fixture(scope="module")
def towers():
    torch.manual_seed(3)
    return YoutubeDnnTower(SMALL), ItemTower(SMALL)


@pytest.fixture(scope="module")
def files(towers):
    return export.export(*towers, SMALL)


def perturbed(model: bytes) -> bytes:
    proto = onnx.load_from_string(model)
    weight = next(w for w in proto.graph.initializer if len(w.dims) == 2)
    array = numpy_helper.to_array(weight).copy()
    array[0] += 0.5
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return proto.SerializeToString()


def test_an_export_computes_what_torch_computes(towers, files):
    """On shapes that the exporter was never shown."""
    session = encoder.session(files[encoder.USER_TOWER])
    for num_users, num_watches in ((1, 1), (2, 50), (7, 4), (64, 13)):
        inputs = export._user_inputs(SMALL, num_users=num_users, num_watches=num_watches)
        named = {
            name: tensor.numpy() for name, tensor in zip(export.USER_INPUTS, inputs, strict=True)
        }

        vectors = session.run(["user"], named)[0]

        np.testing.assert_allclose(vectors, towers[0](*inputs).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("name", [encoder.USER_TOWER, encoder.ITEM_TOWER])
def test_an_exporter_that_goes_wrong_silently_is_noticed(towers, monkeypatch, name):
    """One row of one weight is enough; nothing is handed over."""
    exported = export.exported
    spoilt = "user" if name == encoder.USER_TOWER else "input"

    def spoil(module, inputs, input_names, output_names, axes):
        model = exported(module, inputs, input_names, output_names, axes)
        return perturbed(model) if spoilt in output_names else model

    monkeypatch.setattr(export, "exported", spoil)
    tower = ItemTower(SMALL)
    torch.nn.init.ones_(tower.to_input.weight)

    with pytest.raises(BundleError, match="differs from torch"):
        export.export(towers[0], tower, SMALL)


def test_the_golden_file_has_what_the_tower_answers(files):
    """Inputs by name, and the outputs of torch."""
    golden = safetensors.numpy.load(files[encoder.GOLDEN])
    expected = golden.pop("user")

    vectors = encoder.session(files[encoder.USER_TOWER]).run(["user"], golden)[0]

    np.testing.assert_allclose(vectors, expected, atol=1e-5)
