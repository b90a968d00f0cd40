"""Penalties on either player: `penalties.get("r1", gamma=0.1)`.

A penalty adds a scalar to a player's loss. It is a function of a `View`: of
the critic, the generator and the batch as plain functions and arrays, so that
it cannot tell which network it is given, and a linear critic tests it exactly.
It acts on raw logits of single images, never on differences of two, and takes
gradients at the images before any augmentation. Its weight is part of its
value; what it remembers from step to step, its `memory`, is part of the state.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ganjax import errors, registry
from ganjax.objectives import augment, per_example

PENALTIES = registry.Registry("penalty")


class View(NamedTuple):
  """What a penalty may look at: one device's share of the batch.

  Attributes:
    d_fn: images `[n, ...]` -> raw logits `[n]`, through the augmentation.
    g_fn: `z [n, z_dim]` -> images `[n, ...]`.
    draw_z: keys `[n]` -> `z [n, z_dim]`.
    params: of the player whose loss this is.
    real: images `[n, ...]`, before augmentation.
    fake: G(z) `[n, ...]`.
    z: of the fakes, `[n, z_dim]`.
    keys: one for each example, `[n]`.
    mean: averages a pytree over the devices.
  """

  d_fn: Callable[[jax.Array], jax.Array]
  g_fn: Callable[[jax.Array], jax.Array]
  draw_z: Callable[[jax.Array], jax.Array]
  params: Any
  real: jax.Array
  fake: jax.Array
  z: jax.Array
  keys: jax.Array
  mean: Callable[[Any], Any]

  def between(self) -> jax.Array:
    """Returns images on the lines between reals and fakes, `[n, ...]`."""
    return per_example.between(self.keys, self.real, self.fake)

  def square_norms(self, images: jax.Array) -> jax.Array:
    """Returns |grad C(x)|^2 at each image, `[n]`."""
    return per_example.square_norms(self.d_fn, images)


# (view, memory) -> (scalar, new memory)
Function = Callable[[View, Any], tuple[jax.Array, Any]]


class Penalty(NamedTuple):
  """What is added to each player's loss.

  Attributes:
    discriminator: `(view, memory) -> (scalar, memory)`, or None.
    generator: the same for the generator's loss.
    memory: at the start: a dict of float32 scalars.
    every: generator updates from one application to the next, scaled as
      often; 0 for never.
    at: step -> the penalty then, where a number follows a schedule.
  """

  discriminator: Function | None = None
  generator: Function | None = None
  memory: Any = {}
  every: int = 1
  at: Callable[[Any], Any] | None = None


def get(name: str, every: int = 1, **hyper) -> Penalty:
  """Returns the penalty `name`.

  Args:
    name: a key of `PENALTIES`.
    every: apply it at every so many generator updates only, `every` times as
      strong ("lazy", Karras et al. 2020); 0 leaves it out.
    **hyper: the penalty's own parameters.
  """
  return PENALTIES.find(name)(**hyper)._replace(every=every)


def _plain(function: Callable[[View], jax.Array]) -> Function:
  """Makes a penalty's function of one without memory."""
  return lambda view, memory: (function(view), memory)


def _on_critic(function: Callable[[View], jax.Array]) -> Penalty:
  return Penalty(_plain(function))


@PENALTIES.register
def r1(gamma: float = 10.0) -> Penalty:
  """Gamma/2 E |grad C(x)|^2 at real images (Mescheder et al. 2018, eq. 9)."""
  return _on_critic(lambda v: gamma / 2 * v.square_norms(v.real).mean())


@PENALTIES.register
def r2(gamma: float = 10.0) -> Penalty:
  """Gamma/2 E |grad C(G(z))|^2 at fakes (Mescheder et al. 2018, eq. 10)."""
  return _on_critic(lambda v: gamma / 2 * v.square_norms(v.fake).mean())


@PENALTIES.register
def gradient_penalty(
  weight: float = 10.0, target: float = 1.0, one_sided: bool = False
) -> Penalty:
  """That of WGAN-GP (Gulrajani et al. 2017, eq. 3).

  weight * E (|grad C(x)| - target)^2 on lines between reals and fakes; with
  `one_sided` only norms above the target cost anything.
  """

  def function(view):
    excess = per_example.norms(view.d_fn, view.between()) - target
    excess = jax.nn.relu(excess) if one_sided else excess
    return weight * jnp.square(excess).mean()

  return _on_critic(function)


@PENALTIES.register
def zero_centered(weight: float = 10.0) -> Penalty:
  """Weight * E |grad C(x)|^2 between both (Thanh-Tung et al. 2019)."""
  return _on_critic(lambda v: weight * v.square_norms(v.between()).mean())


@PENALTIES.register
def dragan(
  weight: float = 10.0, scale: float = 0.5, target: float = 1.0
) -> Penalty:
  """Weight * E (|grad C(x)| - target)^2 near real images (Kodali et al. 2017).

  As in the authors' code the points lie between x and x + scale * s * U(0, 1)
  noise, s the standard deviation of the batch; the paper writes Gaussian noise.
  """

  def function(view):
    real = view.real
    mean = view.mean(real.mean())
    std = jnp.sqrt(view.mean(jnp.square(real - mean).mean()))
    noise = per_example.draw(jax.random.uniform, view.keys, real)
    u_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(view.keys)
    near = per_example.between(u_keys, real + scale * std * noise, real)
    norms = per_example.norms(view.d_fn, near)
    return weight * jnp.square(norms - target).mean()

  return _on_critic(function)


