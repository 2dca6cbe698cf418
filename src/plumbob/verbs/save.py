"""`save`: mended weights and their manifest, both or neither."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from plumbob.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from plumbob.mending.mended import Mended


def save(
    model: "nn.Module",
    proof: "Mended",
    path: str | Path,
    *,
    source: Mapping[str, str] | None = None,
) -> Path:
    """Write what `fix` returned; `plumbob.load` reads it.

    Args:
        model: the mended model.
        proof: what came with it.
        path: the safetensors file to write; the manifest goes beside it.
        source: digests of the files that the model was loaded from, by name.

    Returns:
        The path of the manifest.

    Raises:
        InputError: the path is not to be written, the model is not the mended one, or
            it is built in a way that a manifest does not tell.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        >>> fixed, proof = plumbob.fix(model, torch.randn(8, 3, 6, 6))
        >>> plumbob.save(fixed, proof, "mended.safetensors").name  # doctest: +SKIP
        'mended.manifest.json'
    """
    from plumbob.mending.manifest import beside
    from plumbob.mending.save import save, state_of

    path = Path(path).resolve()
    manifest = beside(path)
    if proof.unloadable:
        raise InputError(
            f"expected a model whose form a manifest can tell: {proof.unloadable}; "
            "leave that rewrite out (select=), or save the model with torch.save"
        )
    writable(path)
    state = state_of(model)
    if left := [name for name in proof.form.removed if name in state]:
        raise InputError(
            f"expected the mended model, got one that still has {left[0]}; save the "
            "model that fix returned with this proof"
        )
    parts = {p: p.with_name(f".{p.name}.{os.getpid()}") for p in (path, manifest)}
    try:
        with parts[path].open("wb") as file:
            save(state, file)
        text = json.dumps(proof.manifest(source), indent=1, allow_nan=False)
        parts[manifest].write_text(f"{text}\n", encoding="utf-8")
        for place, part in parts.items():
            part.replace(place)
    except OSError as error:
        raise InputError(
            f"'{path}' and its manifest cannot be written: {error.strerror}; name "
            "another file, or make room"
        ) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return manifest


def writable(path: str | Path) -> None:
    """Refuse a path that weights cannot be written to.

    Raises:
        InputError: it is no safetensors file in a folder that exists.
    """
    from plumbob.mending.manifest import beside

    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"expected a .safetensors file to write, got '{path}'")
    if not path.resolve().parent.is_dir() or path.is_dir() or beside(path).is_dir():
        raise InputError(
            f"expected a file in a folder that exists, got '{path}'; make the folder, "
            "or name another"
        )


def digests(path: str | Path) -> dict[str, str]:
    """Return the SHA-256 of the files that weights were read from, by name.

    Raises:
        FileError: there are none.
    """
    from plumbob.survey.files import entries

    found: dict[str, str] = {}
    for file in sorted({entry.path for entry in entries(path)}):
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        found[file.name] = f"sha256:{digest.hexdigest()}"
    return found
