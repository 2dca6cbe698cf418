"""PB312: batch norms that inference does not need."""

from collections.abc import Iterator

from plumbob.remedies import by_fix
from plumbob.rule import modules, rule
from plumbob.types import Finding, Needs, Severity, Site, Stage, Survey


@rule("PB312", "unfolded-batch-norm", Needs.GRAPH, Severity.INFO, since="0.1")
def unfolded_batch_norm(survey: Survey) -> Iterator[Finding]:
    """In inference a batch norm after a map is a part of that map.

    Why:
        Frozen, gamma (z - m) / sqrt(v + eps) + beta is an affine function of z = W x
        + b, unit by unit: the rows of W times gamma / sqrt(v + eps), and a bias. A
        trained model that only runs saves the pass over the activations (0.8 to 0.9
        of the time of small convolutional stacks on a processor). In training the
        norm uses the batch's own statistics and is no part of the map, so nothing is
        said of a model that is to be trained on: only of one that was said to be
        trained and stands in evaluation.

    Evidence:
        norms: how many batch norms follow a map that nothing else reads.

    Remedy:
        For inference only, fold each into its map on a copy, as `plumbob fix` does: the
        copy can no longer be trained as before.

    Allow when:
        The model will be trained on, or what runs it folds them by itself, as most
        compilers do.

    Example:
        >>> from nets_redundancy import unfolded_batch_norm as case
        >>> from netting import codes
        >>> "PB312" in codes(case(leans=True)), "PB312" in codes(case(leans=False))
        (True, False)

    References:
        Jacob et al. (2018), Quantization and training of neural networks for
        efficient integer-arithmetic-only inference, section 3.2.
    """
    if survey.about.get("mode") != "evaluation" or survey.said is not Stage.TRAINED:
        return
    maps = {s.name: s for s in survey.sites if _folds(s)}
    found = [
        site
        for site in survey.sites
        if site.kind == "norm"
        and len(site.fed_by) == 1
        and site.fed_by[0] in maps
        and maps[site.fed_by[0]].out == site.out
    ]
    if found:
        yield Finding(
            site=None,
            message="{norms} batch {norms:norm|norms} could be folded for inference: "
            f"{modules(f'{site.name}.weight' for site in found)}",
            cause="with fixed statistics a batch norm is an affine function of each "
            "unit of the map before it",
            evidence={"norms": len(found)},
            remedy=by_fix(
                survey,
                "Fold each batch norm into its map on a copy that only runs {fix}.",
                "PB312",
            ),
            steps=(
                "in training it counts: the statistics are the batch's own",
                "in inference a gauge: the map before it can carry gain and bias",
            ),
        )


def _folds(site: Site) -> bool:
    kinds = {"linear", "conv", "conv-transpose"}
    return site.kind in kinds and site.norm == "batch-norm" and not site.tied
