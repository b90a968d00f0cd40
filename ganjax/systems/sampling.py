"""How samples are made of latents: what systems with a z have in common."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from ganjax import parallel
from ganjax.state import State
from ganjax.systems.system import Net, System

# The collection in which batch norm keeps its running statistics.
BATCH = "batch_stats"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LatentSystem(System):
  """A system whose samples are images of latents.

  A subclass says how one z is drawn, and how images are made of many:
  `sample_one_z` and `render`. Samples are drawn on one device, in float32.

  Attributes:
    z_dim: the size of z.
  """

  z_dim: int = 128

  # The networks between z and an image, the last one being that which makes
  # the image: their averages, where there are some, are what is sampled.
  drawn: ClassVar[tuple[str, ...]] = ("generator",)

  @abc.abstractmethod
  def sample_one_z(self, key: jax.Array, truncation: Any = None) -> jax.Array:
    """Draws one z `[z_dim]`; `truncation` bounds its components unless None."""

  @abc.abstractmethod
  def render(
    self,
    state: State,
    nets: Mapping[str, Net],
    z: jax.Array,
    labels: Any,
    key: jax.Array | None = None,
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the images of z as networks see them, and new stats by name.

    Args:
      state: of the system, for what it remembers.
      nets: those of `drawn`, by name.
      z: `[n, z_dim]`.
      labels: `[n]` or None.
      key: of dropout, in training mode, by the statistics of these n; in
        evaluation mode, by running statistics, if None.
    """

  def pass_through(
    self,
    name: str,
    net: Net,
    *inputs: Any,
    key: jax.Array | None,
    iterate: bool = True,
  ) -> tuple[Any, Any]:
    """Applies a network for samples; returns its output and its stats.

    Args:
      name: of the network.
      net: its parameters and statistics.
      *inputs: of the network.
      key: as that of `render`.
      iterate: whether spectral norms refine their vectors in training mode.
    """
    if key is None:
      return self.evaluate(name, net, *inputs), net.stats
    return self.forward(
      name, net, *inputs, key=key, iterate=iterate, dtype=jnp.float32
    )

  @property
  def num_classes(self) -> int:
    """Classes of the labels that `sample` is given, 0 for none."""
    return getattr(self.networks[self.drawn[-1]], "num_classes", 0)

  @property
  def conditional(self) -> bool:
    """Whether samples depend on labels: the last network says so."""
    network = self.networks[self.drawn[-1]]
    return self.num_classes > 0 and getattr(network, "conditional", False)

  def drawn_nets(self, state: State, ema: bool) -> dict[str, Net]:
    """Returns the networks that samples pass, averaged if that is wanted."""
    return {name: state.net(name, averaged=ema) for name in self.drawn}

  def latents(self, key: jax.Array, n: int, truncation=None) -> jax.Array:
    """Draws z `[n, z_dim]`; `truncation` bounds its components unless None."""

    def one(key):
      return self.sample_one_z(key, truncation)

    return jax.vmap(one)(parallel.example_keys(key, n))

  def decode(
    self, state: State, z: jax.Array, labels=None, ema: bool = True
  ) -> jax.Array:
    """Returns the images `[n, ...]` of z `[n, z_dim]`, as networks see them.

    Each image is made by itself, with batch norm's running statistics. The
    other arguments are those of `sample`.
    """
    nets = self.drawn_nets(state, ema)
    return self.render(state, nets, z, labels)[0]

  def sample(
    self,
    state: State,
    key: jax.Array,
    n: int,
    labels: Any = None,
    ema: bool = True,
    truncation: Any = None,
    batch: bool = False,
  ) -> jax.Array:
    """Draws images `[n, ...]` of n latents; see `System.sample`."""
    z = self.latents(key, n, truncation)
    nets = self.drawn_nets(state, ema)
    return self.render(state, nets, z, labels, key if batch else None)[0]

  def settle(
    self,
    state: State,
    key: jax.Array,
    n: int,
    labels: Any,
    ema: bool,
    truncation: Any,
    weight: Any,
  ) -> State:
    """Moves batch norm's running statistics by `weight` to a fresh batch's.

    With the weights 1, 1/2, 1/3, ... they become the mean over the batches of
    their means and of their variances. The other arguments are those of
    `sample`.
    """
    nets = self.drawn_nets(state, ema)
    running = {
      name: net.stats[BATCH] for name, net in nets.items() if BATCH in net.stats
    }
    if not running:
      return state
    z = self.latents(key, n, truncation)

    def with_running(name, running):
      net = nets[name]
      if name not in running:
        return net
      return net.replace(stats={**net.stats, BATCH: running[name]})

    def update(running):
      before = {name: with_running(name, running) for name in nets}
      _, stats = self.render(state, before, z, labels, key)
      return {name: stats[name][BATCH] for name in running}

    new = move_statistics(update, running, weight)
    settled = {name: with_running(name, new) for name in nets}
    averaged = {k: v for k, v in settled.items() if ema and k in state.ema}
    live = {k: v for k, v in settled.items() if k not in averaged}
    return dataclasses.replace(
      state, nets={**state.nets, **live}, ema={**state.ema, **averaged}
    )


def move_statistics(
  update: Callable[[Any], Any], running: Any, weight: Any
) -> Any:
  """Returns running statistics moved by `weight` to those of a batch.

  Args:
    update: running statistics -> those after a batch in training mode.
    running: statistics, a pytree.
    weight: 1 for those of the batch alone.
  """
  # Batch norm returns m * running + (1 - m) * batch: from 0, with slope m.
  zeros = jax.tree.map(jnp.zeros_like, running)
  ones = jax.tree.map(jnp.ones_like, zeros)
  after, slope = jax.jvp(update, (zeros,), (ones,))
  batch = jax.tree.map(lambda x, m: x / (1 - m), after, slope)
  return optax.incremental_update(batch, running, weight)
