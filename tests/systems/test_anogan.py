"""AnoGAN: the search where its end is known by hand, and what scores mean."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import data, errors, nets
from ganjax.nets.judged import Judged
from ganjax.objectives import losses, optimizers
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.systems.anogan import AnoGAN
from ganjax.systems.gan import GAN
from ganjax.training import train

SHAPE = (8, 8, 1)
IMAGES = np.random.RandomState(0).uniform(-1, 1, (16, *SHAPE))
IMAGES = IMAGES.astype(np.float32)


class Linear(nn.Module):
  """A generator of three pixels."""

  image_shape: tuple[int, ...] = (3,)

  @nn.compact
  def __call__(self, z, labels=None, train=True):
    return nn.Dense(3, use_bias=False, name="map")(z)


class Doubled(nn.Module):
  """A discriminator whose features are twice the pixels."""

  image_shape: tuple[int, ...] = (3,)

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    return Judged(nn.Dense(1, name="head")(2 * x)[:, 0], 2 * x)


def linear(kernel, **options) -> Any:
  """Returns a system whose G is `z @ kernel`, and its state."""
  sgd = optimizers.get("sgd", learning_rate=0.1)
  system = AnoGAN(
    generator=Linear(),
    discriminator=Doubled(),
    loss=losses.get("non_saturating"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=len(kernel),
    **options,
  )
  given = data.Arrays(jnp.zeros((2, 3)))
  state = jax.jit(system.init)(jax.random.key(0), given)
  params = {"map": {"kernel": jnp.float32(kernel)}}
  return system, state.replace_nets(
    generator=state.generator.replace(params=params)
  )


def convolutional(kind=AnoGAN, **options):
  get = functools.partial(nets.get, image_shape=SHAPE)
  sgd = optimizers.get("sgd", learning_rate=0.1)
  return kind(
    generator=get("dcgan", "generator", width=8),
    discriminator=get("dcgan", "discriminator", width=4, norm="none"),
    loss=losses.get("non_saturating"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=8,
    **options,
  )


def start(system):
  return jax.jit(system.init)(jax.random.key(0), data.Arrays(IMAGES))


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_the_nearest_of_equal_pixels_is_their_median(weight):
  """The sum of |x_i - z| is least there; features count it twice."""
  system, state = linear([[1, 1, 1]], search_rate=0.02, feature_weight=weight)
  images = jnp.array([[0.0, 1.0, 5.0], [2.0, -1.0, -3.0], [0.5, 0.5, 0.5]])
  z = jax.jit(system.encode)(state, images)
  np.testing.assert_allclose(z[:, 0], [1.0, -1.0, 0.5], atol=0.02)
  distances = np.array([5.0, 5.0, 0.0])
  expected = -((1 - weight) * distances + weight * 2 * distances)
  scores = jax.jit(system.score)(state, images)
  np.testing.assert_allclose(scores, expected, atol=0.1)
  rebuilt = system.reconstruct(state, images)
  np.testing.assert_array_equal(rebuilt, z @ jnp.ones((1, 3)))


def test_what_g_makes_is_found():
  kernel = np.array([[1.0, 0.5, -1.0], [0.0, 2.0, 1.0]])
  system, state = linear(kernel, search_steps=600, search_rate=0.01)
  z = np.array([[1.0, -0.5], [0.0, 2.0], [-1.5, 0.25]], np.float32)
  images = jnp.float32(z @ kernel)
  found = jax.jit(system.encode)(state, images)
  np.testing.assert_allclose(found, z, atol=0.02)
  # The normal to both rows, so far from all that G makes.
  away = jnp.float32(np.cross(*kernel) / np.linalg.norm(np.cross(*kernel)))
  far = system.score(state, images + jnp.broadcast_to(away, (3, 3)))
  assert (far < system.score(state, images) - 0.5).all()


def test_samples_score_above_noise_whatever_stands_beside_them():
  system = convolutional(search_steps=60, search_rate=0.1, ema_decay=0.9)
  state = start(system)
  score = jax.jit(system.score)
  samples = system.sample(state, jax.random.key(1), 8)
  both = score(state, jnp.concatenate([samples, IMAGES[:8]]))
  assert both[:8].min() > both[8:].max()
  np.testing.assert_array_equal(
    both, score(state, jnp.concatenate([samples, IMAGES[:8]]))
  )
  turned = score(state, jnp.concatenate([samples, IMAGES[:8]])[::-1])
  np.testing.assert_allclose(turned[::-1], both, rtol=1e-4)


def test_the_search_is_in_the_averaged_generator():
  system, state = linear([[1, 1, 1]], search_rate=0.02, ema_decay=0.9)
  assert state.ema
  params = {"map": {"kernel": jnp.float32([[1, 1, 1]])}}
  generator = state.generator.replace(
    params=jax.tree.map(jnp.zeros_like, params)
  )
  ema = {"generator": state.ema["generator"].replace(params=params)}
  state = state.replace_nets(generator=generator).replace(ema=ema)
  z = system.encode(state, jnp.ones((1, 3)))
  np.testing.assert_allclose(z, [[1.0]], atol=0.02)


def test_it_is_trained_as_a_gan():
  options: Any = dict(ema_decay=0.9, d_steps_per_g_step=2)
  system, plain = convolutional(**options), convolutional(GAN, **options)
  batch = data.Arrays(IMAGES.reshape(2, 8, *SHAPE))
  assert system.batches_per_step == 2
  ours, theirs = (
    jax.jit(x.train_step)(start(x), batch, jax.random.key(1))
    for x in (system, plain)
  )
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_run_scores_stored_images(tmp_path):
  config = configs.load("digits_anogan:smoke")
  config.evals = {}
  whole = train.train(config, tmp_path, jax.devices()[:1])
  loaded = runs.load(tmp_path)
  images = data.find("digits")("test", size=8).images[:3]
  assert loaded.encode(images).shape == (3, loaded.config.system.z_dim)
  assert loaded.reconstruct(images).dtype == np.uint8
  scores = loaded.score(images)
  assert scores.shape == (3,) and (scores < 0).all()
  np.testing.assert_array_equal(scores, whole.score(images))


def test_the_search_leaves_where_it_starts():
  """At z = 0 a generator without biases in its first layer has no gradient."""
  system = convolutional(search_steps=3)
  state = start(system)
  images = jax.random.uniform(jax.random.key(1), (2, *SHAPE))
  z = system.encode(state, images)
  assert (jnp.abs(z[0] - z[1]) > 1e-3).any()


@pytest.mark.parametrize(
  "name, value",
  [
    ("search_steps", 0),
    ("search_rate", 0.0),
    ("feature_weight", 1.5),
    ("feature_weight", -0.1),
  ],
)
def test_mistakes_are_named(name, value):
  with pytest.raises(errors.UserError, match=f"{name}={value} must be"):
    convolutional(**{name: value})
