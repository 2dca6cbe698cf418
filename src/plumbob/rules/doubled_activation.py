"""PB613: an activation twice in a row, or a softmax between two maps."""

from collections.abc import Iterator

from plumbob.progress import learnt
from plumbob.rule import rule
from plumbob.types import Act, Finding, Needs, Remedy, Safety, Severity, Survey

# Doing them again changes nothing.
ONCE = frozenset(("relu", "relu6", "log_softmax", "hardtanh"))
# They squeeze what they are given again into a small part of their range.
SQUEEZE = frozenset(("sigmoid", "softmax", "log_softmax", "hardsigmoid"))


@rule(
    "PB613",
    "doubled-activation",
    Needs.GRAPH | Needs.INPUTS,
    Severity.WARNING,
    since="0.1",
    explains=("PB203", "PB207", "PB401", "PB404", "PB601"),
)
def doubled_activation(
    survey: Survey, *, learnt_above: float = 0.5
) -> Iterator[Finding]:
    """An activation is applied twice, or a softmax stands between two maps.

    Why:
        What comes out of a sigmoid lies in 0 to 1, where a second one is nearly a
        straight line of slope 1/4 that gives 0.5 to 0.73; a second softmax over n
        units gives no probability above e / (e + n - 1). Signals and gradients shrink
        by as much, and a loss of probabilities has a floor that no weights get below.
        A softmax between two maps hands on n numbers of mean 1/n that sum to one: the
        next map sees nearly a constant, and its gradient is n times smaller. In
        attention and in gates the softmax multiplies values instead; those, and one
        with a path around it, are not judged. A ReLU of a ReLU is the same ReLU.

        Measured on digits, two hidden layers of 64, 20 epochs, three seeds: with a
        softmax in the place of a ReLU 7 to 10 epochs or none to 90 % accuracy instead
        of 5 to 6 (Adam), none instead of 3 to 4 (SGD); with a doubled sigmoid 0.78 to
        0.82 at the end instead of 0.88 to 0.90 (Adam), 0.28 to 0.31 instead of 0.87
        to 0.89 (SGD); with a doubled softmax at the end 14 to 17 epochs instead of
        3 to 4 (SGD), 6 to 8 instead of 5 to 6 (Adam).

    Evidence:
        times: how often it stands in a row. size: of the softmax. learnt: the share
        of the loss of the best constant that the model has learnt, where known.

    Args:
        learnt_above: share of what there is to learn from which on training has
            overcome it, and it is told as info; so is any other activation that is
            doubled (tanh, ELU, ...): digits nets with it learn as fast.

    Remedy:
        Leave one out. `plumbob.apply` takes out the last one of a doubled pair, and
        puts a ReLU in the place of a softmax between maps, where it is a module of
        its own.

    Allow when:
        The hidden softmax is a choice on purpose, as the memory of an external
        attention or the topics of a topic model.

    Example:
        >>> from nets_inputs import doubled_activation
        >>> from netting import codes
        >>> leans, plumb = (doubled_activation(leans=leans) for leans in (True, False))
        >>> codes(leans), codes(plumb)
        ({'PB613'}, set())

    References:
        Nikanjam et al. (2021), Automatic fault detection for deep learning programs
        using graph transformations, section 4 (redundant and misplaced activations).
    """
    assert survey.inputs is not None
    share = learnt(survey)
    known = {} if share is None else {"learnt": share}
    done = share is not None and share > learnt_above
    for act in survey.inputs.acts:
        if act.before and _again(act, act.before[-1]):
            harmless = done or act.name not in SQUEEZE
            yield Finding(
                site=act.site,
                message=f"{act.name.replace('_', ' ')} follows {act.before[-1]}: it is "
                "applied {times} times in a row",
                cause="the second time squeezes what is already bounded"
                if act.name in SQUEEZE
                else "one of them is one too many",
                evidence={"times": 2} | known,
                severity=Severity.INFO if harmless else None,
                remedy=_set(act, "identity", "Leave one of the two out."),
            )
        elif _between(act):
            yield Finding(
                site=act.site,
                message="a softmax over {size} units stands between this map and "
                f"{act.feeds}",
                cause="all that the next map sees are {size} shares that sum to one",
                evidence={"size": act.size} | known,
                severity=Severity.INFO if done else None,
                remedy=_set(act, "relu", "Use a ReLU or a tanh between the two maps."),
            )


def _again(act: Act, before: str) -> bool:
    same = act.name.removeprefix("log_") == before
    return same and act.name not in ONCE - SQUEEZE and before not in ONCE


def _between(act: Act) -> bool:
    """Return whether all that a map sees are the shares of a softmax over units."""
    softmax = act.name == "softmax" and act.over == "units" and act.size > 1
    return softmax and act.feeds is not None and act.alone


def _set(act: Act, new: str, advice: str) -> Remedy:
    if act.module is None:
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="set-activation",
        arguments={"module": act.module, "activation": new},
    )
