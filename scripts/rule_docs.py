"""Write the pages of rules and rewrites from their docstrings; --check only compares.

docs/rules, docs/rewrites, and the table of rewrites in docs/fix.md.
"""

import re
import sys
from inspect import getdoc, getmodule, getsource
from pathlib import Path
from typing import Any

from plumbob.rewrites import ON_DEMAND, REWRITES
from plumbob.rule import limits, sections
from plumbob.rules import RULES
from plumbob.types import Rule

DOCS = Path(__file__).parents[1] / "docs"
MARK = "<!-- written by scripts/rule_docs.py -->\n"
TITLES = ("Why", "Evidence", "Args", "Remedy", "Allow when", "Example", "References")
REWRITE_TITLES = (
    *("Why", "Exact when", "Not when", "Side effects", "Example", "References"),
)
TABLE = re.compile(r"(?<=<!-- rewrites -->\n).*?(?=<!-- end of rewrites -->)", re.S)


def page(rule: Rule) -> str:
    parts = sections(rule.judge.__doc__)
    lines = [
        f"{MARK}# {rule.code} {rule.name}",
        f"At most {rule.severity.name.lower()} · needs "
        f"{', '.join(rule.needs.words)} · since {rule.since}"
        f"{' · only where selected' if rule.opt_in else ''}",
        parts[""],
    ]
    for title in TITLES:
        if title not in parts:
            continue
        lines.append(f"## {'Thresholds' if title == 'Args' else title}")
        if title == "Example":
            lines.append(f"```pycon\n{parts[title]}\n```")
            continue
        if title == "Args":
            rows = [f"| `{n}` | {value} |" for n, value in limits(rule).items()]
            lines.append("\n".join(["| threshold | default |", "|---|---|", *rows]))
        lines.append(parts[title])
    return "\n\n".join(lines) + "\n"


def index() -> str:
    rows = [
        f"| [{rule.code}]({rule.name}.md) | {rule.name} | {rule.severity.name.lower()} "
        f"| {sections(rule.judge.__doc__)[''].split(chr(10))[0]} |"
        for rule in RULES
    ]
    return "\n".join([
        f"{MARK}# Rules\n",
        "| code | name | at most | |",
        "|---|---|---|---|",
        *rows,
        "",
    ])


def name(rewrite: Any) -> str:
    return rewrite.__name__.replace("_", "-")


def goal(rewrite: Any) -> str:
    """Return "In training and inference" or "In inference", how "Exact when" begins."""
    return sections(rewrite.__doc__)["Exact when"].partition(":")[0]


def reported(rewrite: Any, folder: str) -> str:
    """Return links to the rules whose codes a rewrite names."""
    codes = set(re.findall(r'"(PB\d{3})"', getsource(getmodule(rewrite))))
    found = [rule for rule in RULES if rule.code in codes]
    return ", ".join(f"[{r.code}]({folder}/{r.name}.md)" for r in found)


def rewrite_page(rewrite: Any) -> str:
    parts = sections(rewrite.__doc__)
    facts = (
        goal(rewrite),
        reported(rewrite, "../rules"),
        f"`plumbob fix --select {name(rewrite)}` ([guide](../fix.md))",
    )
    lines = [
        f"{MARK}# {name(rewrite)}",
        " · ".join(filter(None, facts)),
        parts[""],
        f"```text\n{getdoc(getmodule(rewrite))}\n```",
    ]
    for title in REWRITE_TITLES:
        lines.append(f"## {title}")
        code = title == "Example"
        lines.append(f"```pycon\n{parts[title]}\n```" if code else parts[title])
    return "\n\n".join(lines) + "\n"


def table() -> str:
    rows = [
        f"| [{name(rewrite)}](rewrites/{name(rewrite)}.md) "
        f"| {sections(rewrite.__doc__)[''].rstrip('.')} "
        f"| {goal(rewrite).removeprefix('In ')} | {reported(rewrite, 'rules') or '-'} |"
        for rewrite in (*REWRITES, *ON_DEMAND)
    ]
    head = "| rewrite | | holds in | rule |", "|---|---|---|---|"
    return "\n".join([*head, *rows, ""])


def pages() -> dict[str, str]:
    """Return what every page should hold, by its path below docs."""
    guide = (DOCS / "fix.md").read_text(encoding="utf-8")
    return (
        {"rules/index.md": index(), "fix.md": TABLE.sub(lambda _: table(), guide)}
        | {f"rules/{rule.name}.md": page(rule) for rule in RULES}
        | {
            f"rewrites/{name(each)}.md": rewrite_page(each)
            for each in (*REWRITES, *ON_DEMAND)
        }
    )


def stale() -> list[str]:
    """Return the names of pages that are missing, different or too many."""
    wanted = pages()
    there = {
        path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("rules", "rewrites")
        for path in [*(DOCS / folder).glob("*.md"), DOCS / "fix.md"]
    }
    return sorted(n for n in wanted | there if wanted.get(n) != there.get(n))


def main() -> int:
    names = stale()
    if "--check" in sys.argv[1:]:
        for path in names:
            print(f"docs/{path} is stale: run scripts/rule_docs.py")
        return bool(names)
    wanted = pages()
    for path in names:
        if path in wanted:
            (DOCS / path).parent.mkdir(exist_ok=True)
            (DOCS / path).write_text(wanted[path], encoding="utf-8")
        else:
            (DOCS / path).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
