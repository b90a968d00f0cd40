"""In-painting: what is known stays, what is missing is drawn."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference

import ganjax
from ganjax import data, errors, nets
from ganjax.objectives import losses, optimizers
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.systems.inpainting import Inpainting
from ganjax.systems.masks import MASKS
from ganjax.training import program, train

pytestmark = pytest.mark.usefixtures("without_figures")

SHAPE = (8, 8, 2)
IMAGES = np.random.RandomState(0).randint(0, 256, (40, *SHAPE), np.uint8)
WIDTH = dict(width=4)


def to_network(arrays):
  return arrays.replace(images=arrays.images / jnp.float32(255))


def make(net="dcgan", shape=SHAPE, loss=None, **options) -> Any:
  sizes = dict(dcgan=WIDTH, mlp=dict(hidden=(8,)))[net]
  get = functools.partial(nets.get, net, image_shape=shape, **sizes)
  sgd = optimizers.get("sgd", learning_rate=0.1)
  return Inpainting(
    encoder=get(role="encoder"),
    decoder=get(role="decoder"),
    discriminator=get(role="discriminator"),
    loss=loss or losses.get("non_saturating"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=3,
    code_dim=5,
    **options,
  )


def start(system):
  arrays = to_network(data.Arrays(jnp.asarray(IMAGES)))
  return jax.jit(system.init)(jax.random.key(0), arrays)


def masks(kind, n=64, size=(5, 4)):
  keys = jax.random.split(jax.random.key(0), n)
  draw = functools.partial(MASKS[kind], size=size)
  return np.asarray(jax.jit(jax.vmap(draw))(keys))


def test_half_masks_by_hand():
  seen = {str(mask[..., 0].astype(int).tolist()) for mask in masks("half")}
  rows = [[[0] * 4] * 2 + [[1] * 4] * 3, [[1] * 4] * 2 + [[0] * 4] * 3]
  columns = [[[0, 0, 1, 1]] * 5, [[1, 1, 0, 0]] * 5]
  assert seen == {str(mask) for mask in rows + columns}


def test_a_block_is_half_as_high_and_wide_and_may_be_anywhere():
  corners = set()
  for mask in masks("block", 200):
    rows, columns = np.nonzero(mask[..., 0] == 0)
    assert len(rows) == 3 * 2  # Half of 5, rounded up, times half of 4.
    assert np.ptp(rows) == 2 and np.ptp(columns) == 1
    corners.add((rows.min(), columns.min()))
  assert corners == {(top, left) for top in range(3) for left in range(3)}


def test_pixels_are_missing_by_themselves():
  drawn = masks("pixels", 2000)
  assert set(np.unique(drawn)) == {0, 1}
  # Five deviations of a mean of 2000 fair coins, at each of 20 pixels.
  np.testing.assert_allclose(drawn.mean(0), 0.5, atol=5 * 0.5 / 2000**0.5)
  flat = drawn.reshape(2000, -1)
  correlations = np.corrcoef(flat.T) - np.eye(20)
  assert np.abs(correlations).max() < 5 / 2000**0.5


def test_mixed_masks_are_of_all_kinds():
  missing = (masks("mixed", 600, (6, 6))[..., 0] == 0).sum((1, 2))
  boxes = masks("block", 1, (6, 6))
  assert (boxes == 0).sum() == 9
  # A third each is 18 (halves) or 9 (blocks); of pixels few are just as many.
  assert 0.30 < np.mean(missing == 18) < 0.45
  assert 0.28 < np.mean(missing == 9) < 0.39
  assert len(np.unique(missing)) > 5


@pytest.mark.parametrize("batch", [False, True])
def test_known_pixels_are_kept_exactly(batch):
  system = make(ema_decay=0.9)
  state = start(system)
  images = np.asarray(state.memory["images"])
  repeated = IMAGES[np.arange(64) % 40] / np.float32(255)
  np.testing.assert_allclose(images, repeated, rtol=1e-6)
  known = np.broadcast_to(state.memory["masks"] > 0, images.shape)
  draw = jax.jit(functools.partial(system.sample, n=70, batch=batch))
  drawn = draw(state, jax.random.key(1))
  np.testing.assert_array_equal(drawn[:64][known], images[known])
  np.testing.assert_array_equal(drawn[64:][known[:6]], images[:6][known[:6]])
  assert np.all(drawn[:64][~known] != images[~known])
  others = draw(state, jax.random.key(2))
  assert np.abs(others - drawn)[:64][~known].mean() > 1e-4
  if not batch:
    z = system.latents(jax.random.key(1), 70)
    decoded = jax.jit(system.decode)(state, z)
    np.testing.assert_allclose(decoded, drawn, atol=1e-6)


def test_what_is_missing_is_not_looked_at():
  system = make(net="mlp")
  state, rng = start(system), np.random.RandomState(0)
  images = IMAGES[:8] / np.float32(255)
  known = rng.rand(8, 8, 8, 1) > 0.5
  hidden = np.where(known, images, rng.rand(*images.shape).astype("f"))
  complete = functools.partial(
    system.complete,
    state,
    masks=known.astype(np.float32),
    key=jax.random.key(0),
  )
  whole = complete(images=images)
  np.testing.assert_array_equal(complete(images=hidden), whole)
  # The mask itself is seen: black that is known is not what is missing.
  nothing = np.zeros((2, 8, 8, 1), np.float32)
  half = nothing.copy()
  half[:, :, 4:] = 1
  g = system.drawn_nets(state, ema=False)
  black, z = np.zeros((2, *SHAPE), np.float32), np.zeros((2, 3), np.float32)
  first, second = (
    system.fill(g, black, mask, z)[0] for mask in (nothing, half)
  )
  assert largest_difference(first[:, :, :4], second[:, :, :4]) > 1e-4


def test_reconstructions_fill_the_left_half():
  system = make(net="mlp")
  state, images = start(system), IMAGES[:6] / np.float32(255)
  reconstruct = jax.jit(system.reconstruct)
  rebuilt = reconstruct(state, images)
  np.testing.assert_array_equal(rebuilt[:, :, 4:], images[:, :, 4:])
  assert np.all(rebuilt[:, :, :4] != images[:, :, :4])
  # Each by itself, and always the same.
  turned = reconstruct(state, images[::-1])
  np.testing.assert_allclose(turned[::-1], rebuilt, atol=1e-6)
  mask = np.ones((6, 8, 8, 1), np.float32)
  mask[:, :, :4] = 0
  nets_ = system.drawn_nets(state, ema=True)
  fill = jax.jit(system.fill)
  expected, _ = fill(nets_, images, mask, jnp.zeros((6, 3)))
  np.testing.assert_allclose(rebuilt, expected, atol=1e-6)


def test_the_error_is_of_missing_pixels_and_of_each_image_alike():
  masks = np.ones((2, 1, 4, 1), np.float32)
  masks[0, 0, :1], masks[1, 0, :] = 0, 0
  images = np.zeros((2, 1, 4, 2), np.float32)
  completed = images.copy()
  completed[0, 0, 0] = 3, 1  # Missing: 1 pixel, |.| 2 and square 5 on average.
  completed[1, 0, :, 0] = 2  # Missing: 4 pixels, |.| 1 and square 2.
  for distance, value in (("l1", 1.5), ("l2", 3.5)):
    system = make(distance=distance)
    error = system.missing_error(completed, images, masks)
    np.testing.assert_allclose(error, value, rtol=1e-6)
  nothing = system.missing_error(images, images, np.ones_like(masks))
  assert nothing == 0


@pytest.mark.slow
def test_devices_do_not_change_the_update():
  """Batch norm, masks and z included; SGD shows a wrong scale."""
  loss = losses.get("hinge", relativism="average")
  found = []
  for num_devices in 1, 4:
    devices = jax.devices()[:num_devices]
    system = make(ema_decay=0.9, d_steps_per_g_step=2, loss=loss)
    k, first = system.batches_per_step, start(system)
    assert k == 2
    state, arrays = program.replicate((first, data.Arrays(IMAGES)), devices)
    step = program.map_step(system.train_step, to_network, devices)
    for i in range(2):
      indices = data.batch_indices(0, i * 8 * k, 8 * k, len(IMAGES))
      indices = program.shard(indices.reshape(k, 8), num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    found.append(jax.device_get((program.local(state), metrics)))
    assert found[-1][0].step == 2
    for name in system.networks:
      moved = found[-1][0].nets[name], first.nets[name]
      assert largest_difference(*moved) > 1e-3, name
  assert largest_difference(found[0], found[1]) < 1e-5
  assert largest_difference(found[0][0].memory, first.memory) == 0


def test_the_weight_of_the_error_is_in_the_gradient():
  """With a linear D term of weight 0 the gradient is that of the error."""
  real = to_network(data.Arrays(jnp.asarray(IMAGES[:8])))
  loss = losses.get("wasserstein")
  loss = loss._replace(generator=lambda real, fake: 0.0 * fake.mean())
  state = start(make(net="mlp", loss=loss))

  def measure(weight):
    system = make(net="mlp", loss=loss, reconstruction_weight=weight)
    return jax.jit(system.generator_step)(state, real, jax.random.key(2))[1]

  nothing, one, three = (measure(weight) for weight in (0.0, 1.0, 3.0))
  assert one["reconstruction_loss"] > 0 == one["g_loss"]
  assert nothing["g_grad_norm"] == 0 < one["g_grad_norm"]
  np.testing.assert_allclose(
    three["g_grad_norm"], 3 * one["g_grad_norm"], rtol=1e-5
  )


def test_standing_statistics_are_those_of_the_batch():
  """With weight 1 running statistics give what the batch's own do."""
  system = make(ema_decay=0.9)
  state, key = start(system), jax.random.key(3)

  @jax.jit
  def draw(state):
    sample = functools.partial(system.sample, state, key, 64)
    return sample(), sample(ema=False), sample(batch=True)

  @jax.jit
  def settle(state):
    return system.settle(state, key, 64, None, True, None, 1.0)

  (before, live, batch), (after, still_live, _) = (
    draw(state),
    draw(settle(state)),
  )
  assert largest_difference(after, batch) < 1e-4
  assert largest_difference(before, batch) > 1e-3
  # The averaged networks alone were settled.
  assert largest_difference(live, still_live) == 0


