"""Every rule there is: our own shelf and those of installed packages.

A package adds its rules by an entry point in the group `plumbob.rules` that names a
rule or a tuple of rules.
"""

from importlib.metadata import entry_points

from plumbob.errors import SettingsError
from plumbob.types import Rule


def shelf() -> tuple[Rule, ...]:
    """Return all rules, sorted by code.

    Raises:
        SettingsError: an entry point cannot be loaded, holds something else than
            rules, or uses a code or name that is taken.
    """
    from plumbob.rules import RULES

    rules = list(RULES)
    for point in entry_points(group="plumbob.rules"):
        where = f"the entry point '{point.name} = {point.value}'"
        try:
            loaded = point.load()
        except Exception as error:
            raise SettingsError(
                f"Rules of {where} cannot be loaded ({type(error).__name__}: {error}); "
                f"repair or uninstall its package."
            ) from error
        for rule in loaded if isinstance(loaded, tuple | list) else (loaded,):
            if not isinstance(rule, Rule):
                raise SettingsError(
                    f"Expected a rule or a tuple of rules at {where}, got "
                    f"{type(rule).__name__}."
                )
            if any(rule.code == r.code or rule.name == r.name for r in rules):
                raise SettingsError(
                    f"{rule.code} {rule.name} of {where} is already taken; give it "
                    f"another code and name."
                )
            rules.append(rule)
    return tuple(sorted(rules, key=lambda rule: rule.code))
