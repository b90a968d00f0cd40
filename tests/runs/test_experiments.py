"""Every experiment runs two steps; the theory of 2014's settings holds."""

import functools

import jax
import numpy as np
import optax
import pytest

import ganjax
from ganjax import data, main
from ganjax.objectives import optimizers, schedules
from ganjax.runs import configs
from ganjax.runs import run as runs

REAL_DATA = ("digits", "toy")


def fake_tfds(
  split="train",
  builder="cifar10",
  data_dir="",
  size=0,
  train_split="train",
  test_split="test",
  validation_split="",
):
  """Random images in the shape of MNIST or CIFAR-10, with labels."""
  del data_dir, train_split, test_split, validation_split
  side, channels = {"mnist": (28, 1), "cifar10": (32, 3)}[builder]
  side = size or side
  rng = np.random.RandomState(len(split))
  images = rng.randint(0, 256, (40, side, side, channels)).astype(np.uint8)
  return data.Arrays(images, np.arange(40, dtype=np.int32) % 10, 10)


@pytest.mark.parametrize("name", configs.experiments())
def test_every_part_fits(name, monkeypatch):
  """Traces the initial state, a step, samples and scores; compiles nothing."""
  config = configs.resolve(configs.load(f"{name}:smoke"))
  if config.dataset.name not in REAL_DATA:
    data.find("tfds")
    monkeypatch.setitem(data.DATASETS, "tfds", fake_tfds)
  arrays = configs.load_data(config, "train")
  shape, num_classes = arrays.images.shape[1:], arrays.num_classes
  system = configs.build(config, shape, num_classes)
  state = runs.abstract_state(system, shape, num_classes)
  labels = jax.ShapeDtypeStruct((8,), np.int32) if num_classes else None
  images = jax.ShapeDtypeStruct((8, *shape), np.float32)
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (system.batches_per_step, *x.shape), x.dtype
    ),
    data.Arrays(images, labels, num_classes),
  )
  key = jax.random.key(0)
  after, metrics = jax.eval_shape(system.train_step, state, batch, key)
  assert jax.tree.map(shape_of, after) == jax.tree.map(shape_of, state)
  assert metrics and all(value.shape == () for value in metrics.values())
  sample = functools.partial(system.sample, n=4)
  some = None if labels is None else np.zeros(4, np.int32)
  drawn = jax.eval_shape(lambda s, k: sample(s, k, labels=some), state, key)
  assert drawn.shape == (4, *shape)
  scores = jax.eval_shape(system.score, state, images, labels)
  assert scores.shape == (8,)


def shape_of(leaf):
  return leaf.shape, leaf.dtype


# The parts of all are traced above; to compile and run the others takes long.
FAST = ("digits_dcgan",)


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST))
    for name in configs.experiments()
  ],
)
def test_smoke(name, tmp_path, monkeypatch, capsys):
  config = configs.resolve(configs.load(f"{name}:smoke"))
  if config.dataset.name not in REAL_DATA:
    data.find("tfds")
    monkeypatch.setitem(data.DATASETS, "tfds", fake_tfds)
  argv = ["main", f"--config={name}:smoke", f"--workdir={tmp_path}"]
  assert main.main([*argv, "--config.batch_size=8"]) == 0
  assert "curves.png" in capsys.readouterr().out
  assert len(ganjax.load(tmp_path).sample(3)) == 3


def test_a_finished_run_has_nothing_left_but_to_report(tmp_path, capsys):
  argv = ["main", "--config=toy_ring:smoke", f"--workdir={tmp_path}"]
  for _ in range(2):
    assert main.main(argv) == 0
    assert "curves.png" in capsys.readouterr().out
  assert ganjax.load(tmp_path).step == 2


def test_the_settings_of_2014():
  config = configs.resolve(configs.load("mnist_mlp")).to_dict()
  rate = schedules.get_schedule(**config["g_opt"]["learning_rate"])
  np.testing.assert_allclose(rate(0), 0.1, rtol=1e-6)
  np.testing.assert_allclose(rate(173_287), 0.05, rtol=1e-5)
  assert rate(10_000_000) == np.float32(1e-6)
  momentum = schedules.get_schedule(**config["g_opt"]["momentum"])
  # Constant within an epoch; .5 in the first, .7 from the 250th on.
  for step, value in (
    (0, 0.5),
    (499, 0.5),
    (500, 0.5 + 0.2 / 249),
    (249 * 500 - 1, 0.7 - 0.2 / 249),
    (249 * 500, 0.7),
    (10**6, 0.7),
  ):
    np.testing.assert_allclose(momentum(step), value, rtol=1e-6)


def test_classical_momentum_by_hand():
  """Velocity <- mu v - lr g; p <- p + v, with a rate that halves each step."""
  rate = dict(name="exponential_decay", init_value=1.0, transition_steps=1)
  optimizer = optimizers.get(
    "classical_momentum",
    learning_rate=rate | dict(decay_rate=0.5),
    momentum=0.5,
  )
  params, velocity, value = np.float32(0), 0.0, 0.0
  state = optimizer.init(params)
  for step in range(4):
    updates, state = optimizer.update(np.float32(1), state, params)
    params = optax.apply_updates(params, updates)
    velocity = 0.5 * velocity - 0.5**step
    value += velocity
    np.testing.assert_allclose(params, value, rtol=1e-6)
