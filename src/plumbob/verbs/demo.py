"""`demo`: planted faults on real digits, check, and each remedy put to the trial."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor, nn, optim
    from torch.utils.data import DataLoader

SEEDS, STEPS = 5, 200

PLANTED = {
    "PB205": "the pixels carry a constant offset of 2",
    "PB201": "all but two units of fc3 start with a bias of -9",
    "PB601": "one digit in ten is an eight, of which the head's bias knows nothing",
    "PB502": "the optimiser was built without fc1",
    "PB301": "fc2 has a bias although batch norm follows",
    "PB501": "weight decay pulls on the biases too",
}

INTRODUCTION = """\
Is it an eight? A small network on the 8x8 digits of scikit-learn, with faults
planted on purpose:

"""
FAREWELL = """
That a remedy does nothing, beside worse faults or at all, is worth knowing too.

Now your own net:
  plumbob check net.py:build --data net.py:loader --loss net.py:loss
  plumbob trial net.py:build --data net.py:loader --loss net.py:loss \\
          --optimizer net.py:optimizer\
"""


def demo(
    echo: Callable[[str], None] = print,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Plant six faults in a small network, check it, and try what each remedy does.

    Args:
        echo: called with each part of the text as it is ready.
        progress: called with a short line at each step of the work.

    Raises:
        InputError: scikit-learn is not installed.
    """
    import torch

    from plumbob.verbs.check import check
    from plumbob.verbs.trial import trial

    echo(INTRODUCTION + "\n".join(f"  {c}  {t}" for c, t in PLANTED.items()) + "\n")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
        report = check(
            model,
            loader(),
            loss=log_loss(),
            optimizer=optimizer(model),
            stage="init",
            progress=progress,
        )
    echo(str(report))
    found = {f.code for root in report.findings for f in (root, *root.consequences)}
    missed = PLANTED.keys() - found
    echo(
        f"\nFound {len(PLANTED) - len(missed)} of the {len(PLANTED)} planted faults.\n"
    )
    table = trial(
        build,
        loader,
        loss=log_loss(),
        optimizer=optimizer,
        steps=STEPS,
        seeds=SEEDS,
        progress=progress,
    )
    echo(str(table))
    echo(FAREWELL)


def build() -> "nn.Sequential":
    """Return the planted net, drawn from torch's generator."""
    import torch
    from torch import nn

    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(64, 64))
    model.add_module("relu1", nn.ReLU())
    model.add_module("fc2", nn.Linear(64, 64))
    model.add_module("bn2", nn.BatchNorm1d(64))
    model.add_module("relu2", nn.ReLU())
    model.add_module("fc3", nn.Linear(64, 32))
    model.add_module("relu3", nn.ReLU())
    model.add_module("head", nn.Linear(32, 1))
    with torch.no_grad():
        cast("nn.Linear", model.get_submodule("fc3")).bias[2:] = -9.0
    return model


def loader() -> "DataLoader[tuple[Tensor, ...]]":
    """Return batches of digits with their offset, and whether each is an eight.

    Raises:
        InputError: scikit-learn is not installed.
    """
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from plumbob.errors import InputError

    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the demo needs the digits of scikit-learn, which is not installed; "
            'run: pip install "plumbob[demo]"'
        ) from error
    digits: Any = load_digits()
    pixels = torch.as_tensor(digits.data).float() / 16 + 2.0
    eights = torch.as_tensor(digits.target == 8).float()[:, None]
    return DataLoader(TensorDataset(pixels, eights), batch_size=64, shuffle=True)


def optimizer(model: "nn.Sequential") -> "optim.Optimizer":
    """Return SGD that forgets fc1 and decays the biases."""
    import torch

    held = [p for name, p in model.named_parameters() if not name.startswith("fc1.")]
    return torch.optim.SGD(held, lr=0.01, momentum=0.9, weight_decay=5e-4)


def log_loss() -> "nn.BCEWithLogitsLoss":
    """Return the loss of the demo."""
    from torch import nn

    return nn.BCEWithLogitsLoss()
