"""Penalties on either player: `penalties.get("r1", gamma=0.1)`.

A penalty adds a scalar to a player's loss. It is a function of a `View`, which
holds the critic and the generator as plain functions, and the batch as plain
arrays. So a penalty cannot tell which network it is given, and a test can give
it a linear critic, for which its value is known exactly.

- It acts on raw logits C(x) of single images, never on differences of two.
- It takes gradients at the images as they are before any augmentation.
- Its weight is part of its value.
- What it remembers from step to step, its `memory`, is part of the state.

`PENALTIES` holds those of this file; one of a user's own is registered by
`@PENALTIES.register` or named `module:attribute`. It is any function that
returns a `Penalty`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from ganjax import errors, registry
from ganjax.objectives import augment, per_example

PENALTIES = registry.Registry("penalty")

# What a penalty remembers: float32 scalars by name, {} if it is nothing.
Memory: TypeAlias = dict[str, jax.Array]


class View(NamedTuple):
  """What a penalty may look at: one device's share of the batch.

  Attributes:
    d_fn: images `[n, ...]` -> raw logits `[n]`, through the augmentation.
    g_fn: `z [n, z_dim]` -> images `[n, ...]`.
    draw_z: keys `[n]` -> `z [n, z_dim]`.
    params: the parameters of the player whose loss this is.
    real: the real images `[n, ...]`, before augmentation.
    fake: the fakes G(z) `[n, ...]`, before augmentation.
    z: what the fakes are made of, `[n, z_dim]`.
    keys: a key for each example, `[n]`, of this penalty alone.
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
    """Returns |grad C(x)|^2 at each of the images, `[n]`."""
    return per_example.square_norms(self.d_fn, images)


# (view, memory) -> (scalar, new memory)
Function = Callable[[View, Memory], tuple[jax.Array, Memory]]


class Penalty(NamedTuple):
  """What is added to each player's loss.

  Attributes:
    discriminator: `(view, memory) -> (scalar, memory)`, or None if nothing is
      added to the discriminator's loss.
    generator: the same for the generator's loss.
    memory: what the functions are given first.
    every: the number of generator updates from one application to the next;
      the step multiplies the value by it. 0 for never.
    at: `step -> Penalty`, where a number follows a schedule.
  """

  discriminator: Function | None = None
  generator: Function | None = None
  memory: Memory = {}
  every: int = 1
  at: "Callable[[jax.Array], Penalty] | None" = None


def get(name: str, every: int = 1, **hyper: Any) -> Penalty:
  """Returns the penalty `name`.

  Args:
    name: a name in `PENALTIES`, or `module:attribute`.
    every: how many generator updates lie between two applications, each of
      which is `every` times as strong ("lazy", Karras et al. 2020). 0 leaves
      the penalty out.
    **hyper: the penalty's own parameters.

  Raises:
    UserError: there is no such penalty.
  """
  return PENALTIES.find(name)(**hyper)._replace(every=every)


def _plain(function: Callable[[View], jax.Array]) -> Function:
  """Returns a `Function` that hands the memory on as it is."""

  def with_memory(view, memory):
    return function(view), memory

  return with_memory


def _on_critic(function: Callable[[View], jax.Array]) -> Penalty:
  """Returns a penalty on the discriminator, without memory."""
  return Penalty(discriminator=_plain(function))


@PENALTIES.register
def r1(gamma: float = 10.0) -> Penalty:
  """Gamma/2 E |grad C(x)|^2 at real images (Mescheder et al. 2018, eq. 9)."""

  def function(view):
    return gamma / 2 * view.square_norms(view.real).mean()

  return _on_critic(function)


@PENALTIES.register
def r2(gamma: float = 10.0) -> Penalty:
  """Gamma/2 E |grad C(G(z))|^2 at fakes (Mescheder et al. 2018, eq. 10)."""

  def function(view):
    return gamma / 2 * view.square_norms(view.fake).mean()

  return _on_critic(function)


