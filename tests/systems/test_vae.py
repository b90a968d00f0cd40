"""The vae system: its step, its samples, its runs, what it refuses."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference

import ganjax
from ganjax import data, errors, nets
from ganjax.objectives import optimizers
from ganjax.runs import configs, report
from ganjax.systems import vae
from ganjax.systems.vae import VAE
from ganjax.training import program
from ganjax.training.train import train

pytestmark = pytest.mark.usefixtures("without_figures")

SHAPE = (8, 8, 1)
IMAGES = np.random.RandomState(0).randint(0, 256, (24, *SHAPE), np.uint8)


def to_network(arrays):
  return arrays.replace(images=arrays.images / jnp.float32(255))


def make(net="mlp", shape=SHAPE, rate=0.1, **options):
  fields = dict(width=2) if net == "dcgan" else dict(hidden=())
  get = functools.partial(nets.get, net, image_shape=shape, **fields)
  sgd = optimizers.get("sgd", learning_rate=rate)
  decoder = get(role="decoder", output="linear")
  encoder = get(role="encoder")
  return VAE(encoder=encoder, decoder=decoder, opt=sgd, z_dim=2, **options)


def start(system) -> Any:
  arrays = to_network(data.Arrays(jnp.asarray(IMAGES)))
  return jax.jit(system.init)(jax.random.key(0), arrays)


def batch(n=8):
  return to_network(data.Arrays(jnp.asarray(IMAGES[None, :n])))


def test_the_kl_term_warms_up():
  system = make(beta=2.0, warm_up_steps=10)
  state, step = start(system), jax.jit(system.train_step)
  for at, weight in ((0, 0.0), (1, 0.2), (5, 1.0), (10, 2.0), (99, 2.0)):
    now = state.replace(step=jnp.int32(at))
    _, m = step(now, batch(), jax.random.key(0))
    np.testing.assert_allclose(m["kl_weight"], weight, rtol=1e-6)
    np.testing.assert_allclose(
      m["loss"],
      weight * m["train_kl"] - m["train_log_likelihood"],
      rtol=1e-6,
    )


def test_binarized_pixels_are_drawn(monkeypatch):
  """Both nets see 0 and 1 alone, each pixel in the share of its value."""
  images = jnp.full((1, 400, *SHAPE), 0.3)
  bernoulli = vae.get_likelihood("bernoulli")

  def log_of(log_prob):
    likelihood = bernoulli._replace(log_prob=log_prob)
    monkeypatch.setattr(vae, "get_likelihood", lambda *_: likelihood)
    system = make(binarize=True)
    step = jax.jit(system.train_step)
    _, metrics = step(start(system), data.Arrays(images), jax.random.key(0))
    return metrics["train_log_likelihood"]

  grey = lambda output, x: (x * (1 - x)).sum((1, 2, 3)) + 0 * output.sum()
  assert log_of(grey) == 0
  mean = log_of(lambda output, x: x.mean((1, 2, 3)) + 0 * output.sum())
  assert abs(mean - 0.3) < 0.01


@pytest.mark.slow
def test_devices_do_not_change_the_update():
  """Batch norm and all noise included; SGD shows a wrong scale."""
  after = []
  for num_devices in 1, 4:
    devices = jax.devices()[:num_devices]
    system = make(
      "dcgan",
      ema_decay=0.9,
      samples_per_image=2,
      binarize=True,
      warm_up_steps=2,
      rate=0.01,
    )
    first = start(system)
    state, arrays = program.replicate((first, data.Arrays(IMAGES)), devices)
    step = program.map_step(system.train_step, to_network, devices)
    for i in range(2):
      indices = data.batch_indices(0, i * 8, 8, len(IMAGES)).reshape(1, 8)
      indices = program.shard(indices, num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    after.append(jax.device_get((program.local(state), metrics)))
    assert largest_difference(after[-1][0], first) > 1e-3
  assert largest_difference(*(state for state, _ in after)) < 1e-5
  one, four = (metrics for _, metrics in after)
  for name in one:
    np.testing.assert_allclose(one[name], four[name], rtol=1e-4)


def test_samples_of_a_trained_one():
  system = make("dcgan", ema_decay=0.5)
  key = jax.random.key(3)
  state, _ = jax.jit(system.train_step)(start(system), batch(), key)
  draw = functools.partial(
    jax.jit(system.sample, static_argnames=("n", "ema", "batch")), key=key, n=6
  )
  images = draw(state)
  assert images.shape == (6, *SHAPE)
  assert 0 < images.min() < images.max() < 1  # The mean image, not logits.
  assert largest_difference(images, draw(state, ema=False)) > 1e-4
  settle = jax.jit(system.settle, static_argnames=("n", "ema"))
  # Settled on these samples alone, running statistics are theirs.
  for ema in True, False:
    settled = settle(state, key, 6, None, ema, None, 1.0)
    own = draw(state, ema=ema, batch=True)
    np.testing.assert_allclose(draw(settled, ema=ema), own, atol=1e-4)
    before = state.nets["decoder"] if ema else state.ema["decoder"]
    after = settled.nets["decoder"] if ema else settled.ema["decoder"]
    assert not largest_difference(before, after)
  # What is asked of single images uses the averages of both networks.
  real, live = batch().images[0], state.replace(ema={})
  abilities: Any = system.encode, system.reconstruct, system.score
  for ability in map(jax.jit, abilities):
    assert largest_difference(ability(state, real), ability(live, real)) > 1e-6
  # Without batch norm there is nothing to settle.
  plain = make()
  assert (
    plain.settle(state := start(plain), key, 6, None, True, None, 1) is state
  )


@pytest.mark.slow
def test_a_run_resumes_and_speaks(tmp_path, monkeypatch):
  """Two steps and two more are four; a loaded run has every ability."""
  monkeypatch.setattr(report, "show", lambda *_: None)

  def run_to(num_steps, folder):
    config = configs.load("digits_vae:smoke")
    config.update(num_steps=num_steps, log_every=1)
    config.evals = dict(log_likelihood=dict(every=2, num_samples=4, draws=2))
    config.system.warm_up_steps = 3
    config.checkpoint.best = ""
    return train(config, tmp_path / folder, jax.devices()[:1])

  whole = run_to(4, "whole")
  run_to(2, "halves")
  resumed = run_to(4, "halves")
  for a, b in zip(
    jax.tree.leaves(resumed.state), jax.tree.leaves(whole.state), strict=True
  ):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
  # What a step says of its batch is not what a metric says of held-out data.
  assert {"train_elbo", "elbo"} <= resumed.history()[-1].keys()
  weights = [row["kl_weight"] for row in resumed.history()]
  np.testing.assert_allclose(weights, [0, 1 / 3, 2 / 3, 1], atol=1e-6)
  run = ganjax.load(tmp_path / "halves")
  assert run.step == 4 and set(run.state.ema) == {"encoder", "decoder"}
  np.testing.assert_array_equal(run.sample(3), run.decode(run.latents(3)))
  real = configs.load_data(run.config, "test").images[:5]
  codes = run.encode(real)
  assert codes.shape == (5, run.config.system.z_dim)
  np.testing.assert_array_equal(run.reconstruct(real), run.decode(codes))
  scores = run.score(real)
  assert scores.shape == (5,) and np.isfinite(scores).all()
  # Of the image alone, whatever stands beside it.
  np.testing.assert_allclose(run.score(real[2:3]), scores[2:3], rtol=1e-5)
  assert np.abs(run.latents(50, truncation=0.5)).max() <= 0.5


@pytest.mark.parametrize(
  ("options", "text"),
  [
    (dict(likelihood="bernouli"), "did you mean 'bernoulli'"),
    (dict(scaling="symmetric"), "set config.scaling='unit', not 'symmetric'"),
    (dict(likelihood="gaussian", binarize=True), "binarize=True needs"),
    (dict(likelihood="gaussian", sigma=0.0), "sigma=0.0 is out of range"),
    (dict(samples_per_image=0), "samples_per_image=0 is out of range"),
    (dict(beta=-1.0), "beta=-1.0 is out of range"),
    (dict(warm_up_steps=-1), "warm_up_steps=-1 is out of range"),
  ],
)
def test_mistakes_are_named(options, text):
  with pytest.raises(errors.UserError, match=text):
    make(**options)


def test_parts_that_do_not_fit_are_named():
  config = configs.load("mnist_vae:smoke")
  for changes, text in (
    (dict(decoder=dict(output="tanh")), "output='linear', not 'tanh'"),
    (dict(scaling="symmetric"), "set config.scaling='unit'"),
  ):
    changed = config.copy_and_resolve_references()
    changed.update(changes)
    with pytest.raises(errors.UserError, match=text):
      configs.build(configs.resolve(changed), (28, 28, 1), 0)