@pytest.mark.slow
def test_a_run_resumes_and_gives_the_same(tmp_path):
  config = configs.resolve(configs.load("digits_inpainting:smoke"))
  small = dict(name="mlp", hidden=(4,))
  with config.unlocked():
    config.evals = {}
    for part in "encoder", "decoder", "discriminator":
      config[part] = dict(small)
  whole = train.train(config, tmp_path / "whole")
  config.num_steps = 1
  train.train(config, tmp_path / "parts")
  config.num_steps = 2
  resumed = train.train(config, tmp_path / "parts")
  assert largest_difference(resumed.state, whole.state) == 0
  run = ganjax.load(tmp_path / "parts")
  assert isinstance(run, runs.Run) and run.step == 2
  np.testing.assert_array_equal(run.sample(3), whole.sample(3))
  images = data.find("digits")("test").images[:5]
  rebuilt = run.reconstruct(images)
  np.testing.assert_array_equal(rebuilt[:, :, 8:], images[:, :, 8:])
  assert run.score(images).shape == (5,)


def test_mistakes_are_named():
  system = make(net="mlp")
  complete = functools.partial(system.complete, start(system))
  images = jnp.zeros((2, *SHAPE))
  for shape in (2, 8, 8, 2), (2, 8, 8), (1, 8, 8, 1):
    with pytest.raises(errors.UserError, match=r"must be \[2, 8, 8, 1\]"):
      complete(images, jnp.ones(shape), jax.random.key(0))
  with pytest.raises(errors.UserError, match="did you mean 'pixels'"):
    make(masks="pixel")
  with pytest.raises(errors.UserError, match="unknown distance 'l3'"):
    make(distance="l3")
  with pytest.raises(errors.UserError, match="must be at least 0"):
    make(reconstruction_weight=-1.0)
  with pytest.raises(errors.UserError, match="needs images, not \\[2\\]"):
    make(net="mlp", shape=(2,))