@PENALTIES.register
def gradient_penalty(
  weight: float = 10.0, target: float = 1.0, one_sided: bool = False
) -> Penalty:
  """The gradient penalty of WGAN-GP (Gulrajani et al. 2017, eq. 3).

  weight * E (|grad C(x)| - target)^2 at images on the lines between reals and
  fakes. There an optimal Wasserstein critic has gradients of norm 1.

  Args:
    weight: the paper's lambda.
    target: the norm that costs nothing.
    one_sided: whether only norms above the target cost anything.
  """

  def function(view):
    excess = per_example.norms(view.d_fn, view.between()) - target
    if one_sided:
      excess = jax.nn.relu(excess)
    return weight * jnp.square(excess).mean()

  return _on_critic(function)


@PENALTIES.register
def zero_centered(weight: float = 10.0) -> Penalty:
  """Weight * E |grad C(x)|^2 between both (Thanh-Tung et al. 2019).

  It is taken on lines between reals and fakes, as that of WGAN-GP is.
  """

  def function(view):
    return weight * view.square_norms(view.between()).mean()

  return _on_critic(function)


@PENALTIES.register
def dragan(
  weight: float = 10.0, scale: float = 0.5, target: float = 1.0
) -> Penalty:
  """Weight * E (|grad C(x)| - target)^2 near real images (Kodali et al. 2017).

  As in the authors' code each point lies between a real image x and
  x + scale * s * U(0, 1) noise, where s is the standard deviation of all pixels
  of the global batch. The paper writes Gaussian noise.

  Args:
    weight: the paper's lambda.
    scale: how far the noise goes, in standard deviations.
    target: the norm that costs nothing.
  """

  def function(view):
    real = view.real
    mean = view.mean(real.mean())
    std = jnp.sqrt(view.mean(jnp.square(real - mean).mean()))
    noise = per_example.draw(jax.random.uniform, view.keys, real)
    # The place on the line is independent of the noise at its end.
    u_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(view.keys)
    near = per_example.between(u_keys, real + scale * std * noise, real)
    norms = per_example.norms(view.d_fn, near)
    return weight * jnp.square(norms - target).mean()

  return _on_critic(function)


@PENALTIES.register
def lecam(weight: float = 0.3, decay: float = 0.99) -> Penalty:
  """Keeps logits near the opponents' running mean (Tseng et al. 2021, eq. 4).

  weight * (E (C(x) - a_fake)^2 + E (C(G(z)) - a_real)^2), where a_real and
  a_fake are running means of the logits of reals and fakes. They start at the
  means of the first batch.

  Args:
    weight: the paper's lambda.
    decay: how much of the old running means is kept in a step.
  """

  def move(old, new):
    return decay * old + (1.0 - decay) * new

  def function(view, memory):
    real = view.d_fn(view.real)
    fake = view.d_fn(view.fake)
    # The running means are targets: no gradient flows through them.
    real_mean, fake_mean = jax.lax.stop_gradient(
      view.mean((real.mean(), fake.mean()))
    )
    # They start at 0, and so does "total", the weight of all batches in them.
    # Divided by it, they are means from the first batch on.
    new = dict(
      real=move(memory["real"], real_mean),
      fake=move(memory["fake"], fake_mean),
      total=move(memory["total"], 1.0),
    )
    to_fake = jnp.square(real - new["fake"] / new["total"]).mean()
    to_real = jnp.square(fake - new["real"] / new["total"]).mean()
    return weight * (to_fake + to_real), new

  memory = {name: jnp.float32(0) for name in ("real", "fake", "total")}
  return Penalty(discriminator=function, memory=memory)


def _inconsistency(view: View, images: jax.Array) -> jax.Array:
  """Returns E (C(x) - C(T(x)))^2 with T a random flip and small shift."""
  moved = augment.flip_translate(images, view.keys)
  return jnp.square(view.d_fn(images) - view.d_fn(moved)).mean()


@PENALTIES.register
def consistency(weight: float = 10.0) -> Penalty:
  """CR-GAN: weight * E (C(x) - C(T(x)))^2 on reals (Zhang et al. 2020, eq. 3).

  T flips and shifts an image at random.
  """

  def function(view):
    return weight * _inconsistency(view, view.real)

  return _on_critic(function)


@PENALTIES.register
def balanced_consistency(
  weight_real: float = 10.0, weight_fake: float = 10.0
) -> Penalty:
  """BCR: `consistency` on fakes, too (Zhao et al. 2020b, algorithm 1).

  A real and the fake of the same place in the batch are moved alike.
  """

  def function(view):
    real = _inconsistency(view, view.real)
    fake = _inconsistency(view, view.fake)
    return weight_real * real + weight_fake * fake

  return _on_critic(function)


