"""Safetensors files and folders: what they hold, read without running anything.

The format: 8 bytes with the length n of the header, n bytes of JSON, then the
values; the header gives each tensor's dtype, shape and place. Nothing in a file is
believed before it is checked, because checkpoints come from strangers.

References:
    Hugging Face, safetensors, README, section "Format".
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from plumbob.errors import FileError, did_you_mean

LONGEST = 100_000_000  # bytes of header that the reference reader accepts

# name in the file -> (name as torch has it, bits of a value)
DTYPES = {
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "F4": ("float4_e2m1", 4),
    "I64": ("int64", 64),
    "I32": ("int32", 32),
    "I16": ("int16", 16),
    "I8": ("int8", 8),
    "U64": ("uint64", 64),
    "U32": ("uint32", 32),
    "U16": ("uint16", 16),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
    "C64": ("complex64", 64),
}
PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
PICKLED = {b"PK", *(bytes([0x80, version]) for version in range(2, 6))}  # first bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor in a file: its values are the bytes from `start` to `stop`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    stop: int


def entries(path: str | Path) -> tuple[Entry, ...]:
    """Return every tensor of a safetensors file, an index, or a folder of either.

    Raises:
        FileError: nothing there, of another kind, truncated or not what it claims.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise FileError(
            f"Expected a safetensors file or a folder of them, found no file at {path};"
            f" check the path.{did_you_mean(path.name, near)}"
        )
    found = _sharded(path) if path.name.endswith(".index.json") else _single(path)
    if not found:
        raise FileError(f"Expected weights in {path}, got a file without tensors.")
    return found


def blocks(entry: Entry, raw: np.dtype[Any], size: int) -> Iterator[np.ndarray]:
    """Yield the values of a tensor in order, `size` at a time, in one reused array.

    Raises:
        FileError: the file ends too early.
    """
    buffer = np.empty(size, raw)
    with entry.path.open("rb", buffering=0) as file:
        file.seek(entry.start)
        left = (entry.stop - entry.start) // raw.itemsize
        while left:
            block = buffer[: min(size, left)]
            _fill(file, block.view("u1").data, entry)
            yield block
            left -= block.size


def _fill(file: Any, view: memoryview, entry: Entry) -> None:
    while view:
        got = file.readinto(view)
        if not got:
            raise FileError(
                f"Expected {entry.stop - entry.start:,} bytes of '{entry.name}' in "
                f"{entry.path}, but the file ended; it changed while it was read."
            )
        view = view[got:]


def _in_folder(folder: Path) -> Path:
    whole = folder / "model.safetensors"
    if whole.is_file():
        return whole
    for kind in ("*.safetensors.index.json", "*.safetensors"):
        found = sorted(folder.glob(kind))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(p.name for p in found[:5])
            raise FileError(
                f"Expected one {kind} in {folder}, found {len(found)} ({names}); "
                f"name the one to read."
            )
    for file in sorted(folder.glob("*")):
        if file.suffix in PICKLES:
            _refuse_pickle(file)
    raise FileError(
        f"Expected model.safetensors or *.safetensors.index.json in {folder}, found "
        f"neither; name the file that holds the weights."
    )


def _sharded(index: Path) -> tuple[Entry, ...]:
    with index.open("rb") as file:
        table = _json(file.read(LONGEST), index)
    shards = table.get("weight_map")
    if not isinstance(shards, dict) or not all(
        isinstance(name, str) for name in shards.values()
    ):
        raise FileError(
            f"Expected a 'weight_map' of tensor names to file names in {index}, got "
            f"{_short(shards)}; save the model again."
        )
    held: dict[str, dict[str, Entry]] = {}
    for name in sorted(set(shards.values())):
        shard = index.parent / name
        if Path(name).name != name or name in {"", ".", ".."}:
            raise FileError(
                f"Expected shards beside {index}, got '{name}', which leads out of the "
                f"folder; refused."
            )
        if not shard.is_file():
            raise FileError(
                f"Expected shard '{name}', which {index.name} names, in {index.parent},"
                f" found no such file; download it again."
            )
        held[name] = {entry.name: entry for entry in _single(shard)}
    for tensor, name in shards.items():
        if tensor not in held[name]:
            raise FileError(
                f"Expected tensor '{tensor}' in shard '{name}' as {index.name} says, "
                f"found none.{did_you_mean(tensor, held[name])}"
            )
    return tuple(held[name][tensor] for tensor, name in shards.items())


