"""Which sites lie behind which, with the norms that a map's `feeds` skip."""

from collections.abc import Iterable, Mapping

from plumbob.types import Site, Survey

Readers = Mapping[str, Iterable[str]]


def readers(survey: Survey) -> dict[str, list[str]]:
    """Return the next sites behind each site, in execution order.

    Where all units of a map go into a norm of their own, only that norm reads the map.
    """
    after = {s.name: [feed.site for feed in s.feeds] for s in survey.sites}
    norms: dict[str, list[str]] = {}
    for norm in survey.sites:
        for name in norm.fed_by if norm.kind == "norm" else ():
            norms.setdefault(name, []).append(norm.name)
    sites = {s.name: s for s in survey.sites}
    for name, behind in norms.items():
        first, *more = behind
        if name not in sites:
            continue
        if sites[name].norm and sites[first].fed_by == (name,):
            after[name] = [first]
            after[first] += [m for m in more if m not in after[first]]
        else:
            after[name] += behind
    return after


def reached(
    start: Iterable[str], readers: Readers, *, without: str | None = None
) -> set[str]:
    """Return `start` and every site behind it, on paths that avoid one site."""
    seen, todo = set[str](), list(start)
    while todo:
        if (name := todo.pop()) not in seen and name != without:
            seen.add(name)
            todo += readers.get(name, ())
    return seen


def behind(name: str, readers: Readers) -> set[str]:
    """Return every site behind one, itself only where there is a way back to it."""
    return reached(readers.get(name, ()), readers)


def chains(sites: Iterable[Site]) -> list[list[Site]]:
    """Return the paths of maps along which signal and gradient have no other way.

    Each map is read by the next alone, which reads nothing else, and neither a norm
    nor a residual sum lies between.
    """
    sites = list(sites)
    maps = {s.name: s for s in sites if s.kind in {"linear", "conv", "conv-transpose"}}
    normed = {name for s in sites if s.kind == "norm" for name in s.fed_by}
    after = {
        a.name: a.feeds[0].site
        for a in maps.values()
        if len(a.feeds) == 1
        and a.norm is None
        and not a.ends_residual
        and not a.gates
        and a.name not in normed
        and (b := maps.get(a.feeds[0].site)) is not None
        and b.fed_by == (a.name,)
    }
    found: list[list[Site]] = []
    for name in after.keys() - after.values():
        chain = [name]
        while (last := chain[-1]) in after:
            chain.append(after[last])
        found.append([maps[name] for name in chain])
    return sorted(found, key=lambda chain: sites.index(chain[0]))
