"""How many faulty trainings does the check mend by itself?

Each strong faulty case of a pair is checked before training; the remedy of the top
finding is applied where it can be, and the case trains as it says. A bug is mended
where it reaches the score of its fixed twin, trained here too, minus 0.02. Beside it:
without a remedy; the first finding that can be applied; all of the report. Run by
hand: `python benchmarks/repair.py --cases benchmarks/fault_cases.json`, some minutes;
with `--states FOLDER` trainings of cases as they stand are shared with faults.py.
Measured over three seeds: 46 % of 48 runs with a fixed twin, 2 % without a remedy (one
twin that dies itself); the three ways give the same. Data, losses and epochs are left
to the user.
"""

import argparse
import json
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from faulty.model import loss_of
from faulty.train import bare, begin, kept_in, look, score, states, train

import plumbob
from plumbob.errors import InputError

BELOW = 0.02
WAYS = ("top", "first that can", "all")


def ended(case, seed, folder):
    """Return the score of a case that trains as it stands."""
    torch.set_num_threads(1)
    run = begin(case, seed)
    for _ in states(run, kept_in(folder, case, seed)):
        pass
    return score(run)


def mended(case, seed):
    """Return, for each of WAYS, the score after what it applies, and the codes.

    Both are None where nothing could be applied.
    """
    torch.set_num_threads(1)
    report = look(begin(case, seed), seed, "init")
    can = [f for f in report.findings if f.remedy.act]
    top = [f for f in report.findings[:1] if f.remedy.act]
    done, found = {0: (None, None)}, []
    for findings in (top, can[:1], can):
        if len(findings) not in done:
            done[len(findings)] = applied(begin(case, seed), report, findings)
        found.append(done[len(findings)])
    return found


def applied(run, report, findings):
    """Follow the remedies of one or all findings and train."""
    one = findings[0] if len(findings) == 1 else report
    try:
        model, optimizer = plumbob.apply(one, run.model, optimizer=run.optimizer)
    except InputError:
        return None, None
    loss = loss_of(run.case, run.data.classes, model)
    run = replace(run, model=model, optimizer=optimizer, loss=loss)
    train(run)
    return score(run), "+".join(dict.fromkeys(f.code for f in findings))


def reaches(found, twin):
    return None not in {found, twin} and found >= twin - BELOW


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--states", type=Path, help="a folder that keeps trainings")
    given = parser.parse_args()
    if given.states:
        given.states.mkdir(parents=True, exist_ok=True)
    cases = json.loads(given.cases.read_text())["cases"]
    twins = {c["pair"]: c for c in cases if c["role"] == "healthy"}
    twins |= {c["pair"]: c for c in cases if c["role"] == "fixed"}
    bugs = [
        c
        for c in cases
        if c["role"] == "buggy" and c["strength"] == "strong" and c["pair"] in twins
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        runs = [
            (
                case,
                seed,
                pool.submit(ended, bare(twins[case["pair"]]), seed, given.states),
                pool.submit(ended, bare(case), seed, given.states),
                pool.submit(mended, bare(case), seed),
            )
            for case, seed in product(bugs, range(given.seeds))
        ]
        hits = {name: [] for name in ("without", *WAYS)}
        for case, seed, twin, without, tries in runs:
            goal, line = twin.result(), []
            scores = [(without.result(), ""), *tries.result()]
            for name, (found, codes) in zip(hits, scores, strict=True):
                hits[name].append((case, reaches(found, goal)))
                said = "-" if found is None else f"{found:.3f}"
                line.append(f"{name} {codes or ''} {said}".replace("  ", " "))
            told = "none" if goal is None else f"{goal:.3f}"
            print(case["id"], "seed", seed, "twin", told, "|", " | ".join(line))
    for name, found in hits.items():
        fixed = [hit for c, hit in found if twins[c["pair"]]["role"] == "fixed"]
        every = [hit for _, hit in found]
        print(
            f"{name:16s} {sum(fixed) / len(fixed):.0%} of {len(fixed)} runs with a "
            f"fixed twin, {sum(every) / len(every):.0%} of {len(every)} with the "
            "healthy case of their pair too"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
