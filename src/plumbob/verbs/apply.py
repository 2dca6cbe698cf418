"""`apply`: do what remedies say, on a copy of the model or in place."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar, overload

from plumbob.errors import InputError, one_line
from plumbob.verbs.all_or_nothing import all_or_nothing, copied

if TYPE_CHECKING:
    from torch import nn

    from plumbob.report.report import Report
    from plumbob.types import Finding, Site

    Model = TypeVar("Model", bound=nn.Module)
    Held = TypeVar("Held")

# The name of an act -> where it is. A rule of a third party names its own so.
ACTS = {
    "add-parameters": "plumbob.design.add_parameters:add_parameters",
    "draw-chain": "plumbob.design.draw_chain:draw_chain",
    "drop-null-bias": "plumbob.design.drop_null_bias:drop_null_bias",
    "fold-centring": "plumbob.mending.fold_centring:fold_centring",
    "redraw-units": "plumbob.design.redraw_units:redraw_units",
    "rescale-units": "plumbob.design.rescale_units:rescale_units",
    "reset-statistics": "plumbob.design.reset_statistics:reset_statistics",
    "set-activation": "plumbob.design.set_activation:set_activation",
    "set-bias": "plumbob.design.set_bias:set_bias",
    "set-learning-rate": "plumbob.design.set_learning_rate:set_learning_rate",
    "shift-bias": "plumbob.design.shift_bias:shift_bias",
    "split-groups": "plumbob.design.split_groups:split_groups",
}


@overload
def apply(
    findings: "Report | Finding | Iterable[Finding]",
    model: "Model",
    *,
    optimizer: None = None,
    in_place: bool = False,
    tell: Callable[[str], None] | None = None,
) -> "Model": ...
@overload
def apply(
    findings: "Report | Finding | Iterable[Finding]",
    model: "Model",
    *,
    optimizer: "Held",
    in_place: bool = False,
    tell: Callable[[str], None] | None = None,
) -> "tuple[Model, Held]": ...
def apply(
    findings: "Report | Finding | Iterable[Finding]",
    model: "nn.Module",
    *,
    optimizer: Any = None,
    in_place: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Any:
    """Follow the remedies of findings, as far as they can be followed.

    Root causes are mended, in the order of execution, the worst first at each site;
    what they explain is not, and goes with them. Left are remedies by hand and what
    was found on facts that another remedy has just changed: at a site that it wrote
    to, and, of what was measured on data (given a report, which knows the graph), at
    sites behind one. So check again afterwards, and apply what is left. A report also
    knows the values that it is of: where a layer has changed since, by training or by
    these very remedies, its findings are left. A finding by itself does not.

    Args:
        findings: a report, one finding, or several.
        model: the model that was checked, or one of the same values.
        optimizer: the optimiser (or several) that trains it. Remedies of groups need
            it, and the state of what is drawn anew begins anew.
        in_place: change the model (and the optimiser) given, not a copy. Should it
            fail half-way, all is put back.
        tell: called with a line per finding: what was done, or what was left and why.

    Returns:
        The model, or the model and the optimiser where one was given. A copied
        optimiser holds the copied model's parameters.

    Raises:
        InputError: a single finding has no remedy that can be followed, or it was
            refused; the report is of another model; or the model cannot be copied.

    Warns:
        UserWarning: a remedy of several was refused, and why; the others are followed.

    Example:
        >>> import plumbob
        >>> from nets import dead_relu
        >>> case = dead_relu(leans=True)
        >>> report = plumbob.check(**case)
        >>> mended = plumbob.apply(report, case["model"], tell=print)
        PB201 2: set-bias
        PB204 2: left, PB201 explains it
        >>> plumbob.check(mended, case["data"]).findings
        ()
    """
    import torch
    from torch import nn

    from plumbob.report.report import Report
    from plumbob.survey.graph import inner
    from plumbob.survey.optimizer import each
    from plumbob.types import Finding

    one = isinstance(findings, Finding)
    given: Any = getattr(findings, "findings", [findings] if one else findings)
    roots: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    if wrong := [type(f).__name__ for f in roots if not isinstance(f, Finding)]:
        raise InputError(
            f"expected a report or findings, got {wrong[0]}; pass what plumbob.check "
            "returned"
        )
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"expected the model that was checked, got {type(model).__name__}; load a "
            "checkpoint into its model first"
        )
    if isinstance(inner(model), torch.jit.ScriptModule):
        raise InputError(
            f"expected a model of Python modules, got a {type(model).__name__}, whose "
            "layers cannot be changed; apply before torch.jit.script"
        )
    if optimizer is not None:
        list(each(optimizer))
    if isinstance(findings, Report):
        _belongs(findings, model)
    if not in_place:
        advice = "build it once more and apply with in_place=True"
        model, optimizer = copied(model, optimizer, advice)
    report = findings if isinstance(findings, Report) else None
    with all_or_nothing(model, optimizer) if in_place else nullcontext():
        for finding, left in follow(roots, report, model, optimizer, raises=one):
            if tell:
                tell(_headline(finding, left and f"left, {left}"))
                for consequence in finding.consequences:
                    tell(_headline(consequence, f"left, {finding.code} explains it"))
    return model if optimizer is None else (model, optimizer)


def follow(
    findings: "Iterable[Finding]",
    report: "Report | None",
    model: "nn.Module",
    optimizer: Any,
    *,
    raises: bool = False,
) -> "Iterator[tuple[Finding, str | None]]":
    """Follow remedies in place one by one; yield why one was left, None if it was not.

    Raises:
        InputError: `raises` is set and a remedy is not followed.
    """
    from plumbob.survey.graph import inner

    bare, roots = inner(model), list(findings)
    plan = _Plan(roots, report, bare, optimizer)
    for finding in sorted(roots, key=plan.first):
        left = plan.why_not(finding)
        if left is None:
            left = _follow(finding, bare, optimizer, raises=raises)
        if left is None:
            plan.done(finding)
            if "torch._dynamo" in sys.modules:
                _forget_compiled()
        elif raises:
            raise InputError(_headline(finding, f"cannot be applied: {left}"))
        yield finding, left


def _forget_compiled() -> None:
    """Let torch.compile compile again: it asks for no new hooks, not even of a copy."""
    import torch

    torch.compiler.reset()


def _headline(finding: "Finding", told: str | None) -> str:
    place = f"{finding.code} {finding.site or '(model)'}"
    return f"{place}: {told or finding.remedy.act}"


def _act(name: str) -> Callable[..., None]:
    """Return the function that an act's name stands for.

    Raises:
        InputError: it stands for none.
    """
    home, _, function = ACTS.get(name, name).partition(":")
    try:
        return getattr(import_module(home), function)
    except (ImportError, ValueError, AttributeError) as error:
        raise InputError(
            f"expected an act of {', '.join(ACTS)}, or 'module:function', got {name!r} "
            f"({one_line(error)})"
        ) from error


def _changes_optimizer(name: str) -> bool:
    held = signature(_act(name)).parameters.get("optimizer")
    return held is not None and held.default is Parameter.empty


def _follow(
    finding: "Finding", model: "nn.Module", optimizer: Any, *, raises: bool
) -> str | None:
    """Do what a remedy says; return why not where it is refused.

    Raises:
        InputError: it is refused, and `raises` is set.
    """
    remedy = finding.remedy
    act = _act(remedy.act or "")
    held = (optimizer,) if "optimizer" in signature(act).parameters else ()
    try:
        act(model, *held, **remedy.arguments)
    except InputError as error:
        if raises:
            raise InputError(_headline(finding, str(error))) from error
        warnings.warn(_headline(finding, f"left, {error}"), stacklevel=3)
        return str(error)
    return None


class _Plan:
    """Who may write where, and which facts are of before what was done so far."""

    def __init__(
        self,
        findings: "Iterable[Finding]",
        report: "Report | None",
        model: "nn.Module",
        optimizer: Any,
    ) -> None:
        from plumbob.paths import behind, readers
        from plumbob.survey.trace import module_sites
        from plumbob.survey.weights import changed
        from plumbob.types import Needs
        from plumbob.verbs.shelf import shelf

        self.sites = report.survey.sites if report else module_sites(model)
        after = readers(report.survey) if report else {}
        self.behind = {site.name: behind(site.name, after) for site in self.sites}
        run = Needs.ACTIVATIONS | Needs.GRADIENTS | Needs.TARGETS
        self.measured = {rule.code for rule in shelf() if rule.needs & run}
        self.moved: dict[str, str] = {}
        self.optimizer = optimizer
        findings = list(findings)
        self.stale = set[str]()  # modules
        if report is not None:
            modules = {m for f in findings if f.remedy.act for m in self._modules(f)}
            found = changed(model, modules, report.survey.tensors)
            self.stale = {name.rpartition(".")[0] for name in found}
        self.writers: dict[str, Finding] = {}  # the worst at each place
        for finding in findings:
            if self._cannot(finding) is None:
                for place in self._places(finding):
                    self.writers.setdefault(place, finding)

    def first(self, finding: "Finding") -> int:
        """Return where in the order of execution a remedy changes the model first."""
        order = {site.name: i for i, site in enumerate(self.sites)}
        places = self._places(finding) if finding.remedy.act else ()
        return min((order.get(place, -1) for place in places), default=-1)

    def why_not(self, finding: "Finding") -> str | None:
        """Return why a remedy is not followed, None where it is."""
        if (why := self._cannot(finding)) is not None:
            return why
        for place in sorted(self._places(finding)):
            if (other := self.writers[place]) is not finding:
                return f"{other.code} changes {place}: check again"
            if finding.code in self.measured and place in self.moved:
                return f"{self.moved[place]} changed what reaches {place}: check again"
        return None

    def _cannot(self, finding: "Finding") -> str | None:
        """Return why a remedy cannot be followed at all."""
        from plumbob.types import Safety

        remedy = finding.remedy
        if remedy.act is None:
            by_hand = remedy.safety is Safety.MANUAL
            return f"{'by hand' if by_hand else 'for plumbob fix'}: {remedy.advice}"
        if _changes_optimizer(remedy.act) and self.optimizer is None:
            return "it changes the optimiser: give it as optimizer="
        if stale := sorted(self.stale & self._modules(finding)):
            return f"{stale[0] or 'the model'} changed since the check: check again"
        return None

    def _modules(self, finding: "Finding") -> set[str]:
        """Return the modules that hold what a remedy writes to or reads."""
        if _changes_optimizer(finding.remedy.act or ""):
            return set()  # it moves parameters, whatever their values
        places = self._places(finding)
        own = [s for s in self.sites if s.name in places]
        names = {name for s in own for name in (s.weight, s.bias) if name}
        return places | {name.rpartition(".")[0] for name in names}

    def done(self, finding: "Finding") -> None:
        """Note what lies behind a remedy that was followed."""
        from plumbob.types import Safety

        for place in self._places(finding):
            if finding.remedy.safety is not Safety.EXACT:
                for name in self.behind.get(place, ()):
                    self.moved.setdefault(name, finding.code)

    def _places(self, finding: "Finding") -> set[str]:
        """Return the sites that a remedy names, and so may write to."""
        arguments = finding.remedy.arguments
        named = set(_words(arguments))
        if _changes_optimizer(finding.remedy.act or ""):
            return {f"the optimiser's group of {name}" for name in named}
        paths = {value for value in arguments.values() if isinstance(value, str)}
        found = [s for s in self.sites if s.name in paths or named & {s.weight, s.bias}]
        # both directions of a recurrent layer read the same x
        cells = {_cell(s) for s in found if s.kind == "recurrent" and s.name in paths}
        also = [s for s in self.sites if cells and _cell(s) in cells]
        return {s.name for s in (*found, *also)} or {finding.site or ""}


def _cell(site: "Site") -> tuple[str, tuple[str, ...]]:
    return site.weight.removesuffix("_reverse"), site.fed_by


def _words(value: Any) -> Iterator[str]:
    """Yield all texts in arguments."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _words(part)
    elif isinstance(value, list | tuple):
        for part in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _words(part)


def _belongs(report: "Report", model: "nn.Module") -> None:
    """Refuse a model that is not built like the one that was checked.

    Raises:
        InputError: a parameter or statistic is not there, or of another shape.
    """
    from plumbob.survey.graph import inner

    bare = inner(model)
    shapes = {name: tuple(p.shape) for name, p in bare.named_parameters()}
    shapes |= {name: tuple(b.shape) for name, b in bare.named_buffers()}
    for name, tensor in report.survey.tensors.items():
        if shapes.get(name) != tensor.shape:
            raise InputError(
                f"expected the model that was checked, with {name} of shape "
                f"{list(tensor.shape)}, got {type(bare).__name__} with "
                f"{list(shapes[name]) if name in shapes else 'none'}; check this model"
            )