@PENALTIES.register
def latent_consistency(
  d_weight: float = 5.0, g_weight: float = 0.5, sigma: float = 0.03
) -> Penalty:
  """ZCR: z and z' = z + N(0, sigma^2) (Zhao et al. 2020b, algorithm 2).

  D: d_weight * E (C(G(z)) - C(G(z')))^2. G: -g_weight * E |G(z) - G(z')|^2.
  D learns not to see the small difference, and G learns to show it. The
  square norm of images is the mean over pixels here, not their sum.
  """

  def moved_fakes(view):
    noise = per_example.draw(jax.random.normal, view.keys, view.z)
    return view.g_fn(view.z + sigma * noise)

  def discriminator(view):
    difference = view.d_fn(view.fake) - view.d_fn(moved_fakes(view))
    return d_weight * jnp.square(difference).mean()

  def generator(view):
    return -g_weight * jnp.square(view.fake - moved_fakes(view)).mean()

  return Penalty(
    discriminator=_plain(discriminator), generator=_plain(generator)
  )


@PENALTIES.register
def orthogonal(weight: float = 1e-4, player: str = "both") -> Penalty:
  """Weight * sum |W^T W * (1 - I)|^2 over kernels (Brock et al. 2019, eq. 3).

  The columns of a kernel belong to its output units. They are to be
  orthogonal, but the diagonal, their norms, stays free.

  Args:
    weight: the paper's beta.
    player: "discriminator", "generator" or "both".

  Raises:
    UserError: there is no such player.
  """
  players = ("discriminator", "generator", "both")
  if player not in players:
    raise errors.unknown("player", player, players)

  def function(view):
    total = jnp.float32(0)
    for leaf in jax.tree.leaves(view.params):
      if leaf.ndim > 1:  # A kernel, not a bias or a scale.
        kernel = leaf.reshape(-1, leaf.shape[-1])
        gram = kernel.T @ kernel
        total += jnp.square(gram * (1.0 - jnp.eye(len(gram)))).sum()
    return weight * total

  return Penalty(
    discriminator=None if player == "generator" else _plain(function),
    generator=None if player == "discriminator" else _plain(function),
  )


@PENALTIES.register
def path_length(weight: float = 2.0, decay: float = 0.01) -> Penalty:
  """Equal steps in z make equal steps in images (Karras et al. 2020, eq. 4).

  weight * E (|J^T y| - a)^2, where J is the Jacobian of G at z, y ~ N(0, I /
  pixels) a random direction among images, and a the running mean of |J^T y|.
  StyleGAN2 takes J at w, the mapped latent; there is none here.

  Args:
    weight: the paper's gamma_pl.
    decay: the share by which a moves towards the batch's mean in a step.
  """

  def function(view, memory):
    y = per_example.draw(jax.random.normal, view.keys, view.fake)
    # Divided by the root of H W, |J^T y| does not depend on the resolution.
    y /= math.sqrt(math.prod(y.shape[1:-1]))

    # J^T y is the gradient of G(z) y.
    def projection(z):
      return (view.g_fn(z) * y).sum(tuple(range(1, y.ndim)))

    lengths = per_example.norms(projection, view.z)
    # The target is of this batch, too, but no gradient flows through it.
    mean_length = jax.lax.stop_gradient(view.mean(lengths.mean()))
    a = memory["length"] + decay * (mean_length - memory["length"])
    return weight * jnp.square(lengths - a).mean(), dict(length=a)

  return Penalty(generator=function, memory=dict(length=jnp.float32(0)))


@PENALTIES.register
def mode_seeking(weight: float = 1.0) -> Penalty:
  """Different z make different images (Mao et al. 2019, eq. 2).

  weight / (E |G(z) - G(z')| / E |z - z'|) with mean absolute differences. The
  paper maximises the ratio; its code minimises the inverse, as is done here.
  """

  def function(view):
    other_z = view.draw_z(view.keys)
    change = jnp.abs(view.fake - view.g_fn(other_z)).mean()
    distance = jnp.abs(view.z - other_z).mean()
    # The authors' epsilon: a collapsed G has a ratio of 0.
    return weight / (view.mean(change) / view.mean(distance) + 1e-5)

  return Penalty(generator=_plain(function))
