"""From what is stored to what networks see, and back."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganjax import errors, registry

SCALINGS = registry.Registry("scaling")


class Scaling(NamedTuple):
  """A pair of inverse maps.

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
      n for n, s in SCALINGS.items() if s().stored_dtype == stored_dtype
    ]
    raise errors.UserError(
      f"config.scaling={name!r} is for {scaling.stored_dtype} data and this "
      f"dataset is {stored_dtype}; use {' or '.join(map(repr, fitting))}"
    )
  return scaling


def _to_uint8(x: jax.Array) -> jax.Array:
  return jnp.clip(jnp.round(x), 0, 255).astype(jnp.uint8)


@SCALINGS.register
def symmetric() -> Scaling:
  """[-1, 1], for generators that end in tanh (Radford et al. 2016)."""
  return Scaling(
    lambda x: x.astype(jnp.float32) / 127.5 - 1.0,
    lambda x: _to_uint8((x + 1.0) * 127.5),
  )


@SCALINGS.register
def unit() -> Scaling:
  """[0, 1], for generators that end in a sigmoid (2014's MNIST and TFD)."""
  return Scaling(
    lambda x: x.astype(jnp.float32) / 255.0, lambda x: _to_uint8(x * 255.0)
  )


@SCALINGS.register
def identity() -> Scaling:
  """Points as they are, for the toy sets."""
  return Scaling(lambda x: x, lambda x: x, "float32")
