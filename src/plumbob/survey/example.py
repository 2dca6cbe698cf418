"""An example of what a model might be fed, where nobody gave one."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.survey.guard import same_random, untouched

SIDES = (32, 64, 224, 8)  # of images


def example(model: nn.Module) -> Any:
    """Return inputs that a model runs on, from what its first layer takes.

    Raises:
        InputError: there is no telling what it takes.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with same_random(), device:
        torch.manual_seed(0)
        for inputs in _guesses(model):
            try:
                with untouched(model), torch.no_grad():
                    plain = isinstance(inputs, Tensor)
                    model(inputs) if plain else model(**inputs)
            except Exception:  # whatever forward raises: this is not what it takes
                continue
            return inputs
    raise InputError(
        f"expected an example of what {type(model).__name__} is fed, as its modules do "
        "not tell; give one with --data, such as net.py:batch"
    )


def _guesses(model: nn.Module) -> Iterator[Tensor | Mapping[str, Tensor]]:
    if hasattr(model, "config") and hasattr(model, "main_input_name"):
        yield from _of_hugging_face(model)
    for module in model.modules():
        match module:
            case nn.Embedding():
                yield torch.randint(module.num_embeddings, (4, 8))
            case nn.Linear():
                yield from (torch.randn(*n, module.in_features) for n in ((8,), (4, 8)))
            case nn.RNNBase():
                yield torch.randn(4, 8, module.input_size)
            case nn.Conv1d():
                yield torch.randn(4, module.in_channels, 64)
            case nn.Conv2d():
                sizes = ((4, module.in_channels, side, side) for side in SIDES)
                yield from map(torch.randn, sizes)
            case nn.Conv3d():
                yield torch.randn(2, module.in_channels, 16, 16, 16)
            case _:
                continue
        return


def _of_hugging_face(model: Any) -> Iterator[Mapping[str, Tensor]]:
    config, name = model.config, str(model.main_input_name)
    if name == "input_ids" and isinstance(getattr(config, "vocab_size", None), int):
        ids = torch.randint(config.vocab_size, (4, 8))
        yield {name: ids}
        yield {name: ids, "decoder_input_ids": ids}
    side = getattr(config, "image_size", None)
    if name == "pixel_values" and isinstance(side, int):
        channels = int(getattr(config, "num_channels", 3))
        yield {name: torch.randn(2, channels, side, side)}
