import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.writable import plain, writable


def test_a_parameter_of_its_own_is_returned():
    model = nn.Linear(3, 2)
    assert writable(model, "bias") is model.bias
    assert not plain(model, "weight").requires_grad


def test_neighbours_in_one_memory_are_not_shared():
    memory = torch.zeros(10)
    model = nn.Module()
    model.a, model.b = nn.Parameter(memory[:6]), nn.Parameter(memory[6:])
    assert writable(model, "a") is model.a
    model.c = nn.Parameter(memory[5:7])
    for name, other in (("a", "c"), ("b", "c"), ("c", "a")):
        with pytest.raises(InputError, match=f"shared with {other}"):
            writable(model, name)


def test_a_tied_weight_can_be_read_but_not_written():
    model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    model[1].weight = model[0].weight
    assert plain(model, "1.weight").shape == (3, 3)
    with pytest.raises(InputError, match=r"1\.weight \[3, 3\]: it is shared with 0"):
        writable(model, "1.weight")


def test_a_sharded_parameter_is_refused():
    from torch import distributed
    from torch.distributed.tensor import distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
        model = nn.Linear(3, 4)
        sharded = distribute_tensor(torch.zeros(4), mesh)
        model.bias = nn.Parameter(sharded)
        with pytest.raises(InputError, match="DTensor, not a plain tensor"):
            writable(model, "bias")
    finally:
        distributed.destroy_process_group()
