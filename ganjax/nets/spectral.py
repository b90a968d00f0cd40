"""Spectral normalisation (Miyato et al. 2018)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors, state

NORMS = ("batch", "spectral", "none")

# Power iterations with which the singular vectors start.
_FIRST_ITERATIONS = 15


class SpectralNorm(nn.Module):
  """A layer whose kernel is divided by its largest singular value.

  The kernel `[..., out]`, as a matrix W of `out` columns, has the norm v W u,
  where u and v come from power iterations (Miyato et al. 2018, Algorithm 1).
  The vectors are refined in each pass in which the collection `spectral` is
  mutable, and nowhere else: evaluation does not iterate.

  Attributes:
    layer: with a parameter `kernel`, e.g. `nn.Conv(64, (3, 3))`. It keeps its
      own name and parameters.
    iterations: power iterations of a pass that refines.
  """

  layer: nn.Module
  iterations: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps what `layer` maps."""
    if self.is_initializing():
      self.layer(x)  # Makes the parameters; the output is not used.
    params = self.layer.variables["params"]
    matrix = params["kernel"].reshape(-1, params["kernel"].shape[-1])
    # The gradient flows through the norm by W alone: u and v are constants
    # (Miyato et al. 2018, equation 12).
    fixed = jax.lax.stop_gradient(matrix)

    def refine(_, vectors):
      v = _unit(fixed @ vectors[0])
      return _unit(v @ fixed), v

    def start():
      u = jax.random.normal(self.make_rng("params"), (matrix.shape[1],))
      zeros = jnp.zeros(len(matrix))
      vectors = (_unit(u), zeros)
      return jax.lax.fori_loop(0, _FIRST_ITERATIONS, refine, vectors)

    first = start() if self.is_initializing() else (None, None)
    u = self.variable(state.SPECTRAL, "u", lambda: first[0])
    v = self.variable(state.SPECTRAL, "v", lambda: first[1])
    sigma = self.variable(state.SPECTRAL, "sigma", lambda: jnp.float32(1))
    if self.is_mutable_collection(state.SPECTRAL):
      for i in range(self.iterations):
        u.value, v.value = refine(i, (u.value, v.value))
      sigma.value = v.value @ fixed @ u.value
    norm = jnp.maximum(v.value @ matrix @ u.value, 1e-12)
    # u, v and the norm are float32 whatever the kernel is cast to.
    kernel = (params["kernel"] / norm).astype(params["kernel"].dtype)
    # A copy without a parent runs on parameters that are not its own.
    alone = self.layer.clone(parent=None)
    y: Any = alone.apply({"params": {**params, "kernel": kernel}}, x)
    return y


def _unit(x: jax.Array) -> jax.Array:
  """Returns x divided by its length."""
  return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)


def wrapper(
  norm: str, skip: tuple[str, ...], known: tuple[str, ...]
) -> Callable[..., Callable[..., jax.Array]]:
  """Returns `wrap(layer, name="")`, which normalises a layer if it should.

  The layer comes back within a `SpectralNorm` where `norm` is "spectral" and
  `name` is not among those to skip, and as it is elsewhere.

  Args:
    norm: "batch", "spectral" or "none".
    skip: names of layers that stay as they are.
    known: the names that layers of this net have.

  Raises:
    UserError: no such norm or layer.
  """
  if norm not in NORMS:
    raise errors.unknown("norm", norm, NORMS)
  for name in skip:
    if name not in known:
      raise errors.unknown("layer of spectral_skip", name, known)

  def wrap(layer: Any, name: str = "") -> Any:
    plain = norm != "spectral" or name in skip
    return layer if plain else SpectralNorm(layer)

  return wrap