def _single(path: Path) -> tuple[Entry, ...]:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
        length = int.from_bytes(head[:8], "little")
        most = min(size - 8, LONGEST)
        if head[8:] != b"{" or length > most:
            if path.suffix in PICKLES or head[:2] in PICKLED:
                _refuse_pickle(path)
            got = f"{size:,} bytes that begin with {head!r}"
            if head[8:] == b"{":
                got = f"{size:,} bytes that promise {length:,} of header"
            room = f" of at most {most:,} bytes" if most > 0 else ""
            raise FileError(
                f"Expected a safetensors file at {path}, with a header in JSON{room}, "
                f"got {got}; it is truncated or of another kind: download it again or "
                f"save it with safetensors."
            )
        file.seek(8)
        header = _json(file.read(length), path)
    header.pop("__metadata__", None)
    start = 8 + length
    found = [_entry(name, facts, path, start) for name, facts in header.items()]
    place, before = start, "the header"
    for entry in sorted(found, key=lambda e: (e.start, e.stop)):
        if entry.start != place:
            what = "overlaps" if entry.start < place else "leaves a hole after"
            raise FileError(
                f"Expected tensors one after another in {path}, but '{entry.name}' "
                f"{what} {before}; the file is damaged or hostile, do not use it."
            )
        place, before = entry.stop, f"'{entry.name}'"
    if place != size:
        what = "truncated" if place > size else "followed by bytes that nothing names"
        raise FileError(
            f"Expected {place:,} bytes in {path} by its header, got {size:,}: it is "
            f"{what}; download it again."
        )
    return tuple(found)


def _entry(name: str, facts: Any, path: Path, start: int) -> Entry:
    match facts:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [a, b]}:
            pass
        case _:
            raise FileError(
                f"Expected dtype, shape and data_offsets of '{_short(name)}' in {path},"
                f" got {_short(facts)}; the file is damaged."
            )
    if not name.isprintable():
        raise FileError(
            f"Expected a printable tensor name in {path}, got {_short(name)}; refused."
        )
    if dtype not in DTYPES:
        raise FileError(
            f"Expected a safetensors dtype for '{name}' in {path}, got {_short(dtype)}."
            f"{did_you_mean(dtype, DTYPES)}"
        )
    whole = all(type(n) is int and 0 <= n < 1 << 63 for n in [*shape, a, b])
    if not whole or a > b or len(shape) > 32:
        raise FileError(
            f"Expected whole numbers from 0 up, in order, for '{name}' in {path}, got "
            f"shape {_short(shape)} and data_offsets {_short([a, b])}."
        )
    bits = prod(shape) * DTYPES[dtype][1]
    if bits != 8 * (b - a):
        raise FileError(
            f"Expected {bits // 8:,} bytes for '{name}' in {path} ({dtype}, shape "
            f"{_short(shape)}), got {b - a:,}; the file is damaged."
        )
    return Entry(
        name=name,
        dtype=DTYPES[dtype][0],
        shape=tuple(shape),
        path=path,
        start=start + a,
        stop=start + b,
    )


def _json(text: bytes, path: Path) -> dict[str, Any]:
    """Parse an object without repeated keys.

    Raises:
        FileError: it is not one.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            seen = set[str]()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))
            raise FileError(
                f"Expected each name once in {path}, got {_short(twice)} twice; the "
                f"file is damaged or hostile, do not use it."
            )
        return table

    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise FileError(
            f"Expected JSON in the header of {path}, got {_short(text[:40])}; it is no "
            f"safetensors file, or a damaged one."
        ) from error
    if not isinstance(table, dict):
        raise FileError(f"Expected a JSON object in {path}, got {_short(table)}.")
    return table


def _refuse_pickle(path: Path) -> None:
    raise FileError(
        f"Expected safetensors, got {path}, a pickle, which can execute code when it is"
        f" read; load it where you trust it and save it with safetensors."
    )


def _short(what: object) -> str:
    text = ascii(what)
    return text if len(text) <= 60 else text[:57] + "..."
