"""`demo`: planted faults on real digits, check, and what each cure is worth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

SEEDS, EPOCHS, LEVEL = 5, 12, 0.96
T_975 = 2.776  # Student's t, 4 degrees of freedom: the interval of 5 paired seeds

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
FAREWELL = f"""
* the interval leaves zero out. A level not reached counts as {EPOCHS + 1} epochs. That
a cure does nothing, beside worse faults or at all, is worth knowing too.

Now your own net:
  plumbob check net.py:build --data net.py:loader --loss net.py:loss\
"""


@dataclass(slots=True, kw_only=True)
class Setup:
    """One training as a user has it: model, data, and what the optimiser gets."""

    model: "nn.Sequential"
    train: "tuple[Tensor, Tensor]"
    test: "tuple[Tensor, Tensor]"
    forgotten: tuple[str, ...] = ("fc1.",)
    decays_biases: bool = True
    seed: int = 0

    def optimizer(self) -> "optim.Optimizer":
        """Return SGD over the parameters that this setup hands to it."""
        import torch

        named = [
            (name, p)
            for name, p in self.model.named_parameters()
            if not name.startswith(self.forgotten)
        ]
        plain = [p for n, p in named if n.endswith("bias") and not self.decays_biases]
        rest = [p for n, p in named if not (n.endswith("bias") and plain)]
        groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": 5e-4}]
        groups += [{"params": plain, "weight_decay": 0.0}] if plain else []
        return torch.optim.SGD(groups, lr=0.01, momentum=0.9)


def demo(
    echo: Callable[[str], None] = print,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Plant six faults in a small network, check it, and measure what each cure does.

    Args:
        echo: called with each part of the text as it is ready.
        progress: called with a short line at each step of the work.

    Raises:
        InputError: scikit-learn is not installed.
    """
    from plumbob.verbs.check import check

    echo(INTRODUCTION + "\n".join(f"  {c}  {t}" for c, t in PLANTED.items()) + "\n")
    setup = build(0)
    batches = list(epoch(setup, 0))
    report = check(
        setup.model,
        batches,
        loss=log_loss(),
        optimizer=setup.optimizer(),
        stage="init",
        progress=progress,
    )
    echo(str(report))
    found = {f.code for root in report.findings for f in (root, *root.consequences)}
    missed = PLANTED.keys() - found
    echo(
        f"\nFound {len(PLANTED) - len(missed)} of the {len(PLANTED)} planted faults.\n"
    )
    echo(trials(progress or (lambda line: None)))
    echo(FAREWELL)


def build(seed: int) -> Setup:
    """Return the planted net and the digits, split and initialised by the seed.

    Raises:
        InputError: scikit-learn is not installed.
    """
    import torch
    from torch import nn

    from plumbob.errors import InputError

    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise InputError(
            "the demo needs the digits of scikit-learn, which is not installed; "
            'run: pip install "plumbob[demo]"'
        ) from error
    digits: Any = load_digits()
    pixels = digits.data.astype("float32") / 16 + 2.0
    eights = (digits.target[:, None] == 8).astype("float32")
    split = train_test_split(
        pixels, eights, test_size=0.3, random_state=seed, stratify=eights
    )
    x, x_test, y, y_test = (torch.as_tensor(part) for part in split)
    model = nn.Sequential()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_module("fc1", nn.Linear(64, 64))
        model.add_module("relu1", nn.ReLU())
        model.add_module("fc2", nn.Linear(64, 64))
        model.add_module("bn2", nn.BatchNorm1d(64))
        model.add_module("relu2", nn.ReLU())
        model.add_module("fc3", nn.Linear(64, 32))
        model.add_module("relu3", nn.ReLU())
        model.add_module("head", nn.Linear(32, 1))
        with torch.no_grad():
            linear(model, "fc3").bias[2:] = -9.0
    return Setup(model=model, train=(x, y), test=(x_test, y_test), seed=seed)


def linear(model: "nn.Sequential", name: str) -> "nn.Linear":
    """Return a layer of the demo's net by name."""
    return cast("nn.Linear", model.get_submodule(name))


# The cures: what each finding advises, in a few lines, before training.


def centre_the_input(setup: Setup) -> None:
    """PB205: subtract the training mean."""
    mean = setup.train[0].mean(0)
    setup.train = (setup.train[0] - mean, setup.train[1])
    setup.test = (setup.test[0] - mean, setup.test[1])


def recentre_dead_units(setup: Setup) -> None:
    """PB201: b = -w.mu at the units that never fire."""
    import torch

    with torch.no_grad():
        before = setup.model[:5](setup.train[0])  # in training mode, as they will run
        fc3 = linear(setup.model, "fc3")
        dead = (fc3(before) <= 0).all(0)
        fc3.bias[dead] = -(fc3.weight @ before.mean(0))[dead]


def encode_the_prior(setup: Setup) -> None:
    """PB601: the head's bias is the log-odds of the rare class."""
    import torch

    with torch.no_grad():
        linear(setup.model, "head").bias.fill_(setup.train[1].mean().logit())


