"""The table as it is printed, and as plain values."""

import json
from dataclasses import replace
from math import nan

from plumbob.trials.record import Run
from plumbob.trials.table import Table

ENDS = {
    "as it is": (1.0, 1.1, 1.3),
    "PB601": (0.5, 0.58, 0.81),
    "PB301": (1.0, 1.1, 1.3),
}


HEAD = ["loss", "accuracy", "steps", "to", "level", "verdict"]
RUNS = tuple(
    Run(
        arm=arm,
        seed=seed,
        curve=tuple((s, 2 - (2 - end) * s / 10, 0.9) for s in range(0, 11, 2)),
        did=(("shift-bias", "head"),) if arm.startswith("PB601") else (),
    )
    for seed in range(3)
    for arm, ends in ENDS.items()
    for end in [ends[seed]]
)


def table(**options):
    case = {"runs": RUNS, "steps": 10, "every": 2, "alpha": 0.05}
    return Table(**(case | options))


def test_the_whole_table():
    assert str(table(by_hand=("PB205 uncentred-input: Centre it.",))) == GOLDEN
    text = str(table(metric="accuracy"))
    assert "As it is: validation loss 1.133, accuracy 0.9." in text
    assert text.splitlines()[2].split() == HEAD


def test_several_acts_are_counted():
    runs = tuple(replace(r, did=(("a", "x"), ("a", "y"), ("b", "x"))) for r in RUNS)
    assert "PB601 (3 acts)" in str(table(runs=runs))


def test_a_level_of_the_user_is_told_with_the_runs_that_miss_it():
    text = str(table(level=0.7))
    assert "a loss of 0.7 (never reached: 12 steps)" in " ".join(text.split())
    assert "(level missed by 4 of 6 runs)" in text
    assert "(level missed by 6 of 6 runs)" in text


def test_plain_values_hold_everything_and_no_nan():
    (one, *_) = found = table(runs=RUNS[:3]).rows()
    assert len(found) == 2
    assert one["loss"] == {"mean": -0.5, "low": None, "high": None}
    assert one["did"] == [["shift-bias", 1.0]]
    everything = table().to_dict()
    assert json.loads(json.dumps(everything, allow_nan=False)) == everything
    assert len(everything["runs"]) == 9


def test_where_all_diverge_nothing_is_averaged():
    broken = tuple(
        Run(arm=arm, seed=seed, curve=((0, nan, None),), diverged=1)
        for seed in range(3)
        for arm in ("as it is", "x")
    )
    text = str(table(runs=broken))
    assert "As it is: every run diverges." in text
    assert "too few seeds (3 of 3 runs diverge; 3 of 3 runs as it is" in text


GOLDEN = """\
3 paired seeds of 10 steps. As it is: validation loss 1.133.

                  loss            steps to level  verdict
PB601 shift-bias  -0.503 ± 0.055  -3 ± 4          helps
PB301             +0.000 ± 0.000  +0 ± 0          no difference seen

Changes are against the model as it is, ± half the Student interval of 97.5 % over the
seeds. The level is the lowest loss that all runs of both reach; steps are known to 2.
Where nothing differs, a verdict is wrong in at most 5 % of cases where differences are
near normal: 0.1 of 2.

Not tried, since the remedy is by hand:
  PB205 uncentred-input: Centre it."""
