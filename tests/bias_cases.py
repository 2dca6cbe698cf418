"""The losses of the table of best biases, written out, each with its formula."""

import math

import torch
from torch.nn import functional

from plumbob.design.prior import (
    binary,
    classes,
    counts,
    focal,
    ordinal,
    regression,
    sampling,
    survival,
)

G = torch.Generator().manual_seed(0)
N, P, K = 1000, 0.03, 6
D = torch.float64


def rand(*shape):
    return torch.rand(*shape, generator=G, dtype=D)


def randn(*shape):
    return torch.randn(*shape, generator=G, dtype=D)


Y = torch.zeros(N, dtype=D)
Y[:30] = 1
SOFT = Y * 0.9 + 0.05
W = rand(N) + 0.1
PI = torch.tensor([0.5, 0.25, 0.15, 0.06, 0.03, 0.01], dtype=D)
YK = torch.repeat_interleave(torch.arange(K), (PI * N).round().long())
WK = torch.tensor([1.0, 2, 0.5, 3, 4, 8], dtype=D)
LABELS = (rand(N, 4) < torch.tensor([0.5, 0.1, 0.02, 0.3])).to(D)
V = randn(N).exp() * 3 + randn(N)
E = rand(N) * 5 + 0.2
C = torch.poisson(E * 0.7 * (randn(N) / 2).exp(), generator=G)
C0 = C.clone()
C0[:300] = 0
U = rand(N) * 0.8 - 0.2
LIFE = (-rand(N).log()) ** (1 / 1.5) * 2
CENSOR = rand(N) * 4
EVENT = (LIFE <= CENSOR).to(D)
TIME = torch.minimum(LIFE, CENSOR)
INTERVAL = torch.bucketize(TIME, torch.tensor([0.5, 1, 1.5, 2], dtype=D))
J = torch.arange(5)
AT_RISK = (INTERVAL[:, None] >= J).to(D)
HIT = (INTERVAL[:, None] == J).to(D) * EVENT[:, None]
ABOVE = (torch.arange(K - 1) < YK[:, None]).to(D)
NOISE = torch.tensor([0.1, 0.1, 0.2, 0.2, 0.2, 0.2], dtype=D)

bce = functional.binary_cross_entropy_with_logits
ls = functional.logsigmoid
rate = binary.rate


def two(b, p=P, ratio=1.0):
    """Cross-entropy at the rate p."""
    return -(p * ls(b) + (1 - p) * ratio * ls(-b)).sum()


def cased(y=Y, **settings):
    return lambda b: bce(b.expand(y.shape), y, **settings)


def ce(**settings):
    return lambda b: functional.cross_entropy(b.expand(N, K), YK, **settings)


def focal_loss(p, g, a):
    def loss(b):
        q, rest = b.sigmoid(), (-b).sigmoid()
        up = a * p * rest**g * ls(b)
        return -(up + (1 - a) * (1 - p) * q**g * ls(-b)).sum()

    return loss


def focal_classes(b):
    lq = b.log_softmax(0)
    return -(PI * (1 - lq.exp()) ** 2 * lq).sum()


def adjusted(tau):
    return lambda b: functional.cross_entropy(b.expand(N, K) + tau * PI.log(), YK)


def noisy(b):
    q = b.sigmoid()
    seen = 0.9 * q + 0.01 * (1 - q)
    return -(P * seen.log() + (1 - P) * (1 - seen).log()).sum()


def cloglog(b):
    return -(P * torch.log(-torch.expm1(-b.exp())) - (1 - P) * b.exp()).sum()


def probit(b):
    n = torch.special.log_ndtr
    return -(P * n(b) + (1 - P) * n(-b)).sum()


def tweedie(r):
    def loss(b):
        mu = (b + E.log()).exp()
        return (-C * mu ** (1 - r) / (1 - r) + mu ** (2 - r) / (2 - r)).mean()

    return loss


def gaussian(b):
    return functional.gaussian_nll_loss(b[0].expand(N), V, b[1].exp().expand(N))


def gaussian_softplus(b):
    s = functional.softplus(b[1])
    return (s.log() + ((V - b[0]) / s).square() / 2).mean()


def laplace_scale(b):
    return (b + (V - V.median()).abs() / b.exp()).mean()


def zip_loss(b):
    lam = b[1].exp()
    zero = torch.logaddexp(ls(b[0]), ls(-b[0]) - lam)
    return -torch.where(C0 == 0, zero, ls(-b[0]) - lam + C0 * b[1]).mean()


