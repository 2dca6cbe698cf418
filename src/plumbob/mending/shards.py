"""A mended checkpoint, written shard by shard, tensor by tensor."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from plumbob.errors import InputError
from plumbob.mending.manifest import beside
from plumbob.mending.save import header, raw
from plumbob.mending.stored import Stored
from plumbob.survey.edit import Edit
from plumbob.survey.evaluate import blocks
from plumbob.survey.files import Entry


def free(folder: Path) -> None:
    """Refuse a folder that cannot be written.

    Raises:
        InputError: it is there already and not empty, or has nowhere to be.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(
            f"expected a new or empty folder to write shards to, got '{folder}'; name "
            "another, or a .safetensors file"
        )
    if not folder.resolve().parent.is_dir():
        raise InputError(
            f"expected a folder in one that exists, got '{folder}'; make that first"
        )


def write(
    folder: Path,
    entries: Mapping[str, Entry],
    edits: Mapping[str, list[Edit]],
    removed: Collection[str],
    manifest: Mapping[str, Any],
    tell: Callable[[str], None],
) -> None:
    """Write a folder as it was read, but for edits and what was removed; or nothing.

    Args:
        folder: to write, with the manifest in it.
        entries: the tensors to read, by their names in the model.
        edits: by the same names.
        removed: the names of what is left out.
        manifest: plain values.
        tell: called with what is done next.

    Raises:
        InputError: it cannot be written.
    """
    folder = folder.resolve()
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shards: dict[Path, dict[str, tuple[str, Entry]]] = {}
    for name, entry in entries.items():  # of tied names each tensor once
        if name not in removed:
            shards.setdefault(entry.path, {}).setdefault(entry.name, (name, entry))
    try:
        part.mkdir()
        total = 0
        for number, (path, mine) in enumerate(sorted(shards.items())):
            tell(f"shard {number + 1} of {len(shards)}")
            with (part / path.name).open("wb") as file:
                total += _shard(file, mine, edits)
        if len(shards) > 1 or next(iter(shards)).name != "model.safetensors":
            index = {
                "metadata": {"total_size": total},
                "weight_map": {
                    name: path.name
                    for path, mine in sorted(shards.items())
                    for name in sorted(mine)
                },
            }
            _json(part / "model.safetensors.index.json", index)
        _json(beside(part), manifest)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise InputError(
            f"'{folder}' cannot be written: {error.strerror}; name another folder, or "
            "make room"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _json(path: Path, what: Mapping[str, Any]) -> None:
    text = json.dumps(what, indent=1, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _shard(
    file: BinaryIO,
    tensors: Mapping[str, tuple[str, Entry]],
    edits: Mapping[str, list[Edit]],
) -> int:
    """Write the tensors of a shard in the order in which they lay; return its size."""
    order = sorted(tensors.values(), key=lambda pair: pair[1].start)
    mine = [(e.name, e.dtype, e.shape, e.stop - e.start) for _, e in order]
    file.write(header(mine))
    for name, entry in order:
        store = Stored({name: entry}, {})
        dtype, own = store.dtype(name), edits.get(name, ())
        found = blocks(store, name, own) if own else store.blocks(name)
        for _, block in found:
            file.write(raw(block.to(dtype)))
    return sum(size for *_, size in mine)
