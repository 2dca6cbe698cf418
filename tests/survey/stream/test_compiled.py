import torch
from torch import nn

from plumbob.survey.stream.stream import Stream


def test_a_compiled_model_is_one_graph_whose_steps_and_losses_are_known():
    torch.manual_seed(0)
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    logs, optimizer = [], torch.optim.SGD(net.parameters(), 0.05)
    stream = Stream(net, optimizer, every=4, burst=2, on_log=logs.append)
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    for k in range(9):
        if k > 5:
            optimizer.zero_grad()  # forgotten before
        loss = compiled(torch.randn(5, 6)).square().mean()
        loss.backward()
        stream.step(loss)  # before the step: told by the backward pass alone
        optimizer.step()
    stream.close()
    assert stream.broken is None
    assert len(graphs) <= 2  # with open taps and without
    assert [log.step for log in logs if log.marks] == [0, 1, 4, 8]
    assert [s for log in logs for s, _ in log.losses["loss"]] == list(range(9))
    assert (logs[-1].looked, logs[-1].uncleared) == (8, 5)
    assert logs[0].windows["0"].z.count[0] == 5


def test_a_step_that_is_compiled_holds_nothing_of_ours():
    torch.manual_seed(0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    net = nn.Linear(6, 1)
    optimizer = torch.optim.Adam(net.parameters(), torch.tensor(0.01))
    logs = []
    stream = Stream(net, optimizer, every=2, burst=1, on_log=logs.append)
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    for _ in range(5):
        optimizer.zero_grad()
        net(torch.randn(5, 6)).square().mean().backward()
        step()
    stream.close()
    assert stream.broken is None
    assert [log.step for log in logs if log.marks] == [0, 2, 4]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
