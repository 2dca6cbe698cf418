"""PB205: the mean of x outweighs its variation."""

from collections.abc import Iterator

import numpy as np

from plumbob.remedies import centre
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Reading, Severity, Site, Stage, Survey


@rule(
    "PB205",
    "uncentred-input",
    Needs.ACTIVATIONS,
    Severity.WARNING,
    since="0.1",
    explains=("PB201", "PB202", "PB203", "PB205", "PB206"),
)
def uncentred_input(
    survey: Survey, *, slowdown_above: float = 25.0, inside_above: float = 1000.0
) -> Iterator[Finding]:
    """The mean of the input outweighs its variation, so learning crawls.

    Why:
        The curvature of any loss in (W, b) is that in z times H = E[(x,1)(x,1)']. A
        mean mu adds an eigenvalue of about |mu|^2 + 1 to H and none of the others
        grows with it. Gradient descent must lower its learning rate by the ratio of
        the largest eigenvalues with and without the mean, and everything that the
        data teach comes as many times slower. With x centred, W and b do not disturb
        each other and b costs nothing.

    Evidence:
        slowdown = top / centred_top: the largest eigenvalue of E[(x,1)(x,1)'] as the
        data come and with x centred. It does not change when x and 1 are scaled
        together, and 25 and more cannot arise by chance: the mean of n centred
        samples adds less than 2, for any n above 1.
        ratio = |mu|^2 / tr Sigma; feature, mean, sd: the input with the largest mean,
        share: its part of |mu|^2.

    Args:
        slowdown_above: of a site that reads the model's input. Plain gradient descent
            pays the ratio in full, momentum at best its square root. Measured with
            every rate tuned (benchmarks/uncentred_input.py, standardised digits plus
            a constant): a slowdown of 9 costs 1.3 to 1.9 times the epochs (SGD,
            momentum, Adam), 19 1.7 to 2.4, 34 2.5 to 2.9, 75 4 to 5.5, 300 9 to 14;
            two features (moons) pay more. At the centred twin's rate SGD and
            momentum fail from 34 on. Images in [0, 1] lie at 5 to 15, pay 1.4 to 1.6
            and are ordinary; from 25 on everyone needs twice the epochs.
        inside_above: |mu|^2 / tr Sigma of x inside the network, told as info. 0.4 to
            5 is ordinary after a ReLU and grows with depth, and sigmoid units before
            training reach hundreds. At 1000 what varies is 1/32 of the length of x:
            5 of the 8 bits of bfloat16 are spent on a constant.

    Remedy:
        Subtract each feature's mean over the training data (and divide by its
        standard deviation); the same constants at inference. `plumbob.apply` puts the
        mean of the data given into the layer, which subtracts it from then on. At
        stage init b stays, as if the data had been centred; else b + W mu takes its
        place, which is the same function, easier to train further.

    Allow when:
        A batch or instance norm follows the map directly: it takes the mean out
        again, and the rule is silent.

    Example:
        >>> from nets import codes, uncentred_input
        >>> codes(uncentred_input(leans=True)), codes(uncentred_input(leans=False))
        ({'PB205'}, set())

    References:
        LeCun, Kanter and Solla (1991), Eigenvalues of covariance matrices:
        application to neural-network learning. LeCun, Bottou, Orr and Müller (1998),
        Efficient BackProp, section 4.3.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        if (
            site.kind not in {"linear", "conv", "conv-transpose", "recurrent"}
            or site.norm in {"batch-norm", "instance-norm"}
            or reading is None
            or reading.x is None
            or reading.samples < 2
            or not reading.x.var.sum() > 0
        ):
            continue
        numbers = _numbers(reading)
        if site.reads_input and reading.top is not None:
            top, centred = reading.top
            numbers |= {"slowdown": top / centred, "top": top, "centred_top": centred}
            if numbers["slowdown"] >= slowdown_above:
                yield _at_input(survey, site, numbers)
        elif not site.reads_input and numbers["ratio"] >= inside_above:
            yield _inside(survey, site, numbers)


def _numbers(reading: Reading) -> dict[str, int | float]:
    assert reading.x is not None
    mean, var = reading.x.mean, reading.x.var
    feature = int(np.abs(mean).argmax())
    power = float((mean**2).sum())
    return {
        "ratio": power / float(var.sum()),
        "features": len(mean),
        "feature": feature,
        "mean": float(mean[feature]),
        "sd": float(var[feature] ** 0.5),
        "share": float(mean[feature] ** 2) / power if power else 0.0,
    }


def _at_input(survey: Survey, site: Site, numbers: dict[str, int | float]) -> Finding:
    initial = site.stage is Stage.INIT
    one = numbers["share"] > 0.5 and numbers["features"] > 1
    return Finding(
        site=site.name,
        message="the mean of the input makes the largest curvature {slowdown:,.0f} "
        "times that of the centred input, and the learning rate must be as many times "
        "smaller",
        cause="one feature: number {feature} (mean {mean}, sd {sd}) holds {share:.0%} "
        "of |mu|^2"
        if one
        else "all features together: |mu|^2 is {ratio:.3g} times their total variance "
        "(feature {feature}: mean {mean}, sd {sd})",
        evidence=numbers,
        remedy=centre(
            survey,
            site,
            "Subtract from each input feature its mean over the training data"
            + ("." if initial else ", and add W mu to the bias, the same function."),
            keep=not initial,
        ),
    )


def _inside(survey: Survey, site: Site, numbers: dict[str, int | float]) -> Finding:
    initial = site.stage is Stage.INIT
    return Finding(
        site=site.name,
        message="x is nearly constant: |mu|^2 is {ratio:,.0f} times its total variance",
        cause="what comes before hands on its mean and little of what varies (unit "
        "{feature}: mean {mean}, sd {sd})",
        evidence=numbers,
        remedy=centre(
            survey,
            site,
            "Put a norm layer or a residual path before this map, or subtract the mean "
            "of its input"
            + ("." if initial else " and add W mu to its bias, the same function."),
            keep=not initial,
        ),
        severity=Severity.INFO,
    )
