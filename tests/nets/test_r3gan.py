"""R3GAN's nets: counts, resampling by hand, blocks that start as nothing."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, nets
from ganjax.nets import conv, layers, r3gan

TINY: dict[str, Any] = dict(widths=(64, 64, 32), num_blocks=1)
SHAPE = (16, 16, 3)
LABELS = np.array([0, 3])


def abstract(role, side, num_classes=0, z_dim=64, **fields):
  """Returns the shapes of what a net makes and of its variables."""
  shape = (side, side, 3)
  fields |= dict(num_classes=num_classes, conditional=num_classes > 0)
  net = nets.get("r3gan", role, shape, **fields)
  x = jnp.zeros((2, z_dim) if role == "generator" else (2, *shape))
  labels = LABELS if num_classes else None
  return jax.eval_shape(net.init_with_output, jax.random.key(0), x, labels)


FFHQ: dict[str, Any] = dict(widths=(768, 768, 768, 768, 384))
IMAGENET: dict[str, Any] = dict(widths=(1536,) * 4, group_size=32)


@pytest.mark.parametrize(
  ("side", "num_classes", "fields", "expected"),
  [
    (32, 10, {}, (20_781_952, 21_280_512)),
    (32, 0, {}, (20_732_160, 20_683_776)),
    # The paper's rounded numbers of millions.
    (64, 0, FFHQ, (22.43, 22.38)),
    (256, 0, dict(widths=(*FFHQ["widths"], 192, 96)), (23.06, 23.01)),
    (32, 1000, IMAGENET, (82.91, 86.55)),
    (64, 1000, IMAGENET | dict(widths=(1536,) * 5), (103.57, 107.21)),
  ],
)
def test_published_parameter_counts(side, num_classes, fields, expected):
  shapes = {"generator": (2, side, side, 3), "discriminator": (2,)}
  for (role, shape), count in zip(shapes.items(), expected, strict=True):
    y, variables = abstract(role, side, num_classes, **fields)
    y = y if role == "generator" else y.logits
    assert y.shape == shape and y.dtype == jnp.float32
    params: Any = jax.tree.leaves(variables["params"])
    found = sum(x.size for x in params)
    exact = isinstance(count, int)
    assert (found if exact else round(found / 1e6, 2)) == count


UP, DOWN = jax.jit(conv.fir_up), jax.jit(conv.fir_down)


@functools.cache
def initialised(role):
  """Returns a tiny conditional net's apply, its variables and an input."""
  fields: dict[str, Any] = dict(num_classes=10, conditional=True, **TINY)
  net: Any = nets.get("r3gan", role, SHAPE, **fields)
  shape = (2, 8) if role == "generator" else (2, *SHAPE)
  x = jax.random.normal(jax.random.key(1), shape)
  variables = jax.jit(net.init)(jax.random.key(0), x, LABELS)
  return jax.jit(net.apply), *jax.device_get((variables, x))


def test_the_impulse_becomes_the_kernel():
  """[1, 3, 3, 1] / 4 in both directions, twice the gain of the mean."""
  x = jnp.zeros((1, 4, 4, 2)).at[0, 1, 2, 1].set(1.0)
  kernel = np.array([1, 3, 3, 1], np.float32) / 4
  expected = np.zeros((1, 8, 8, 2), np.float32)
  expected[0, 1:5, 3:7, 1] = np.outer(kernel, kernel)
  np.testing.assert_array_equal(UP(x), expected)
  # Down: even and odd places take the kernel / 8 apart, 3 1 and 1 3.
  x = jnp.zeros((1, 8, 6, 1)).at[0, 2, 3, 0].set(1.0)
  expected = np.zeros((1, 4, 3, 1), np.float32)
  expected[0, :2, 1:, 0] = np.outer([1, 3], [3, 1]) / 64
  np.testing.assert_array_equal(DOWN(x), expected)


