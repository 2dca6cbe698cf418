"""What the user chose: which rules, where not, with which thresholds.

Read from `plumbob.toml`, or from `[tool.plumbob]` of `pyproject.toml`, in the nearest
folder above that has either:

    select = ["PB1", "dead-relu"]
    ignore = ["PB205"]
    baseline = "plumbob-baseline.txt"

    [per-site]
    "encoder.*" = ["PB301"]

    [PB201]
    fires_below = 0.01
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plumbob.errors import SettingsError, did_you_mean
from plumbob.rule import limits
from plumbob.types import NOTHING, Rule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

_KEYS = ("select", "ignore", "per-site", "baseline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Selection and thresholds. Codes may be prefixes ("PB2") or rule names.

    `select` None is every rule. `per_site` maps a glob over site names to codes
    ignored there. `thresholds` maps a code to its keyword limits. `baseline` holds
    the keys (see `judge.key`) of findings already accepted. `source` says where the
    settings come from, for error messages.
    """

    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    per_site: Mapping[str, tuple[str, ...]] = NOTHING
    thresholds: Mapping[str, Mapping[str, Any]] = NOTHING
    baseline: frozenset[str] = frozenset()
    source: str = "the settings"

    def choose(
        self,
        rules: Iterable[Rule],
        *,
        select: str | Iterable[str] | None = None,
        ignore: str | Iterable[str] | None = None,
        thresholds: Iterable[str] = (),
    ) -> "Settings":
        """Return these settings with choices on top, checked against the rules.

        Args:
            rules: every rule there is.
            select: codes, prefixes or names; replaces the selection.
            ignore: codes, prefixes or names; added to those ignored.
            thresholds: texts such as "PB201.fires_below=0.01".

        Raises:
            SettingsError: a code, name or threshold does not exist.
        """
        by_word = {word: rule for rule in rules for word in (rule.code, rule.name)}
        for word in (
            *(self.select or ()),
            *self.ignore,
            *sum(self.per_site.values(), ()),
        ):
            _check_word(word, by_word, self.source)
        chosen, dropped = _words(select), _words(ignore)
        for word in (*chosen, *dropped):
            _check_word(word, by_word, "the options")
        table: dict[str, dict[str, Any]] = {}
        for word, values in self.thresholds.items():
            rule = _rule(word, by_word, self.source)
            table[rule.code] = {
                name: _limit(rule, name, value, self.source)
                for name, value in values.items()
            }
        for text in thresholds:
            word, name, value = _assignment(text)
            rule = _rule(word, by_word, "--set")
            table.setdefault(rule.code, {})[name] = _limit(rule, name, value, "--set")
        return replace(
            self,
            select=self.select if select is None else chosen,
            ignore=self.ignore + dropped,
            thresholds=table,
        )


def load(start: Path, *, with_baseline: bool = True) -> Settings:
    """Read the settings that hold in a folder; without any, the defaults.

    Without `with_baseline` a baseline named there is not read.

    Raises:
        SettingsError: a file cannot be read, or a key or value is not one of ours.
    """
    for folder in (start := start.resolve(), *start.parents):
        own, project = folder / "plumbob.toml", folder / "pyproject.toml"
        if own.is_file():
            return _settings(_toml(own), own, with_baseline)
        if project.is_file():
            tables = _toml(project).get("tool")
            if isinstance(tables, Mapping) and "plumbob" in tables:
                return _settings(tables["plumbob"], project, with_baseline)
    return Settings()


def read_baseline(path: Path) -> frozenset[str]:
    """Return the keys of a baseline: one a line, "#" starts a comment.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The baseline '{path}' cannot be read ({_reason(error)}); write one with "
            f"--write-baseline."
        ) from error
    keys = (line.partition("#")[0].strip() for line in lines)
    return frozenset(key for key in keys if key)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML
        raise SettingsError(f"'{path}' cannot be read: {_reason(error)}.") from error


def _settings(table: Any, path: Path, with_baseline: bool) -> Settings:
    where = f"'{path}'"
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: 'tool.plumbob' is a table, got {table!r}.")
    limits: dict[str, Mapping[str, Any]] = {}
    for key, value in table.items():
        if key in _KEYS:
            continue
        if not isinstance(value, Mapping):
            raise SettingsError(
                f"{where} has no key '{key}'.{did_you_mean(key, _KEYS)}"
            )
        limits[key] = value
    sites = table.get("per-site", {})
    if not isinstance(sites, Mapping):
        raise SettingsError(f"{where}: 'per-site' is a table of globs, got {sites!r}.")
    baseline = table.get("baseline")
    if not (baseline is None or isinstance(baseline, str)):
        raise SettingsError(f"{where}: 'baseline' is a path, got {baseline!r}.")
    return Settings(
        select=_list(table, "select", where) if "select" in table else None,
        ignore=_list(table, "ignore", where),
        per_site={glob: _list(sites, glob, where) for glob in sites},
        thresholds=limits,
        baseline=read_baseline(path.parent / baseline)
        if baseline and with_baseline
        else frozenset(),
        source=where,
    )


def _list(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise SettingsError(f"{where}: '{key}' is a list of codes or names, got {value!r}.")


def _words(words: str | Iterable[str] | None) -> tuple[str, ...]:
    listed = [words] if isinstance(words, str) else words or ()
    return tuple(w.strip() for word in listed for w in word.split(",") if w.strip())


def _check_word(word: str, rules: Mapping[str, Rule], where: str) -> None:
    if word not in rules and not any(w.startswith(word.upper()) for w in rules):
        raise _unknown(word, rules, where)


def _rule(word: str, rules: Mapping[str, Rule], where: str) -> Rule:
    for name in (word, word.upper()):
        if name in rules:
            return rules[name]
    raise _unknown(word, rules, where)


def _unknown(word: str, rules: Mapping[str, Rule], where: str) -> SettingsError:
    # Codes are too alike for a guess by spelling: PB999 is not "nearly" PB101.
    hint = did_you_mean(word, (w for w in rules if w != rules[w].code))
    more = hint or " `plumbob rules` lists them all."
    return SettingsError(f"There is no rule '{word}' ({where}).{more}")


def _limit(rule: Rule, name: str, value: Any, where: str) -> Any:
    known = limits(rule)
    if name not in known:
        hint = did_you_mean(name, known) or (
            f" It has {', '.join(known)}." if known else " It has none."
        )
        raise SettingsError(f"{rule.code} has no threshold '{name}' ({where}).{hint}")
    if isinstance(known[name], float) and type(value) is int:
        value = float(value)
    if type(value) is not type(known[name]):
        raise SettingsError(
            f"{rule.code}.{name} is of type {type(known[name]).__name__}, such as "
            f"{known[name]}, got {value!r} ({where})."
        )
    return value


def _assignment(text: str) -> tuple[str, str, Any]:
    place, _, value = text.partition("=")
    word, _, name = place.strip().partition(".")
    if not (word and name and value.strip()):
        raise SettingsError(
            f"Expected --set CODE.threshold=value such as PB201.fires_below=0.01, "
            f"got '{text}'."
        )
    try:
        return word, name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"--set {text}: '{value}' is not a number.") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.rstrip(".")
