"""What was measured: the model in a few words, and a fingerprint of its weights."""

import hashlib
from collections.abc import Mapping

import torch
from torch import nn

from plumbob.types import Census


def about(model: nn.Module) -> dict[str, str | int | float]:
    """Return what tells one measurement from another."""
    parameters = list(model.parameters())
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    return {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in parameters),
        "dtype": ", ".join(dtypes),
        "mode": "training" if model.training else "evaluation",
        "torch": torch.__version__,
        "seed": str(torch.initial_seed()),
    }


def digest(tensors: Mapping[str, Census]) -> str:
    """Return a fingerprint of names, shapes and moments: the same model, the same."""
    text = "\n".join(
        f"{name} {c.shape} {c.dtype} {c.mean!r} {c.var!r}"
        for name, c in sorted(tensors.items())
    )
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
