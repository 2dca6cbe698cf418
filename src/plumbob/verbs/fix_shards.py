"""`fix_shards`: mend a checkpoint that does not fit in memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbob.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from plumbob.mending.mended import Mended
    from plumbob.mending.offer import Offer, Refusal
    from plumbob.mending.plan import Plan
    from plumbob.mending.stored import Stored
    from plumbob.survey.edit import Edit
    from plumbob.survey.files import Entry


def fix_shards(
    build: "Callable[[], nn.Module]",
    weights: str | Path,
    output: str | Path,
    data: Any,
    *,
    goal: str = "inference",
    mode: str = "drop",
    select: str | Iterable[str] | None = None,
    seed: int = 0,
    source: Mapping[str, str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> "Mended":
    """Mend a checkpoint shard by shard, in memory for a block of it, and prove it.

    Why:
        The structure is proved on a model without values. Each tensor is then read
        where it is needed and forgotten: the models before and after every rewrite go
        through the graph side by side, in float64 with the weights as they are and
        with random ones, and as they are stored.

    Args:
        build: builds the model from its configuration; called once, so that its
            parameters take no memory.
        weights: a safetensors file, an index, or a folder of either.
        output: the folder to write: shards of the same names, an index, and a manifest
            for `plumbob.load`. It is new or empty.
        data: what the model is fed; a few short inputs do.
        goal: "inference" or "training", as in `fix`.
        mode: "drop" or "zero", as in `fix`.
        select: codes of rules or names of rewrites; all if not given. Rewrites that
            change the shapes of weights need them in memory and are left out.
        seed: of the random values.
        source: digests of the files, for the manifest.
        tell: called with what is done next.

    Returns:
        What proves it; the weights are in the folder.

    Raises:
        InputError: the model cannot be built without values, does not fit the weights
            or does not run on the data, or the folder cannot be written.
        FileError: the weights are damaged or hostile.

    Example:
        >>> import plumbob
        >>> plumbob.fix_shards(
        ...     build, "opt-1.3b", "opt-1.3b-mended", {"input_ids": ids}
        ... )  # doctest: +SKIP
    """
    from plumbob.mending.form import form_of
    from plumbob.mending.mended import Mended
    from plumbob.mending.shards import free, write
    from plumbob.verbs.fix import one_of, selected

    aim: Any = one_of(goal, "goal", ("training", "inference"))
    one_of(mode, "mode", ("drop", "zero"))
    chosen = selected(select)
    free(Path(output))
    say: Callable[[str], None] = tell or (lambda line: None)
    task = _Task.of(build, weights, data, aim, say)
    model = task.plan.model
    size = sum(p.numel() for p in model.parameters())
    found = Mended(goal=aim, mode=mode, before=size, model=type(model).__name__)
    offers = list(task.offers(chosen, found))
    edits = task.certified(offers, found, mode, seed, say)
    after = task.after(found)
    found = replace(
        found,
        after=sum(p.numel() for p in after.parameters()),
        form=form_of(model, after),
    )
    manifest = found.manifest(source)
    write(Path(output), task.entries, edits, found.removed, manifest, say)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A model without values, and where its values are; `other` is of other sizes."""

    plan: "Plan"
    other: "Plan"
    entries: "Mapping[str, Entry]"
    store: "Stored"

    @classmethod
    def of(
        cls,
        build: "Callable[[], nn.Module]",
        weights: str | Path,
        data: Any,
        goal: Any,
        say: Callable[[str], None],
    ) -> "_Task":
        """Build the model and prove what can go.

        Raises:
            InputError: it does not run on the data.
        """
        import copy

        from torch import Tensor
        from torch.utils._pytree import tree_map_only

        from plumbob.mending.plan import Plan
        from plumbob.mending.sizes import resized
        from plumbob.mending.stored import Stored
        from plumbob.survey.batches import batches
        from plumbob.survey.hollow import as_stored, hollow
        from plumbob.survey.structures import read
        from plumbob.survey.weights import matched

        say("building without values")
        model = hollow(build)
        entries = matched(model, weights)
        as_stored(model, entries)
        saved = {name: entries[name] for name in model.state_dict()}
        store = Stored(saved, dict(model.named_buffers()))
        model = copy.deepcopy(model).to("meta")
        batch = next(batches(model, data, limit=1))
        say("proving what can go")
        structure = read(model, batch)
        if False not in structure.graphs:
            raise InputError(
                f"expected {type(model).__name__} to run on the data in inference: "
                f"{' '.join(structure.unseen.values())}"
            )
        call = (batch.args, dict(batch.kwargs))
        args, kwargs = tree_map_only(Tensor, lambda t: t.to("meta"), call)
        other = resized(model, replace(batch, args=args, kwargs=kwargs))
        plan, again = (
            Plan(model=model, batch=fed, structure=found, goal=goal)
            for fed, found in ((batch, structure), (other, read(model, other)))
        )
        return cls(plan=plan, other=again, entries=entries, store=store)

    def offers(
        self, chosen: frozenset[str] | None, found: "Mended"
    ) -> "Iterator[list[Offer]]":
        """Yield what each rewrite offers to do; note what it refuses."""
        from plumbob.mending.offer import Offer
        from plumbob.mending.trying import refusal
        from plumbob.rewrites import OF_VALUES

        def of(plan: "Plan", rewrite: Any) -> "list[Offer | Refusal]":
            return [
                offer
                for offer in rewrite(plan)
                if chosen is None or {offer.code, offer.rewrite} & chosen
            ]

        for rewrite in OF_VALUES:
            mine: list[Offer] = []
            known = {_said(o) for o in of(self.other, rewrite) if isinstance(o, Offer)}
            for offer in of(self.plan, rewrite):
                if not isinstance(offer, Offer):
                    found.refused.append(offer)
                elif _said(offer) in known:
                    mine.append(offer)
                else:
                    why = "at other sizes of the inputs it is not proved"
                    found.refused.append(refusal(offer, why))
            if mine:
                yield mine

    def certified(
        self,
        offers: "list[list[Offer]]",
        found: "Mended",
        mode: str,
        seed: int,
        say: Callable[[str], None],
    ) -> "dict[str, list[Edit]]":
        """Return what is done to each tensor; note the certificates, and refusals.

        What fails is halved, until it is one place, which is left out; all others
        are certified anew.
        """
        from plumbob.mending.side_by_side import certificates
        from plumbob.mending.trying import refusal

        while True:
            edits, made = certificates(
                self.plan, offers, self.store, mode=mode, seed=seed, tell=say
            )
            held = [one for one in made if not isinstance(one, str)]
            if len(held) == len(made):
                did = (one for one in held if one.changed or one.removed or one.frozen)
                found.certificates.extend(did)
                return edits
            kept: list[list[Offer]] = []
            for mine, one in zip(offers, made, strict=True):
                if not isinstance(one, str):
                    kept.append(mine)
                elif len(mine) > 1:
                    half = len(mine) // 2
                    kept += [mine[:half], mine[half:]]
                else:
                    found.refused.append(refusal(mine[0], one))
            offers = kept

    def after(self, found: "Mended") -> "nn.Module":
        """Return the mended model, without values."""
        import copy

        model = copy.deepcopy(self.plan.model)
        for certificate in found.certificates:
            for name in certificate.removed:
                path, _, last = name.rpartition(".")
                model.get_submodule(path).register_parameter(last, None)
            for name in certificate.frozen:
                model.get_parameter(name).requires_grad_(False)
        return model


def _said(offer: "Offer") -> tuple[Any, ...]:
    """Return what an offer says of the model, whatever the sizes of its inputs."""
    return offer.place, offer.safety, offer.effects, getattr(offer.act, "rows", None)
