"""What training changes: frozen pytrees, new ones out of old ones."""

import functools
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

# The collection of singular vectors, refined in some passes only.
SPECTRAL = "spectral"


class NetState(flax.struct.PyTreeNode):
  """One network and its optimizer.

  Attributes:
    params: the trained parameters.
    stats: every other collection of the module, e.g. `batch_stats`.
    opt_state: of the optimizer of `params`.
  """

  params: Any
  stats: Any
  opt_state: Any

  @classmethod
  def create(cls, variables: Any, optimizer: optax.GradientTransformation):
    """Splits a module's fresh `variables` and initialises the optimizer."""
    stats = {k: v for k, v in variables.items() if k != "params"}
    params = variables["params"]
    return cls(params, stats, optimizer.init(params))

  def update(self, optimizer, grads, stats) -> "NetState":
    """Returns the state after one step along `grads`, with new `stats`."""
    updates, opt_state = optimizer.update(grads, self.opt_state, self.params)
    params = optax.apply_updates(self.params, updates)
    return NetState(params, stats, opt_state)


class Averaged(flax.struct.PyTreeNode):
  """An exponential moving average of a network: parameters *and* statistics.

  Averaged weights beside the live network's batch statistics are a pair that
  never existed, and sample worse than either.
  """

  params: Any
  stats: Any

  @classmethod
  def create(cls, net: NetState) -> "Averaged":
    """Starts at a copy of `net`; sharing its buffers would break donation."""
    return cls(*jax.tree.map(jnp.copy, (net.params, net.stats)))

  def update(self, net: NetState, decay: Any, step) -> "Averaged":
    """Moves towards `net` by 1 - min(decay, (1 + step) / (10 + step)).

    The ramp forgets the initial weights in short runs, too. A schedule, where
    `decay` is a function of the step, is followed as it is.
    """
    ramp = (1.0 + step) / (10.0 + step)
    now: Any = decay(step) if callable(decay) else jnp.minimum(decay, ramp)
    rate = 1.0 - now
    average = functools.partial(optax.incremental_update, step_size=rate)
    stats: Any = average(net.stats, self.stats)
    if SPECTRAL in stats:  # The mean of unit vectors is none.
      stats = {**stats, SPECTRAL: net.stats[SPECTRAL]}
    return Averaged(average(net.params, self.params), stats)


class State(flax.struct.PyTreeNode):
  """Everything that training changes.

  Attributes:
    step: int32, generator updates so far, or updates where there is no
      generator.
    nets: name -> live network, e.g. "generator", "discriminator".
    ema: name -> its average, of those networks that have one.
    memory: name -> pytree: what penalties, controllers and systems remember.
  """

  step: jax.Array
  nets: dict[str, NetState]
  ema: dict[str, Averaged]
  memory: dict[str, Any]

  @classmethod
  def create(
    cls,
    nets: dict[str, NetState],
    averaged: Iterable[str] = (),
    memory: dict[str, Any] | None = None,
  ) -> "State":
    """Returns the state at step 0; `averaged` names nets with an average."""
    ema = {name: Averaged.create(nets[name]) for name in averaged}
    return cls(jnp.int32(0), nets, ema, memory or {})

  def net(self, name: str, averaged: bool = True) -> Any:
    """Returns a network: its average where there is one and it is wanted."""
    if averaged and name in self.ema:
      return self.ema[name]
    return self.nets[name]

  def replace_nets(self, **nets: NetState) -> "State":
    """Returns the state with other live networks of these names."""
    return self.replace(nets={**self.nets, **nets})

  def remember(self, **memory: Any) -> "State":
    """Returns the state with other entries in its memory."""
    return self.replace(memory={**self.memory, **memory})

  def move_averages(self, decay: Any, *names: str, step: Any = None) -> "State":
    """Returns the state with averages moved towards their live networks.

    Args:
      decay: of the averages, or step -> decay; see `Averaged.update`.
      *names: of the networks; those without an average are passed over.
      step: that this is; the state's own if None.
    """
    step = self.step if step is None else step
    moved = {
      name: self.ema[name].update(self.nets[name], decay, step)
      for name in names
      if name in self.ema
    }
    return self.replace(ema={**self.ema, **moved})

  def count_step(self) -> "State":
    """Returns the state one step on."""
    return self.replace(step=self.step + 1)

  @property
  def generator(self) -> NetState:
    """The live generator."""
    return self.nets["generator"]

  @property
  def discriminator(self) -> NetState:
    """The live discriminator."""
    return self.nets["discriminator"]


def forward(
  module: nn.Module,
  params: Any,
  stats: Any,
  *inputs,
  key: jax.Array,
  iterate: bool = True,
  dtype: Any = jnp.float32,
) -> tuple[Any, Any]:
  """Applies `module` in training mode; returns its output and new stats.

  Args:
    module: whose parameters and stats these are.
    params: of the module.
    stats: its other collections.
    *inputs: of the module.
    key: for dropout.
    iterate: whether spectral norms refine their singular vectors.
    dtype: of the arithmetic inside; outputs, stats and gradients are float32.
  """
  rngs = {"dropout": key}
  mutable = [name for name in stats if iterate or name != SPECTRAL]
  params, inputs = cast((params, inputs), dtype)
  output, new_stats = module.apply(
    {"params": params, **stats}, *inputs, train=True, rngs=rngs, mutable=mutable
  )
  return cast((output, {**stats, **new_stats}), jnp.float32)


def cast(tree: Any, dtype: Any) -> Any:
  """Returns `tree` with its arrays of real numbers in `dtype`."""

  def convert(x):
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

  return jax.tree.map(convert, tree)
