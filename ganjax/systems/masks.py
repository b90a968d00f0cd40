"""What is missing of images: masks by name.

A mask is `[H, W, 1]`, 1 where a pixel is known, 0 where it is missing.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ganjax import registry

MASKS = registry.Registry("kind of masks")


@MASKS.register
def half(key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """One mask `[H, W, 1]` without its left, right, upper or lower half."""
  h, w = size
  missing = [box(size, 0, 0, h, w // 2), box(size, 0, w // 2, h, w)]
  missing += [box(size, 0, 0, h // 2, w), box(size, h // 2, 0, h, w)]
  return 1.0 - jnp.stack(missing)[jax.random.randint(key, (), 0, 4)]


@MASKS.register
def block(key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """One mask `[H, W, 1]` without a block of half its height and width."""
  h, w = -(-size[0] // 2), -(-size[1] // 2)
  room = jnp.array([size[0] - h, size[1] - w]) + 1
  top, left = jax.random.randint(key, (2,), 0, room)
  return 1.0 - box(size, top, left, h, w)


@MASKS.register
def pixels(key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """One mask `[H, W, 1]` whose pixels are known with probability 1/2."""
  return jax.random.bernoulli(key, 0.5, (*size, 1)).astype(jnp.float32)


@MASKS.register
def mixed(key: jax.Array, size: tuple[int, int]) -> jax.Array:
  """One mask `[H, W, 1]` of one of the other kinds."""
  which, own = jax.random.split(key)
  kinds = jnp.stack([kind(own, size) for kind in (half, block, pixels)])
  return kinds[jax.random.randint(which, (), 0, 3)]


def box(size: tuple[int, int], top: Any, left: Any, h, w) -> jax.Array:
  """Returns `[H, W, 1]`: 1 in h rows from `top`, w columns from `left`."""
  rows = jnp.arange(size[0])[:, None, None] - top
  columns = jnp.arange(size[1])[None, :, None] - left
  inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
  return inside.astype(jnp.float32)
