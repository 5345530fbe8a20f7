"""Save and load the moments of an Adam optimiser as named tensors (torch; training only)."""

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Adam

_PREFIX = "adam."


def moments_of(optimizer: Adam) -> dict[str, Tensor]:
    """Return the moments by name, ``adam.<number of the parameter>.<moment>``."""
    return {
        f"{_PREFIX}{number}.{key}": tensor
        for number, moments in optimizer.state_dict()["state"].items()
        for key, tensor in moments.items()
    }


def load_moments(optimizer: Adam, tensors: Mapping[str, Tensor]) -> None:
    """Load the moments among *tensors* into *optimizer*; other tensors are ignored."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_PREFIX):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
