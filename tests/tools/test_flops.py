"""Counts of a function's operations, by hand."""

import jax
import jax.numpy as jnp
from jax import lax

from ganjax.nets import conv
from ganjax.tools.bench import flops


def array(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def convolve(x, kernel, **options):
  return lax.conv_general_dilated(
    x,
    kernel,
    options.pop("strides", (2, 2)),
    ((1, 1), (1, 1)),
    dimension_numbers=conv.DIMS,
    **options,
  )


def gradients(function, *inputs):
  """Returns the operations of the function, and of each gradient alone."""
  output = jax.eval_shape(function, *inputs)

  def pull(i):
    def run(cotangent, *inputs):
      return jax.vjp(function, *inputs)[1](cotangent)[i]

    return flops.count(run, output, *inputs).flops

  return [flops.count(function, *inputs).flops, *map(pull, range(len(inputs)))]


def test_flops_of_products():
  assert flops.count(jnp.matmul, array(5, 7), array(7, 3)) == (2 * 5 * 7 * 3, 0)
  batched = flops.count(jnp.matmul, array(4, 5, 7), array(4, 7, 3)).flops
  assert batched == 4 * 2 * 5 * 7 * 3
  two = gradients(jnp.matmul, array(5, 7), array(7, 3))
  assert two == [2 * 5 * 7 * 3] * 3


def test_flops_of_convolutions():
  """Each gradient costs what the convolution does, without dilated zeros."""
  # 4x4, stride 2, 3 -> 5 channels, 8 -> 4 pixels.
  by_hand = 2 * (2 * 4 * 4 * 5) * (4 * 4 * 3)
  x, kernel = array(2, 8, 8, 3), array(4, 4, 3, 5)
  assert gradients(convolve, x, kernel) == [by_hand] * 3
  # Of three groups, each output sees two of the six channels.
  by_hand = 2 * (2 * 4 * 4 * 9) * (4 * 4 * 2)
  grouped = lambda x, kernel: convolve(x, kernel, feature_group_count=3)
  x, kernel = array(2, 8, 8, 6), array(4, 4, 2, 9)
  assert gradients(grouped, x, kernel) == [by_hand] * 3
  # Of two batch groups each makes half of the channels.
  split = lambda x, kernel: convolve(x, kernel, batch_group_count=2)
  by_hand = 2 * (2 * 4 * 4 * 10) * (4 * 4 * 3)
  x, kernel = array(4, 8, 8, 3), array(4, 4, 3, 10)
  assert flops.count(split, x, kernel).flops == by_hand


def test_flops_of_a_transposed_convolution():
  """Each of 4x4 input pixels meets each of 4x4 weights of 6 x 5 channels."""
  by_hand = 2 * (2 * 4 * 4) * (4 * 4 * 6 * 5)
  x, kernel = array(2, 4, 4, 6), array(4, 4, 6, 5)
  assert gradients(conv.conv_transpose_4x4, x, kernel) == [by_hand] * 3


def test_flops_of_what_contains_a_product():
  x, once = array(4, 4), 2 * 4**3

  def count(function):
    return flops.count(function, x)

  def loop(x, carry, length):
    return lax.scan(lambda y, _: (y @ x, None), carry, length=length)[0]

  assert count(lambda x: loop(x, x, 7)).flops == 7 * once
  nested = lambda x: lax.fori_loop(0, 3, lambda _, y: loop(x, y, 2), x)
  assert count(nested) == (6 * once, 0)
  square, cube = lambda x: x @ x, lambda x: x @ x @ x
  either = lambda x: lax.cond(x.sum() > 0, cube, square, x)
  assert count(either).flops == 2 * once
  until = lambda x: lax.while_loop(lambda y: y.sum() < 9, lambda y: y @ y, x)
  assert count(until) == (once, 1)
  assert count(jax.jit(jax.checkpoint(lambda x: x @ x))).flops == once

  square = jax.custom_jvp(lambda x: x @ x)
  square.defjvp(lambda x, t: (square(*x), t[0] @ x[0]))
  assert count(square).flops == once
  assert count(lambda x: jax.jvp(square, (x,), (x,))).flops == 2 * once

  def wasteful(x):
    return jax.jit(lambda x: (x @ x, x + 1))(x)[1]

  assert count(wasteful).flops == 0
