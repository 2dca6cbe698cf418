"""Models of a hostile stranger: what one call does not show."""

import torch
from torch import Tensor, nn

import plumbob

X = torch.linspace(-2, 2, 40).reshape(5, 8).sin()


class Remembers(nn.Module):
    """Centres its targets as self-distillation does: on what it made before."""

    def __init__(self):
        super().__init__()
        self.map, self.norm, self.out = (
            nn.Linear(8, 8),
            nn.LayerNorm(8),
            nn.Linear(8, 8),
        )
        self.register_buffer("centre", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        z = self.map(x)
        y = self.out(self.norm(z))
        if self.training:
            y = y - self.centre
            self.centre.mul_(0.5).add_(z.detach().mean(0), alpha=0.5)
        return y


def test_what_stays_in_a_buffer_for_the_next_step_is_seen():
    model = Remembers()
    fixed, proof = plumbob.fix(model, X, goal="training")
    assert not proof.certificates
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(model(X), fixed(X))
