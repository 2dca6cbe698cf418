"""Every selected rule over one survey: findings, what was not judged, what crashed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from plumbob.paths import behind, readers
from plumbob.rule import findings
from plumbob.settings import Settings
from plumbob.types import Finding, Needs, Rule, Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`not_judged` maps a rule's code, a parameter or a site to what was missing.

    `crashed` maps a rule's code to the error.
    """

    findings: tuple[Finding, ...]
    not_judged: dict[str, str]
    crashed: dict[str, str]


def judge(survey: Survey, rules: Iterable[Rule], settings: Settings) -> Verdict:
    """Judge a survey by the selected rules, root causes first.

    Where a fact that a rule needs is missing the rule is listed as not judged; a rule
    that raises is listed as crashed and costs nothing else.
    """
    found: list[Finding] = []
    not_judged: dict[str, str] = {}
    crashed: dict[str, str] = {}
    rules = [rule for rule in rules if selected(rule, settings)]
    owner = {p: s.name for s in survey.sites for p in (s.weight, s.bias) if p}
    for rule in rules:
        if missing := rule.needs & ~survey.known:
            not_judged[rule.code] = _why(missing, survey)
            continue
        limits = settings.thresholds.get(rule.code, {})
        try:
            with np.errstate(over="ignore"):  # 1e200 squared is infinite, and told so
                found += [
                    f
                    for f in findings(rule, survey, **limits)
                    if _kept(f, rule, owner, settings)
                ]
        except Exception as error:  # a third party's rule must not cost the report
            crashed[rule.code] = f"{type(error).__name__}: {error}"
    folded = _fold(found, {rule.code: rule for rule in rules}, survey, owner)
    kinds = {str(need.name).lower() for need in Needs}
    not_judged |= {k: why for k, why in survey.unseen.items() if k not in kinds}
    return Verdict(findings=folded, not_judged=not_judged, crashed=crashed)


def selected(rule: Rule, settings: Settings) -> bool:
    """Return whether the settings ask for this rule, by code, prefix or name."""
    if rule.opt_in:
        words = settings.select or ()
        chosen = any(word == rule.name or word.upper() == rule.code for word in words)
    else:
        words = settings.select
        chosen = words is None or any(_names(rule, word) for word in words)
    return chosen and not any(_names(rule, s) for s in settings.ignore)


def key(finding: Finding) -> str:
    """Return what identifies a finding from run to run: code and site, no numbers."""
    return f"{finding.code} {finding.site or '-'}"


def _names(rule: Rule, word: str) -> bool:
    return word == rule.name or rule.code.startswith(word.upper())


def _kept(
    finding: Finding, rule: Rule, owner: Mapping[str, str], settings: Settings
) -> bool:
    place = finding.site or ""
    ignored = any(
        any(_names(rule, code) for code in codes)
        for glob, codes in settings.per_site.items()
        # a site, or one of its parameters
        if fnmatchcase(place, glob) or fnmatchcase(owner.get(place, ""), glob)
    )
    return not ignored and key(finding) not in settings.baseline


def _why(missing: Needs, survey: Survey) -> str:
    if Needs.HISTORY in missing:
        return "needs a training that is watched (plumbob.watch, plumbob run)"
    names = missing.words
    reasons = dict.fromkeys(survey.unseen[n] for n in names if n in survey.unseen)
    return f"needs {', '.join(names)}" + "".join(f" ({reason})" for reason in reasons)


def _fold(
    found: list[Finding],
    rules: dict[str, Rule],
    survey: Survey,
    owner: Mapping[str, str],
) -> tuple[Finding, ...]:
    """Put each finding under the root cause that explains it; sort the roots."""
    places = {site.name: i for i, site in enumerate(survey.sites)}
    after = readers(survey)
    below = {site.name: behind(site.name, after) for site in survey.sites}

    def site(finding: Finding) -> str | None:
        return owner.get(finding.site or "", finding.site)

    def rank(finding: Finding) -> tuple[int, int, str]:
        place = places.get(site(finding) or "", -1)
        return (-int(finding.severity or 0), place, finding.code)

    def root(finding: Finding, path: tuple[int, ...] = ()) -> Finding:
        path = (*path, id(finding))  # a rule may explain itself further down
        for other in order:
            if finding.own_cause and site(other) != site(finding):
                continue
            if (
                id(other) not in path
                and finding.code in rules[other.code].explains
                # a code explains itself downstream only, and never in a circle
                and (finding.code != other.code or rank(other) < rank(finding))
                and int(other.severity or 0) >= int(finding.severity or 0)
                and (
                    None in (here := site(finding), there := site(other))
                    or here == there
                    or there not in places  # a module: who comes after is not known
                    or here in below.get(there or "", ())
                )
            ):
                return root(other, path)
        return finding

    order = sorted(found, key=rank)
    groups: dict[int, list[Finding]] = {}
    for finding in order:
        groups.setdefault(id(root(finding)), []).append(finding)
    return tuple(
        replace(f, consequences=tuple(c for c in groups[id(f)] if c is not f))
        for f in order
        if id(f) in groups
    )
