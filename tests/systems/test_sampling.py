"""How samples are drawn: labels, statistics, truncation, and what says so."""

import collections
import copy
import dataclasses
import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scipy.stats
from verbs import Verb

import ganjax
from ganjax import data, errors, parallel
from ganjax.data import scaling
from ganjax.nets import layers, norms
from ganjax.objectives import latents, losses, optimizers
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.runs.sampler import CHUNK, STANDING_SEED, Sampler
from ganjax.systems import STATISTICS
from ganjax.systems.gan import GAN

command = Verb("sample")


pytestmark = pytest.mark.usefixtures("without_figures")


class Generator(nn.Module):
  """Points 3 + 2 z + label, normalised; counts its passes in `spectral`."""

  num_classes: int = 0
  conditional: bool = True
  norm: bool = False
  dropout: float = 0.0

  @nn.compact
  def __call__(self, z, labels=None, train=True):
    x = 3 + 2 * z
    if self.conditional and labels is not None:
      x += labels[:, None]
    passes = self.variable("spectral", "passes", lambda: np.float32(0))
    if self.is_mutable_collection("spectral"):
      passes.value += 1
    if self.norm:
      x = norms.batch_norm(train)(x)
    x = layers.Dropout(self.dropout)(x, train)
    return x + self.param("bias", nn.initializers.zeros_init(), ())


class Discriminator(nn.Module):
  @nn.compact
  def __call__(self, images, labels=None, train=True):
    return nn.Dense(1)(images)[:, 0]


