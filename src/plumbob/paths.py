"""Which sites lie behind which, with the norms that a map's `feeds` skip."""

from collections.abc import Iterable, Mapping

from plumbob.types import Survey

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
