"""Does `plumbob.trial` find the remedy that helps, and claim none that does not?

Six nets that lean: the remedy of their finding, against acts that mend nothing. Six
healthy nets: remedies that are none by construction (a layer drawn anew by the same
law), one comparison to a trial, each with weights and data of its own, so that
comparisons are independent; the share of those that are claimed to help has an exact
binomial interval. Then acts that keep the function, and what check itself offers. The
nets, the settings and when they were chosen: tests/tried.py.

Run: OMP_NUM_THREADS=1 python benchmarks/trial.py [--quick]; a quarter of an hour,
or two minutes.
"""

import sys
import time
from collections import Counter
from pathlib import Path

import torch
from scipy.stats import binomtest

import plumbob
from plumbob.columns import columns

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import tried
from tried import HEALTHY, HEALTHY_STEPS, LEANING, LEANING_SEEDS, LEANING_STEPS

NULL, IDLE = 34, 2  # trials of each healthy net
HEAD = ["net", "remedy", "loss", "interval", "steps", "interval", "verdict"]


def row(net, found):
    cells = [net, found.arm]
    for change, form in ((found.loss, "+.3g"), (found.steps, "+.0f")):
        cells.append(f"{change.mean:{form}}")
        cells.append(f"[{change.low:{form}}, {change.high:{form}}]")
    return [*cells, found.verdict]


def leaning(nets):
    """Print every remedy of every leaning net, the right one first."""
    rows, right, wrong, calls = [], 0, Counter(), 0
    for name in nets:
        case = LEANING[name]
        given = case.settings() | {"steps": LEANING_STEPS, "seeds": LEANING_SEEDS}
        mended = plumbob.trial(**given, remedies=[case.code]).comparisons
        others = plumbob.trial(**given, remedies=case.wrong).comparisons
        rows += [row(name, found) for found in (*mended, *others)]
        right += any(found.verdict == "helps" for found in mended)
        wrong.update(found.verdict for found in others)
        calls += len(others)
    print(columns(HEAD, rows))
    print(f"\nright remedies that help: {right} of {len(nets)}")
    print(f"wrong ones: {calls} comparisons, {said(wrong)}")


def twice(name):
    """Say whether two processes give the table that one gives."""
    case = LEANING[name]
    given = case.settings() | {"steps": LEANING_STEPS, "remedies": [case.code]}
    one, two = (plumbob.trial(**given, processes=count) for count in (1, 2))
    assert two.to_dict() == one.to_dict()
    assert str(two) == str(one)
    print(f"{name}: two processes give the table of one, number for number")


def said(verdicts):
    return ", ".join(f"{count} {word}" for word, count in verdicts.most_common())


def share(count, total):
    low, high = binomtest(count, total).proportion_ci(0.95, method="exact")
    return f"{count} of {total} = {count / total:.1%} [{low:.1%}, {high:.1%}]"


def healthy(trials, idle):
    """Print the claims about remedies that are none, by net, and the rate."""
    null, acts, offered, largest = {}, {}, [], {}
    for name in HEALTHY:
        null[name] = Counter()
        for number in range(trials):
            given = tried.healthy(name, number)
            (found,) = plumbob.trial(
                **given, steps=HEALTHY_STEPS, remedies=tried.null(name, number)
            ).comparisons
            null[name][found.verdict] += 1
        acts[name], largest[name] = Counter(), 0.0
        for number in range(trials, trials + idle):
            remedies, options = tried.idle(name, number)
            table = plumbob.trial(
                **tried.healthy(name, number, **options),
                steps=HEALTHY_STEPS,
                remedies=remedies,
            )
            for found in table.comparisons:
                acts[name][found.verdict] += 1
                largest[name] = max(largest[name], abs(found.loss.mean))
        offered.append(plumbob.trial(**tried.healthy(name, 0), steps=HEALTHY_STEPS))
    total = sum(null.values(), Counter())
    words = ("helps", "hurts", "no difference seen")
    rows = [[name, *(str(null[name][word]) for word in words)] for name in HEALTHY]
    print(columns(["healthy net, layer redrawn", *words], rows))
    for word in words[:2]:
        print(f"{word}: {share(total[word], total.total())}")
    either = total["helps"] + total["hurts"]
    print(f"either: {share(either, total.total())}; chosen: 5 %\n")
    rows = [[name, said(acts[name]), f"{largest[name]:.1g}"] for name in HEALTHY]
    print(columns(["the same function", "verdicts", "largest change of loss"], rows))
    print()
    for name, table in zip(HEALTHY, offered, strict=True):
        arms = "; ".join(f"{one.arm}: {one.verdict}" for one in table.comparisons)
        print(f"check on {name} offers: {arms or 'nothing'}")


def main():
    torch.set_num_threads(1)
    quick = "--quick" in sys.argv
    began = time.monotonic()
    leaning(list(LEANING)[: 2 if quick else None])
    twice("MLP tanh, saturated")
    print(f"{time.monotonic() - began:.0f} s\n", flush=True)
    healthy(*((4, 1) if quick else (NULL, IDLE)))
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
