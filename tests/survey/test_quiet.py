from threading import Thread

import pytest
import torch
from torch import nn

from plumbob.survey.guard import untouched
from plumbob.survey.quiet import aside, measuring, quiet


def test_quiet_is_this_thread_and_ends_where_it_began():
    others = []
    with quiet():
        with quiet():
            assert measuring()
        assert measuring()
        assert aside()
        thread = Thread(target=lambda: others.append(measuring()))
        thread.start()
        thread.join()
    assert others == [False]
    assert not measuring()
    assert not aside()


def test_what_leaves_a_model_untouched_is_quiet():
    with untouched(nn.Linear(2, 2)):
        assert measuring()
    assert not measuring()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_traced_or_in_torch_func_is_aside():
    seen = []

    def look(x):
        seen.append(aside())
        return x * 2

    torch.func.vmap(look)(torch.ones(3))
    torch.func.grad(lambda x: look(x).sum())(torch.ones(3))
    assert seen == [True, True]
    torch.jit.trace(look, torch.ones(3), check_trace=False)
    assert seen[2:] == [True]
    look(torch.ones(3))
    assert seen[3:] == [False]
