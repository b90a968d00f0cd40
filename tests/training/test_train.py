"""A run: what it leaves, that a resume is exact, what stops it."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from trees import assert_same
from verbs import Verb

import ganjax
from ganjax import errors
from ganjax.runs import checkpoint, configs, run
from ganjax.training.train import train

sample = Verb("sample")


ONE = jax.devices()[:1]


def config(**changes):
  """The default experiment, tiny; statistics, EMA and evaluation included."""
  result = configs.load("digits_dcgan:smoke")
  result.log_every = 1
  result.samples.every = 2
  result.checkpoint.every = 1
  result.discriminator.norm = "batch"
  result.update(changes)
  return result


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  """Six steps without a stop: two epochs' end lies between."""
  workdir = tmp_path_factory.mktemp("unbroken")
  return train(config(num_steps=6, batch_size=480), workdir, ONE)


def without_speed(history):
  return [
    {k: v for k, v in r.items() if k != "images_per_sec"} for r in history
  ]


@pytest.mark.usefixtures("without_figures")
def test_a_resumed_run_is_bit_identical(unbroken, tmp_path):
  """Three steps, a new start, three more: state, log, pictures, scores."""
  half = train(config(num_steps=3, batch_size=480), tmp_path, ONE)
  assert half.step == 3
  resumed = train(config(num_steps=6, batch_size=480), tmp_path, ONE)
  assert resumed.step == 6
  assert_same(resumed.state, unbroken.state)
  assert len(unbroken.history()) == 6
  # The third step is the first run's last, where everything is due.
  ours, theirs = map(without_speed, (resumed.history(), unbroken.history()))
  assert ours[3:] == theirs[3:] and ours[:2] == theirs[:2]
  for name in "00000004.npy", "00000006.png", "00000006.npy":
    paths = [w / "samples" / name for w in (tmp_path, unbroken.workdir)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.slow
def test_a_resumed_run_remembers(tmp_path):
  """Spectral vectors, controllers, means, the phase of lazy penalties."""

  def run_to(num_steps, folder):
    changes = configs.load("digits_dcgan:smoke")
    changes.update(num_steps=num_steps, log_every=1)
    changes.evals = {}
    changes.dataset.size = 8
    changes.discriminator.norm = "spectral"
    changes.checkpoint.update(best="", every=1)
    changes.augment = dict(
      name="ada", initial_p=0.5, interval=2, policy=("xflip",)
    )
    changes.penalties = dict(lecam={}, r1=dict(gamma=1.0, every=2))
    return train(changes, tmp_path / folder, ONE, report=False)

  whole = run_to(6, "whole")
  run_to(3, "halves")
  resumed = run_to(6, "halves")
  assert_same(resumed.state, whole.state)
  assert whole.state.memory.keys() == {"augment", "lecam", "penalty_r1"}
  assert whole.state.memory["augment"]["p"] != 0.5
  assert resumed.state.discriminator.stats["spectral"]
  ours, theirs = map(without_speed, (resumed.history(), whole.history()))
  assert ours == theirs and len(ours) == 6
  # Even steps have no penalty of their own: the last value stands there.
  values = [row["penalty_r1"] for row in ours]
  assert values[0] == values[1] != values[2] == values[3]
  loaded = ganjax.load(tmp_path / "halves")
  np.testing.assert_array_equal(loaded.sample(3), whole.sample(3))
  # The logged norm is that of D's kernels before the last update, about.
  before = ganjax.load(tmp_path / "whole", step=5).state.discriminator.params
  kernels = [layer["kernel"] for layer in before.values()]
  largest = max(np.linalg.norm(k.reshape(-1, k.shape[-1]), 2) for k in kernels)
  np.testing.assert_allclose(ours[-1]["d_sigma_max"], largest, rtol=0.02)


@pytest.mark.usefixtures("without_figures")
def test_a_different_seed_is_a_different_run(unbroken, tmp_path):
  other = train(config(num_steps=1, batch_size=480, seed=1), tmp_path, ONE)
  assert other.history()[0]["d_loss"] != unbroken.history()[0]["d_loss"]


def test_what_a_run_leaves(unbroken):
  for name in (
    "config.json",
    "environment.json",
    "evaluation.json",
    "metrics.jsonl",
    "checkpoints/6",
    "samples/00000000.png",
    "figures/samples_over_time.png",
    "figures/samples_and_real.png",
    "figures/curves.png",
  ):
    assert (unbroken.workdir / name).exists(), name
  assert list(unbroken.workdir.glob("events.out.tfevents.*"))
  row = unbroken.history()[-1]
  assert row["step"] == 6 and row["frechet"] > 0
  scores = json.loads((unbroken.workdir / "evaluation.json").read_text())
  protocol = scores["last"]["frechet"]["protocol"]
  assert protocol["step"] == 6 and protocol["weights"] == "ema"
  assert protocol["num_real"] == 1437 and protocol["num_fake"] == 360
  assert scores["held-out real"]["classes"]["values"]["classes_covered"] == 10
  saved = json.loads((unbroken.workdir / "config.json").read_text())
  # Defaults that no experiment states are written out.
  assert saved["config"]["g_opt"]["eps"] == 1e-8


def test_load_and_sample_need_no_dataset(unbroken, monkeypatch, tmp_path):
  monkeypatch.setattr(configs, "load_data", None)
  loaded = ganjax.load(unbroken.workdir)
  assert loaded.step == 6
  assert_same(loaded.state, unbroken.state)
  images = loaded.sample(70)
  assert images.shape == (70, 16, 16, 1) and images.dtype == np.uint8
  np.testing.assert_array_equal(images[:5], loaded.sample(5))
  np.testing.assert_array_equal(images[:8], unbroken.sample(8))
  assert (loaded.sample(5, seed=1) != images[:5]).any()
  assert (loaded.sample(5, ema=False) != images[:5]).any()
  # `train` builds its nets for several devices, `load` for one.
  for statistics in "batch", "standing":
    how = dict(statistics=statistics, truncation=0.5)
    again = loaded.sample(5, **how)
    assert (again != images[:5]).any()
    np.testing.assert_array_equal(again, unbroken.sample(5, **how))
  assert ganjax.load(unbroken.workdir, step=5).step == 5
  out = tmp_path / "grid.png"
  assert (
    sample.main([str(unbroken.workdir), "--num", "9", "--out", str(out)]) == 0
  )
  assert out.stat().st_size > 0


def test_checkpoints_are_kept_by_count_and_best(unbroken):
  kept = {int(p.name) for p in (unbroken.workdir / "checkpoints").iterdir()}
  assert {5, 6} <= kept and len(kept) <= 3


def test_mistakes_with_a_run_are_named(unbroken, tmp_path, capsys):
  with pytest.raises(errors.UserError, match="no checkpoint of step 99"):
    ganjax.load(unbroken.workdir, step=99)
  with pytest.raises(errors.UserError, match="holds no run"):
    ganjax.load(tmp_path)
  with pytest.raises(errors.UserError, match="0 samples"):
    unbroken.sample(0)
  with pytest.raises(errors.UserError, match="unconditional"):
    unbroken.sample(2, labels=[1, 2])
  assert sample.main([str(tmp_path), "--num", "9"]) == 2
  assert "holds no run" in capsys.readouterr().err
  assert sample.main([str(unbroken.workdir), "--out", "x.gif"]) == 2


def test_a_workdir_of_another_config_is_refused(unbroken):
  other = config(num_steps=6, batch_size=480)
  other.loss.name = "hinge"
  with pytest.raises(errors.UserError, match="config.loss"):
    train(other, unbroken.workdir, ONE)


@pytest.mark.usefixtures("without_figures")
def test_a_diverged_run_stops_and_saves_nothing_bad(tmp_path):
  changes = config(num_steps=50)
  changes.g_opt.learning_rate = 1e30
  changes.d_opt.learning_rate = 1e30
  with pytest.raises(FloatingPointError, match="step .*_loss is"):
    train(changes, tmp_path, ONE)
  with pytest.raises(errors.UserError, match="no checkpoint .*: none"):
    ganjax.load(tmp_path)


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
  """Finite losses can come just before an update that is not."""
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {"w": np.ones(2)}, {})
    with pytest.raises(FloatingPointError, match=r"'w'.*steps \[1\] are good"):
      checkpoints.save(2, {"w": np.array([1, np.nan])}, {})
    assert checkpoints.steps() == [1]


