"""plumbob: the doctor of weights and biases.

    report = plumbob.check(model, data, loss=loss)
    print(report)

Names are loaded when first used, so `import plumbob` loads neither torch nor numpy.
The decorator that makes a rule is `plumbob.rule.rule`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbob import design as design
    from plumbob.errors import AddressError as AddressError
    from plumbob.errors import FileError as FileError
    from plumbob.errors import FindingError as FindingError
    from plumbob.errors import InputError as InputError
    from plumbob.errors import PlumbobError as PlumbobError
    from plumbob.errors import SettingsError as SettingsError
    from plumbob.report.report import Report as Report
    from plumbob.settings import Settings as Settings
    from plumbob.types import Finding as Finding
    from plumbob.types import Moments as Moments
    from plumbob.types import Needs as Needs
    from plumbob.types import Reading as Reading
    from plumbob.types import Remedy as Remedy
    from plumbob.types import Rule as Rule
    from plumbob.types import Safety as Safety
    from plumbob.types import Severity as Severity
    from plumbob.types import Site as Site
    from plumbob.types import Stage as Stage
    from plumbob.types import Survey as Survey
    from plumbob.verbs.apply import apply as apply
    from plumbob.verbs.check import check as check
    from plumbob.verbs.fix import fix as fix
    from plumbob.verbs.fix_shards import fix_shards as fix_shards
    from plumbob.verbs.load import load as load
    from plumbob.verbs.look import look as look
    from plumbob.verbs.prove import prove as prove
    from plumbob.verbs.save import save as save
    from plumbob.verbs.trial import trial as trial
    from plumbob.verbs.watch import watch as watch

_HOMES = {
    "plumbob.errors": (
        "AddressError",
        "FileError",
        "FindingError",
        "InputError",
        "PlumbobError",
        "SettingsError",
    ),
    "plumbob.report.report": ("Report",),
    "plumbob.settings": ("Settings",),
    "plumbob.types": (
        "Finding",
        "Moments",
        "Needs",
        "Reading",
        "Remedy",
        "Rule",
        "Safety",
        "Severity",
        "Site",
        "Stage",
        "Survey",
    ),
    "plumbob.verbs.apply": ("apply",),
    "plumbob.verbs.check": ("check",),
    "plumbob.verbs.fix": ("fix",),
    "plumbob.verbs.fix_shards": ("fix_shards",),
    "plumbob.verbs.load": ("load",),
    "plumbob.verbs.look": ("look",),
    "plumbob.verbs.prove": ("prove",),
    "plumbob.verbs.save": ("save",),
    "plumbob.verbs.trial": ("trial",),
    "plumbob.verbs.watch": ("watch",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AddressError",
    "FileError",
    "Finding",
    "FindingError",
    "InputError",
    "Moments",
    "Needs",
    "PlumbobError",
    "Reading",
    "Remedy",
    "Report",
    "Rule",
    "Safety",
    "Settings",
    "SettingsError",
    "Severity",
    "Site",
    "Stage",
    "Survey",
    "apply",
    "check",
    "design",
    "fix",
    "fix_shards",
    "load",
    "look",
    "prove",
    "save",
    "trial",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name == "design":
        return import_module("plumbob.design")
    if name not in _HOME:
        raise AttributeError(f"module 'plumbob' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
