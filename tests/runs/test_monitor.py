"""Each diagnosis, on rows written by hand and in a run that provokes it."""

import itertools
import math

import jax
import ml_collections
import numpy as np
import pytest

import ganjax
from ganjax import errors, main
from ganjax.runs import monitor, report
from ganjax.runs.history import read_history
from ganjax.runs.log import Log
from ganjax.training.train import train

pytestmark = pytest.mark.usefixtures("without_figures")

HEALTHY = dict(
  d_loss=1.0,
  g_loss=0.9,
  d_real=0.7,
  d_fake=0.3,
  d_real_accuracy=0.9,
  d_fake_accuracy=0.8,
  logit_gap=1.7,
  d_saturation=0.7,
  spread=0.9,
)
HALF = dict(d_real=0.45, d_fake=0.55, d_real_accuracy=0.4, d_fake_accuracy=0.7)
ILL = {
  "not finite": dict(g_loss=math.nan),
  "diverged": dict(logit_gap=-2e4),
  "generator collapsed": dict(spread=0.01),
  "discriminator saturated": dict(d_saturation=0.97),
  "equilibrium": HALF,
}


def test_every_diagnosis_is_tried():
  assert list(ILL) == list(monitor.DIAGNOSES)


@pytest.mark.parametrize("name", ILL)
def test_a_diagnosis_needs_patience(name):
  watch = monitor.Monitor()
  for _ in range(20):
    assert watch(HEALTHY) == ""
  found = [watch(HEALTHY | ILL[name]) for _ in range(monitor.PATIENCE)]
  waits = 0 if name == "not finite" else monitor.PATIENCE - 1
  assert found == [""] * waits + [name] * (monitor.PATIENCE - waits)
  assert watch(HEALTHY) == ""


@pytest.mark.parametrize(
  "change",
  [
    dict(d_loss=2e4),
    dict(g_loss=-2e4),
    dict(logit_gap=2e4),
    dict(spread=21.0),
  ],
)
def test_ways_to_diverge(change):
  watch = monitor.Monitor()
  found = [watch(HEALTHY | change) for _ in range(monitor.PATIENCE)]
  # From the first rows on: a generator that finds its way does not do this.
  assert found == [""] * (monitor.PATIENCE - 1) + ["diverged"]


def test_the_worst_comes_first():
  for first, second in itertools.pairwise(ILL):
    watch = monitor.Monitor()
    for _ in range(20):
      watch(HEALTHY)
    both = HEALTHY | ILL[second] | ILL[first]
    assert [watch(both) for _ in range(monitor.PATIENCE)][-1] == first


@pytest.mark.parametrize(
  "change",
  [
    dict(d_real=0.65),
    dict(d_fake=0.35),
    # D tells them apart by ever so little: it learns, or G lags behind.
    dict(d_real_accuracy=0.8),
    # D is worse than chance: G has overtaken it, and they go round in circles.
    dict(d_fake_accuracy=0.2),
    dict(spread=0.4),
    dict(spread=2.5),
  ],
)
def test_what_equilibrium_is_not(change):
  watch = monitor.Monitor()
  for _ in range(20):
    watch(HEALTHY)
  for _ in range(5):
    assert watch(HEALTHY | HALF | change) == ""


def test_a_row_without_a_discriminator_is_no_equilibrium():
  watch = monitor.Monitor()
  assert {watch(dict(loss=1.0, spread=1.0)) for _ in range(20)} == {""}
  flat = [watch(dict(loss=1.0, spread=0.0)) for _ in range(3)]
  assert flat[-1] == "generator collapsed"


@pytest.mark.parametrize("name", ["equilibrium", "generator collapsed"])
def test_before_the_game_has_begun_nothing_is_named(name):
  """A D that knows nothing says one half; its G has heard nothing yet."""
  watch = monitor.Monitor()
  row = HEALTHY | HALF | ILL[name]
  for _ in range(50):
    assert watch(row) == ""
  found = [watch(HEALTHY)]  # D once tells them apart.
  found += [watch(row) for _ in range(monitor.PATIENCE + monitor.FIRST_ROWS)]
  first = monitor.FIRST_ROWS + monitor.PATIENCE - 1
  assert found == [""] * first + [name] * (len(found) - first)


def test_the_first_rows_are_not_counted():
  row = HEALTHY | ILL["generator collapsed"]
  watch = monitor.Monitor()
  found = [watch(row) for _ in range(10)]
  assert found.index("generator collapsed") == monitor.FIRST_ROWS + 2
  assert monitor.PATIENCE == 3


def test_rows_of_scores_alone_are_not_counted():
  watch, scores = monitor.Monitor(), dict(frechet=math.inf, spread=0.0)
  for _ in range(20):
    assert watch(HEALTHY) == watch(scores) == ""
  ill = HEALTHY | ILL["generator collapsed"]
  found = [watch(row) for row in (ill, scores, ill, scores, scores, ill)]
  assert found == [""] * 5 + ["generator collapsed"]
  assert watch(scores) == "generator collapsed"


def test_a_resumed_monitor_equals_an_unbroken_one(tmp_path):
  """Rows as `metrics.jsonl` gives them back, later ones left out."""
  kinds = [HEALTHY | ILL[name] for name in list(ILL)[1:]] + [HEALTHY]
  order = np.random.RandomState(0).permutation(2 * len(kinds)) % len(kinds)
  rows = [r for i in order for r in [kinds[i]] * 4 + [dict(frechet=3.0)]]
  unbroken = monitor.Monitor()
  expected = [unbroken(row) for row in rows]
  assert len(set(expected)) == 5
  with Log(tmp_path, 100, 1) as log:
    for i, row in enumerate(rows):
      log.write(i + 1, row | {"diagnosis": expected[i]})
  history = read_history(tmp_path)
  for cut in range(len(rows) + 1):
    resumed = monitor.Monitor(history, until=cut)
    assert resumed.diagnosis == (expected[cut - 1] if cut else "")
    assert [resumed(row) for row in rows[cut:]] == expected[cut:]


