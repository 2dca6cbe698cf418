"""`load`: mended weights into a freshly built model."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import nn

    Model = TypeVar("Model", bound="nn.Module")


def load(model: "Model", path: str | Path, *, restore: bool = False) -> "Model":
    """Load what `plumbob fix` wrote: all of it, or nothing and an error.

    Why:
        Mended weights lack what the model does without, so that the class they came
        from does not take them. The manifest beside them says how the model is to be
        built for them; it is checked word by word and can execute nothing.

    Args:
        model: built as the model was that was mended (from the same configuration, of
            Hugging Face or torchvision for instance); it is changed in place.
        path: the safetensors file, or the folder, that was written; its manifest lies
            beside it or in it.
        restore: leave the model as it is built, with zeros for what went (and ones
            for gains of norms).

    Returns:
        The model.

    Raises:
        InputError: the model is built otherwise, or was mended in ways that cannot
            be taken back.
        FileError: the file or its manifest is missing, damaged or hostile.

    Example:
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        >>> plumbob.load(model, "mended.safetensors")  # doctest: +SKIP
    """
    from torch import empty_like, no_grad
    from torch.nn import Parameter

    from plumbob.mending.differences import tensors_of
    from plumbob.mending.form import bring, restorable
    from plumbob.mending.manifest import beside, read
    from plumbob.survey.guard import or_as_before
    from plumbob.survey.weights import load

    form = read(beside(path))
    form = restorable(form) if restore else form
    before = tensors_of(model)
    device = next((t.device for t in before.values()), None)
    with or_as_before(model), no_grad():
        bring(model, form)
        new = [name for name, t in tensors_of(model).items() if t.is_meta]
        load(model, path)
        for name in new if device is not None and device.type != "meta" else ():
            tensor = tensors_of(model)[name]
            tensor.data = tensor.data.to(device)
        for name in form.removed if restore else ():
            owner, _, last = name.rpartition(".")
            full = before[name]
            if full.is_meta:
                full = Parameter(empty_like(full, device="cpu"))
            full.fill_(last == "weight")  # a norm's gain is 1
            setattr(model.get_submodule(owner), last, full)
    return model
