"""What does the check say of faulty trainings, and of healthy ones?

Each case is built and trained over seeds and checked before training, after ten steps
and at the end. Nothing but the scoring looks at what the cases say of themselves.
Run by hand: `python benchmarks/faults.py --cases benchmarks/fault_cases.json`, some ten
minutes on two cores; with `--states FOLDER` trainings are kept and not repeated. With
`--watch` each case is also trained watched: "watch" is what the report says at its end,
"told" what it warned of on the way, with the step at which each was found.
"""

import argparse
import json
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import torch
from faulty import score as scoring
from faulty.train import PHASES, bare, begin, kept_in, look, score, states, watched

NAMES = Path(__file__).with_name("fault_names.json")


def entry(finding):
    return {"code": finding.code, "severity": finding.severity.name.lower()}


def line(phase, finding):
    severity, place = finding.severity.name.lower(), finding.site or "(model)"
    return f"{phase} {finding.code} {severity} {place}: {finding.message}"


def overseen(case, seed, every):
    """Train a case watched; return the findings of two phases, failures, lines."""
    try:
        watch, told = watched(begin(case, seed), every)
        report = watch.report
    except Exception as error:
        return (
            {"watch": [], "told": []},
            [f"watch: {type(error).__name__}: {error}"],
            [],
        )
    at = watch.found_at
    phases = {
        "watch": [
            entry(f) | {"step": at.get((f.code, f.site))} for f in report.findings
        ],
        "told": [entry(f) | {"step": step} for step, f in told],
    }
    wrong = [f"watch: {code} crashed: {e}" for code, e in report.crashed.items()]
    lines = [line("watch", f) for f in report.findings]
    return phases, wrong, lines + [line(f"told at {step}", f) for step, f in told]


def judge(case, seed, folder, every):
    """Return a run's findings by phase, its score, its failures (ours), its lines."""
    torch.set_num_threads(1)
    phases = {phase: [] for phase in PHASES}
    found, wrong, lines = {"seed": seed, "phases": phases, "score": None}, [], []
    try:
        run = begin(case, seed)
        for phase, stage in states(run, kept_in(folder, case, seed)):
            try:
                report = look(run, seed, stage)
            except Exception as error:
                wrong.append(f"{phase}: {type(error).__name__}: {error}")
                continue
            wrong += [f"{phase}: {c} crashed: {e}" for c, e in report.crashed.items()]
            phases[phase] = [entry(f) for f in report.findings]
            lines += [line(phase, f) for f in report.findings]
        found["score"] = score(run)
    except Exception as error:
        wrong.append(f"the case does not train: {type(error).__name__}: {error}")
    if every:
        more, failures, said = overseen(case, seed, every)
        phases |= more
        wrong += failures
        lines += said
    return found, wrong, lines


def joined(one, other):
    """Return what either table lists under a label."""
    return {k: [*one.get(k, ()), *other.get(k, ())] for k in {*one, *other}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="where the findings are written")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--states", type=Path, help="a folder that keeps trainings")
    parser.add_argument("--only", default="", help="cases whose id has this in it")
    parser.add_argument(
        "--watch", nargs="?", type=int, const=50, help="train watched, every N steps"
    )
    parser.add_argument("--messages", action="store_true", help="print each finding")
    given = parser.parse_args()
    cases = {c["id"]: c for c in json.loads(given.cases.read_text())["cases"]}
    cases = {name: case for name, case in cases.items() if given.only in name}
    if given.states:
        given.states.mkdir(parents=True, exist_ok=True)
    began, runs, wrong = time.perf_counter(), [], []
    pairs = list(product(cases, range(given.seeds)))
    with ProcessPoolExecutor(given.processes) as pool:
        told = [
            pool.submit(judge, bare(cases[n]), s, given.states, given.watch)
            for n, s in pairs
        ]
        for (name, seed), future in zip(pairs, told, strict=True):
            found, failures, lines = future.result()
            about = {key: cases[name].get(key) for key in ("id", "role", "strength")}
            runs.append(about | found)
            wrong += [f"{name} seed {seed} {failure}" for failure in failures]
            for line in lines if given.messages else ():
                print(f"{name} seed {seed} {line}", flush=True)
    if given.json:
        given.json.write_text(json.dumps({"cases": runs}, indent=1) + "\n")
    names = json.loads(NAMES.read_text())
    names = joined(names["check"], names["history"]) if given.watch else names["check"]
    print(*scoring.table(runs, cases, names), sep="\n")
    if all("labels" in case and "role" in case for case in cases.values()):
        figures = scoring.totals(runs, cases, names)
        print(*scoring.summary(figures, scoring.goals(given.watch)), sep="\n")
    print(f"{time.perf_counter() - began:.0f} s")
    if wrong:
        print(f"OUR FAILURES: {len(wrong)}", *wrong, sep="\n  ")
    return bool(wrong)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