def test_the_kernel_is_that_of_a_dilated_convolution():
  """Zeros between pixels, 2 before and 1 after them, as `upfirdn2d` pads."""
  x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
  line = jnp.array([1.0, 3.0, 3.0, 1.0])
  kernel = jnp.outer(line, line)[..., None, None] / 64
  conv = functools.partial(
    jax.lax.conv_general_dilated,
    rhs=jnp.broadcast_to(kernel, (4, 4, 1, 3)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=3,
  )
  # 2 before the first pixel; 1 after the zero that follows the last.
  up = 4 * conv(
    x, window_strides=(1, 1), padding=((2, 2),) * 2, lhs_dilation=(2, 2)
  )
  np.testing.assert_allclose(UP(x), up, atol=1e-6)
  down = conv(x, window_strides=(2, 2), padding=((1, 1),) * 2)
  np.testing.assert_allclose(DOWN(x), down, atol=1e-6)


def test_resampling_keeps_constants_and_is_adjoint():
  ones = jnp.ones((1, 8, 8, 1))
  for resample in UP, DOWN:
    assert (np.asarray(resample(ones))[:, 1:-1, 1:-1] == 1).all()
  # <up x, y> = 4 <x, down y>.
  x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
  y = jax.random.normal(jax.random.key(1), (2, 8, 12, 3))
  left, right = np.vdot(UP(x), y), np.vdot(x, DOWN(y))
  np.testing.assert_allclose(left, 4 * right, rtol=1e-4)
  half = jax.ShapeDtypeStruct(x.shape, jnp.bfloat16)
  assert jax.eval_shape(UP, half).dtype == jnp.bfloat16


def test_initialisation():
  """W1 and W2 by the fix-up rule, W3 = 0: a block starts as the identity."""
  block = r3gan.Block(num_blocks=8, group_size=16, expansion=2)
  x = jax.random.normal(jax.random.key(1), (2, 4, 4, 64))
  y, variables = jax.jit(block.init_with_output)(jax.random.key(0), x)
  np.testing.assert_array_equal(y, x)
  params: Any = jax.device_get(variables["params"])
  w1, w2, w3 = (params[f"Conv_{i}"] for i in range(3))
  gain = np.sqrt(2 / 1.04) * 8**-0.25
  assert w2["kernel"].shape == (3, 3, 16, 128)
  np.testing.assert_allclose(w1["kernel"].std(), gain / 64**0.5, rtol=0.05)
  np.testing.assert_allclose(w2["kernel"].std(), gain / 144**0.5, rtol=0.05)
  assert not w3["kernel"].any() and w3.keys() == {"kernel"}
  assert not w1["bias"].any() and not w2["bias"].any()


def close(got, expected, rtol=1e-4):
  np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-5)


def test_initialisation_of_the_rest():
  """N(0, 1 / fan_in), but for the generator's basis and D's embedding."""
  std = lambda leaf: float(leaf.std())
  params = initialised("generator")[1]["params"]
  close(std(params["basis"]), 1, 0.1)
  # The 8 numbers of z and the 64 of the label's embedding.
  close(std(params["Dense_0"]["kernel"]), 72**-0.5, 0.1)
  close(std(params["Embed_0"]["embedding"]), 10**-0.5, 0.1)
  close(std(params["Conv_0"]["kernel"]), 64**-0.5, 0.1)
  params = initialised("discriminator")[1]["params"]
  close(std(params["basis"]), 16**-0.5, 0.1)
  close(std(params["Dense_0"]["kernel"]), 64**-0.5, 0.1)
  close(std(params["Embed_0"]["embedding"]), (10 * 64) ** -0.5, 0.1)


def test_generator_at_initialisation_by_hand():
  """All blocks are identities: only linear layers are left, and no tanh."""
  apply, variables, z = initialised("generator")
  params, z = variables["params"], 8 * z
  basis, scale = params["basis"][None], params["Dense_0"]["kernel"]
  for labels in LABELS, LABELS + 1:
    rows = params["Embed_0"]["embedding"][labels]
    x = basis * (np.concatenate([z, rows], 1) @ scale)[:, None, None]
    x = np.asarray(UP(x)) @ params["Conv_0"]["kernel"][0, 0]
    x = np.asarray(UP(x)) @ params["Conv_1"]["kernel"][0, 0]
    assert np.abs(x).max() > 1
    close(apply(variables, z, labels), x, 1e-3)


def test_discriminator_at_initialisation_by_hand():
  """The exit is a 4x4 depthwise convolution, as one of `nets.layers`."""
  apply, variables, images = initialised("discriminator")
  params = variables["params"]
  x = images @ params["Conv_0"]["kernel"][0, 0]
  x = np.asarray(DOWN(x)) @ params["Conv_1"]["kernel"][0, 0]
  x = DOWN(x)
  basis = {"params": {"kernel": params["basis"][:, :, None]}}
  depthwise: Any = layers.Conv(64, 4, padding=0, groups=64, use_bias=False)
  x = depthwise.apply(basis, x)[:, 0, 0] @ params["Dense_0"]["kernel"]
  for labels in LABELS, LABELS + 1:
    expected = (x * params["Embed_0"]["embedding"][labels]).sum(-1)
    close(apply(variables, images, labels).logits, expected)


@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_types_and_labels(role):
  apply, variables, x = initialised(role)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (variables, x))
  made = jax.eval_shape(apply, *half, LABELS)
  assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(made))
  # An unconditional net has nothing of labels that it is given.
  net = nets.get("r3gan", role, SHAPE, num_classes=10, **TINY)
  plain = jax.eval_shape(net.init, jax.random.key(0), x, LABELS)["params"]
  assert variables["params"].keys() - plain.keys() >= {"Embed_0"}


def test_mistakes_are_named():
  with pytest.raises(
    errors.UserError, match=r"4 widths .* 32 pixels, not \[64"
  ):
    abstract("generator", 64)
  with pytest.raises(
    errors.UserError, match=r"5 widths .* 64 pixels, not \[28"
  ):
    abstract("discriminator", 28, **FFHQ)
  with pytest.raises(errors.UserError, match=r"2 x 20 .* groups of 16"):
    abstract("generator", 8, widths=(16, 20))
  net = nets.get("r3gan", "generator", SHAPE, **TINY, conditional=True)
  with pytest.raises(errors.UserError, match="conditional=True needs labels"):
    jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((2, 8)))
