"""What every system is: the base class, its updates and its abilities."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import state as states
from ganjax.state import Averaged, NetState, State

Metrics: TypeAlias = dict[str, jax.Array]
# Its parameters and its statistics are what a pass through it needs.
Net: TypeAlias = NetState | Averaged

# By what batch norm normalises while samples are drawn: see `gan.GAN`.
STATISTICS = ("running", "batch", "standing")


class Update(NamedTuple):
  """One update of a step, and the batch that it sees.

  Attributes:
    function: `(state, real, key, skip=()) -> (state, metrics)`; `real` is a
      batch with `images [n, ...]` and `labels [n]` or None.
    batch: the place of that batch among the step's `batches_per_step`.
  """

  function: Callable[..., tuple[State, Metrics]]
  batch: int = 0


def compose(updates: Sequence[Update]) -> Callable[..., tuple[State, Metrics]]:
  """Returns the step that makes some updates one after another.

  Args:
    updates: in their order. A single one is given the step's key itself; of
      several each is given the key folded with its own place.

  Returns:
    `train_step(state, batch, key, skip=()) -> (state, metrics)`, pure and per
    device; `batch` has `images [batches_per_step, n, ...]`.
  """

  def train_step(state, batch, key, skip=()):
    metrics = {}
    # Unrolled: on CPU a convolution inside a loop runs fifty times slower.
    for place, update in enumerate(updates):
      real = jax.tree.map(lambda x, i=update.batch: x[i], batch)
      own_key = key
      if len(updates) > 1:
        own_key = jax.random.fold_in(key, place)
      state, new = update.function(state, real, own_key, skip)
      metrics.update(new)
    return state, metrics

  return train_step


def ability(
  function: Callable | None = None,
  *,
  returns: str = "values",
  takes_labels: bool = True,
) -> Any:
  """Marks a method as something that a system can do with images.

  The method is `(self, state, images, labels=None, **how)`. `Run.apply` and
  metrics find it by its name, and compile it.

  Args:
    function: the method.
    returns: "images" for what is to be stored as images are, else "values".
    takes_labels: whether it looks at the labels of conditional systems.
  """

  def mark(function):
    function.returns = returns
    function.takes_labels = takes_labels
    function.is_ability = True
    return function

  return mark if function is None else mark(function)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class System(abc.ABC):
  """What is trained and how; its fields are its parts and its settings.

  A subclass has `init`, `updates` and `sample`, and what it can do besides. Its
  fields are the schema of `config.system`, as those of a network are. One that
  averages networks has a field `ema_decay`, one that updates D several times a
  field `d_steps_per_g_step`; they are set by `config.ema` and by
  `config.d_steps_per_g_step`, which other systems refuse.

  Attributes:
    precision: of the networks' arithmetic in training, "float32" or
      "bfloat16". Parameters, their averages, statistics, losses and what is
      made of gradients are float32 in both, and so are samples.
  """

  precision: str = "float32"

  # A system that offers a choice has a field of this name.
  statistics: ClassVar[str] = "running"

  @abc.abstractmethod
  def init(self, key: jax.Array, arrays: Any) -> State:
    """Returns the state at step 0.

    Args:
      key: all randomness of the start is a function of it.
      arrays: the training set as networks see it, `images [N, ...]` and
        `labels [N]` or None: for shapes, and for what depends on data.
    """

  @abc.abstractmethod
  def updates(self) -> tuple[Update, ...]:
    """Returns the updates of one step, in their order."""

  @abc.abstractmethod
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
    """Draws images `[n, ...]` as networks see them.

    Args:
      state: of the system.
      key: the samples are a function of it.
      n: how many.
      labels: int32 `[n]`, or None.
      ema: from the averaged networks where there are some.
      truncation: the largest component of z, or None.
      batch: whether in training mode, by the statistics of these n.
    """

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
    """Moves running statistics by `weight` to those of n fresh samples.

    A system that has none of its own to move returns the state as it is.
    """
    del key, n, labels, ema, truncation, weight
    return state

  def train_step(
    self, state: State, batch: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Returns the state after one step, and scalar metrics.

    The function is pure and sees one device's share of the batch.

    Args:
      state: of this system.
      batch: `images [batches_per_step, n, ...]`, `labels` alike or None.
      key: the step's randomness is a function of it.
      skip: names in `lazy` that are left out of this step, as `System.skip`
        gives them. They are chosen in Python, and each choice is a step of
        its own, since on CPU a convolution inside of `lax.cond` runs fifty
        times slower.
    """
    return compose(self.updates())(state, batch, key, skip)

  def skip(self, step: int) -> tuple[str, ...]:
    """Returns the names in `lazy` that are not due after `step` steps."""
    return tuple(name for name, every in self.lazy.items() if step % every)

  @functools.cached_property
  def networks(self) -> dict[str, nn.Module]:
    """Name -> network, as it is applied; the state has the same names."""
    values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return {k: v for k, v in values.items() if isinstance(v, nn.Module)}

  @property
  def batches_per_step(self) -> int:
    """How many real batches one step uses."""
    return 1 + max(update.batch for update in self.updates())

  @property
  def lazy(self) -> Mapping[str, int]:
    """Name of a part, e.g. a penalty -> it is due every so many steps.

    Parts that are due at every step are not in it.
    """
    return {}

  @property
  def num_classes(self) -> int:
    """Classes of the labels that `sample` is given, 0 for none."""
    return 0

  @property
  def conditional(self) -> bool:
    """Whether samples depend on labels."""
    return False

  @property
  def dtype(self) -> Any:
    """The type of the networks' arithmetic in training."""
    return jnp.dtype(self.precision)

  def abilities(self) -> dict[str, Callable[..., Any]]:
    """Returns name -> what this system can do with images; see `ability`."""
    names = [n for n in dir(type(self)) if not n.startswith("_")]
    marked = [
      name
      for name in names
      if getattr(getattr(type(self), name), "is_ability", False)
    ]
    return {name: getattr(self, name) for name in marked}

  def create(
    self,
    name: str,
    rngs: Any,
    *inputs: Any,
    optimizer: optax.GradientTransformation,
    images: jax.Array | None = None,
  ) -> NetState:
    """Initialises a network.

    Args:
      name: of the network.
      rngs: a key, or keys by name.
      *inputs: of the network.
      optimizer: its own.
      images: `[N, ...]`, for a network with `init_from_data`.
    """
    module: Any = self.networks[name]
    variables = module.init(rngs, *inputs)
    if images is not None and hasattr(module, "init_from_data"):
      params = module.init_from_data(variables["params"], images)
      variables = {**variables, "params": params}
    return NetState.create(variables, optimizer)

  def forward(
    self,
    name: str,
    net: Net,
    *inputs: Any,
    key: jax.Array,
    iterate: bool = False,
    dtype: Any = None,
  ) -> tuple[Any, Any]:
    """Applies a network in training mode; returns its output and new stats.

    Args:
      name: of the network.
      net: its parameters and statistics.
      *inputs: of the network.
      key: of dropout.
      iterate: whether spectral norms refine their singular vectors.
      dtype: of the arithmetic; `self.dtype` if None.
    """
    return states.forward(
      self.networks[name],
      net.params,
      net.stats,
      *inputs,
      key=key,
      iterate=iterate,
      dtype=self.dtype if dtype is None else dtype,
    )

  def evaluate(self, name: str, net: Net, *inputs: Any) -> Any:
    """Applies a network as it is in evaluation: running statistics, float32."""
    variables = {"params": net.params, **net.stats}
    return self.networks[name].apply(variables, *inputs, train=False)


def first_two(arrays: Any) -> tuple[jax.Array, Any]:
  """Returns two images and their labels or None, from which shapes are read."""
  labels = None if arrays.labels is None else arrays.labels[:2]
  return arrays.images[:2], labels


def dropout_rngs(key: jax.Array) -> dict[str, jax.Array]:
  """Returns the keys with which a network that may have dropout is made."""
  return {"params": key, "dropout": key}
