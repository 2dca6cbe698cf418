"""The laws that every rule and every rewrite keeps, for those of your own too.

from plumbob.testing import check_rewrite, check_rule

def test_my_rule():
    check_rule(my_rule, leans={"model": bad, "data": x}, plumb={"model": good})

def test_my_rewrite():
    check_rewrite(my_act, {"site": "fc1"}, model=model, data=x, writes="fc1.bias")
"""

import copy
import inspect
import json
import pickle
import re
from collections.abc import Callable, Mapping
from functools import partial
from string import Formatter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from plumbob.certificate import Certificate
from plumbob.errors import InputError
from plumbob.rewrites.certify import certify
from plumbob.rule import findings, limits, sections
from plumbob.survey.batches import Batch, batches
from plumbob.survey.graph import export, tensors
from plumbob.survey.guard import untouched
from plumbob.survey.measure import measure
from plumbob.survey.seen import seen
from plumbob.types import Finding, Needs, Rule, Safety, Survey
from plumbob.verbs.apply import apply

SECTIONS = (
    "",
    "Why",
    "Evidence",
    "Args",
    "Remedy",
    "Allow when",
    "Example",
    "References",
)
REWRITE_SECTIONS = ("", "Why", "Exact when", "Args", "Raises", "Example", "References")
# 0 and 1 belong to formulas ("z > 0"); other numbers are measured, or the section
# Evidence defines them ("a 95 % interval").
_NUMBER = re.compile(r"(?<![\w.])(?![01](?!\w|\.\w))\d(?:[\d.,]*\d)?")


def check_rule(
    rule: Rule, *, leans: Mapping[str, Any], plumb: Mapping[str, Any]
) -> None:
    """Hold a rule to the laws of the house.

    Its card is complete; it fires on a net that leans and is silent on its healthy
    twin; it is pure; each number that it tells is evidence; a remedy that can be
    followed takes the finding away, and keeps the function where it says so; and
    measuring and mending a copy left models, gradients, modes, hooks, optimisers and
    random states as they were.

    Args:
        rule: the rule.
        leans: keyword arguments of `plumbob.check`, `model` at least, with the fault.
        plumb: the same without it.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    _hold(not (faults := card(rule)), f"{rule.code}: {'; '.join(faults)}")
    survey = _measured(rule, plumb)
    silent = list(findings(rule, survey))
    _hold(not silent, f"{rule.code} fires on the net that is plumb: {silent}")
    survey = _measured(rule, leans)
    found = list(findings(rule, survey))
    _hold(bool(found), f"{rule.code} is silent on the net that leans")
    _hold(
        repr(found) == repr(list(findings(rule, survey))),
        f"{rule.code} judges the same facts differently the second time",
    )
    for finding in rule.judge(survey):
        loose = _loose_numbers(rule, finding, survey)
        _hold(not loose, f"{rule.code} tells numbers that are no evidence: {loose}")
    for finding in found:
        _mends(rule, finding, leans)


def card(rule: Rule) -> list[str]:
    """Return what is wrong with a rule's code, name, docstring and thresholds."""
    faults = list[str]()
    if not re.fullmatch(r"[A-Z]{2,}\d{3}", rule.code):
        faults.append(f"code '{rule.code}' is not letters and three digits")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name):
        faults.append(f"name '{rule.name}' is not words-with-hyphens")
    parts = sections(rule.judge.__doc__)
    known = limits(rule)
    wanted = [title for title in SECTIONS if title != "Args" or known]
    if list(parts) != wanted:
        faults.append(f"docstring sections are {list(parts)}, expected {wanted}")
    faults += [f"section '{title}' is empty" for title in parts if not parts[title]]
    documented = re.findall(r"^(\w+):", parts.get("Args", ""), flags=re.MULTILINE)
    if documented != list(known):
        faults.append(f"Args documents {documented}, thresholds are {list(known)}")
    faults += [
        f"threshold '{name}' needs a default that is a number, a bool or a text"
        for name, value in known.items()
        if not isinstance(value, int | float | str)
    ]
    return faults


