"""What all pages share: where templates lie, and how they write numbers."""

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plumbob.report.words import figure, places, safety, units
from plumbob.types import Finding


def page(template: str, given: Mapping[str, Any]) -> str:
    """Return a page: a template filled in, which escapes all that is no markup."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return made.get_template(template).render(**_SHARED | {**given})


def evidence(finding: Finding) -> str:
    """Return the evidence as "name number, name number" with true minus signs."""
    return ", ".join(f"{name} {figure(v)}" for name, v in finding.evidence.items())


def facts(about: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of a model or a run in words, times as dates."""
    found = dict[str, str]()
    for name, value in about.items():
        if name == "started" and isinstance(value, int | float) and 0 <= value < 1e11:
            when = datetime.fromtimestamp(value, tz=timezone.utc)
            found[name] = f"{when:%Y-%m-%d %H:%M} UTC"
        elif name in _NAMES:
            found[name] = str(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = figure(value)
        elif value is not None:
            found[name] = str(value)
    return found


_NAMES = {"process", "seed"}  # numbers that count nothing
_SHARED = {
    "figure": figure,
    "evidence": evidence,
    "places": places,
    "safety": safety,
    "units": units,
}
