"""The arms of a trial: what is done to the model before each training."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from plumbob.report.report import Report
    from plumbob.trials.feed import Feed
    from plumbob.trials.run import Change, Did, Plan
    from plumbob.types import Finding, Stage

ALL = "all together"
PASSES = 5  # a remedy may uncover the next finding
LOOKED_AT = 2  # seeds that are checked for what there is to try


def of_functions(
    remedies: Mapping[str, Callable[..., Any]],
) -> "dict[str, Change]":
    """Return the arms of a user's own functions.

    Raises:
        InputError: a name is that of one of our own arms.
    """
    from plumbob.errors import InputError
    from plumbob.trials.run import AS_IS

    for name, change in remedies.items():
        if name in {AS_IS, ALL} or not callable(change):
            raise InputError(
                "expected names of your own mapped to functions f(model, optimizer), "
                f"got {name!r}: {type(change).__name__} ('{AS_IS}' and '{ALL}' are "
                "taken)"
            )
    alone = {name: partial(_call, (change,)) for name, change in remedies.items()}
    together = {ALL: partial(_call, tuple(remedies.values()))}
    return {AS_IS: partial(_call, ()), **alone, **(together if len(alone) > 1 else {})}


def of_findings(
    plan: "Plan",
    codes: str | Iterable[str] | None,
    stage: "Stage | str | None",
    seeds: int,
    tell: Callable[[str], None],
) -> "tuple[dict[str, Change], tuple[str, ...]]":
    """Return the arms of what check finds in the first seeds, and what is by hand."""
    from plumbob.trials.run import AS_IS, alone, start

    found: dict[str, Finding] = {}
    checks = Checks(codes, stage)
    for seed in range(seeds):
        tell(f"checking seed {seed + 1} of {seeds}")
        with alone(plan.dtype):
            ready = start(plan, seed)
            report = checks.first(ready.model, ready.optimizer, ready.train, ready.loss)
        for finding in _every(report):
            known = found.get(finding.code)
            if known is None or known.remedy.act is None:
                found[finding.code] = finding
    found = dict(sorted(found.items()))
    does = [code for code, finding in found.items() if finding.remedy.act]
    arms: dict[str, Change] = {AS_IS: partial(_call, ())}
    for code in does:
        arms[f"{code} {found[code].name}"] = partial(_one, checks, code)
    if len(does) > 1:
        arms[ALL] = partial(_all, checks)
    by_hand = tuple(
        f"{code} {finding.name}: {finding.remedy.advice}"
        for code, finding in found.items()
        if not finding.remedy.act
    )
    return (arms if does else {}), by_hand


class Checks:
    """What check finds; all arms of one seed begin alike, so once for all of them."""

    def __init__(
        self, codes: str | Iterable[str] | None, stage: "Stage | str | None"
    ) -> None:
        if codes is not None and not isinstance(codes, str):
            codes = tuple(codes)  # an iterator would be used up by the first check
        self.codes, self.stage = codes, stage
        self.known: dict[int, Report] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "known": {}}

    def first(
        self, model: "nn.Module", optimizer: Any, data: "Feed", loss: Any
    ) -> "Report":
        """Return the report on the model as it is, made once in a process."""
        if data.seed not in self.known:
            self.known[data.seed] = self.again(model, optimizer, data, loss)
        return self.known[data.seed]

    def again(
        self, model: "nn.Module", optimizer: Any, data: "Feed", loss: Any
    ) -> "Report":
        """Return the report on the model as it is now."""
        from plumbob.verbs.check import check

        return check(
            model,
            data,
            loss=loss,
            optimizer=optimizer,
            stage=self.stage,
            select=self.codes,
        )


def _every(report: "Report") -> "list[Finding]":
    """Return all findings, also those that others explain."""
    return [f for root in report.findings for f in (root, *root.consequences)]


def _call(
    changes: tuple[Callable[..., Any], ...],
    model: "nn.Module",
    optimizer: Any,
    data: "Feed",
    loss: Any,
) -> "tuple[Any, Did]":
    """Change the model by the user's own functions."""
    for change in changes:
        made = change(model, optimizer)
        optimizer = optimizer if made is None else made
    return optimizer, ()


def _one(
    checks: Checks,
    code: str,
    model: "nn.Module",
    optimizer: Any,
    data: "Feed",
    loss: Any,
) -> "tuple[Any, Did]":
    """Do what the findings of one code advise."""
    report = checks.first(model, optimizer, data, loss)
    chosen = [finding for finding in _every(report) if finding.code == code]
    return optimizer, _follow(chosen, report, model, optimizer)


def _all(
    checks: Checks, model: "nn.Module", optimizer: Any, data: "Feed", loss: Any
) -> "tuple[Any, Did]":
    """Do what all findings advise, and check again until nothing can be followed."""
    did: Did = ()
    report = checks.first(model, optimizer, data, loss)
    for _ in range(PASSES):
        done = _follow(report.findings, report, model, optimizer)
        if not done:
            break
        did += done
        report = checks.again(model, optimizer, data, loss)
    return optimizer, tuple(dict.fromkeys(did))


def _follow(
    findings: "Iterable[Finding]",
    report: "Report",
    model: "nn.Module",
    optimizer: Any,
) -> "Did":
    from plumbob.verbs.apply import follow

    return tuple(
        (str(finding.remedy.act), finding.site or "")
        for finding, left in follow(findings, report, model, optimizer)
        if left is None
    )