def check_rewrite(
    act: Callable[..., None],
    arguments: Mapping[str, Any],
    *,
    model: nn.Module,
    data: Any,
    writes: str | None,
    again: Mapping[str, Any] | None = None,
    claim: Safety = Safety.EXACT,
) -> Certificate:
    """Hold a rewrite to the laws of the house, on one model.

    Its docstring says when it is exact; its certificate holds and it rounds no worse;
    done again it changes nothing; a copy's rewriting leaves the model alone; the state
    dict goes into another model to which the same was done; the result can be pickled
    and exported; a parameter that is shared, frozen, parametrised, quantised or
    distributed is refused; and where any of its operations fails, or it refuses, the
    model is left as it was.

    Args:
        act: the rewrite, called as `act(model, **arguments)`, in place.
        arguments: of the act.
        model: one that it applies to; its class must be one that can be pickled.
        data: what the model is fed.
        writes: the name of a parameter that the act writes to or removes, None if it
            only adds some.
        again: arguments for the second time, where they are other ones.
        claim: EXACT or EVAL_ONLY.

    Returns:
        The certificate.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    name = getattr(act, "__name__", type(act).__name__)
    parts = sections(inspect.getdoc(act))
    absent = [part for part in REWRITE_SECTIONS if not parts.get(part)]
    _hold(not absent, f"the docstring of {name} has no section {absent}")
    before = seen(model)
    proof = certify(model, partial(act, **arguments), data, claim=claim)
    _hold(proof.holds and proof.precise, f"{name} changes the function: {proof}")
    batch = next(batches(model, data, limit=1))
    done = _acted(act, model, arguments)
    values = _outputs(done, batch)
    _second_time(act, name, done, arguments if again is None else again)
    other = _acted(act, model, arguments)
    with torch.no_grad():
        for t in (*other.parameters(), *other.buffers()):
            t.copy_(torch.zeros_like(t))
    other.load_state_dict(done.state_dict())
    copies = {
        "its state dict": other,
        "its pickle": pickle.loads(pickle.dumps(done)),
        "its copy": copy.deepcopy(done),
    }
    for what, twin in copies.items():
        same = [
            torch.equal(*pair)
            for pair in zip(_outputs(twin, batch), values, strict=True)
        ]
        _hold(all(same), f"after {name} {what} gives another function")
    was, now = (
        export(m, batch.args, batch.kwargs, training=False) for m in (model, done)
    )
    _hold(was.on_this_path or not now.on_this_path, f"after {name} export fails")
    for what, spoil in SPOILS.items() if writes else ():
        spoiled = copy.deepcopy(model)
        spoil(spoiled, str(writes))
        _refuses(act, name, what, spoiled, arguments)
    _never_half(act, name, model, arguments)
    _hold(seen(model) == before, f"{name} on a copy changed the model itself")
    return proof


def _acted(
    act: Callable[..., None], model: nn.Module, arguments: Mapping[str, Any]
) -> nn.Module:
    model = copy.deepcopy(model)
    act(model, **arguments)
    return model


def _outputs(model: nn.Module, batch: Batch) -> list[Tensor]:
    with untouched(model), torch.no_grad():
        return list(tensors(model.eval()(*batch.args, **batch.kwargs)))


def _second_time(
    act: Callable[..., None], name: str, done: nn.Module, arguments: Mapping[str, Any]
) -> None:
    before = seen(done)
    act(done, **arguments)
    _hold(seen(done) == before, f"{name} changes something the second time")


def _refuses(
    act: Callable[..., None],
    name: str,
    what: str,
    model: nn.Module,
    arguments: Mapping[str, Any],
) -> None:
    before = seen(model)
    refused = False
    try:
        act(model, **arguments)
    except InputError:
        refused = True
    _hold(refused, f"{name} does not refuse a parameter that is {what}")
    _hold(seen(model) == before, f"{name} refused, but changed the model")


class _Sharded(Tensor):
    """Stands for a distributed tensor."""


def _replace(model: nn.Module, name: str, value: Callable[[Tensor], Tensor]) -> None:
    owner, _, last = name.rpartition(".")
    old = model.get_parameter(name).detach()
    new = nn.Parameter(value(old), requires_grad=False)
    model.get_submodule(owner).register_parameter(last, new)


def _share(model: nn.Module, name: str) -> None:
    model.register_parameter("plumbob_other", model.get_parameter(name))


def _freeze(model: nn.Module, name: str) -> None:
    model.get_parameter(name).requires_grad_(False)


def _parametrise(model: nn.Module, name: str) -> None:
    owner, _, last = name.rpartition(".")
    module = model.get_submodule(owner)
    parametrize.register_parametrization(module, last, nn.Identity())


def _quantise(model: nn.Module, name: str) -> None:
    _replace(model, name, lambda t: t.to(torch.int8))


def _distribute(model: nn.Module, name: str) -> None:
    _replace(model, name, lambda t: t.as_subclass(_Sharded))
    model.get_parameter(name).requires_grad_(True)


SPOILS: dict[str, Callable[[nn.Module, str], None]] = {
    "shared": _share,
    "frozen": _freeze,
    "parametrised": _parametrise,
    "quantised": _quantise,
    "distributed": _distribute,
}


class _BrokenError(Exception):
    pass


class _Breaks(TorchDispatchMode):
    """Lets so many operations pass, then one fail."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.left = passes

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.left -= 1
        if self.left == -1:
            raise _BrokenError
        return func(*args, **(kwargs or {}))


