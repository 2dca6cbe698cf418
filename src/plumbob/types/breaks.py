"""Where a value first stops being a finite number."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The operation that is the origin of what is not finite in the output or loss.

    `place` is the path of the innermost module at work ("" the model itself, None
    outside: in the loss), `parameter` what the operation reads. `cause` is a word:
    input, target, weight, constant, overflow, zero-by-zero, division-by-zero,
    log-of-zero, log-of-negative, root-of-negative, exponential, masked-row, nothing,
    one-value, outside-domain, other. `low` and `high` are the ends of the finite
    values that came in, `limit` the largest number of the dtype; `values` of the `of`
    that came out are not finite, `nans` of them NaN. `reaches` says what is spoilt:
    the loss, the output, or only what lies inside.
    """

    operation: str
    cause: str
    place: str | None
    parameter: str | None
    dtype: str
    low: float
    high: float
    limit: float
    values: int
    nans: int
    of: int
    reaches: str
