"""The state of a model, written as safetensors.

The format: 8 bytes with the length of the header, the header in JSON, then the values
of all tensors one after another.

References:
    Hugging Face, safetensors, README, section "Format".
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO

import torch
from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.survey.files import DTYPES

CODES = {name: code for code, (name, _) in DTYPES.items()}


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return what is saved of a model: its state, each tied tensor once.

    Raises:
        InputError: something in it is no tensor that a file can hold.
    """
    found: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor) or _dtype(value) not in CODES:
            kind = _dtype(value) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"expected tensors of a dtype that safetensors has in the state of "
                f"{type(model).__name__}, got '{name}', a {kind}; save this model with "
                "torch.save"
            )
        found.setdefault(id(value), (name, value.detach()))
    return dict(found.values())


def save(state: Mapping[str, Tensor], file: BinaryIO) -> None:
    """Write tensors to a file, those of wide dtypes first, so that all lie aligned."""
    names = sorted(state, key=lambda name: (-state[name].element_size(), name))
    held = ((name, _dtype(state[name]), state[name]) for name in names)
    file.write(header((n, kind, t.shape, t.nbytes) for n, kind, t in held))
    for name in names:
        file.write(raw(state[name].detach().cpu()))


def header(tensors: Iterable[tuple[str, str, Sequence[int], int]]) -> bytes:
    """Return what stands before the values of tensors.

    Args:
        tensors: the name, the dtype, the shape and the bytes of each, in order.
    """
    told: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape, size in tensors:
        start, end = end, end + size
        told[name] = {
            "dtype": CODES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def raw(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor on a processor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