def remember_all_parameters(setup: Setup) -> None:
    """PB502: hand every parameter to the optimiser."""
    setup.forgotten = ()


def drop_bias_before_norm(setup: Setup) -> None:
    """PB301: batch norm subtracts that bias again."""
    linear(setup.model, "fc2").register_parameter("bias", None)


def spare_the_biases(setup: Setup) -> None:
    """PB501: a group without weight decay for the biases."""
    setup.decays_biases = False


CURES: dict[str, Callable[[Setup], None]] = {
    "PB502": remember_all_parameters,
    "PB205": centre_the_input,
    "PB201": recentre_dead_units,
    "PB601": encode_the_prior,
    "PB301": drop_bias_before_norm,
    "PB501": spare_the_biases,
}


def trials(tell: Callable[[str], None]) -> str:
    """Return what each cure does alone, and what each fault costs where it is alone."""
    every = tuple(CURES)
    before, after = runs_of("as it is", (), tell), runs_of("all cures", every, tell)
    names = {
        code: f"{code} {c.__name__.replace('_', ' ')}" for code, c in CURES.items()
    }
    alone = {names[c]: runs_of(names[c], (c,), tell) for c in every}
    left = {
        f"without {names[c]}": runs_of(
            f"all cures but {c}", tuple(other for other in every if other != c), tell
        )
        for c in every
    }
    return "\n".join([
        f"Every change is paired over {SEEDS} seeds, with its 95 % interval.",
        "",
        *table({"as it is": before, **alone, "all cures": after}),
        "",
        *table({"all cures": after, **left}),
    ])


def runs_of(
    name: str, codes: tuple[str, ...], tell: Callable[[str], None]
) -> list[tuple[float, int]]:
    """Train with the given cures from every seed."""
    import torch

    results: list[tuple[float, int]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small only wait for one another
    try:
        for seed in range(SEEDS):
            tell(f"training {name}: seed {seed + 1} of {SEEDS}")
            setup = build(seed)
            for code in codes:
                CURES[code](setup)
            results.append(train(setup))
    finally:
        torch.set_num_threads(threads)
    return results


def train(setup: Setup) -> tuple[float, int]:
    """Train; return the final test log-loss in nats and the epochs to LEVEL.

    EPOCHS + 1 stands for "not reached".
    """
    import torch

    loss, optimizer = log_loss(), setup.optimizer()
    x, y = setup.test
    final, first = 0.0, EPOCHS + 1
    with torch.random.fork_rng(devices=[]):
        for number in range(1, EPOCHS + 1):
            setup.model.train()
            for inputs, targets in epoch(setup, number):
                optimizer.zero_grad()
                loss(setup.model(inputs), targets).backward()
                optimizer.step()
            setup.model.eval()
            with torch.no_grad():
                logits = setup.model(x)
            final = float(loss(logits, y))
            if ((logits > 0) == y.bool()).float().mean() >= LEVEL:
                first = min(first, number)
    return final, first


def epoch(setup: Setup, number: int) -> "Iterator[tuple[Tensor, Tensor]]":
    """Yield shuffled batches of 64, the same for every plan of one seed."""
    import torch

    x, y = setup.train
    generator = torch.Generator().manual_seed(1000 * setup.seed + number)
    order = torch.randperm(len(x), generator=generator)
    for rows in order[: len(x) // 64 * 64].split(64):
        yield x[rows], y[rows]


def log_loss() -> "nn.BCEWithLogitsLoss":
    """Return the loss of the demo."""
    from torch import nn

    return nn.BCEWithLogitsLoss()


def table(runs: dict[str, list[tuple[float, int]]]) -> Iterator[str]:
    """Yield a row for each plan; changes are against the first."""
    base = next(iter(runs.values()))
    head = f"epochs to {LEVEL:.0%}"
    yield f"  {'':<37}{'log-loss':>8}  {'change':<26}{head:>13}  change"
    for name, results in runs.items():
        losses, epochs = zip(*results, strict=True)
        changes = ["", ""]
        if results is not base:
            changes = [change(losses, base, 0), change(epochs, base, 1)]
        row = f"  {name:<37}{mean(losses):>8.3f}  {changes[0]:<26}"
        yield f"{row}{middle(epochs):>13}  {changes[1]}".rstrip()


def middle(epochs: Sequence[int]) -> str:
    """Return the median number of epochs to LEVEL."""
    median = sorted(epochs)[len(epochs) // 2]
    return f"over {EPOCHS}" if median > EPOCHS else str(median)


def change(
    values: Sequence[float | int], base: list[tuple[float, int]], column: int
) -> str:
    """Return the paired mean change with its interval; a star where 0 is outside."""
    digits = 1 if column else 3
    pairs = zip(values, base, strict=True)
    differences = [value - other[column] for value, other in pairs]
    centre, n = mean(differences), len(differences)
    variance = sum((d - centre) ** 2 for d in differences) / (n - 1)
    half = T_975 * (variance / n) ** 0.5
    low, high = round(centre - half, digits), round(centre + half, digits)
    star = " *" if low > 0 or high < 0 else ""
    return f"{centre:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]{star}"


def mean(values: Sequence[float | int]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)
