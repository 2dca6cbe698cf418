"""No finding above info, and few of those, on networks that are well."""

import pytest
import torch

import healthy_generative  # ruff: ignore[unused-import] (adds its families)
import healthy_images  # ruff: ignore[unused-import] (adds its families)
import healthy_others  # ruff: ignore[unused-import] (adds its families)
import healthy_sequences  # ruff: ignore[unused-import] (adds its families)
import healthy_tasks  # ruff: ignore[unused-import] (adds its families)
import healthy_transformers  # ruff: ignore[unused-import] (adds its families)
import plumbob
from healthy import FAMILIES
from plumbob import Severity

CHEAP = (
    "adamw_plain",
    "autoencoder",
    "binary",
    "deep_sets",
    "duelling_dqn",
    "gan_discriminator",
    "gan_generator",
    "gaussian_likelihood",
    "label_smoothing",
    "logistic",
    "mlp_default",
    "mlp_he",
    "mlp_sgd",
    "multi_label",
    "one_hot_mse",
    "poisson",
    "quantisation_aware",
    "regression",
    "selu",
    "sigmoid_shallow",
    "tanh",
    "zero_init_residual",
)


# Rules that cannot judge a family: those of the loss and its targets, where it is
# inside the model and none that is recognised, joins rows of a batch, or reads several
# outputs; those of the prior, where all targets are the same; all that need a loss,
# where none is given.
ASKED = {"PB601", "PB602", "PB605", "PB606", "PB609", "PB612", "PB614"}
DIFFERENTIATED = {"PB401", "PB402", "PB404", "PB405", "PB406"}
STEPPED = {"PB503", "PB505", "PB506", "PB507"}
INSIDE = ("contrastive", "gpt2", "llama")
SEVERAL = ("normalising_flow", "policy", "triplet", "vae")
UNJUDGED = {
    **dict.fromkeys((*INSIDE, *SEVERAL), ASKED),
    "gan_generator": {"PB601", "PB606"},
    "minilm": ASKED | DIFFERENTIATED | STEPPED,
}


def judged(name, training, stage):
    report = plumbob.check(**training.case(), stage=stage)
    assert not report.crashed
    unjudged = {code for code in report.not_judged if code.startswith("PB")}
    unjudged -= {code for code in unjudged if code.startswith("PB7")}  # a run's
    assert unjudged == UNJUDGED.get(name, set()), report.not_judged
    loud = [f for f in report.findings if f.severity > Severity.INFO]
    assert not loud, str(report)
    quiet = {f.code for f in report.findings if not f.code.startswith("PB3")}
    assert len(quiet) <= 3, str(report)


SEEDS = [(0, True), (1, True), (2, False)]  # False: no stage said, as users do


@pytest.mark.parametrize(("seed", "said"), SEEDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_healthy_network_is_left_in_peace(name, seed, said):
    torch.manual_seed(seed)
    training = FAMILIES[name](seed)
    if not training.trained_only:
        judged(name, training, "init" if said else None)
    training.train()
    judged(name, training, "trained" if said else None)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CHEAP)
def test_a_network_that_has_just_begun_is_left_in_peace(name, seed):
    torch.manual_seed(seed)
    training = FAMILIES[name](seed)
    training.epochs = 1
    training.train()
    judged(name, training, None)


def test_the_set_is_large_enough():
    assert len(FAMILIES) >= 60
