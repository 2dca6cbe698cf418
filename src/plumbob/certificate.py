"""What a rewrite can show for itself."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from plumbob.types import Safety


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Two numbers that tell a wrong theorem from rounding, and what else changed.

    Errors are the largest change of any output, relative to the largest value of that
    output, in units in the last place (ulps: of float64, of `dtype`).
    `identity_ulps` is that of the rewritten model in float64 and `bound` what rounding
    there may come to; a wrong theorem exceeds it by orders of magnitude. `stored_ulps`
    is the distance of the rewritten model in its own dtype from the float64 values of
    the model before, and `rounding` that of the model before itself (in float64 what
    an ulp of the parameters, up or down, makes of it); where several rewrites were
    done, that is in inference the model before all, so that rounding does not add up
    unseen. `probes` counts the comparisons in which an output was finite somewhere; all
    but the first were of random parameters and inputs where `random_parameters` and
    `random_inputs` say so. Parameters as they are prove less, as a theorem would hold
    for all, and the bound counts that those after are rounded to be stored. `removed`,
    `added`, `changed` and `frozen` are parameters and buffers by name; `places` where
    the `rewrite` was done, and `code` the rule that reports it ("": none does).
    """

    claim: Safety
    steps: tuple[str, ...]
    probes: int
    seed: int
    identity_ulps: float
    bound: float
    stored_ulps: float
    rounding: float
    dtype: str
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    side_effects: tuple[str, ...] = ()
    rewrite: str = ""
    code: str = ""
    places: tuple[str, ...] = ()
    random_parameters: bool = True
    random_inputs: bool = True

    @property
    def holds(self) -> bool:
        """Whether the two models are the same function, as claimed, and it showed."""
        return self.probes > 0 and self.identity_ulps <= self.bound

    @property
    def precise(self) -> bool:
        """Whether the rewritten model rounds at most twice as much as it did before.

        Four ulps are free: two models that round differently may differ by as much.
        """
        return self.stored_ulps <= max(2 * self.rounding, 4)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; None stands for an error without bound."""
        facts = asdict(self) | {"claim": self.claim.value}
        for name, value in facts.items():
            if isinstance(value, float) and not isfinite(value):
                facts[name] = None
        return facts | {"holds": self.holds, "precise": self.precise}

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "does NOT hold"
        if self.holds and not self.precise:
            verdict = "holds, but rounds too coarsely,"
        what = f"{self.code} {self.rewrite}, ".lstrip() if self.rewrite else ""
        return (
            f"{what}{self.claim.value}: {verdict} on {self.probes} probes "
            f"({self.tried}; seed {self.seed}): {self.identity_ulps:.3g} ulps of "
            f"float64 (bound {self.bound:.3g}), {self.stored_ulps:.3g} ulps of "
            f"{self.dtype} (before: {self.rounding:.3g})"
        )

    @property
    def tried(self) -> str:
        """What the comparisons were of, in words."""
        parameters = (
            "random parameters" if self.random_parameters else "parameters as they are"
        )
        inputs = "random inputs" if self.random_inputs else "the inputs given"
        return f"{parameters}, {inputs}"
