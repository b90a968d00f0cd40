"""Each fast form equals the plain one: values, first, second derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import parallel
from ganjax.nets import conv, layers

BATCH, PIXELS = 4, 8

# name -> (function of image and kernel, size of the kernel)
FORMS = {
  "1x1": (conv.conv, 1),
  "3x3": (lambda x, k: conv.conv(x, k, padding=1), 3),
  "5x5": (lambda x, k: conv.conv(x, k, padding=2), 5),
  "4x4 stride 2": (lambda x, k: conv.conv(x, k, 2, 1), 4),
  "5x5 stride 3": (lambda x, k: conv.conv(x, k, 3, 1), 5),
  "transposed 4x4": (conv.conv_transpose_4x4, 4),
  "upsample, 1x1": (conv.upsample_conv, 1),
  "upsample, 3x3": (conv.upsample_conv, 3),
  "upsample, 5x5": (conv.upsample_conv, 5),
  "1x1, pool": (conv.conv_pool, 1),
  "3x3, pool": (conv.conv_pool, 3),
}


def derivatives(function):
  """Returns (x, k) -> value, first and second derivatives, compiled."""

  def first(x, k):
    # A sine, so that second derivatives are not those of a polynomial.
    loss = lambda x, k: jnp.sum(jnp.sin(function(x, k)))
    return jax.grad(loss, (0, 1))(x, k)

  def second(x, k):
    square = lambda x, k: sum(jnp.sum(g**2) for g in first(x, k))
    return jax.grad(square, (0, 1))(x, k)

  return jax.jit(lambda x, k: (function(x, k), first(x, k), second(x, k)))


def close(ours, theirs, tolerance=1e-5):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def draw(size, channels_in, channels_out):
  x_key, k_key = jax.random.split(jax.random.key(0))
  x = jax.random.normal(x_key, (BATCH, PIXELS, PIXELS, channels_in))
  shape = (size, size, channels_in, channels_out)
  scale = (size**2 * channels_in) ** -0.5
  return x, scale * jax.random.normal(k_key, shape)


# Few channels on either side take forms of their own.
@pytest.mark.parametrize("channels", [(5, 6), (3, 5), (5, 3)])
@pytest.mark.parametrize("name", FORMS)
def test_fast_equals_plain(name, channels, monkeypatch):
  function, size = FORMS[name]
  args = draw(size, *channels)
  monkeypatch.setattr(conv, "CACHED", 128)  # Cuts even this batch in parts.
  ours = derivatives(function)(*args)
  with conv.plain():
    theirs = derivatives(function)(*args)
  close(ours, theirs)


# A kernel is drawn for these, too, and its gradient is 0 everywhere.
KERNEL_FREE = {
  "pool": (lambda x, k: conv.pool(x), 1),
  "fir up": (lambda x, k: conv.fir_up(x), 1),
  "fir down": (lambda x, k: conv.fir_down(x), 1),
}
ELSEWHERE = {
  **FORMS,
  **KERNEL_FREE,
  "1x1 stride 2": (lambda x, k: conv.conv(x, k, 2), 1),
  "3x3 stride 2": (lambda x, k: conv.conv(x, k, 2, 1), 3),
  "5x5, pool": (conv.conv_pool, 5),
}


@pytest.fixture(scope="module")
def as_written():
  """Returns `name -> (arguments, value and derivatives)`, each made once."""

  @functools.cache
  def make(name):
    function, size = ELSEWHERE[name]
    args = draw(size, 5, 6)
    # What has no kernel is written for a CPU, and tested by hand there.
    with parallel.traced_for("cpu") if name in KERNEL_FREE else conv.plain():
      return args, derivatives(function)(*args)

  return make


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_platforms_equal_plain(name, platform, as_written):
  """What an accelerator would run, run here."""
  args, theirs = as_written(name)
  with parallel.traced_for(platform):
    ours = derivatives(ELSEWHERE[name][0])(*args)
  close(ours, theirs)


def test_a_tpu_turns_kernels_beside_large_images_only(monkeypatch):
  """A kernel's gradient has two forms there, which are one to all orders."""
  x, k = draw(4, 5, 6)

  def forms(x):
    """Returns the derivatives, and how many W the first ones take."""
    # A new function, since JAX keeps what it traced of an old one.
    function = derivatives(lambda x, k: conv.conv_transpose_4x4(x, k))
    loss = lambda k: conv.conv_transpose_4x4(x, k).sum()
    with parallel.traced_for("tpu"):
      text = str(jax.make_jaxpr(jax.grad(loss))(k))
      return function(x, k), text.count("rhs_dilation=(2, 2)")

  # By hand: 4 x 16 x 16 x 6 numbers of an image, and 4 x 4 x 5 x 6 of k.
  assert conv.LARGER == 2
  large, count = forms(x)
  assert count == 1
  few = x[:1, :2, :2]  # Makes 4 x 4 x 6.
  small, count = forms(few)
  assert count == 0
  with conv.plain():
    close(small, derivatives(conv.conv_transpose_4x4)(few, k))
  monkeypatch.setattr(conv, "LARGER", 2**20)
  native, count = forms(x)
  assert count == 0
  close(large, native)