def _never_half(
    act: Callable[..., None], name: str, model: nn.Module, arguments: Mapping[str, Any]
) -> None:
    for passes in range(1000):
        spoiled = copy.deepcopy(model)
        before = seen(spoiled)
        try:
            with _Breaks(passes):
                act(spoiled, **arguments)
        except _BrokenError:
            _hold(
                seen(spoiled) == before,
                f"{name} leaves the model half changed when operation {passes} fails",
            )
        else:
            return
    _hold(False, f"{name} takes more than 1000 operations, so this cannot be tried")


def _measured(rule: Rule, case: Mapping[str, Any]) -> Survey:
    model = case["model"]
    held = case.get("optimizer")
    before = seen(model, held)
    survey = measure(**case, overfit=Needs.OVERFIT in rule.needs)
    same = seen(model, held) == before
    _hold(same, f"measuring for {rule.code} changed the model or the optimiser")
    missing = rule.needs & ~survey.known
    _hold(
        not missing,
        f"{rule.code} cannot judge a case: {missing.words} unknown {survey.unseen}",
    )
    return survey


def _mends(rule: Rule, finding: Finding, case: Mapping[str, Any]) -> None:
    """Follow a remedy on a copy, and hand it to a model that is not its own."""
    remedy, model, held = finding.remedy, case["model"], case.get("optimizer")
    manual = remedy.safety is Safety.MANUAL
    _hold(manual == (remedy.act is None), f"{rule.code}: safety and act disagree")
    if manual:
        return
    json.dumps(remedy.arguments, allow_nan=False)
    before = seen(model, held)
    if remedy.safety is not Safety.CHANGES_TRAINING:
        act = partial(apply, finding, optimizer=held, in_place=True)
        proof = certify(model, act, case["data"], claim=remedy.safety)
        _hold(proof.holds, f"the remedy of {rule.code} changes the function: {proof}")
    mended = apply(finding, model, optimizer=held)
    same = seen(model, held) == before
    _hold(same, f"mending a copy for {rule.code} changed the model or the optimiser")
    now = dict(zip(("model", "optimizer"), mended, strict=True)) if held else {}
    survey = measure(
        **{**case, "model": mended} | now, overfit=Needs.OVERFIT in rule.needs
    )
    left = [f for f in findings(rule, survey) if f.site == finding.site]
    _hold(not left, f"{rule.code} is still there after its remedy: {left}")
    stranger = nn.ModuleDict({"stranger": nn.Linear(1, 1)})
    try:
        apply(
            finding, stranger, optimizer=held and torch.optim.SGD(stranger.parameters())
        )
    except InputError:
        return
    _hold(False, f"the remedy of {rule.code} takes a model that is not its own")


def _loose_numbers(rule: Rule, finding: Finding, survey: Survey) -> list[str]:
    text = f"{finding.message} {finding.cause} {finding.remedy.advice}"
    literal = "".join(part[0] for part in Formatter().parse(text))
    for name in {site.name for site in survey.sites} | set(survey.tensors):
        literal = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", "", literal)
    defined = _NUMBER.findall(sections(rule.judge.__doc__)["Evidence"])
    return [number for number in _NUMBER.findall(literal) if number not in defined]


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
