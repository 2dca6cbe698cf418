"""What the user chose: which rules, where not, with which thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbob.types import NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Selection and thresholds. Codes may be prefixes ("PB2") or rule names.

    `select` None is every rule. `per_site` maps a glob over site names to codes
    ignored there. `thresholds` maps a code to its keyword limits. `baseline` holds
    the keys (see `judge.key`) of findings already accepted.
    """

    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    per_site: Mapping[str, tuple[str, ...]] = NOTHING
    thresholds: Mapping[str, Mapping[str, Any]] = NOTHING
    baseline: frozenset[str] = frozenset()
