"""Fixup: deep residual networks without norms."""

from collections.abc import Mapping, Sequence

import torch

from plumbob.errors import InputError
from plumbob.survey.layers import Layer
from plumbob.types import Site


def fixup(sites: Sequence[Site], layers: Mapping[str, Layer]) -> dict[str, str]:
    """Scale every residual branch by L^(-1/(2m-2)) per map and zero its last map.

    Why: each of L branches adds its variance and its share of every step; so scaled,
    one step of SGD changes the output by as much as in a net of one branch. The last
    map of each branch, which so starts as the identity, and the output map are 0.

    m is the number of maps one after another in a branch; a branch of one map is only
    set to 0. The paper's scalar biases before each map and its multiplier per branch
    are new parameters, an edit of the model: they are not added here.

    Args:
        sites: of the graph, in the order of execution.
        layers: what is written, by name, with He's weights already drawn.

    Returns:
        What was done, by the site's name.

    Raises:
        InputError: there is no residual branch, or one with a norm inside.

    References:
        H. Zhang, Y. Dauphin and T. Ma (2019), Fixup initialization, section 3.
    """
    ends = [site for site in sites if site.ends_residual]
    if not ends:
        raise InputError(
            "expected residual branches for Fixup, found none in the graph; give data "
            "to trace it with, or take the scheme 'auto'"
        )
    done: dict[str, str] = {}
    for end in ends:
        branch = _branch(end, sites)
        _refuse_norms(end, branch, sites)
        m = _depth(end, branch)
        factor = len(ends) ** (-1 / (2 * m - 2)) if m > 1 else 1.0
        for name in branch.keys() & layers.keys() - {end.name}:
            layer = layers[name]
            layer.write(layer.matrix().float() * factor)
            done[name] = f"times {len(ends)}^(-1/{2 * m - 2}) = {factor:.4g}"
    outputs = [s for s in sites if s.is_output]
    head = outputs if len(outputs) == 1 else []  # else the sum itself is the output
    for site in (*ends, *head):
        if layer := layers.get(site.name):
            layer.write(torch.zeros_like(layer.matrix()))
            done[site.name] = "then zero"
    return done


def _branch(end: Site, sites: Sequence[Site]) -> dict[str, Site]:
    """Return the maps whose results go nowhere but to the end of the branch."""
    branch = {end.name: end}
    for site in reversed(sites):
        readers = {feed.site for feed in site.feeds}
        inside = bool(readers) and readers <= branch.keys()
        if inside and not site.is_output and site.kind != "norm":
            branch[site.name] = site
    return branch


def _depth(end: Site, branch: Mapping[str, Site]) -> int:
    """Return how many maps lie on the longest way through the branch."""
    before = [
        branch[name] for name in end.fed_by if name in branch and name != end.name
    ]
    return 1 + max((_depth(site, branch) for site in before), default=0)


def _refuse_norms(end: Site, branch: Mapping[str, Site], sites: Sequence[Site]) -> None:
    """Say that Fixup is for nets without norms.

    Raises:
        InputError: there is one before or behind a map of the branch.
    """
    norms = [f"{s.norm} behind {s.name}" for s in branch.values() if s.norm]
    for norm in sites:
        if norm.kind == "norm" and any(feed.site in branch for feed in norm.feeds):
            norms.append(norm.name)
    if norms:
        raise InputError(
            f"expected residual branches without norms for Fixup, got {norms[0]} in "
            f"the branch that ends in {end.name}; a norm undoes the scale that Fixup "
            "sets: take the scheme 'zero-last', which zeroes the last norm's scale"
        )
