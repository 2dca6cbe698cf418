"""How often the check flags a faulty training, names its fault, and cries wolf."""

from collections import Counter

LOUD = {"warning", "error"}
GOALS = (
    ("flagged", 0.85, "at least"),
    ("named", 0.70, "at least"),
    ("first findings right", 0.60, "at least"),
    ("negatives with an error", 0.0, "at most"),
    ("negatives with a warning", 0.05, "at most"),
)


def goals(watched):
    """Return the goals; those of a watched training ask more."""
    more = {"flagged": 0.90, "named": 0.75} if watched else {}
    return [(name, more.get(name, goal), how) for name, goal, how in GOALS]


def loud(findings):
    """Return the codes at warning or above, in the order of the report."""
    return [f["code"] for f in findings if f["severity"] in LOUD]


def reports(run):
    """Return the findings of each report; "told" is none, and only cries wolf."""
    return [found for phase, found in run["phases"].items() if phase != "told"]


def firsts(run):
    """Return the first code at warning or above of each phase that has one."""
    return [codes[0] for found in reports(run) if (codes := loud(found))]


def accepted(case, names):
    """Return the codes that name one of a case's faults."""
    return {code for label in case["labels"] for code in names.get(label["code"], ())}


def outcome(run, right):
    codes = [loud(found) for found in reports(run)]
    every = [f["severity"] for found in run["phases"].values() for f in found]
    return {
        "flagged": any(codes),
        "named": any(right.intersection(c[:3]) for c in codes),
        "error": "error" in every,
        "warning": bool(LOUD.intersection(every)),
        "firsts": firsts(run),
    }


def well(run, task):
    """Whether a negative reached the score of a healthy run, which some seeds do not.

    The bars are those by which the cases were called healthy.
    """
    bar = {"regression": 0.45, "multilabel": 0.35}.get(task, 0.75)
    return run["score"] is not None and run["score"] >= bar


def share(hits):
    hits = list(hits)
    return sum(hits) / len(hits) if hits else float("nan")


def totals(runs, cases, names):
    """Return the figures of GOALS by name, and other ways to count them.

    Faulty runs are those of strong cases with a label that the table lists; negative
    ones are all fixed and healthy runs. Of each phase of these that speaks, the first
    finding at warning or above is right where it names a label. The second way asks it
    of the faulty runs alone.
    """
    faulty, negative, healthy, right, alone = [], [], [], [], []
    for run in runs:
        case = cases[run["id"]]
        codes = accepted(case, names)
        found = outcome(run, codes)
        if case["role"] == "buggy" and case.get("strength") == "strong" and codes:
            faulty.append(found)
            alone += [code in codes for code in found["firsts"]]
        elif case["role"] != "buggy":
            negative.append(found)
            healthy += [found] if well(run, case["task"]) else []
            right += [False for _ in found["firsts"]]
    return {
        "flagged": share(f["flagged"] for f in faulty),
        "named": share(f["named"] for f in faulty),
        "first findings right": share(right + alone),
        "negatives with an error": share(f["error"] for f in negative),
        "negatives with a warning": share(f["warning"] for f in negative),
        "first findings right, faulty runs alone": share(alone),
        "with an error, of negatives that trained well": share(
            f["error"] for f in healthy
        ),
        "with a warning, of negatives that trained well": share(
            f["warning"] for f in healthy
        ),
        "faulty runs": len(faulty),
        "negative runs": len(negative),
        "that trained well": len(healthy),
    }


def codes_of(runs):
    """Return the codes of several runs of one phase, with how many runs had them."""
    counts = Counter()
    for findings in runs:
        counts.update({f["code"] + mark(f["severity"]) for f in findings})
    told = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return " ".join(c if n == len(runs) else f"{c}/{n}" for c, n in told)


def mark(severity):
    return {"error": "!", "warning": "", "info": "~"}[severity]


def table(runs, cases, names):
    """Yield a line per case: its labels, what was said in each phase, what it scores.

    `!` marks an error, `~` an info; `/n` says in how many runs where not in all.
    """
    for name, case in cases.items():
        group = [run for run in runs if run["id"] == name]
        right = accepted(case, names) if "labels" in case else set()
        found = [outcome(run, right) for run in group]
        said = f"flagged {sum(f['flagged'] for f in found)}"
        if right:
            said += f" named {sum(f['named'] for f in found)}"
        labels = ",".join(sorted({label["code"] for label in case.get("labels", ())}))
        yield (
            f"{name}  {case.get('role', '')} {case.get('strength', '')} {labels}  "
            f"{said} of {len(group)}  score {' '.join(map(points, group))}"
        )
        for phase in group[0]["phases"]:
            yield f"    {phase:6s}{codes_of([run['phases'][phase] for run in group])}"


def points(run):
    return "none" if run["score"] is None else f"{run['score']:.3f}"


def summary(figures, goals=GOALS):
    """Yield a line per goal."""
    for name, goal, how in goals:
        met = figures[name] >= goal if how == "at least" else figures[name] <= goal
        yield (
            f"{name:50s}{figures[name]:.1%}   {how} {goal:.0%}: "
            f"{'yes' if met else 'NO'}"
        )
    for name in figures:
        if name not in {goal for goal, *_ in GOALS}:
            value = figures[name]
            yield f"{name:50s}{value if isinstance(value, int) else f'{value:.1%}'}"