def test_not_finite_names_a_loss_before_other_numbers():
  row = {"diagnosis": "nan", "d_grad_norm": math.inf, "g_loss": math.nan}
  assert monitor.not_finite(row) == "g_loss is nan"
  del row["g_loss"]
  assert monitor.not_finite(row) == "d_grad_norm is inf"
  assert monitor.not_finite(dict(diagnosis="x", step=3, d_loss=1.0)) == ""


def test_what_stops_a_run():
  flag = "--config.stop_when=diverged, generator collapsed"
  config, _ = main.parse(["main", "--config=toy_ring:smoke", flag])
  watch = monitor.Monitor(stop_when=config.stop_when)
  for name, stops in (
    ("equilibrium", False),
    ("generator collapsed", True),
    ("diverged", True),
  ):
    for _ in range(10):
      watch(HEALTHY)
    assert not watch.stop
    for _ in range(3):
      watch(HEALTHY | ILL[name])
    assert watch.diagnosis == name and watch.stop == stops
  assert not monitor.Monitor().stop
  with pytest.raises(errors.UserError, match="did you mean 'equilibrium'"):
    monitor.Monitor(stop_when="diverged,equilibrum")


# What brings each about in truth.
PROVOKED = {
  # A blob that a small generator can match, and penalties that damp the game.
  "equilibrium": dict(
    dataset=dict(std=0.5),
    loss=dict(relativism="pairing"),
    penalties=dict(r1=dict(gamma=1.0), r2=dict(gamma=1.0)),
    g_opt=dict(learning_rate=0.01),
    d_opt=dict(learning_rate=0.02),
    batch_size=256,
    log_every=5,
  ),
  # Nearly all fakes lie far outside of the ring, and stay there.
  "discriminator saturated": dict(
    generator=dict(init_range=1.5),
    g_opt=dict(learning_rate=1e-9),
    d_opt=dict(learning_rate=0.1),
  ),
  # All fakes are one point, and stay there.
  "generator collapsed": dict(
    generator=dict(init_range=0.01),
    g_opt=dict(learning_rate=1e-9),
    d_opt=dict(learning_rate=0.01),
  ),
  # Nothing bounds the critic.
  "diverged": dict(
    loss=dict(name="wasserstein"),
    g_opt=dict(learning_rate=1e-3),
    d_opt=dict(learning_rate=10.0),
  ),
  # The second step's images are beyond float32.
  "not finite": dict(g_opt=dict(learning_rate=1e30)),
}


@pytest.fixture
def provoke(tmp_path, monkeypatch):
  """Trains a tiny net on the ring; what a run ends with is left out."""
  monkeypatch.setattr(report, "show", lambda *_: None)

  def run(changes, **more):
    adam = dict(name="adam", b1=0.5)
    net = dict(name="mlp", hidden=(16,), init_range=0.1)
    plain = dict(pieces=1, input_dropout=0.0, dropout=0.0)
    config = ml_collections.ConfigDict(
      dict(
        num_steps=150,
        batch_size=64,
        log_every=1,
        scaling="identity",
        system=dict(name="gan", z_dim=16),
        dataset=dict(name="toy", kind="ring", std=0.02),
        generator=net | dict(output="linear"),
        discriminator=net | plain | dict(activation="leaky_relu"),
        loss=dict(name="non_saturating"),
        g_opt=adam | dict(learning_rate=5e-4),
        d_opt=adam | dict(learning_rate=5e-4),
        samples=dict(every=0, num=8),
        checkpoint=dict(every=0),
      )
    )
    config.update(changes | more)
    return train(config, tmp_path, jax.devices()[:1])

  return run


@pytest.mark.parametrize("name", list(PROVOKED)[:-1])
def test_a_provoked_diagnosis_stops_the_run(name, provoke, capsys, tmp_path):
  run = provoke(PROVOKED[name], stop_when=name)
  out, step = capsys.readouterr().out, run.step
  assert monitor.PATIENCE <= step < 150
  # Where the run stopped it was first named: in the log, on the terminal.
  rows = run.history()
  named = [row["step"] for row in rows if row.get("diagnosis") == name]
  assert named == [step]
  assert len(rows) == step // run.config.log_every
  assert f"stopping at step {step}: {name}\n" in out
  assert out.splitlines()[-1].endswith(f"[{name}]")
  # With all that a run leaves at its end.
  assert ganjax.load(tmp_path).step == step
  samples = np.load(tmp_path / "samples" / f"{step:08d}.npy")
  np.testing.assert_array_equal(samples, run.sample(len(samples)))
  # The same command again does not train on.
  again = provoke(PROVOKED[name], stop_when=name)
  assert f"stopped at step {step} before: {name}\n" in capsys.readouterr().out
  assert again.step == step and again.history() == rows
  if name == "generator collapsed":
    on = provoke(PROVOKED[name], stop_when="", num_steps=step + 1)
    assert on.step == step + 1
    assert on.history()[-1]["diagnosis"] == name


def test_provoked_numbers_that_are_not_finite(provoke, tmp_path, capsys):
  with pytest.raises(FloatingPointError, match="step .* is .*; its batch"):
    provoke(PROVOKED["not finite"])
  *good, last = read_history(tmp_path)
  assert last["diagnosis"] == "not finite" and monitor.not_finite(last)
  assert not any(map(monitor.not_finite, good))
  assert "[not finite]" in capsys.readouterr().out.splitlines()[-1]
