"""What systems with a generator and a discriminator have in common.

They draw z, make fakes of it and let D judge them. What is to be added to a
player's loss, or only logged, is a dict `name -> (value, weight)`, `Extras`:
of a scalar mean over this device's examples, and of its factor in the loss, 0
for the log alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax.nets.judged import Judged
from ganjax.objectives import latents, per_example
from ganjax.objectives.penalties import Penalty, View
from ganjax.state import State
from ganjax.systems.sampling import LatentSystem
from ganjax.systems.system import Metrics, Net, System, ability, first_two

Extras: TypeAlias = dict[str, tuple[jax.Array, float]]


class StepKeys(NamedTuple):
  """The randomness of one update; the same key gives the same update."""

  z: jax.Array
  generator: jax.Array
  real: jax.Array
  fake: jax.Array
  penalties: jax.Array

  @classmethod
  def split(cls, key: jax.Array) -> "StepKeys":
    """Returns the keys that an update's key is split into."""
    return cls(*jax.random.split(key, len(cls._fields)))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AdversarialSystem(LatentSystem):
  """A generator and a discriminator, and how images pass through both.

  Attributes:
    generator: see `ganjax.nets`.
    discriminator: see `ganjax.nets`.
    g_opt: the generator's optimizer.
    d_opt: the discriminator's optimizer.
    latent: the distribution of z, a key of `latents.LATENTS`.
    ema_decay: of the averaged generator, or step -> decay; 0 for none.
  """

  generator: nn.Module
  discriminator: nn.Module
  g_opt: optax.GradientTransformation
  d_opt: optax.GradientTransformation
  latent: str = "normal"
  ema_decay: float | Callable[[Any], Any] = 0.0

  def __post_init__(self):
    """Raises a `UserError` if there is no such latent."""
    latents.LATENTS.find(self.latent)

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises both players; see `System.init`."""
    g_key, d_key, z_key = jax.random.split(key, 3)
    images, labels = first_two(arrays)
    z = jax.vmap(self.sample_one_z)(jax.random.split(z_key, 2))
    generator = self.create(
      "generator",
      g_key,
      z,
      labels,
      optimizer=self.g_opt,
      images=arrays.images,
    )
    discriminator = self.create(
      "discriminator",
      {"params": d_key, "dropout": d_key},
      images,
      labels,
      optimizer=self.d_opt,
    )
    return State.create(
      {"generator": generator, "discriminator": discriminator},
      averaged=("generator",) if self.ema_decay else (),
    )

  def sample_one_z(self, key: jax.Array, truncation: Any = None) -> jax.Array:
    """Draws one z `[z_dim]`; `truncation` bounds its components unless None."""
    draw = latents.LATENTS.find(self.latent)
    return draw(key, z_dim=self.z_dim, truncation=truncation)

  def sample_z(self, key: jax.Array, n: int) -> jax.Array:
    """Draws z `[n, z_dim]` of this device's share of a batch."""
    return jax.vmap(self.sample_one_z)(parallel.example_keys(key, n))

  def generate(
    self,
    net: Net,
    z: jax.Array,
    labels: Any,
    key: jax.Array,
    iterate: bool = False,
  ) -> tuple[jax.Array, Any]:
    """Returns G's images `[n, ...]` in training mode, and its new stats."""
    return self.forward("generator", net, z, labels, key=key, iterate=iterate)

  def render(
    self,
    state: State,
    nets: Mapping[str, Net],
    z: jax.Array,
    labels: Any,
    key: jax.Array | None = None,
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Returns G's images of z and its stats; see `LatentSystem.render`."""
    del state
    images, stats = self.pass_through(
      "generator", nets["generator"], z, labels, key=key, iterate=False
    )
    return images, {"generator": stats}

  def before_d(
    self, state: State, images: jax.Array, key: jax.Array
  ) -> jax.Array:
    """Returns what D is shown of images `[n, ...]` in training."""
    del state, key
    return images

  def judge(
    self,
    state: State,
    net: Net,
    images: jax.Array,
    labels: Any,
    key: jax.Array,
    iterate: bool = False,
  ) -> tuple[Judged, Any]:
    """Returns what D makes of images in training mode, and its new stats.

    Args:
      state: for what D is shown of the images.
      net: D's parameters and statistics.
      images: `[n, ...]`.
      labels: `[n]` or None.
      key: of dropout, augmentation and noise.
      iterate: whether spectral norms refine their singular vectors.
    """
    shown = self.before_d(state, images, key)
    output, stats = self.forward(
      "discriminator", net, shown, labels, key=key, iterate=iterate
    )
    return Judged.of(output), stats

  def judge_both(
    self,
    state: State,
    net: Net,
    real: Any,
    fake: jax.Array,
    keys: StepKeys,
    iterate: bool = False,
  ) -> tuple[Judged, Judged, Any]:
    """Returns what D makes of reals and of fakes, and its new stats.

    Real images and fakes go through D one after another, each batch normalised
    by its own statistics. If spectral norms iterate, then in the first pass.

    Returns:
      Both with the logits `[N]` of the global batch; features and class logits
      are those of this device.
    """
    on_real, stats = self.judge(
      state, net, real.images, real.labels, keys.real, iterate
    )
    net = net.replace(stats=stats)
    on_fake, stats = self.judge(state, net, fake, real.labels, keys.fake)
    on_real = on_real._replace(logits=parallel.gather(on_real.logits))
    on_fake = on_fake._replace(logits=parallel.gather(on_fake.logits))
    return on_real, on_fake, stats

  def judge_alone(self, state: State, images: jax.Array, labels=None) -> Judged:
    """Returns what D, as it is in evaluation, makes of each image by itself."""
    return judge_alone(self, state, images, labels)

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns D's logits `[n]` of images as networks see them, one by one."""
    return self.judge_alone(state, images, labels).logits.reshape(-1)


def judge_alone(
  system: System, state: State, images: jax.Array, labels=None
) -> Judged:
  """Returns what a system's discriminator makes of each image by itself.

  D is as it is in evaluation. A discriminator of several images at once (Lin et
  al. 2018) is shown each image beside itself.
  """
  pack = getattr(system.networks["discriminator"], "pack", 1)
  if pack > 1:
    images = jnp.repeat(images, pack, axis=0)
    labels = None if labels is None else jnp.repeat(labels, pack, axis=0)
  net = state.discriminator
  return Judged.of(system.evaluate("discriminator", net, images, labels))


def features_of(judged: Judged) -> jax.Array:
  """Returns the features `[n, F]` that D's logits are made of.

  Raises:
    UserError: this discriminator does not say them.
  """
  if judged.features is None:
    raise errors.UserError(
      "this system needs a discriminator that returns its features: one of "
      "ganjax.nets, or your own that returns nets.judged.Judged"
    )
  return judged.features


def add_noise(images: jax.Array, deviation: Any, key: jax.Array) -> jax.Array:
  """Returns images `[n, ...]` with Gaussian noise of a standard deviation."""
  # The augmentation has the fold with 1.
  keys = parallel.example_keys(jax.random.fold_in(key, 2), len(images))
  noise = per_example.draw(jax.random.normal, keys, images)
  return images + deviation * noise


def noise_schedule(start: float, steps: int) -> Callable[[Any], Any] | None:
  """Returns step -> standard deviation, or None where there is no noise.

  Args:
    start: the standard deviation at the first step.
    steps: over which it falls to 0 in a line; 0 for never.
  """
  if not start:
    return None
  if not steps:
    return lambda step: start
  return optax.linear_schedule(start, 0.0, steps)


def penalty_terms(
  penalties: Mapping[str, Penalty],
  player: str,
  skip: Container[str],
  view: View,
  memory: dict[str, Any],
  extras: Extras,
) -> tuple[jax.Array, dict[str, Any], Metrics]:
  """Returns what is added to a player's loss, the new memory, and metrics.

  Args:
    penalties: name -> penalty.
    player: "discriminator" or "generator".
    skip: names of the penalties that rest in this step.
    view: of this player's loss.
    memory: of the state.
    extras: what else is added or logged.
  """
  total = jnp.float32(0)
  metrics = {}
  for name, (value, weight) in extras.items():
    if weight:
      total += weight * value
    metrics[name] = view.mean(value)
  for place, (name, penalty) in enumerate(penalties.items()):
    function = getattr(penalty, player)
    metric = metric_name(name, penalty, player)
    if function is None:
      continue
    if name in skip:  # Its last value stands in the log.
      metrics[metric] = memory[metric]
      continue
    # Each penalty has noise of its own.
    fold = functools.partial(jax.random.fold_in, data=place)
    own_view = view._replace(keys=jax.vmap(fold)(view.keys))
    value, remembered = function(own_view, memory.get(name))
    # A lazy penalty is as many times as strong as it is rare.
    total += penalty.every * value
    metrics[metric] = view.mean(value)
    new = {name: remembered, metric: metrics[metric]}
    memory = {**memory, **{k: new[k] for k in new if k in memory}}
  return total, memory, metrics


def penalty_memory(penalties: Mapping[str, Penalty]) -> dict[str, Any]:
  """Returns what penalties remember at the start, with lazy ones' values."""
  memory: dict[str, Any] = {}
  for name, penalty in penalties.items():
    if penalty.memory:
      memory[name] = penalty.memory
    if penalty.every <= 1:
      continue
    for player in ("discriminator", "generator"):
      if getattr(penalty, player) is not None:
        memory[metric_name(name, penalty, player)] = 0.0
  return memory


def metric_name(name: str, penalty: Penalty, player: str) -> str:
  """Returns `penalty_r1`, or `penalty_x_d` where both players have one."""
  both = penalty.discriminator is not None and penalty.generator is not None
  return f"penalty_{name}_{player[0]}" if both else f"penalty_{name}"
