"""A survey as rows of plain numbers, one a site, for every format that shows them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from plumbob.types import Census, Finding, Reading, Severity, Site, Survey


def rows(survey: Survey) -> list[dict[str, Any]]:
    """Return one row per site; None where something was not measured.

    `weight` and `bias` columns describe the values themselves, `beta` columns the
    effective bias b + W mu over units, `sd` the spread of z, `firing` P(z > 0).
    """
    return [_row(site, survey) for site in survey.sites]


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: arrays' scalars as numbers, NaN and Inf None.

    So it does with what is in lists and mappings.
    """
    if isinstance(value, Mapping):
        parts = cast(Mapping[Any, Any], value)
        return {str(name): plain(part) for name, part in parts.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in cast(Sequence[Any], value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def told(finding: Finding) -> dict[str, Any]:
    """Return a finding as plain values, with its consequences."""
    remedy = finding.remedy
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": (finding.severity or Severity.INFO).name.lower(),
        "site": finding.site,
        "units": plain(finding.units),
        "message": finding.message,
        "cause": finding.cause,
        "evidence": plain(finding.evidence),
        "remedy": {
            "advice": remedy.advice,
            "safety": remedy.safety.value,
            "act": remedy.act,
            "arguments": plain(remedy.arguments),
        },
        "steps": finding.steps,
        "consequences": [told(consequence) for consequence in finding.consequences],
    }


def _row(site: Site, survey: Survey) -> dict[str, Any]:
    reading = survey.readings.get(site.name, Reading())
    weight = survey.tensors.get(site.weight)
    bias = survey.tensors.get(site.bias) if site.bias else None
    beta = sd = firing = None
    if reading.z is not None:
        beta, sd = reading.z.mean, reading.z.sd
        firing = reading.z.positive / np.maximum(reading.z.count, 1)
    row = {
        "site": site.name,
        "kind": site.kind,
        "out": site.out,
        "fan_in": site.fan_in,
        "activation": site.activation,
        "norm": site.norm,
        **_census("weight", weight),
        **_census("bias", bias),
        **_spread("beta", beta),
        **_spread("sd", sd),
        **_spread("firing", firing),
    }
    return {name: plain(value) for name, value in row.items()}


def _census(name: str, census: Census | None) -> dict[str, float | None]:
    if census is None:
        return dict.fromkeys([f"{name}_{of}" for of in ("mean", "sd", "low", "high")])
    return {
        f"{name}_mean": census.mean,
        f"{name}_sd": math.sqrt(census.var),
        f"{name}_low": census.low,
        f"{name}_high": census.high,
    }


def _spread(name: str, values: Float[Any, " out"] | None) -> dict[str, float | None]:
    names = [f"{name}_{of}" for of in ("low", "median", "high")]
    finite = None if values is None else values[np.isfinite(values)]
    if finite is None or not finite.size:
        return dict.fromkeys(names)
    return dict(zip(names, np.quantile(finite, (0, 0.5, 1)).tolist(), strict=True))
