"""What belongs to each example of a batch: its noise, its gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def draw(
  sampler: Callable, keys: jax.Array, like: jax.Array | None = None
) -> jax.Array:
  """Draws `[n, ...]`, for each of `keys [n]` an array shaped as `like[i]`.

  Args:
    sampler: `(key, shape) -> array`, e.g. `jax.random.normal`.
    keys: one for each example.
    like: `[n, ...]`; a scalar for each example without it.
  """
  shape = () if like is None else like.shape[1:]
  return jax.vmap(lambda key: sampler(key, shape))(keys)


def between(keys: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns u x + (1 - u) y, u ~ U(0, 1) for each pair of `x, y [n, ...]`."""
  u = draw(jax.random.uniform, keys).reshape(-1, *(1,) * (x.ndim - 1))
  u = jnp.broadcast_to(u, x.shape)
  return u * x + (1.0 - u) * y


def square_norms(critic: Callable, inputs: jax.Array) -> jax.Array:
  """Returns the squared norm of each example's gradient, `[n]` in float32.

  Args:
    critic: inputs `[n, ...]` -> `[n]`.
    inputs: where to take the gradient. Squares are summed over all other axes.
  """
  grads = jax.grad(lambda x: critic(x).astype(jnp.float32).sum())(inputs)
  squares = jnp.square(grads.astype(jnp.float32))
  return squares.sum(tuple(range(1, inputs.ndim)))


def norms(critic: Callable, inputs: jax.Array) -> jax.Array:
  """Returns the norm of each example's gradient, `[n]` in float32."""
  squares = square_norms(critic, inputs)
  # The root's slope at 0 is infinite; where the critic is flat it shall be 0.
  flat = squares == 0
  return jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squares)))