def test_plain_is_what_papers_write():
  """Else the two sides of the tests above would be the same one."""
  x, k = draw(3, 5, 6)
  with conv.plain():
    plain = jax.make_jaxpr(lambda x, k: conv.upsample_conv(x, k))(x, k)
  (eqn,) = (e for e in plain.eqns if "conv_general" in str(e.primitive))
  assert eqn.invars[0].aval.shape == (BATCH, 2 * PIXELS, 2 * PIXELS, 5)
  assert conv._form == "fast"


def test_upsample_and_pool_by_hand():
  x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
  up = conv.upsample(x)[0, :, :, 0]
  np.testing.assert_array_equal(up[0], [1, 1, 2, 2])
  np.testing.assert_array_equal(up[:, 3], [2, 2, 4, 4])
  assert conv.pool(x).item() == 2.5
  np.testing.assert_array_equal(conv.pool(conv.upsample(x)), x)


def test_a_fused_layer_has_the_parameters_of_the_plain():
  x, _ = draw(3, 5, 6)
  shapes = {
    resample: jax.tree.map(
      jnp.shape, layers.Conv(6, resample=resample).init(jax.random.key(0), x)
    )
    for resample in ("", "up", "down")
  }
  assert shapes[""] == shapes["up"] == shapes["down"]
  assert shapes[""]["params"] == {"kernel": (3, 3, 5, 6), "bias": (6,)}


def test_groups_do_not_mix():
  x, _ = draw(3, 4, 4)
  layer = layers.Conv(4, groups=2)
  variables = layer.init(jax.random.key(0), x)
  assert variables["params"]["kernel"].shape == (3, 3, 2, 4)
  one = layer.apply(variables, x.at[..., 2:].set(0.0))
  np.testing.assert_allclose(
    one[..., :2], layer.apply(variables, x)[..., :2], atol=1e-6
  )
  assert not np.allclose(one[..., 2:], layer.apply(variables, x)[..., 2:])


def test_the_batch_is_cut_where_patches_leave_the_cache():
  same, halve = conv.Shape(3, 1, 1), conv.Shape(4, 2, 1)
  assert conv._num_parts(same, (64, 16, 16, 128)) == 8
  assert conv._num_parts(same, (64, 32, 32, 256)) == 64
  assert conv._num_parts(same, (64, 8, 8, 128)) == 1
  assert conv._num_parts(halve, (64, 32, 32, 128)) == 16
  assert conv._num_parts(same, (7, 64, 64, 64)) == 7


@pytest.mark.parametrize(
  ("channels", "groups", "now"),
  [
    (64, 16, 1),  # All 16 groups of 4 are one of 64.
    (256, 16, 2),  # 8 groups of 16 fill the 128 lanes.
    (96, 3, 1),  # 3 groups of 32: all of them fit.
    (160, 5, 5),  # 4 of 32 would fit, but do not divide 5.
    (256, 2, 2),  # They fill the lanes as they are.
  ],
)
def test_groups_of_a_tpu_fill_its_lanes(channels, groups, now):
  # By hand: the most groups that fit and that divide become one.
  _, k = draw(3, channels // groups, 2 * channels)
  x, _ = draw(3, channels, 1)

  def grouped(x, k):
    return conv.conv(x, k, padding=1, groups=groups)

  with conv.plain():
    theirs = derivatives(grouped)(x, k)
  with parallel.traced_for("tpu"):
    ours = derivatives(lambda x, k: grouped(x, k))(x, k)
  close(ours, theirs)
  assert conv._wide_groups(k, groups)[1] == now
