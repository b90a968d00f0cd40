"""What belongs to each example of a batch: its noise, and its gradient.

Noise is drawn from a key of the example's own, so that it does not depend on
how many devices share the batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Sampler = Callable[[jax.Array, tuple[int, ...]], jax.Array]
# inputs [n, ...] -> [n]; each output depends on its own input alone.
Critic = Callable[[jax.Array], jax.Array]


def draw(
  sampler: Sampler, keys: jax.Array, like: jax.Array | None = None
) -> jax.Array:
  """Draws `[n, ...]`: for each of `keys [n]` an array shaped as `like[i]`.

  Args:
    sampler: `(key, shape) -> array`, e.g. `jax.random.normal`.
    keys: one for each example.
    like: `[n, ...]`. Without it a scalar is drawn for each example.
  """
  shape = () if like is None else like.shape[1:]
  return jax.vmap(lambda key: sampler(key, shape))(keys)


def between(keys: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns u x + (1 - u) y, u ~ U(0, 1) for each pair of `x, y [n, ...]`."""
  u = draw(jax.random.uniform, keys).reshape(-1, *(1,) * (x.ndim - 1))
  u = jnp.broadcast_to(u, x.shape)
  return u * x + (1.0 - u) * y


def square_norms(critic: Critic, inputs: jax.Array) -> jax.Array:
  """Returns the squared norm of the critic's gradient at each input.

  Args:
    critic: `inputs [n, ...] -> [n]`, in which no input enters another one's
      output.
    inputs: where to take the gradient, `[n, ...]`. All axes but the first
      belong to the norm.

  Returns:
    `[n]`, in float32 whatever the critic computes in.
  """

  # The gradient of the sum holds the gradient of each output at its input.
  def total(x):
    return critic(x).astype(jnp.float32).sum()

  squares = jnp.square(jax.grad(total)(inputs).astype(jnp.float32))
  return squares.sum(tuple(range(1, inputs.ndim)))


def norms(critic: Critic, inputs: jax.Array) -> jax.Array:
  """Returns the norm of the critic's gradient at each input, `[n]`.

  See `square_norms`. Where the critic is flat, the norm's own gradient is 0.
  """
  squares = square_norms(critic, inputs)
  # The root's slope at 0 is infinite. `where` alone does not keep it out of
  # the gradient (inf * 0 is nan): the root's argument must not be 0 either.
  flat = squares == 0
  return jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squares)))
