"""What the probe has seen of each site so far."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from plumbob.survey.activity import KEPT, activity, watched
from plumbob.survey.gradients import Gradients
from plumbob.survey.maps import Map
from plumbob.survey.names import Names, site_name
from plumbob.survey.recurrent import Cell, gate_bias, gate_site
from plumbob.survey.tally import SATURATED_ABOVE, Second, Sums, Thinned, moments
from plumbob.types import Moments, Reading, Site

WIDEST_INPUT = 2048  # features: second moments of more would cost more than the run


@dataclass(slots=True)
class Tally:
    """One site's sums; all of them merge batch by batch."""

    z: Sums
    x: Sums = field(default_factory=Sums)
    bias: Any = None
    second: Second | None = None
    rows: Thinned | None = None
    few: Thinned | None = None  # of z before an activation
    dtype: str | None = None
    samples: int = 0
    last_x: int = 0  # the batch in which an input was seen last
    last_z: int = 0


class Tallies:
    """Files every map under its site, making sites for maps that no trace found.

    With `only`, maps of other sites are passed over.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        keep: int,
        only: Set[str] | None = None,
    ) -> None:
        self.model = model
        self.names = Names(model)
        self.parameters = dict(model.named_parameters(remove_duplicate=False))
        self.sites = {site.name: site for site in sites}
        self.extra: list[Site] = []
        self.keep = keep
        self.only = only
        self.samples = 0
        self.batch = 0
        self.heads: dict[str, list[Tensor]] = {}  # z of the batch at these sites
        self.tallies: dict[str, Tally] = {}
        self.held: dict[Any, Tensor] = {}
        self.last: tuple[Any, Tensor, Moments] | None = None
        self.gains = {s.weight for s in sites if s.kind == "norm"}
        self.vectors = {s.weight for s in sites if s.kind != "norm"}
        self.known: dict[Any, list[Site]] = {}
        for site in sites:
            self._know(site)

    def _know(self, site: Site) -> None:
        self.known.setdefault((site.weight, _sort(site.kind)), []).append(site)

    def next_batch(self, samples: int) -> None:
        """Begin a batch of so many samples."""
        self.flush()
        self.samples = samples
        self.batch += 1
        self.held.clear()
        self.heads = {name: [] for name in self.heads}
        self.last = None

    def flush(self) -> None:
        """Add up what waits."""
        for tally in self.tallies.values():
            tally.x.flush()
            tally.z.flush()

    def see_input(self, found: Map) -> None:
        """Note the inputs of a map, before anything can change them.

        Where the bias that is added next will tell whose they are, they are held.
        """
        assert found.x is not None
        if self._passed_over(found):
            return
        if found.bias is None and len(self._candidates(found)) > 1:
            self.held[_use(found)] = found.x.detach().clone()
        else:
            self._add_input(found, found.x)

    def _add_input(self, found: Map, x: Tensor) -> None:
        site, tally = self._tally(found)
        if tally.last_x == self.batch:
            tally.x.add(x, found.x_axis, again=True)
        else:
            tally.x.merge(self._moments_of_input(x, found.x_axis))
        tally.last_x = self.batch
        if site.reads_input and x.shape[found.x_axis] <= WIDEST_INPUT:
            tally.second = tally.second or Second()
            tally.second.add(x, found.x_axis)

    def _moments_of_input(self, x: Tensor, axis: int) -> Moments:
        """Measure an input once for all maps in a row that read it (q, k and v)."""
        if x.is_inference():
            return moments(x, axis)[0]
        version = x._version  # pyright: ignore[reportPrivateUsage]
        key = (x.data_ptr(), x.shape, x.stride(), axis, version)
        if self.last is None or self.last[0] != key:
            # The tensor is held so that its address means this tensor.
            self.last = (key, x, moments(x, axis)[0])
        return self.last[2]

    def see_output(self, found: Map) -> None:
        """Note z of a map."""
        if self._passed_over(found):
            return
        held = self.held.pop(_use(found), None)
        if held is not None:
            self._add_input(found, held)
        site, tally = self._tally(found)
        if found.bias is not None and found.bias.numel() in {1, found.units}:
            tally.bias = found.bias.detach().double().cpu().numpy().reshape(-1)
        self._add_output(site, found.z, found.z_axis)
        if site.name in self.heads:
            self.heads[site.name].append(found.z.detach().clone())

    def _add_output(self, site: Site, z: Tensor, axis: int) -> None:
        tally = self.tallies[site.name]
        tally.z.add(z, axis, again=tally.last_z == self.batch)
        if self.keep:
            tally.rows = tally.rows or Thinned(keep=self.keep)
            tally.rows.add(z, axis)
        if watched(site.activation):
            tally.few = tally.few or Thinned(keep=KEPT)
            tally.few.add(z, axis)
        tally.dtype = str(z.dtype).removeprefix("torch.")
        if tally.last_z != self.batch:
            tally.last_z = self.batch
            tally.samples += self.samples

    def see_sum(self, cell: Cell, gate: int, z: Tensor) -> None:
        """Note the net input of a recurrent cell's gate."""
        if self.only is not None:
            return
        site = gate_site(cell, gate, self.model)
        if site.name not in self.sites:
            self.extra.append(site)
            self.sites[site.name] = site
        if site.name not in self.tallies:
            above = SATURATED_ABOVE.get(site.activation or "")
            self.tallies[site.name] = Tally(z=Sums(above=above))
            bias = gate_bias(cell, gate, self.model)
            self.tallies[site.name].bias = None if bias is None else bias.numpy()
        self._add_output(site, z, -1)

    def _passed_over(self, found: Map) -> bool:
        if self.only is None:
            return False
        return not any(site.name in self.only for site in self._candidates(found))

    def _tally(self, found: Map) -> tuple[Site, Tally]:
        site = self._site(found)
        if site.name not in self.tallies:
            above = SATURATED_ABOVE.get(site.activation or "")
            self.tallies[site.name] = Tally(z=Sums(above=above))
        return site, self.tallies[site.name]

    def _candidates(self, found: Map) -> list[Site]:
        key = (found.weight, found.kind)
        same = [s for s in self.known.get(key, ()) if _fits(s, found)]
        return [s for s in same if s.transposed == found.transposed] or same

    def _site(self, found: Map) -> Site:
        """Return a map's site; of several, that of its bias, else the next in turn."""
        same = self._candidates(found)
        if not same:
            site = self._new(found)
            self.extra.append(site)
            self.sites[site.name] = site
            self._know(site)
            return site
        own = [s for s in same if s.bias == found.bias_name] or same
        return own[found.turn % len(own)]

    def _new(self, found: Map) -> Site:
        """Make a site of a map that no trace found, named like all others."""
        rows = f"[{found.rows[0]}:{found.rows[1]}]" if found.rows else ""
        tied = self.names.others(found.weight)
        names = [site_name(name) + rows for name in (found.weight, *tied)]
        free = [name for name in names if name not in self.sites]
        kind = found.kind
        if kind == "map":
            turned = "conv-transpose" if found.transposed else "conv"
            kind = turned if found.convolution else "linear"
            kind = "recurrent" if self.names.recurrent(found.weight) else kind
        return Site(
            name=free[0] if free else f"{names[0]}({kind})",
            kind=kind,
            out=found.units,
            fan_in=found.fan_in,
            weight=found.weight,
            bias=found.bias_name,
            rows=found.rows,
            groups=found.groups,
            transposed=found.transposed,
            tied=tied,
            trainable=self.parameters[found.weight].requires_grad,
        )

    def readings(
        self, gradients: Gradients | None, strays: Set[str] = frozenset()
    ) -> tuple[dict[str, Reading], dict[str, str]]:
        """Return a reading per site that ran, and which did not.

        `strays` are parameters that are read outside their own module's call.
        """
        self.flush()
        readings: dict[str, Reading] = {}
        silent = {
            name: "not used on these batches"
            for name in self.sites
            if name not in self.tallies
        }
        weights = {site.weight for site in self.sites.values()}
        for name in sorted(self.names.aliases.keys() - weights):
            if self.parameters[name].ndim > 1:
                silent[name] = "in no affine map that could be measured"
        for name, tally in self.tallies.items():
            site, z = self.sites[name], tally.z.moments
            part = site.bias is not None and tally.bias is None
            if part and z is not None:
                silent[name] = "other operations lie between its map and its bias"
            rows = None if part else tally.rows
            grad = gradients.rows(site) if gradients else (None, None)
            readings[name] = Reading(
                samples=tally.samples,
                x=tally.x.moments,
                z=None if part else z,
                shift=None
                if z is None or (site.kind == "recurrent-sum" and tally.bias is None)
                else z.mean - (0.0 if tally.bias is None else tally.bias),
                saturated=None if part else tally.z.beyond,
                top=tally.second.top() if tally.second else None,
                sample=rows.value(site.out) if rows else None,
                grad_weight=grad[0],
                grad_bias=grad[1],
                called=strays.isdisjoint({site.weight, site.bias}),
                dtype=tally.dtype,
                activity=None
                if part or tally.few is None
                else activity(str(site.activation), tally.few.value(site.out)),
            )
        return readings, silent


def _sort(kind: str) -> str:
    return kind if kind in {"embedding", "norm"} else "map"


def _use(found: Map) -> tuple[Any, ...]:
    return found.weight, found.kind, found.rows, found.transposed, found.turn


def _fits(site: Site, found: Map) -> bool:
    return site.rows == found.rows and site.out == found.units
