"""From what is stored to what networks see, and back."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganjax import errors, registry

SCALINGS = registry.Registry("scaling")


class Scaling(NamedTuple):
  """What networks see, and what is stored of what they make.

  The two are inverse maps, but for what `contrast` takes out of an image.

  Attributes:
    to_network: stored images to float32.
    to_stored: a generator's output to what is stored, rounded and clipped.
    stored_dtype: "uint8" for images, "float32" for points.
  """

  to_network: Callable[[jax.Array], jax.Array]
  to_stored: Callable[[jax.Array], jax.Array]
  stored_dtype: str = "uint8"


def get(name: str, stored_dtype: str) -> Scaling:
  """Returns the scaling `name` for data stored as `stored_dtype`.

  Raises:
    UserError: there is no such scaling, or it is not for such data.
  """
  scaling = SCALINGS.find(name)()
  if scaling.stored_dtype != stored_dtype:
    fitting = [
      other
      for other, make in SCALINGS.items()
      if make().stored_dtype == stored_dtype
    ]
    raise errors.UserError(
      f"config.scaling={name!r} is for {scaling.stored_dtype} data and this "
      f"dataset is {stored_dtype}; use {' or '.join(map(repr, fitting))}"
    )
  return scaling


def _to_uint8(x: jax.Array) -> jax.Array:
  """Returns levels in [0, 255] as uint8, rounded and clipped."""
  return jnp.clip(jnp.round(x), 0, 255).astype(jnp.uint8)


@SCALINGS.register
def symmetric() -> Scaling:
  """[-1, 1], for generators that end in tanh (Radford et al. 2016)."""

  def to_network(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) / 127.5 - 1.0

  def to_stored(x: jax.Array) -> jax.Array:
    return _to_uint8((x + 1.0) * 127.5)

  return Scaling(to_network, to_stored)


@SCALINGS.register
def unit() -> Scaling:
  """[0, 1], for generators that end in a sigmoid (2014's MNIST and TFD)."""

  def to_network(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) / 255.0

  def to_stored(x: jax.Array) -> jax.Array:
    return _to_uint8(x * 255.0)

  return Scaling(to_network, to_stored)


@SCALINGS.register
def contrast() -> Scaling:
  """Each image with a mean of 0 and a norm of 55 (2014's CIFAR-10).

  For linear generators. What is stored of a sample is its picture, from the
  darkest to the brightest that its largest absolute value allows, as the
  authors' code shows them: mean and contrast of an image do not come back.
  """
  axes = (-3, -2, -1)  # Of one image.

  def to_network(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    x = x - jnp.broadcast_to(x.mean(axes, keepdims=True), x.shape)
    norms = jnp.sqrt(jnp.square(x).sum(axes, keepdims=True))
    # Where all pixels are the same they stay 0.
    return x * jnp.broadcast_to(55.0 / jnp.maximum(norms, 1e-8), x.shape)

  def to_stored(x: jax.Array) -> jax.Array:
    largest = jnp.maximum(jnp.abs(x).max(axes, keepdims=True), 1e-8)
    return _to_uint8((x / jnp.broadcast_to(largest, x.shape) + 1.0) * 127.5)

  return Scaling(to_network, to_stored)


@SCALINGS.register
def identity() -> Scaling:
  """Points as they are, for the toy sets."""

  def same(x: jax.Array) -> jax.Array:
    return x

  return Scaling(same, same, stored_dtype="float32")
