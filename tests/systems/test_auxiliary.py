"""AC-GAN: the classes' loss by hand, whom it moves, and what it needs."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import difference, scaled

from ganjax import data, errors, nets
from ganjax.nets import labels as by_label
from ganjax.nets.judged import Judged
from ganjax.objectives import losses, optimizers
from ganjax.runs import configs
from ganjax.systems import auxiliary
from ganjax.systems.gan import GAN
from ganjax.training.train import train

pytestmark = pytest.mark.usefixtures("without_figures")
POINTS = np.random.RandomState(0).normal(size=(8, 2)).astype(np.float32)
LABELS = np.arange(8, dtype=np.int32) % 3


class Generator(nn.Module):
  """z `[n, 4]` and labels -> points `[n, 2]`, linear in both."""

  num_classes: int = 3
  conditional: bool = True

  @nn.compact
  def __call__(self, z, labels=None, train=True):
    return nn.Dense(2)(by_label.beside_classes(self, z, labels))


class Discriminator(nn.Module):
  """points -> logits, and class logits; linear."""

  num_classes: int = 3
  head: str = "auxiliary"

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    def linear(size, **fields):
      return nn.Dense(size, **fields)

    return by_label.head(
      self.head, linear, x, labels=labels, num_classes=self.num_classes
    )


def make(weight, head="auxiliary"):
  sgd = optimizers.get("sgd", learning_rate=1.0)
  return GAN(
    generator=Generator(),
    discriminator=Discriminator(head=head),
    loss=losses.get("non_saturating"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=4,
    auxiliary_weight=weight,
  )


@pytest.fixture(scope="module")
def steps() -> Any:
  """The first state, and those after a step without and with the loss."""
  arrays = data.Arrays(jnp.asarray(POINTS), jnp.asarray(LABELS), 3)
  first = jax.jit(make(0.0).init)(jax.random.key(0), arrays)
  batch = data.Arrays(POINTS[None], LABELS[None], 3)
  after = [
    jax.jit(make(weight).train_step)(first, batch, jax.random.key(1))
    for weight in (0.0, 0.5)
  ]
  return first, *after


def cross_entropy(d, points):
  logits = points @ d["classes"]["kernel"] + d["classes"]["bias"][None]
  picked = logits[jnp.arange(len(points)), LABELS]
  return jnp.mean(jax.nn.logsumexp(logits, axis=1) - picked)


def fakes(first, g, at):
  """The fakes of D's update (0) or of G's (1)."""
  key = jax.random.split(jax.random.fold_in(jax.random.key(1), at), 5)[0]
  z = make(0.0).sample_one_z
  z = jax.vmap(z)(jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(8)))
  layer = g["Dense_0"]
  z = jnp.concatenate([z, jax.nn.one_hot(LABELS, 3)], 1)
  return z @ layer["kernel"] + layer["bias"][None]


def moved(plain, informed):
  return difference(plain, informed)


def close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


def test_d_learns_the_classes_of_reals_and_fakes(steps):
  first, (plain, _), (informed, metrics) = steps
  fake = fakes(first, first.generator.params, 0)

  def loss(d):
    return (cross_entropy(d, POINTS) + cross_entropy(d, fake)) / 2

  d = first.discriminator.params
  np.testing.assert_allclose(metrics["class_loss"], loss_of_g(steps), 1e-5)
  change = moved(plain.discriminator.params, informed.discriminator.params)
  close(change, scaled(0.5, jax.grad(loss)(d)))
  assert np.abs(change["classes"]["kernel"]).max() > 1e-3


def loss_of_g(steps):
  """What the log has: the value in G's update, which comes after D's."""
  first, _, (informed, _) = steps
  d = informed.discriminator.params
  fake = fakes(first, first.generator.params, 1)
  return (cross_entropy(d, POINTS) + cross_entropy(d, fake)) / 2


def test_g_learns_to_be_of_its_class(steps):
  first, (plain, _), (informed, _) = steps

  def loss(g, state):
    d = state.discriminator.params
    fake = fakes(first, g, 1)
    # The logit's own gradient, as the discriminators are not the same.
    layer = d["Dense_0"]
    logits = (fake @ layer["kernel"] + layer["bias"][None])[:, 0]
    game = jnp.mean(jax.nn.softplus(-logits))
    return game, 0.5 * cross_entropy(d, fake) / 2

  g = first.generator.params
  for state, terms in ((plain, 1), (informed, 2)):
    expected = jax.grad(lambda g, s=state, n=terms: sum(loss(g, s)[:n]))(g)
    close(moved(g, state.generator.params), expected)


def test_without_weight_there_is_no_trace(steps):
  assert "class_loss" not in steps[1][1]
  assert steps[2][1].keys() > {"class_loss", "class_accuracy"}


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_class_logits_are_seen_within_spectral_norm(norm):
  fields: dict[str, Any] = dict(width=4, norm=norm, head="auxiliary")
  net = nets.get("dcgan", "discriminator", (8, 8, 1), 3, **fields)
  images = jnp.ones((2, 8, 8, 1))
  labels = jnp.array([0, 1])
  params = jax.jit(net.init)(jax.random.key(0), images, labels)

  judged = jax.jit(net.apply)(params, images, labels)
  assert judged.class_logits.shape == (2, 3)
  layer = params["params"]["classes"]
  kernel = layer["kernel"]
  if norm == "spectral":
    kernel /= np.linalg.norm(kernel, 2)
  expected = judged.features @ kernel + layer["bias"][None]
  np.testing.assert_allclose(judged.class_logits, expected, atol=1e-3)


def test_what_it_needs_is_named():
  arrays = data.Arrays(jnp.asarray(POINTS), jnp.asarray(LABELS), 3)
  batch = data.Arrays(POINTS[None], LABELS[None], 3)
  system = make(1.0, head="linear")
  state = jax.eval_shape(system.init, jax.random.key(0), arrays)
  with pytest.raises(errors.UserError, match="head='auxiliary'"):
    jax.eval_shape(system.train_step, state, batch, jax.random.key(0))
  with pytest.raises(errors.UserError, match="auxiliary_weight=-1"):
    make(-1.0)
  judged = Judged(jnp.zeros(2), class_logits=jnp.zeros((2, 3)))
  with pytest.raises(errors.UserError, match="needs labels"):
    auxiliary.class_terms(1.0, judged, judged, None)


def test_a_config_trains_one(tmp_path):
  config = configs.load("digits_cgan:smoke")
  config.discriminator.update(conditional=False, head="auxiliary")
  config.system.auxiliary_weight = 1.0
  config.evals, config.checkpoint.best = {}, ""
  history = train(config, tmp_path, jax.devices()[:2]).history()
  assert 0 < history[-1]["class_loss"] < 10