def masked(y, mask):
    def loss(b):
        each = bce(b.expand(y.shape), y, reduction="none")
        return (each * mask).sum() / N

    return loss


def cut(cdf):
    def loss(b):
        c = torch.cat([b.new_zeros(1), cdf(b), b.new_ones(1)])
        return -(PI * c.diff().clamp_min(1e-12).log()).sum()

    return loss


def sampled(corrected):
    def loss(b):
        total = b.new_zeros(())
        for t in range(K):
            for i in range(K):
                for j in range(K):
                    at = torch.tensor([t, i, j])
                    z = b[at] - (2 * NOISE[at]).log() * corrected
                    p = PI[t] * NOISE[i] * NOISE[j]
                    total = total - p * z.log_softmax(0)[0]
        return total

    return loss


def corn_mask():
    return torch.cat([torch.ones(N, 1, dtype=D), ABOVE[:, :-1]], 1)


lo = binary.log_odds
shares = classes.log_shares
CUTS = torch.linspace(-1, 2, K - 1, dtype=D)
FOCAL = [(0.03, 2.0, 0.25), (0.03, 2.0, 0.5), (0.03, 5.0, 0.25), (0.4, 0.5, 0.75)]
FOCAL.append((0.03, 0.0, 0.25))

CASES = {
    "bce": (cased(), lambda: lo(rate(Y)), 1),
    "bce pos_weight": (
        cased(pos_weight=torch.tensor(5.0)),
        lambda: lo(P, pos_weight=5.0),
        1,
    ),
    "bce pos_weight balanced": (
        cased(pos_weight=torch.tensor((1 - P) / P, dtype=D)),
        lambda: torch.zeros(()),
        1,
    ),
    "bce smoothing": (cased(SOFT), lambda: lo(P, smoothing=0.1), 1),
    "bce smoothing pos_weight": (
        cased(SOFT, pos_weight=torch.tensor(5.0)),
        lambda: lo(P, smoothing=0.1, pos_weight=5.0),
        1,
    ),
    "bce sample weights": (cased(weight=W), lambda: lo(rate(Y, W)), 1),
    **{
        f"focal {p} {g} {a}": (
            focal_loss(p, g, a),
            lambda p=p, g=g, a=a: focal.binary(p, gamma=g, alpha=a),
            1,
        )
        for p, g, a in FOCAL
    },
    "focal gamma 0": (
        focal_loss(P, 0.0, 0.25),
        lambda: lo(P) + math.log(0.25 / 0.75),
        1,
    ),
    "brier": (lambda b: (b.sigmoid() - Y).square().mean(), lambda: lo(P), 1),
    "exponential": (
        lambda b: (-(2 * Y - 1) * b).exp().mean(),
        lambda: binary.exponential(P),
        1,
    ),
    "squared hinge": (
        lambda b: (1 - (2 * Y - 1) * b).relu().square().mean(),
        lambda: binary.squared_hinge(P),
        1,
    ),
    "hinge": (
        lambda b: (1 - (2 * Y - 1) * b).relu().mean(),
        lambda: binary.hinge(P),
        1,
    ),
    "label noise": (
        noisy,
        lambda: binary.noisy(P, false_positive=0.01, false_negative=0.1),
        1,
    ),
    "probit": (probit, lambda: binary.probit(P), 1),
    "cloglog": (cloglog, lambda: binary.cloglog(P), 1),
    "ce": (ce(), lambda: shares(classes.shares(YK, K)), K),
    "ce weight": (ce(weight=WK), lambda: shares(PI, weight=WK), K),
    "ce smoothing": (ce(label_smoothing=0.1), lambda: shares(PI, smoothing=0.1), K),
    "ce weight smoothing": (
        ce(weight=WK, label_smoothing=0.1),
        lambda: shares(PI, weight=WK, smoothing=0.1),
        K,
    ),
    **{
        f"logit adjusted {t}": (
            adjusted(t),
            lambda t=t: shares(PI, adjustment=t),
            K,
        )
        for t in (0.5, 1.0, 1.5)
    },
    "temperature": (
        lambda b: functional.cross_entropy(b.expand(N, K) / 2.5, YK),
        lambda: shares(PI, temperature=2.5),
        K,
    ),
    "focal classes": (focal_classes, lambda: focal.classes(PI, gamma=2.0), K),
    "multi-label": (cased(LABELS), lambda: lo(rate(LABELS)), 4),
    "one against all": (cased(functional.one_hot(YK, K).to(D)), lambda: lo(PI), K),
    "mse": (lambda b: (b - V).square().mean(), lambda: regression.mean(V), 1),
    "huber": (
        lambda b: functional.huber_loss(b.expand(N), V),
        lambda: regression.huber(V)[0],
        1,
    ),
    "expectile": (
        lambda b: (torch.where(b < V, 0.8, 0.2) * (V - b) ** 2).mean(),
        lambda: regression.expectile(V, 0.8),
        1,
    ),
    "gaussian": (gaussian, lambda: torch.stack(regression.gaussian(V)), 2),
    "gaussian softplus": (
        gaussian_softplus,
        lambda: torch.stack([
            V.mean(),
            regression.softplus(regression.gaussian(V)[1].exp().sqrt()),
        ]),
        2,
    ),
    "laplace": (laplace_scale, lambda: regression.laplace(V)[1], 1),
    "poisson": (
        lambda b: functional.poisson_nll_loss(b.expand(N), C),
        lambda: counts.poisson(C),
        1,
    ),
    "poisson exposure": (
        lambda b: functional.poisson_nll_loss(b + E.log(), C),
        lambda: counts.poisson(C, E),
        1,
    ),
    **{
        f"tweedie {r}": (tweedie(r), lambda r=r: counts.tweedie(C, r, E), 1)
        for r in (1.2, 1.5, 1.9)
    },
    "gamma": (
        lambda b: ((C + 0.5) / (b.exp() * E) + b).mean(),
        lambda: counts.gamma(C + 0.5, E),
        1,
    ),
    "negative binomial": (
        lambda b: (-C * b + (C + 1.25) * (1 + 0.8 * b.exp()).log()).mean(),
        lambda: counts.negative_binomial(C),
        1,
    ),
    "exponential survival": (
        lambda b: -(EVENT * b - b.exp() * TIME).mean(),
        lambda: survival.exponential(TIME, EVENT),
        1,
    ),
    "weibull": (
        lambda b: -(EVENT * b - b.exp() * TIME**1.5).mean(),
        lambda: survival.weibull(TIME, EVENT, shape=1.5),
        1,
    ),
    "hazards": (
        masked(HIT, AT_RISK),
        lambda: survival.hazards(HIT.sum(0), AT_RISK.sum(0)),
        5,
    ),
    "ordinal logit": (cut(torch.sigmoid), lambda: ordinal.cut_points(PI), CUTS),
    "ordinal probit": (
        cut(torch.special.ndtr),
        lambda: ordinal.probit_cut_points(PI),
        CUTS,
    ),
    "coral": (cased(ABOVE), lambda: ordinal.coral(PI), K - 1),
    "corn": (masked(ABOVE, corn_mask()), lambda: ordinal.corn(PI), K - 1),
    "negative sampling": (
        lambda b: -(PI * ls(b) + 15 * NOISE * ls(-b)).sum(),
        lambda: sampling.noise_contrastive(PI, NOISE, 15),
        K,
    ),
    "negative sampling shared": (
        lambda b: -(ls(b) + 15 * ls(-b)).sum(),
        lambda: sampling.noise_contrastive(1.0, 1.0, 15),
        1,
    ),
    "down-sampling": (
        lambda b: two(b, ratio=0.05),
        lambda: lo(P) + sampling.down_sampling(0.05),
        1,
    ),
    "tanh": (
        lambda b: (b.tanh() - U).square().mean(),
        lambda: regression.tanh_mean(U),
        1,
    ),
    "zero-inflated": (zip_loss, lambda: torch.stack(counts.zero_inflated(C0)), 2),
}
BESIDE = {  # named in the same table, beside the 55
    "sigmoid head": (
        lambda b: (b.sigmoid() - Y).square().mean(),
        lambda: regression.sigmoid_mean(Y),
        1,
    ),
    "case-control": (
        lambda b: two(b, 0.3),
        lambda: lo(P) - sampling.case_control(P, 0.3),
        1,
    ),
    "prior shift": (
        lambda b: functional.cross_entropy(b.expand(N, K), YK),
        lambda: shares(NOISE) + sampling.prior_shift(NOISE, PI),
        K,
    ),
    "sampled softmax": (
        sampled(False),
        lambda: sampling.sampled_softmax(PI, NOISE, corrected=False),
        K,
    ),
    "sampled softmax corrected": (
        sampled(True),
        lambda: sampling.sampled_softmax(PI, NOISE, corrected=True),
        K,
    ),
}
FREE = ("ce", "logit", "temperature", "focal classes", "prior", "sampled")
