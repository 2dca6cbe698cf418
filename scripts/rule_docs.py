"""Write docs/rules from the docstrings of the rules; --check only compares."""

import sys
from pathlib import Path

from plumbob.rule import limits, sections
from plumbob.rules import RULES
from plumbob.types import Rule

FOLDER = Path(__file__).parents[1] / "docs" / "rules"
MARK = "<!-- written by scripts/rule_docs.py -->\n"
TITLES = ("Why", "Evidence", "Args", "Remedy", "Allow when", "Example", "References")


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


def pages() -> dict[str, str]:
    return {"index.md": index()} | {f"{rule.name}.md": page(rule) for rule in RULES}


def stale() -> list[str]:
    """Return the names of pages that are missing, different or too many."""
    wanted = pages()
    there = {p.name: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.md")}
    return sorted(n for n in wanted | there if wanted.get(n) != there.get(n))


def main() -> int:
    names = stale()
    if "--check" in sys.argv[1:]:
        for name in names:
            print(f"docs/rules/{name} is stale: run scripts/rule_docs.py")
        return bool(names)
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for name in names:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
