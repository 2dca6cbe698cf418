"""`trial` as a function: what is found, paired, bounded, and left as it was."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import plumbob
import trainings
from plumbob import InputError, SettingsError
from trainings import CASE, REMEDIES, build, loader


def trial(model=build, data=loader, **options):
    return plumbob.trial(model, data, **(CASE | options))


def verdicts(table):
    return {row["arm"]: row["verdict"] for row in table.rows()}


def test_the_right_remedy_helps_the_wrong_one_hurts_and_none_is_none():
    table = trial(remedies=REMEDIES, seeds=4)
    found = verdicts(table)
    assert found.pop("all together")  # as its last remedy, misled
    assert found == {
        "prior": "helps",
        "misled": "hurts",
        "nothing": "no difference seen",
    }
    idle = table.of("nothing")
    assert [r.curve for r in idle] == [r.curve for r in table.of("as it is")]
    assert [step for step, *_ in idle[0].curve] == [*range(0, 25, 2)]
    text = str(table)
    assert "4 paired seeds of 24 steps. As it is: validation loss" in text
    assert ", accuracy 0." in text
    assert "near normal: 0.2 of 4." in " ".join(text.split())
    assert json.loads(json.dumps(table.to_dict())) == table.to_dict()


def test_findings_with_an_executable_remedy_are_tried_and_others_named():
    table = trial(seeds=3, remedies="PB601, PB502")
    assert verdicts(table) == {"PB601 output-bias-prior": "helps"}
    (row,) = table.rows()
    assert row["did"] == [["shift-bias", 1.0]]
    assert "PB601 shift-bias  " in str(table)


def test_two_processes_give_the_same_table_as_one():
    case = {"seeds": 2, "steps": 24, "remedies": ["PB601", "PB502"]}
    where = {part: f"trainings:{part}" for part in ("loss", "optimizer")}
    one = trial(**case)
    two = plumbob.trial(
        "trainings:build", "trainings:loader", processes=2, **where, **case
    )
    assert one.rows()[0]["did"] == [["shift-bias", 1.0]]
    assert two.to_dict() == one.to_dict()


def test_ray_gives_the_same_table():
    pytest.importorskip("ray", reason="ray is not installed (extra: ray)")
    code = """
import json, sys
sys.path.insert(0, "tests")
import plumbob, trainings
found = [
    plumbob.trial(
        "trainings:build", "trainings:loader", loss="trainings:loss",
        optimizer="trainings:optimizer", steps=8, seeds=2, ray=ray, processes=2,
        remedies=trainings.REMEDIES,
    ).to_dict()
    for ray in (False, True)
]
assert found[0] == found[1]
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_nothing_is_left_behind():
    """In a process of its own: the checks of annotations draw from `random`."""
    code = """
import random, sys
sys.path.insert(0, "tests")
import numpy as np, torch, plumbob, trainings
torch.set_num_threads(2)
own = torch.Generator().manual_seed(5)
model, data = trainings.build(), trainings.loader(own)
weights = [p.clone() for p in model.parameters()]
def states():
    return (random.getstate(), np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(), own.get_state().tolist(),
            torch.get_num_threads(), torch.is_grad_enabled())
with torch.no_grad():
    before = states()
    table = plumbob.trial(model, data, seeds=2, **trainings.CASE)
    assert states() == before
assert len(table.comparisons) > 0
assert all(p.grad is None for p in model.parameters())
assert all(map(torch.equal, weights, model.parameters()))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def interrupt(after):
    """Return a progress that is interrupted after so many runs."""
    lines = []

    def progress(line):
        lines.append(line)
        if len(lines) == after:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interruption_returns_the_seeds_that_are_complete(processes):
    table = trial(
        remedies={"nothing": trainings.nothing},
        seeds=3,
        processes=processes,
        progress=interrupt(5),
    )
    assert len(table.seeds) == 2  # of six runs one is missing
    assert verdicts(table) == {"nothing": "too few seeds"}
    assert "Stopped early (interrupted): 2 of 3 seeds are complete." in str(table)


def test_no_run_is_started_that_does_not_fit():
    table = trial(remedies={"nothing": trainings.nothing}, seeds=3, minutes=1e-9)
    assert str(table) == (
        "Nothing was compared.\n\n"
        "Stopped early (the time is up): 0 of 3 seeds are complete."
    )
    assert table.rows() == []


def test_progress_tells_the_run_and_the_time_left():
    lines = []
    trial(remedies={"nothing": trainings.nothing}, seeds=1, progress=lines.append)
    assert lines[0].startswith("run 1 of 2: as it is, seed 1 of 1, ")
    assert lines[1] == "run 2 of 2: nothing, seed 1 of 1, 0 s left"


def test_a_run_that_diverges_is_told_and_the_others_are_compared():
    table = trial(remedies={"explode": trainings.explode}, seeds=5)
    assert verdicts(table) == {"explode": "hurts"}
    assert "5 of 5 runs diverge" in str(table)
    assert json.loads(json.dumps(table.to_dict()))["rows"][0]["loss"]["mean"] is None


def test_a_run_that_fails_is_named():
    for processes in (1, 2):
        with pytest.raises(InputError, match=r"run 'fail' of seed 0 failed: .*no way"):
            trial(remedies={"fail": trainings.fail}, seeds=1, processes=processes)


def test_a_module_itself_trains_as_copies_and_seeds_draw_the_batches():
    model = build()
    table = trial(model, remedies={"nothing": trainings.nothing}, seeds=2)
    first, second = table.of("as it is")
    assert first.curve != second.curve
    assert not any(p.grad is not None for p in model.parameters())


def test_what_exists_in_this_process_only_cannot_be_sent():
    with pytest.raises(InputError, match="build cannot be sent to another process"):
        trial(lambda: build(), remedies=REMEDIES, processes=2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, "steps of at least 1"),
        ({"minutes": 0.0}, "minutes above 0"),
        ({"minutes": float("nan")}, "minutes above 0"),
        ({"alpha": 1.0}, "alpha between 0 and 1"),
        ({"model": lambda: 3}, "to make a torch.nn.Module, got int"),
        ({"data": iter([])}, "used up by the first"),
        ({"loss": None}, "expected a loss"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(options, match):
    with pytest.raises(InputError, match=match):
        trial(**({"remedies": REMEDIES, "seeds": 1} | options))


def test_our_own_arms_keep_their_names():
    with pytest.raises(InputError, match="'as it is'"):
        trial(remedies={"as it is": trainings.nothing})


def test_unknown_codes_are_refused():
    with pytest.raises(SettingsError, match="PB999"):
        trial(remedies=["PB999"])


def test_losses_of_the_model_itself_and_dicts_are_trained():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(trainings.WIDTH, 1)

        def forward(self, x, labels):
            out = self.net(x)
            return {"loss": (out - labels).square().mean(), "out": out}

    draw = torch.Generator().manual_seed(0)
    x = torch.randn(100, trainings.WIDTH, generator=draw)
    batch = {"x": x, "labels": x.sum(1, keepdim=True)}
    table = trial(Own, batch, loss=None, seeds=5, remedies={"faster": faster})
    assert verdicts(table) == {"faster": "helps"}
    assert "accuracy" not in str(table)


def faster(model, optimizer):
    return torch.optim.SGD(model.parameters(), lr=0.2)
