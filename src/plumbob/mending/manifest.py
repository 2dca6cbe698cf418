"""The manifest beside mended weights: what was done, and how to build for them.

It may come from a stranger: only its form is read, word by word.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from plumbob.errors import FileError
from plumbob.mending.form import Form, Kind, Plain, Slot

FORMAT = 1
LONGEST = 100_000_000  # bytes

Value = TypeVar("Value")


def beside(weights: str | Path) -> Path:
    """Return where the manifest of a file, or of a folder, of weights lies."""
    weights = Path(weights)
    if weights.is_dir():
        return weights / "plumbob.manifest.json"
    stem = weights.name.removesuffix(".index.json").removesuffix(".safetensors")
    return weights.with_name(f"{stem}.manifest.json")


def told(form: Form) -> dict[str, Any]:
    """Return a form as plain values."""
    return asdict(form)


def read(path: Path) -> Form:
    """Return the form that a manifest tells, after checking every word of it.

    Raises:
        FileError: there is no manifest, or it is damaged, hostile or of another format.
    """
    if not path.is_file():
        raise FileError(
            f"Expected a manifest at {path}, found none; keep the manifest that "
            "plumbob fix wrote beside its weights."
        )
    if (size := path.stat().st_size) > LONGEST:
        raise FileError(f"Expected a manifest at {path}, got {size:,} bytes; refused.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(
            f"Expected JSON in the manifest {path}, got {_short(error)}; it is damaged."
        ) from error
    form = _Form(path)
    top = form.table(found, "the manifest")
    if (version := top.get("format")) != FORMAT:
        raise FileError(
            f"Expected a manifest of format {FORMAT} at {path}, got "
            f"{_short(version)}; read it with the plumbob that wrote it."
        )
    return form.read(top.get("form"))


class _Form:
    """Reads a form; every complaint names the file and the place in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, found: Any) -> Form:
        parts = self.table(found, "form")
        names = ("removed", "added", "resized", "sizes", "exchanged", "frozen")
        if set(parts) != set(names):
            raise self.wrong("form", f"exactly {', '.join(names)}", list(parts))
        return Form(
            removed=self.each(parts, "removed", self.slot),
            added=self.each(parts, "added", self.slot),
            resized=self.each(parts, "resized", self.slot),
            sizes=self.each(parts, "sizes", self.said),
            exchanged=self.each(parts, "exchanged", self.kind),
            frozen=tuple(self.texts(parts["frozen"], "frozen")),
        )

    def wrong(self, where: str, what: str, got: Any) -> FileError:
        return FileError(
            f"Expected {what} in {where} of {self.path}, got {_short(got)}; the "
            "manifest is damaged or hostile, do not use it."
        )

    def table(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(where, "a table", value)
        return value

    def each(
        self,
        parts: Mapping[str, Any],
        name: str,
        reader: Callable[[Any, str], Value],
    ) -> dict[str, Value]:
        table = self.table(parts[name], name)
        return {key: reader(value, f"{name}.{key}") for key, value in table.items()}

    def fields(self, value: Any, where: str, names: set[str]) -> dict[str, Any]:
        table = self.table(value, where)
        if set(table) != names:
            raise self.wrong(where, f"exactly {', '.join(sorted(names))}", list(table))
        return table

    def texts(self, value: Any, where: str) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.wrong(where, "a list of names", value)
        return value

    def slot(self, value: Any, where: str) -> Slot:
        parts = self.fields(value, where, {"shape", "dtype"})
        shape, dtype = self.plain(parts["shape"], where), parts["dtype"]
        if not isinstance(shape, tuple) or any(n < 0 for n in shape):
            raise self.wrong(where, "a shape", shape)
        known = getattr(torch, dtype, None) if isinstance(dtype, str) else None
        if not isinstance(known, torch.dtype):
            raise self.wrong(where, "a dtype of torch", dtype)
        return Slot(shape=shape, dtype=dtype)

    def said(self, value: Any, where: str) -> dict[str, Plain]:
        table = self.table(value, where)
        return {name: self.plain(v, where) for name, v in table.items()}

    def kind(self, value: Any, where: str) -> Kind:
        parts = self.fields(value, where, {"name", "arguments", "was", "behind"})
        name, was, behind = self.texts(
            [parts["name"], parts["was"], parts["behind"]], where
        )
        arguments = self.said(parts["arguments"], where)
        return Kind(name=name, arguments=arguments, was=was, behind=behind)

    def plain(self, value: Any, where: str) -> Plain:
        if isinstance(value, list) and all(type(n) is int for n in value):
            value = tuple(value)
        elif not isinstance(value, bool | int | float | str | None):
            raise self.wrong(where, "a number, a text or a list of whole ones", value)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(n, int) and abs(n) >= 1 << 63 for n in numbers):
            raise self.wrong(where, "numbers of 64 bits", value)
        return value


def _short(what: object) -> str:
    text = ascii(what)
    return text if len(text) <= 60 else text[:57] + "..."
