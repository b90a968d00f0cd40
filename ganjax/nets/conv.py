"""Convolutions in the forms that are fast, with the parameters of the plain.

XLA's CPU backend runs the weight gradient of a transposed convolution about
sixty times slower than its neighbours. That gradient is the one of the strided
convolution of which this is the adjoint, with image and cotangent in exchanged
roles, and in that form it is fast.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

DIMS = ("NHWC", "HWIO", "NHWC")


def conv(
  x: jax.Array,
  kernel: jax.Array,
  stride: int = 1,
  padding: int = 0,
  groups: int = 1,
) -> jax.Array:
  """Convolves `x [N, H, W, in]` with `kernel [h, w, in / groups, out]`."""
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((padding, padding), (padding, padding)),
    dimension_numbers=DIMS,
    feature_group_count=groups,
  )


def upsample(x: jax.Array) -> jax.Array:
  """Doubles the resolution of `[N, H, W, C]`: nearest neighbours."""
  n, h, w, c = x.shape
  x = jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c))
  return x.reshape(n, 2 * h, 2 * w, c)


def pool(x: jax.Array) -> jax.Array:
  """Halves the resolution of `[N, H, W, C]`: means of 2x2 pixels."""
  n, h, w, c = x.shape
  return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def upsample_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """`conv(upsample(x), kernel)`, of odd size, keeping the resolution."""
  return conv(upsample(x), kernel, padding=len(kernel) // 2)


def conv_pool(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """`pool(conv(x, kernel))`, of odd size, keeping the resolution."""
  return pool(conv(x, kernel, padding=len(kernel) // 2))


@jax.custom_vjp
def conv_transpose_4x4(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Doubles the resolution: a 4x4 transposed convolution of stride 2.

  Equals `lax.conv_transpose(x, kernel, (2, 2), "SAME")`, values and
  gradients. Reverse mode only, to any order.

  Args:
    x: `[N, H, W, in]`.
    kernel: `[4, 4, in, out]`.

  Returns:
    `[N, 2H, 2W, out]`.
  """
  return lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=DIMS)


def _forward(x, kernel):
  return conv_transpose_4x4(x, kernel), (x, kernel)


def _backward(residuals, cotangent):
  x, kernel = residuals
  # The adjoint of y = conv_transpose(x, kernel) is x = conv(y, adjoint).
  adjoint = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  strided = functools.partial(
    lax.conv_general_dilated,
    window_strides=(2, 2),
    padding=((1, 1), (1, 1)),
    dimension_numbers=DIMS,
  )
  x_grad = strided(cotangent, adjoint)
  _, vjp = jax.vjp(functools.partial(strided, cotangent), adjoint)
  (adjoint_grad,) = vjp(x)
  return x_grad, jnp.flip(adjoint_grad.swapaxes(2, 3), (0, 1))


conv_transpose_4x4.defvjp(_forward, _backward)
