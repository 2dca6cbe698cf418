"""Errors that nothing raised: what went wrong in real trainings, written anew.

Each of these loops ran to its end without a message. The wrong one must be found
within ten steps, without another run to compare it with; the right one says nothing.
"""

import json
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional

import plumbob
import ranks
from netting import mlp, seeded
from plumbob.types import Severity

STEPS = 12


def batches(steps=STEPS):
    """Yield batches of a task: which of three random directions is most along x."""
    draw, directions = seeded(), torch.randn(8, 3, generator=seeded(1))
    for _ in range(steps):
        x = torch.randn(32, 8, generator=draw)
        yield x, (x @ directions).argmax(1)


def train(model, optimizer, *, every=1, clear=True, cast=torch.float32):
    with plumbob.watch(model, optimizer, every=every) as watch:
        for x, y in batches():
            if clear:
                optimizer.zero_grad()
            loss = functional.cross_entropy(model(x.to(cast)).float(), y)
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return watch


def normed():
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
    )
    with torch.no_grad():
        for layer in (model[0], model[3]):
            layer.weight.normal_(0, layer.in_features**-0.5, generator=seeded())
            layer.bias.zero_()
    return model


def frozen_head(every, *, wrong):
    """The head is handed to the optimiser, then frozen with all but the norms.

    Backward runs, as the norms want gradients; the optimiser has none of them.
    """
    model = normed()
    optimizer = torch.optim.Adam(model[3].parameters(), lr=0.01)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("1" if wrong else "3"))
    return train(model, optimizer, every=every)


def never_cleared(every, *, wrong):
    """The call of zero_grad is missing."""
    model = mlp(8, 16, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return train(model, optimizer, every=every, clear=not wrong)


def converted(every, *, wrong):
    """Where `.to` makes new parameters the optimiser, made before, has the old ones.

    Some backends do that always; elsewhere it is a switch.
    """
    model = mlp(8, 16, 3)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        if not wrong:
            model.to(torch.float64)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if wrong:
            model.to(torch.float64)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
    return train(model, optimizer, every=every, cast=torch.float64)


def replaced(every, *, wrong):
    """The last layer is put in place after the optimiser was made."""
    model = mlp(8, 16, 3)
    new = deepcopy(model[2])
    if not wrong:
        model[2] = new
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if wrong:
        model[2] = new
    return train(model, optimizer, every=every)


class Traced(torch.optim.SGD):
    """Does nothing once a step has found no gradients.

    As a compiled loop did that was traced in such a step, and kept to that trace.
    """

    traced = False

    @torch.no_grad()
    def step(self, closure=None):
        held = [p for group in self.param_groups for p in group["params"]]
        self.traced |= all(p.grad is None for p in held)
        for p in () if self.traced else held:
            p -= 0.1 * p.grad


def compiled(every, *, wrong):
    """In the third step there is no batch, and so no gradient."""
    model = mlp(8, 16, 3)
    kind = Traced if wrong else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=0.1)
    with plumbob.watch(model, optimizer, every=every) as watch:
        for number, (x, y) in enumerate(batches()):
            optimizer.zero_grad()
            if number != 2:
                loss = functional.cross_entropy(model(x), y)
                loss.backward()
            optimizer.step()
            watch.step(loss)
    return watch


def half_precision(every, *, wrong):
    """Weights that begin in float16 and stay there: Adam's eps of 1e-8 is 0 in it."""
    model = mlp(8, 16, 16, 3)
    dtype = torch.float16 if wrong else torch.float32
    model.to(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return train(model, optimizer, every=every, cast=dtype)


ERRORS = {
    "PyTorch forum 84911": (frozen_head, "PB715"),
    "Stack Overflow 60335387": (never_cleared, "PB705"),
    "converted after the optimiser": (converted, "PB715"),
    "replaced after the optimiser": (replaced, "PB715"),
    "PyTorch 115607": (compiled, "PB715"),
    "half precision from the start": (half_precision, "PB701"),
}


def told(watch):
    """Return {code: step} of all findings at warning or above, consequences too."""
    return {
        f.code: watch.found_at[f.code, f.site]
        for root in watch.findings
        for f in (root, *root.consequences)
        if f.severity >= Severity.WARNING
    }


@pytest.mark.parametrize("name", ERRORS)
def test_the_wrong_loop_is_found_within_ten_steps(name):
    case, code = ERRORS[name]
    assert told(case(1, wrong=True)).get(code, STEPS) < 10


@pytest.mark.parametrize("name", sorted(ERRORS.keys() - {"PyTorch 115607"}))
def test_it_is_with_no_more_than_the_default(name):
    """But for a step that stops in the middle of a burst: too few are measured then."""
    case, code = ERRORS[name]
    assert told(case(50, wrong=True)).get(code, STEPS) < 10


@pytest.mark.parametrize("name", ERRORS)
def test_the_right_loop_says_nothing(name):
    assert told(ERRORS[name][0](1, wrong=False)) == {}


def rank(number, place, wrong):
    """One of two ranks that train a model; each has batches of its own."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(place / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=number, world_size=2)
    model = mlp(8, 16, 3)
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with plumbob.watch(parallel, optimizer, every=1) as watch:
        for step, (x, y) in enumerate(batches(2 * STEPS)):
            if step % 2 != number:
                continue
            optimizer.zero_grad()
            # in every other step the model within, which averages nothing
            used = model if wrong and step % 4 > 1 else parallel
            loss = functional.cross_entropy(used(x), y)
            loss.backward()
            optimizer.step()
            watch.step(loss)
    (place / f"rank{number}.json").write_text(json.dumps(told(watch)))
    ranks.leave()


@pytest.mark.parametrize("wrong", [True, False])
def test_replicas_that_go_apart(tmp_path, wrong):
    """A model that is now called by its wrapper, now by itself."""
    torch.multiprocessing.spawn(rank, (tmp_path, wrong), nprocs=2)
    found = json.loads((tmp_path / "rank0.json").read_text())
    if wrong:
        assert found.pop("PB714") < 10
    assert found == {}
