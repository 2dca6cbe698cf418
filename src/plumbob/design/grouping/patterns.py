"""Parameters chosen by a text such as "embeddings, layer.0-7"."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from plumbob.errors import InputError, did_you_mean

WORDS = {
    "embeddings": {"embedding", "offset"},
    "biases": {"bias"},
    "norms": {"norm"},
    "scales": {"scale"},
    "matrices": {"matrix"},
    "recurrent": {"recurrent"},
}


def chosen(text: str, roles: Mapping[str, str], aliases: Mapping[str, str]) -> set[str]:
    """Return the names of the parameters that a comma list chooses.

    A part is a role (WORDS), else the parts of a path between dots, anywhere in a
    parameter's name: a word, one with * or ?, a number or a range of numbers.

    Args:
        text: the list.
        roles: of every parameter by its name.
        aliases: every name of a parameter, of tied ones too, and its own.

    Raises:
        InputError: a part chooses nothing, or some number of its range does not.
    """
    found: set[str] = set()
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        if part in WORDS:
            mine = {name for name, role in roles.items() if role in WORDS[part]}
            if not mine:
                raise InputError(
                    f"expected freeze= to choose parameters, got '{part}', of which "
                    f"the model has none; it has {_listed(roles)}"
                )
        else:
            mine = set[str]()
            for path in _ranges(part):
                hit = {own for name, own in aliases.items() if _has(name, path)}
                if not hit:
                    raise InputError(_nothing(part, path, aliases))
                mine |= hit
        found |= mine
    return found


def _listed(roles: Mapping[str, str]) -> str:
    there = [word for word, mine in WORDS.items() if mine & set(roles.values())]
    return ", ".join(there)


def _ranges(part: str) -> list[str]:
    """Return "a.0", "a.1", "a.2" for "a.0-2"."""
    paths = [""]
    for word in part.split("."):
        ends = re.fullmatch(r"(\d+)-(\d+)", word)
        words = range(int(ends[1]), int(ends[2]) + 1) if ends else [word]
        paths = [f"{path}.{each}".lstrip(".") for path in paths for each in words]
    return paths or [part]


def _has(name: str, path: str) -> bool:
    words, wanted = name.split("."), path.split(".")
    return any(
        all(map(fnmatchcase, words[i:], wanted))
        for i in range(len(words) - len(wanted) + 1)
    )


def _nothing(part: str, path: str, aliases: Mapping[str, str]) -> str:
    words = [name.split(".") for name in aliases]
    size = path.count(".") + 1
    known = {
        ".".join(name[i : i + size])
        for name in words
        for i in range(len(name) - size + 1)
    }
    asked = f"'{part}'" if part == path else f"'{part}', whose {path} has none"
    return (
        f"expected freeze= to choose parameters by a role ({', '.join(WORDS)}) or by "
        f"a part of their path, got {asked}"
        f".{did_you_mean(path, [*WORDS, *sorted(known)])}"
    )
