"""The arms of a trial: what is done to the model before each training."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

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

    if taken := {AS_IS, ALL} & remedies.keys():
        raise InputError(f"expected another name than '{taken.pop()}' for a remedy")
    alone = {name: partial(_call, (change,)) for name, change in remedies.items()}
    together = {ALL: partial(_call, tuple(remedies.values()))}
    return {AS_IS: partial(_call, ()), **alone, **(together if len(alone) > 1 else {})}


def of_findings(
    plan: "Plan",
    codes: Iterable[str] | None,
    stage: "Stage | str | None",
    seeds: int,
    tell: Callable[[str], None],
) -> "tuple[dict[str, Change], tuple[str, ...]]":
    """Return the arms of what check finds in the first seeds, and what is by hand."""
    from plumbob.trials.run import AS_IS, alone, start
    from plumbob.verbs.check import check

    found: dict[str, Finding] = {}
    codes = None if codes is None else tuple(codes)
    for seed in range(seeds):
        tell(f"checking seed {seed + 1} of {seeds}")
        with alone(plan.dtype):
            ready = start(plan, seed)
            report = check(
                ready.model,
                ready.train,
                loss=ready.loss,
                optimizer=ready.optimizer,
                stage=stage,
                select=codes,
            )
        for root in report.findings:
            for finding in (root, *root.consequences):
                known = found.get(finding.code)
                if known is None or known.remedy.act is None:
                    found[finding.code] = finding
    found = dict(sorted(found.items()))
    does = [code for code, finding in found.items() if finding.remedy.act]
    arms: dict[str, Change] = {AS_IS: partial(_call, ())}
    for code in does:
        arms[f"{code} {found[code].name}"] = partial(_follow, (code,), stage, 1)
    if len(does) > 1:
        arms[ALL] = partial(_follow, tuple(does), stage, PASSES)
    by_hand = tuple(
        f"{code} {finding.name}: {finding.remedy.advice}"
        for code, finding in found.items()
        if not finding.remedy.act
    )
    return (arms if does else {}), by_hand


def _call(
    changes: tuple[Callable[..., Any], ...],
    model: "nn.Module",
    optimizer: Any,
    data: Iterable[Any],
    loss: Any,
) -> "tuple[Any, Did]":
    """Change the model by the user's own functions."""
    for change in changes:
        made = change(model, optimizer)
        optimizer = optimizer if made is None else made
    return optimizer, ()


def _follow(
    codes: tuple[str, ...],
    stage: "Stage | str | None",
    passes: int,
    model: "nn.Module",
    optimizer: Any,
    data: Iterable[Any],
    loss: Any,
) -> "tuple[Any, Did]":
    """Do what the findings of these codes advise, and check again."""
    from plumbob.verbs.apply import apply
    from plumbob.verbs.check import check

    did: list[tuple[str, str]] = []
    for _ in range(passes):
        report = check(
            model, data, loss=loss, optimizer=optimizer, stage=stage, select=codes
        )
        told: list[str] = []
        model, optimizer = apply(
            report, model, optimizer=optimizer, in_place=True, tell=told.append
        )
        done = [
            (str(f.remedy.act), f.site or "")
            for f in report.findings
            if f"{f.code} {f.site or '(model)'}: {f.remedy.act}" in told
        ]
        if not done:
            break
        did += done
    return optimizer, tuple(dict.fromkeys(did))
