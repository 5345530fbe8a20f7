"""Export torch towers as ONNX files, and compare the two (torch and onnx; training only).

Exporters were seen to go wrong silently, so every export is compared with torch on several
shapes, and the bundle carries golden inputs and outputs for the one who loads it. The
comparison runs in this process: both graphs are tiny, and a subprocess would spend seconds
of a shared core on importing torch.
"""

import io
import warnings
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor, nn

from contract.errors import BundleError
from models.bundle import onnx_check
from models.features.features import CONTEXT_FIELDS, WATCH_FEATURES
from models.serving import encoder
from models.serving.encoder import MAX_DIFFERENCE
from models.serving.live_signals import NUM_SIGNALS, served_items
from models.towers.item_tower import ItemTower
from models.towers.layers import unit
from models.towers.registry import USER_INPUTS
from models.training.config import TowerConfig
from models.training.live_head import LiveHead

_OPSET = 17
_SHAPES = ((1, 1), (3, 1), (1, 50), (3, 7), (5, 50))
"""Pairs of (users, watches) on which ONNX has to equal torch."""


def export(
    user_tower: nn.Module,
    item_tower: ItemTower,
    config: TowerConfig,
    head: LiveHead | None = None,
) -> dict[str, bytes]:
    """Return ``user_tower.onnx``, ``item_tower.onnx`` and the golden file, by name.

    With *head* both towers give vectors of taste and live signals together.

    Raises:
        BundleError: ONNX Runtime computes something else than torch.
    """
    if head is not None:
        user_tower = _ServedUserTower(user_tower, head)
    user_model = _user_model(user_tower, config)
    item_model = _item_model(item_tower, config, has_signals=head is not None)
    return {
        encoder.USER_TOWER: user_model,
        encoder.ITEM_TOWER: item_model,
        encoder.GOLDEN: golden(
            user_tower, dict(zip(USER_INPUTS, _user_inputs(config, 4, 6), strict=True)), "user"
        ),
    }


def _user_model(tower: nn.Module, config: TowerConfig) -> bytes:
    inputs = _user_inputs(config, 2, 3)
    axes = {name: {0: "B"} for name in (*USER_INPUTS, "user")}
    for name in ("watches", "watch_features", "mask"):
        axes[name] = {0: "B", 1: "T"}
    model = exported(tower, inputs, list(USER_INPUTS), ["user"], axes)
    for num_users, num_watches in _SHAPES:
        inputs = _user_inputs(config, num_users, num_watches)
        compare(model, tower, dict(zip(USER_INPUTS, inputs, strict=True)), ["user"])
    return model


class _ServedUserTower(nn.Module):
    """The user tower with its live head, as serving needs it."""

    def __init__(self, tower: nn.Module, head: LiveHead) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(self, *inputs: Tensor) -> Tensor:
        served_BE: Tensor = self.head(self.tower(*inputs))
        return served_BE


class _ServedItemTower(nn.Module):
    """The item tower as serving needs it, for videos without an id embedding."""

    def __init__(self, tower: ItemTower, *, has_signals: bool) -> None:
        super().__init__()
        self.tower = tower
        dim = tower.to_output.out_features
        served_NE = np.eye(1, dim)
        if has_signals:
            served_NE = served_items(served_NE, np.zeros((1, NUM_SIGNALS)))
        self.share = float(served_NE[0, 0])
        self.rest_E: Tensor
        self.register_buffer("rest_E", torch.from_numpy(served_NE[0, dim:].astype(np.float32)))

    def forward(self, content_ND: Tensor, log_duration_N1: Tensor) -> tuple[Tensor, Tensor]:
        input_ND, output_ND = self.tower(content_ND, log_duration_N1)
        rest_NE = torch.ones_like(log_duration_N1) * self.rest_E
        return input_ND, torch.cat([unit(output_ND) * self.share, rest_NE], dim=1)


def _item_model(tower: ItemTower, config: TowerConfig, *, has_signals: bool) -> bytes:
    module = _ServedItemTower(tower, has_signals=has_signals)
    names = ["content", "log_duration"]
    axes = {name: {0: "N"} for name in (*names, "input", "output")}
    model = exported(module, _item_inputs(config, 2), names, ["input", "output"], axes)
    for num_videos in (1, 3, 64):
        inputs = dict(zip(names, _item_inputs(config, num_videos), strict=True))
        compare(model, module, inputs, ["input", "output"])
    return model


def exported(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    dynamic_axes: dict[str, dict[int, str]],
) -> bytes:
    """Return *module* as ONNX, within what `models.bundle.onnx_check` allows."""
    buffer: Any = io.BytesIO()  # the annotation of torch.onnx.export knows of paths only
    with warnings.catch_warnings(), torch.no_grad():
        # the exporter that traces is deprecated, and 20 times faster than its successor
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            buffer,
            input_names=input_names,
            output_names=output_names,
            dynamic_axes=dynamic_axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    model: bytes = buffer.getvalue()
    onnx_check.check("an export", model)
    return model


def compare(
    model: bytes, module: nn.Module, inputs: dict[str, Tensor], output_names: list[str]
) -> None:
    """Compare *model* with *module* on *inputs*.

    Raises:
        BundleError: ONNX Runtime computes something else than torch.
    """
    with torch.no_grad():
        expected = module(*inputs.values())
    if isinstance(expected, Tensor):
        expected = (expected,)
    session = encoder.session(model)
    given = {name: tensor.numpy() for name, tensor in inputs.items()}
    outputs = session.run(output_names, encoder.inputs_used_by(session, given))
    for name, one, other in zip(output_names, outputs, expected, strict=True):
        difference = float(np.abs(one - other.numpy()).max(initial=0.0))
        if not difference <= MAX_DIFFERENCE:
            raise BundleError(f"ONNX differs from torch by {difference:.2g} in {name}")


@torch.no_grad()
def golden(module: nn.Module, inputs: dict[str, Tensor], output: str) -> bytes:
    """Return *inputs* and what *module* computes of them, as the golden file of a bundle."""
    tensors = inputs | {output: module(*inputs.values())}
    return safetensors.numpy.save(
        {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}
    )


def _user_inputs(config: TowerConfig, num_users: int, num_watches: int) -> tuple[Tensor, ...]:
    """Return drawn inputs: some users with padding, one of several with no watch at all."""
    rng = torch.Generator().manual_seed(num_users * 1_000 + num_watches)
    mask_BT = (torch.arange(num_watches) >= torch.arange(num_users)[:, None] * 2).float()
    features_BTF = torch.rand(num_users, num_watches, len(WATCH_FEATURES), generator=rng)
    features_BTF[:, :, 0] = features_BTF[:, :, 0].round()
    return (
        torch.randn(num_users, num_watches, config.dim, generator=rng) * mask_BT[:, :, None],
        features_BTF * mask_BT[:, :, None],
        mask_BT,
        torch.randn(num_users, config.dim, generator=rng),
        torch.randn(num_users, config.context_dim * len(CONTEXT_FIELDS), generator=rng),
        torch.zeros(num_users, 3),
    )


def _item_inputs(config: TowerConfig, num_videos: int) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(num_videos)
    return (
        torch.randn(num_videos, config.dim, generator=rng),
        torch.randn(num_videos, 1, generator=rng),
    )