def make(*, statistics="running", latent="normal", **fields):
  """Returns the system and a state, whose running statistics are 0 and 1."""
  generator = Generator(**fields)
  sgd = optimizers.get("sgd", learning_rate=0.1)
  system = GAN(
    generator=generator,
    discriminator=Discriminator(),
    loss=losses.get("hinge"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=2,
    latent=latent,
    ema_decay=0.5,
    statistics=statistics,
  )
  labels = np.zeros(4, np.int32) if generator.num_classes else None
  points = data.Arrays(np.zeros((4, 2), np.float32), labels)
  return system, jax.jit(system.init)(jax.random.key(0), points)


def sampler(**options):
  """Returns `(n, labels=None, **how) -> points`."""
  system, state = make(**options)
  identity = scaling.SCALINGS.find("identity")()
  return functools.partial(Sampler(system, identity), state)


def draw_z(seed, chunk):
  """Returns the z `[64, 2]` of a chunk."""
  key = jax.random.fold_in(jax.random.key(seed), chunk)
  keys = parallel.example_keys(key, CHUNK)
  return np.asarray(jax.vmap(lambda key: latents.normal(key, 2))(keys))


def test_samples_are_what_they_were():
  """Chunks of 64 with a key each, in evaluation mode, labels ignored."""
  expected = 3 + 2 * np.concatenate([draw_z(5, i) for i in range(2)])
  draw = sampler(conditional=False, num_classes=3, norm=True)
  np.testing.assert_allclose(
    draw(100, seed=5), expected[:100] / np.sqrt(1 + 1e-5), rtol=1e-6
  )
  draw = sampler()
  np.testing.assert_array_equal(draw(100, seed=5), expected[:100])
  np.testing.assert_array_equal(draw(100, seed=5)[:9], draw(9, seed=5))


def test_labels():
  draw = sampler(num_classes=10)
  plain = 3 + 2 * np.concatenate([draw_z(0, i) for i in range(2)])[:70]
  given = np.random.RandomState(0).randint(0, 10, 70)
  for labels, drawn in (
    (None, np.arange(70) % 10),
    (4, np.full(70, 4)),
    (given, given),
    (list(given), given),
  ):
    expected = plain + drawn[:, None]
    np.testing.assert_allclose(draw(70, labels), expected, atol=1e-6)


@pytest.mark.parametrize(
  "fields, labels, message",
  [
    ({}, 1, "dataset has no labels: draw samples without"),
    (dict(num_classes=3, conditional=False), 1, "generator is unconditional"),
    (dict(num_classes=3), [0, 1, 2], r"\(3,\) .* each of the 2 samples"),
    (dict(num_classes=3), [0, 3], "from 0 to 2, not 3"),
    (dict(num_classes=3), -1, "from 0 to 2, not -1"),
    (dict(num_classes=3), [0.5, 1], "from 0 to 2, not 0.5"),
  ],
)
def test_labels_that_do_not_fit_are_named(fields, labels, message):
  with pytest.raises(errors.UserError, match=message):
    sampler(**fields)(2, labels)


def normalised(x, mean, var):
  return (x - mean) / np.sqrt(var + 1e-5)


def test_batch_statistics_are_those_of_a_chunk():
  fields = dict(num_classes=10, norm=True)
  draw = sampler(statistics="batch", **fields)
  labels = (np.arange(128) % 10)[:, None]
  x = 3 + 2 * np.concatenate([draw_z(0, i) for i in range(2)]) + labels
  expected = [normalised(c, c.mean(0), c.var(0)) for c in np.split(x, 2)]
  points = draw(70)
  np.testing.assert_allclose(points, np.concatenate(expected)[:70], atol=1e-5)
  np.testing.assert_array_equal(points[:5], draw(5))


def test_standing_statistics_are_the_mean_of_the_batches():
  """Of 16 batches' means and variances; all classes whatever is drawn."""
  draw = sampler(num_classes=10, norm=True)
  labels = np.resize(np.arange(10), (16, 64, 1))
  z = np.stack([draw_z(STANDING_SEED, i) for i in range(16)])
  x = np.float64(3 + 2 * z + labels)
  mean = x.mean(1).mean(0)
  var = x.var(1).mean(0)
  assert (abs(var - x.var((0, 1))) > 1e-2).any()  # Another definition.
  standing = functools.partial(draw, statistics="standing")
  expected = normalised(3 + 2 * draw_z(0, 0) + 7, mean, var)
  np.testing.assert_allclose(standing(64, 7), expected, atol=1e-5)
  np.testing.assert_array_equal(standing(70, 7)[:64], standing(64, 7))
  # Of the z that are drawn, so truncated ones vary less.
  small = standing(64, truncation=0.01) - standing(64, truncation=0.01, seed=1)
  assert abs(small).max() < 0.05


@pytest.mark.parametrize("ema", [True, False])
def test_settling_touches_running_statistics_alone(ema):
  system, state = make(norm=True)
  key = jax.random.key(0)
  weight = 0.25
  new = system.settle(state, key, 8, None, ema, None, weight)
  old = state.net("generator", averaged=ema).stats
  changed = new.net("generator", averaged=ema).stats
  assert changed["spectral"] == old["spectral"]
  z = jax.vmap(lambda k: latents.normal(k, 2))(parallel.example_keys(key, 8))
  np.testing.assert_allclose(
    changed["batch_stats"]["BatchNorm_0"]["mean"],
    0.25 * (3 + 2 * z).mean(0),
    rtol=1e-6,
  )
  same = [x.net("generator", averaged=not ema) for x in (state, new)]
  assert same[0] is same[1]
  assert new.discriminator is state.discriminator


def test_without_batch_norm_all_statistics_agree():
  draw = sampler(num_classes=3)
  images = [draw(70, statistics=name) for name in STATISTICS]
  np.testing.assert_array_equal(images[0], images[1])
  np.testing.assert_array_equal(images[0], images[2])


def test_training_mode_drops_units_by_the_key():
  draw = sampler(dropout=0.5)
  batch = functools.partial(draw, statistics="batch")
  points = batch(70)
  assert 0.3 < (points == 0).mean() < 0.7 and (draw(70) != 0).all()
  np.testing.assert_array_equal(points[:5], batch(5))
  assert ((points == 0) != (batch(70, seed=1) == 0)).any()


@pytest.mark.parametrize("bound", [0.04, 0.5, 2.0])
def test_truncated_normal(bound):
  keys = jax.random.split(jax.random.key(0), 500)
  draw = jax.jit(jax.vmap(lambda key, t: latents.normal(key, 8, t), (0, None)))
  z = np.asarray(draw(keys, bound))
  assert z.shape == (500, 8) and abs(z).max() <= bound
  law = scipy.stats.truncnorm(-bound, bound)
  assert scipy.stats.kstest(z.ravel(), law.cdf).pvalue > 0.01
  assert abs(np.corrcoef(z[:, 0], z[:, 1])[0, 1]) < 0.15


def test_truncation_of_samples():
  draw = sampler()
  points = draw(70, truncation=0.5)
  assert 0.99 < abs(points - 3).max() <= 1.0001
  np.testing.assert_array_equal(draw(9, truncation=0), draw(9))
  for value in -1.0, float("nan"), float("inf"):
    with pytest.raises(errors.UserError, match="truncation=.* above 0"):
      draw(1, truncation=value)
  with pytest.raises(errors.UserError, match="latent='normal'"):
    sampler(latent="uniform")(1, truncation=0.5)


def test_a_config_chooses_the_statistics():
  config = configs.load("digits_dcgan:smoke")
  build = functools.partial(
    configs.build, image_shape=(8, 8, 1), num_classes=10
  )
  assert build(configs.resolve(config)).statistics == "running"
  config.system.statistics = "batch"
  assert build(configs.resolve(config)).statistics == "batch"


def test_unknown_statistics_are_named():
  with pytest.raises(errors.UserError, match="did you mean 'standing'"):
    make(statistics="stnading")
  with pytest.raises(errors.UserError, match="did you mean 'batch'"):
    sampler()(1, statistics="bach")


def make_run(decay=0.5, **options):
  draw: Any = sampler(**options)
  config = ml_collections.ConfigDict(dict(ema=dict(decay=decay)))
  return runs.Run(config, pathlib.Path(), 7, draw.args[0], draw.func)


def test_protocol():
  run = make_run(num_classes=3, statistics="standing")
  assert run.protocol() == dict(
    step=7,
    weights="ema",
    statistics="standing",
    labels="balanced",
    truncation=0.0,
  )
  how: Any = dict(ema=False, truncation=0.5, statistics="batch")
  assert run.sample(2, **how).shape == (2, 2)
  assert run.protocol(**how) == dict(
    step=7,
    weights="live",
    statistics="batch",
    labels="balanced",
    truncation=0.5,
  )
  run = make_run(decay=0.0, conditional=False, num_classes=3)
  assert run.protocol() == dict(
    step=7,
    weights="live",
    statistics="running",
    labels="none",
    truncation=0.0,
  )


def test_command(tmp_path, monkeypatch, capsys):
  run = make_run(num_classes=3, norm=True)
  monkeypatch.setattr(ganjax, "load", lambda *_: run)
  out = str(tmp_path / "x.npy")
  base = [str(tmp_path), "--num", "5", "--out", out]
  cases: Any = (
    (["--labels", "2"], 2, {}),
    (["--labels", "2,0"], [2, 0, 2, 0, 2], {}),
    (["--truncation", "0.5"], None, dict(truncation=0.5)),
    (["--statistics", "batch"], None, dict(statistics="batch")),
  )
  for flags, labels, how in cases:
    assert command.main(base + flags) == 0
    np.testing.assert_array_equal(np.load(out), run.sample(5, labels, **how))
  for flags, message in (
    (["--labels", "a"], "--labels a must be classes, such as 3 or 0,1,2"),
    (["--labels", "0,3"], "from 0 to 2, not 3"),
    (["--truncation", "-1"], "truncation=-1.0 must be above 0"),
    (["--statistics", "none"], "unknown statistics 'none'"),
    (["--labels", "2", "--num", "0"], "cannot draw 0 samples"),
  ):
    capsys.readouterr()
    assert command.main(base + flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("ema", [True, False])
def test_samples_are_decoded_latents(ema):
  draw: Any = sampler(num_classes=3)
  state = draw.args[0]
  z = draw.func.latents(70, 5, 0.0)
  labels = np.arange(70) % 3
  decoded = draw.func.decode(state, z, labels, ema)
  np.testing.assert_array_equal(decoded, draw(70, labels, 5, ema=ema))
  assert abs(draw.func.latents(70, 5, 0.5)).max() <= 0.5


def test_scores_are_those_of_each_image():
  draw: Any = sampler(num_classes=3)
  points = np.random.RandomState(0).normal(size=(70, 2)).astype(np.float32)
  params = jax.device_get(draw.args[0].discriminator.params["Dense_0"])
  score = functools.partial(draw.func.apply, draw.args[0], "score", points)
  expected = (points @ params["kernel"] + params["bias"])[:, 0]
  np.testing.assert_allclose(score(np.zeros(70)), expected, rtol=1e-5)
  with pytest.raises(errors.UserError, match="need the images' labels"):
    score()
  with pytest.raises(
    errors.UserError, match=r"\(3,\) must be .* the 70 images"
  ):
    score(np.zeros(3))


def test_labels_are_those_that_a_conditional_run_draws():
  draw: Any = sampler(num_classes=3)
  np.testing.assert_array_equal(draw.func.labels(5), [0, 1, 2, 0, 1])
  draw = sampler(num_classes=3, conditional=False)
  assert draw.func.labels(5) is None


def ability(function, returns="values", takes_labels=True):
  function.returns = returns
  function.takes_labels = takes_labels
  return function


class Able:
  """A system with abilities alone; counts how often each is traced."""

  num_classes = 3

  def __init__(self, conditional=False):
    self.conditional = conditional
    self.traced = collections.Counter()

  def abilities(self):
    def encode(state, images, labels=None, scale=1.0):
      self.traced["encode"] += 1
      return state * scale * images + (
        0 if labels is None else labels[:, None, None, None]
      )

    def brighten(state, images, labels=None):
      return images + 0.2

    def classify(state, images, ema=True):
      self.traced["classify"] += 1
      return images.sum((1, 2, 3)) if ema else state

    def bounds(state, images, labels=None, draws=2):
      self.traced["bounds"] += 1
      # Only a constant can be the length of an array.
      return {"sum": jnp.zeros((len(images), draws)).at[:].set(state).sum(1)}

    return dict(
      encode=ability(encode),
      brighten=ability(brighten, returns="images"),
      classify=ability(classify, takes_labels=False),
      bounds=ability(bounds),
    )


IMAGES = np.random.RandomState(0).randint(0, 256, (70, 2, 2, 1), np.uint8)
STATE = np.float32(2)


def able_run(conditional=False) -> Any:
  unit = scaling.SCALINGS.find("unit")()
  system: Any = Able(conditional)
  config: Any = {}
  return runs.Run(config, pathlib.Path(), 7, STATE, Sampler(system, unit))


def test_an_ability_sees_what_networks_see_and_says_what_is_stored():
  run = able_run()
  np.testing.assert_allclose(
    run.encode(IMAGES), 2 * np.float32(IMAGES) / 255, rtol=1e-6
  )
  brighter = run.brighten(IMAGES)
  assert brighter.dtype == np.uint8
  exact = np.minimum(np.int32(IMAGES) + 51, 255)
  np.testing.assert_array_equal(brighter, exact)
  np.testing.assert_array_equal(run.apply("brighten", IMAGES), brighter)
  other: Any = run.sampler.abilities(np.float32(4))["encode"]
  np.testing.assert_allclose(other(IMAGES), 2 * run.encode(IMAGES), rtol=1e-6)


def test_an_ability_is_compiled_once_for_each_constant():
  run = able_run()
  traced = run.sampler.system.traced
  for draws, programs in ((3, 1), (5, 2), (3, 2), (np.int64(6), 3)):
    found = run.bounds(IMAGES, draws=draws)
    np.testing.assert_array_equal(found["sum"], np.full(70, 2.0 * draws))
    assert traced["bounds"] == programs
  np.testing.assert_array_equal(run.bounds(IMAGES)["sum"], np.full(70, 4.0))
  # A number that is not whole is an input: any value runs the same program.
  for scale in (0.5, 3.0):
    found = run.encode(IMAGES, scale=scale)
    np.testing.assert_allclose(
      found, np.float32(2 * scale) * (np.float32(IMAGES) / 255), rtol=1e-6
    )
  assert traced["encode"] == 1


def test_labels_of_an_ability():
  run = able_run(conditional=True)
  labels = np.arange(70) % 3
  plain = able_run().encode(IMAGES)
  added = run.encode(IMAGES, labels) - plain
  np.testing.assert_allclose(
    added, np.broadcast_to(labels[:, None, None, None], added.shape), atol=1e-6
  )
  with pytest.raises(errors.UserError, match="need the images' labels"):
    run.encode(IMAGES)
  # What would be the answer is not asked for.
  classes = run.classify(IMAGES)
  np.testing.assert_array_equal(run.classify(IMAGES, labels), classes)
  assert run.sampler.system.traced["classify"] == 1


def test_an_absent_ability_is_named_and_is_no_attribute():
  run = able_run()
  text = "no ability 'score'; it has: bounds, brighten, classify, encode"
  for call in (
    lambda: run.score(IMAGES),
    lambda: run.apply("score", IMAGES),
    lambda: run.sampler.apply(STATE, "score", IMAGES),
  ):
    with pytest.raises(errors.UserError, match=text) as error:
      call()
    assert "\n" not in str(error.value)
  assert hasattr(run, "encode") and not hasattr(run, "score")
  assert {"encode", "brighten", "sample", "step"} <= set(dir(run))
  assert "score" not in dir(run)


def test_a_run_can_be_copied_and_changed():
  run = able_run()
  other = dataclasses.replace(copy.copy(run), step=9)
  assert other.step == 9 and other.sampler is run.sampler
  assert not hasattr(run, "__array__")
  with pytest.raises(AttributeError):
    _ = object.__new__(runs.Run).encode


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_an_error(bad):
  draw: Any = sampler()
  state = jax.tree.map(lambda x: x, draw.args[0])
  params = {**state.generator.params, "bias": np.float32(bad)}
  state = state.replace_nets(generator=state.generator.replace(params=params))
  with pytest.raises(errors.UserError, match="not all finite") as e:
    draw.func(state, 3, ema=False)
  assert "\n" not in str(e.value)
  assert np.isfinite(draw(3, ema=False)).all()
