"""What every mending must keep to, whatever the model."""

import copy
from types import SimpleNamespace

import torch

import plumbob
from plumbob.survey.seen import seen
from plumbob.types import Safety

# What `check` says of biases that nothing sees or others carry; that two maps are
# stacked (PB310) is said of their weights
CODES = {f"PB3{n:02}" for n in range(1, 10)} | {"PB313"}

# The rewrites of parameters in their places; the others exchange or resize modules
VALUES = (
    "drop-bias-before-batch-norm", "drop-bias-before-instance-norm", "drop-key-bias",
    "fold-layer-norm-beta", "fold-value-bias", "fold-stacked-bias",
    "merge-branch-biases", "merge-rnn-biases", "centre-before-group-norm",
    "centre-before-layer-norm", "centre-logits",
)  # fmt: skip


def told(model, data):
    """Return (code, parameter) of all that check reports of redundant biases."""
    found = plumbob.check(model, data).findings
    return {(f.code, f.site) for f in found if f.code in CODES}


def mended(model, data, *, depth, **options):
    """Fix a model, hold it to the laws, and return what was done where.

    `depth` is the number of affine maps one after the other.
    """
    before = seen(model)
    fixed, proof = plumbob.fix(model, data, **options)
    assert seen(model) == before
    goal = options.get("goal", "inference")
    for one in proof.certificates:
        assert one.holds, str(one)
        assert one.precise, str(one)
        assert one.probes > 0, str(one)
        assert one.identity_ulps <= 8 * depth, str(one)
        assert goal == "inference" or one.claim is Safety.EXACT
        assert one.removed or one.added or one.changed or one.side_effects
    for refusal in proof.refused:
        assert refusal.why, refusal
    done = {}
    for one in proof.certificates:
        done.setdefault(one.code, set()).update(one.places)
    return SimpleNamespace(
        model=fixed,
        proof=proof,
        done=done,
        refused={(one.code, one.place): one.why for one in proof.refused},
    )


def nothing_told(fixed, data, done):
    """Check a model that was fixed: what was done must not be reported."""
    done = {(code, place) for code, places in done.items() for place in places}
    assert not told(fixed, data) & done


def nothing_left(fixed, data, **options):
    """Fix a model that was fixed, which must do nothing."""
    before = copy.deepcopy(fixed.state_dict())
    again, proof = plumbob.fix(fixed, data, **options)
    assert proof.certificates == []
    after = again.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