@pytest.mark.usefixtures("without_figures")
@pytest.mark.slow
def test_several_devices_train_too(tmp_path):
  trained = train(config(num_steps=2), tmp_path, jax.devices()[:2])
  assert trained.history()[-1]["step"] == 2


def test_state_shapes_are_known_without_running(unbroken):
  system = configs.build(configs.resolve(unbroken.config), (16, 16, 1), 10)
  like = run.abstract_state(system, (16, 16, 1), 10)
  for x, y in zip(
    jax.tree.leaves(like), jax.tree.leaves(unbroken.state), strict=True
  ):
    assert x.shape == y.shape and x.dtype == y.dtype


@pytest.mark.usefixtures("without_figures")
def test_images_without_labels_train_without_scores(tmp_path, capsys):
  for i in range(20):
    pixels = np.full((9, 12), 10 * i, np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{i}.png")
  changes = config(num_steps=1)
  changes.dataset = dict(name="folder", path=str(tmp_path), size=16)
  trained = train(changes, tmp_path / "run", ONE)
  assert "no labels" in capsys.readouterr().out
  assert "frechet" not in trained.history()[-1]
  assert trained.sample(2).shape == (2, 16, 16, 3)


@pytest.mark.usefixtures("without_figures")
@pytest.mark.slow
def test_a_generator_starts_from_another_runs(tmp_path):
  """2014's second stage: new layers in front of a trained generator."""
  spec = configs.load("digits_mlp:smoke")
  spec.evals, spec.checkpoint.best = {}, ""
  first = train(spec, tmp_path / "first", ONE)
  spec.generator.front = (5, spec.system.z_dim)
  spec.ema.decay = 0.9
  spec.start_from = str(first.workdir)
  spec.g_opt.learning_rate = spec.d_opt.learning_rate = 1e-30
  second = train(spec, tmp_path / "second", ONE)
  old, new = (r.state.generator.params for r in (first, second))
  assert_same(old, {name: new[name] for name in old})
  assert new.keys() - old.keys() == {"front_0", "front_1"}
  spec.generator.hidden = (3,)
  with pytest.raises(errors.UserError, match="no part of this one"):
    train(spec, tmp_path / "third", ONE)