@PENALTIES.register
def lecam(weight: float = 0.3, decay: float = 0.99) -> Penalty:
  """Keeps logits near the opponents' running mean (Tseng et al. 2021, eq. 4).

  weight * (E (C(x) - a_fake)^2 + E (C(G(z)) - a_real)^2), where a_real and
  a_fake are running means of logits. Those start at the first batch's: the
  weight of their sum is remembered beside it.
  """

  def function(view, memory):
    real, fake = view.d_fn(view.real), view.d_fn(view.fake)
    keep = lambda old, new: decay * old + (1.0 - decay) * new
    means = jax.lax.stop_gradient(view.mean((real.mean(), fake.mean())))
    new = dict(
      real=keep(memory["real"], means[0]),
      fake=keep(memory["fake"], means[1]),
      total=keep(memory["total"], 1.0),
    )
    to_fake = jnp.square(real - new["fake"] / new["total"]).mean()
    to_real = jnp.square(fake - new["real"] / new["total"]).mean()
    return weight * (to_fake + to_real), new

  memory = dict.fromkeys(("real", "fake", "total"), jnp.float32(0))
  return Penalty(function, memory=memory)


def _inconsistency(view: View, images: jax.Array) -> jax.Array:
  """Returns E (C(x) - C(T(x)))^2 with T a random flip and small shift."""
  moved = augment.flip_translate(images, view.keys)
  return jnp.square(view.d_fn(images) - view.d_fn(moved)).mean()


@PENALTIES.register
def consistency(weight: float = 10.0) -> Penalty:
  """CR-GAN: weight * E (C(x) - C(T(x)))^2 on reals (Zhang et al. 2020, eq. 3).

  T flips and shifts an image at random.
  """
  return _on_critic(lambda v: weight * _inconsistency(v, v.real))


@PENALTIES.register
def balanced_consistency(
  weight_real: float = 10.0, weight_fake: float = 10.0
) -> Penalty:
  """BCR: `consistency` on fakes, too (Zhao et al. 2020b, algorithm 1)."""

  def function(view):
    real, fake = (_inconsistency(view, x) for x in (view.real, view.fake))
    return weight_real * real + weight_fake * fake

  return _on_critic(function)


@PENALTIES.register
def latent_consistency(
  d_weight: float = 5.0, g_weight: float = 0.5, sigma: float = 0.03
) -> Penalty:
  """ZCR: z and z + N(0, sigma^2) (Zhao et al. 2020b, algorithm 2).

  D: d_weight * E (C(G(z)) - C(G(z')))^2. G: -g_weight * E |G(z) - G(z')|^2,
  here the mean over pixels: D must not see the difference, G must show it.
  """

  def moved(view):
    noise = per_example.draw(jax.random.normal, view.keys, view.z)
    return view.g_fn(view.z + sigma * noise)

  def discriminator(view):
    difference = view.d_fn(view.fake) - view.d_fn(moved(view))
    return d_weight * jnp.square(difference).mean()

  def generator(view):
    return -g_weight * jnp.square(view.fake - moved(view)).mean()

  return Penalty(_plain(discriminator), _plain(generator))


@PENALTIES.register
def orthogonal(weight: float = 1e-4, player: str = "both") -> Penalty:
  """Weight * sum |W^T W * (1 - I)|^2 over kernels (Brock et al. 2019, eq. 3).

  A kernel's columns are its output units, whose norms stay free.

  Args:
    weight: the paper's beta.
    player: "discriminator", "generator" or "both".
  """
  players = ("discriminator", "generator")
  if player not in (*players, "both"):
    raise errors.unknown("player", player, [*players, "both"])

  def function(view):
    total = jnp.float32(0)
    for leaf in jax.tree.leaves(view.params):
      if leaf.ndim > 1:
        kernel = leaf.reshape(-1, leaf.shape[-1])
        gram = kernel.T @ kernel
        total += jnp.square(gram * (1.0 - jnp.eye(len(gram)))).sum()
    return weight * total

  players = players if player == "both" else (player,)
  return Penalty(**dict.fromkeys(players, _plain(function)))


@PENALTIES.register
def path_length(weight: float = 2.0, decay: float = 0.01) -> Penalty:
  """Equal steps in z make equal steps in images (Karras et al. 2020, eq. 4).

  weight * E (|J^T y| - a)^2, y ~ N(0, I / pixels), a the running mean of
  |J^T y|, which moves by `decay`. Theirs is in w, the mapped latent; here z.
  """

  def function(view, memory):
    y = per_example.draw(jax.random.normal, view.keys, view.fake)
    y /= math.sqrt(math.prod(y.shape[1:-1]))
    lengths = per_example.norms(
      lambda z: (view.g_fn(z) * y).sum(tuple(range(1, y.ndim))), view.z
    )
    seen = jax.lax.stop_gradient(view.mean(lengths.mean()))
    a = memory["length"] + decay * (seen - memory["length"])
    return weight * jnp.square(lengths - a).mean(), dict(length=a)

  return Penalty(generator=function, memory=dict(length=jnp.float32(0)))


@PENALTIES.register
def mode_seeking(weight: float = 1.0) -> Penalty:
  """Different z, different images (Mao et al. 2019, eq. 2).

  weight / (E |G(z) - G(z')| / E |z - z'|), mean absolute differences, as in
  the authors' code, which minimises the inverse of the ratio.
  """

  def function(view):
    other = view.draw_z(view.keys)
    change = jnp.abs(view.fake - view.g_fn(other)).mean()
    distance = jnp.abs(view.z - other).mean()
    return weight / (view.mean(change) / view.mean(distance) + 1e-5)

  return Penalty(generator=_plain(function))
