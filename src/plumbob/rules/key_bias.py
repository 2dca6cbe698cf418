"""PB303: a key bias, which the softmax over keys removes."""

from collections.abc import Iterator

from plumbob.remedies import by_fix, drop_bias
from plumbob.rule import loose, proved, rule
from plumbob.types import Finding, Needs, Proof, Severity, Survey


@rule("PB303", "key-bias", Needs.GRAPH, Severity.INFO, since="0.1")
def key_bias(survey: Survey) -> Iterator[Finding]:
    """The softmax over keys removes the bias of the keys: nothing depends on it.

    Why:
        A key k + b scores q.(k + b) = q.k + q.b with its query: the same q.b is added
        to the scores of all keys, and softmax does not change when all its arguments
        grow by one number. Masks, scales, temperature and additive position biases
        keep this; a rotary embedding or a norm of the keys, a soft cap, a sigmoid, a
        sink or extra keys without the bias break it, and then it is not reported: the
        shift is proved to end at the softmax. The query bias is no such bias: it adds
        b.k, which differs from key to key. The gradient of a key bias is exactly 0 and
        what arrives is rounding noise, which Adam scales up to full steps: it wanders.
        It is harmless in float32; in bfloat16 a large q.b costs digits of the scores.

    Evidence:
        elements: how many values of the parameter nothing sees, of `count` (a packed
        parameter also holds query and value biases, which count); largest: the largest
        |b| among all of the parameter's values; error: the largest relative change of
        the output in the randomised test in float64 (not there if it could not be run).

    Remedy:
        Build the key projection without a bias; in a packed one set the key rows to 0
        and keep them there. `plumbob fix` does either and proves it (`plumbob.apply`
        the first, without data). The query and the value bias stay. Rows that are 0 for
        good, frozen or beside other rows that are not 0, are not reported.

    Allow when:
        A rotary embedding or a norm of the keys will be put in, or a checkpoint's
        layout asks for the parameter.

    Example:
        >>> from nets import codes, key_bias
        >>> leans, plumb = key_bias(leans=True), key_bias(leans=False)
        >>> "PB303" in codes(leans), "PB303" in codes(plumb)
        (True, False)

    References:
        Namazifar, Hazarika and Hakkani-Tur (2023), Role of bias terms in dot-product
        attention, section 3 (arXiv 2302.08626).
    """
    by_parameter: dict[str, list[Proof]] = {}
    for proof in loose(survey):
        ends = {proof.training, proof.inference}
        whole = proof.by == "softmax-key" and proof.direction == "each"
        if whole and "null" in ends and "gauge" not in ends:
            by_parameter.setdefault(proof.parameter, []).append(proof)
    for parameter, proofs in by_parameter.items():
        exact = all(p.training == p.inference and not p.on_this_path for p in proofs)
        units = tuple(j for p in proofs for j in range(*p.rows))
        tensor = survey.tensors.get(parameter)
        count = tensor.count if tensor else len(units)
        advice = "Build the key projection without a bias {fix}; keep the query bias."
        if len(units) < count:
            advice = "Set the key rows of this bias to 0 and keep them there {fix}."
        remedy = by_fix(survey, advice, "PB303", proofs)
        yield Finding(
            site=parameter,
            units=units,
            message="{elements} of the {count} {count:element|elements} of this bias "
            "{elements:is a key bias|are key biases}, which nothing sees",
            cause="a key bias adds the same number to the scores of all keys, and the "
            "softmax over keys removes it",
            evidence=proved(survey, proofs) | {"count": count},
            remedy=drop_bias(survey, parameter, remedy)
            if exact and len(units) == count
            else remedy,
            steps=tuple(dict.fromkeys(step for p in proofs for step in p.steps)),
        )
