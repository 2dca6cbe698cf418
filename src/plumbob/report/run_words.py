"""What all formats say alike of a run: how it stands, what was found, its facts."""

from plumbob.report.episodes import counts, episodes
from plumbob.report.page import facts
from plumbob.report.words import figure
from plumbob.types import Run, Severity


def state(run: Run) -> str:
    """Return what a run does: "ended", "goes on: step 7", "died: ..."."""
    step = f"{run.history.taken - 1:,}"
    if not run.history.taken:
        step = "0"
    if run.over:
        return "ended"
    if run.died:
        return f"died: the last step heard of is {step}"
    if run.died is None:
        return f"has not ended: whether it goes on is not known here; step {step}"
    return f"goes on: step {step}"


def verdict(run: Run) -> str:
    """Return one sentence on what was found and what of it holds."""
    found = episodes(run)
    held = counts(found)
    words = {
        Severity.ERROR: "error",
        Severity.WARNING: "warning",
        Severity.INFO: "note",
    }
    parts = [_many(n, words[severity]) for severity, n in held.items() if n]
    gone = sum(e.gone is not None for e in found)
    also = f"; {_many(gone, 'finding')} went on the way" if gone else ""
    if not run.judged:
        return "Not judged yet."
    if not parts:
        return f"Nothing that was judged leans{also}."
    return f"Found {', '.join(parts)}{also}."


def worst(run: Run) -> str:
    """Return the worst that holds in a word; "ok": nothing, "info": not judged."""
    held = counts(episodes(run))
    if not run.judged:
        return "info"
    return next((s.name.lower() for s, n in held.items() if n), "ok")


def known(run: Run) -> dict[str, str]:
    """Return what is known of a run, in words."""
    # "steps" are those before the first log
    return facts({k: v for k, v in run.about.items() if k != "steps"})


def took(run: Run) -> str:
    """Return steps, logs and time."""
    history = run.history
    parts = [
        _many(history.taken, "step"),
        f"{_many(len(history.steps), 'step')} measured",
    ]
    if history.samples:
        parts.append(f"{figure(history.samples)} inputs a step")
    if history.seconds:
        parts.append(f"{figure(history.seconds)} s")
    return ", ".join(parts)


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
