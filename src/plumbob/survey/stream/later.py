"""Numbers on their way from devices, waited for by nobody."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Later:
    """Tensors copied to the host, one copy for each device they are on."""

    def __init__(self, some: Sequence[Tensor]) -> None:
        self.shapes = [t.shape for t in some]
        self.copies: list[tuple[list[int], Tensor, Any]] = []
        devices: dict[torch.device, list[int]] = {}
        for number, t in enumerate(some):
            devices.setdefault(t.device, []).append(number)
        for device, places in devices.items():
            dtype = torch.float32 if device.type == "mps" else torch.float64
            flat = [some[at].detach().reshape(-1).to(dtype) for at in places]
            self.copies.append((places, *sent(torch.cat(flat))))

    @property
    def ready(self) -> bool:
        """Whether `read` need not wait."""
        return all(event is None or event.query() for _, _, event in self.copies)

    def read(self) -> list[Any]:
        """Return the numbers of each tensor as an array."""
        found: list[Any] = [None] * len(self.shapes)
        for places, host, event in self.copies:
            if event is not None:
                event.synchronize()
            sizes = [self.shapes[at].numel() for at in places]
            for at, part in zip(places, host.split(sizes), strict=True):
                found[at] = part.reshape(self.shapes[at]).numpy()
        return found


def sent(packed: Tensor) -> tuple[Tensor, Any]:
    """Return a copy on the host, and the event that says that it has arrived."""
    if packed.device.type != "cuda":
        return packed.cpu(), None
    host = torch.empty_like(packed, device="cpu", pin_memory=True)
    host.copy_(packed, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(packed.device))
    return host, event
