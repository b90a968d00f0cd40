"""What a step says of itself, by hand; each diagnosis on rows and in a run."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import ganjax
from ganjax import errors, main, parallel
from ganjax.objectives import losses, measurements
from ganjax.runs import logs
from ganjax.training.train import train

pytestmark = pytest.mark.usefixtures("without_figures")

LOG3 = math.log(3.0)
# D(x) of 1/2 and 3/4, D(G(z)) of 1/4 and 3/4.
REAL = jnp.array([0.0, LOG3])
FAKE = jnp.array([-LOG3, LOG3])


def close(got, expected, rtol=1e-6):
  np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-6)


def test_logits_by_hand():
  got = measurements.of_logits(losses.get("non_saturating"), REAL, FAKE)
  expected = dict(
    d_real_accuracy=0.5,  # One half itself is on no side.
    d_fake_accuracy=0.5,
    d_real=0.625,
    d_fake=0.5,
    logit_gap=LOG3 / 2,
    # Reals pull with 1 - D(x), fakes with D(G(z)).
    d_saturation=(0.625 + 0.5) / 2,
  )
  assert got.keys() == expected.keys()
  for name, value in expected.items():
    close(got[name], value)


def test_least_squares_has_a_half_of_its_own():
  """Its D(x) is the logit, and one half is .5, not 0."""
  real, fake = jnp.array([0.25, 1.0]), jnp.array([0.25, 0.0])
  got = measurements.of_logits(losses.get("least_squares"), real, fake)
  close(got["d_real"], 0.625)
  close(got["d_fake"], 0.125)
  close(got["d_real_accuracy"], 0.5)
  close(got["d_fake_accuracy"], 1.0)
  # Pulls 2|r - 1| = 1.5, more than a linear loss's, and 0; 2|f| = .5 and 0.
  close(got["d_saturation"], (0.5 + 0.75) / 2)


@pytest.mark.parametrize(
  ("name", "saturation"),
  [
    ("minimax", 1 - (0.25 + 0.75) / 2),
    ("non_saturating", (0.25 + 0.75) / 2),
    ("wasserstein", 0.0),
    ("hinge", 0.0),
  ],
)
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_generator_by_hand(name, saturation, weight):
  loss = losses.get(name, g_weight=weight)
  close(measurements.of_generator(loss, REAL, FAKE)["g_saturation"], saturation)


def test_what_the_minimax_generator_loses_is_one_minus_d():
  fake = jnp.array([-9.0, -2.0, 0.5, 4.0])
  loss = losses.get("minimax")
  got = measurements.lost(loss.generator, 1, 1.0, jnp.zeros(4), fake)
  close(got, 1 - jax.nn.sigmoid(fake).mean())


def test_a_hinge_pulls_within_its_margin_only():
  loss = losses.get("hinge")
  inside, beyond = jnp.array([0.5, 0.0]), jnp.array([1.5, 9.0])
  for real, fake, expected in (
    (beyond, -beyond, 1.0),
    (inside, -inside, 0.0),
    (beyond, -inside, 0.5),
    (jnp.array([0.0, 2.0]), -inside, 0.25),
  ):
    close(measurements.of_logits(loss, real, fake)["d_saturation"], expected)


def test_weights_divide_out():
  plain = measurements.of_logits(losses.get("non_saturating"), REAL, FAKE)
  loss = losses.get("non_saturating", d_weight=0.5, g_weight=2.0)
  for name, value in measurements.of_logits(loss, REAL, FAKE).items():
    close(value, plain[name])


@pytest.mark.parametrize(
  "loss",
  [losses.get("wasserstein"), losses.get("hinge", relativism="average")],
)
def test_a_shift_of_all_logits_says_nothing(loss):
  plain = measurements.of_logits(loss, REAL, FAKE)
  # D(x) counts from the middle of both means, LOG3 / 4.
  close(plain["d_real"], loss.probability(REAL - LOG3 / 4).mean(), rtol=1e-5)
  for name, value in measurements.of_logits(loss, REAL + 8, FAKE + 8).items():
    close(value, plain[name], rtol=1e-5)


def test_spread_by_hand():
  rng = np.random.RandomState(0)
  real = jnp.asarray(rng.normal(size=(6, 4, 4, 1)), jnp.float32)
  spread = lambda fake: measurements.of_images(real, fake, None)["spread"]
  close(spread(real), 1.0)
  close(spread(jnp.repeat(real[:1], 6, 0)), 0.0)
  # A common offset is no spread, a factor is.
  close(spread(5.0 - 3.0 * real), 3.0, rtol=1e-5)
  points = jnp.array([[0.0, 0.0], [2.0, 0.0]])
  half = jnp.array([[1.0, 0.5], [1.0, -0.5]])
  close(measurements.of_images(points, half, None)["spread"], 0.5)


def test_stats_name_the_largest_norm():
  def layer(sigma):
    return dict(u=9.0 * jnp.ones(3), sigma=jnp.float32(sigma))

  stats = {"spectral": {"a": layer(2.0), "b": {"c": layer(5.0)}}}
  assert measurements.of_stats("g", stats) == {"g_sigma_max": 5.0}
  assert (
    measurements.of_stats("d", {"batch_stats": {"mean": jnp.ones(())}}) == {}
  )


@pytest.mark.parametrize("num_devices", [2, 4])
def test_devices_do_not_change_what_is_measured(num_devices):
  rng = np.random.RandomState(1)
  real, fake = rng.normal(size=(2, 8, 3)).astype(np.float32)
  fake = 0.5 * fake + 1.0
  loss = losses.get("hinge", relativism="pairing")

  def measure(real, fake, axis_name):
    spread = measurements.of_images(real, fake, axis_name)
    gather = functools.partial(parallel.gather, axis_name=axis_name)
    logits = gather(real[:, 0]), gather(fake[:, 0])
    return spread | measurements.of_logits(loss, *logits)

  mapped = jax.pmap(
    functools.partial(measure, axis_name=parallel.AXIS),
    axis_name=parallel.AXIS,
    devices=jax.devices()[:num_devices],
  )
  share = lambda x: x.reshape(num_devices, -1, 3)
  got = mapped(share(real), share(fake))
  for name, value in measure(real, fake, None).items():
    close(got[name], np.full(num_devices, value), rtol=1e-5)


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
  assert list(ILL) == list(measurements.DIAGNOSES)


@pytest.mark.parametrize("name", ILL)
def test_a_diagnosis_needs_patience(name):
  monitor = measurements.Monitor()
  for _ in range(20):
    assert monitor(HEALTHY) == ""
  found = [monitor(HEALTHY | ILL[name]) for _ in range(measurements.PATIENCE)]
  waits = 0 if name == "not finite" else measurements.PATIENCE - 1
  assert found == [""] * waits + [name] * (measurements.PATIENCE - waits)
  assert monitor(HEALTHY) == ""


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
  monitor = measurements.Monitor()
  found = [monitor(HEALTHY | change) for _ in range(measurements.PATIENCE)]
  # From the first rows on: a generator that finds its way does not do this.
  assert found == [""] * (measurements.PATIENCE - 1) + ["diverged"]


def test_the_worst_comes_first():
  for first, second in itertools.pairwise(ILL):
    monitor = measurements.Monitor()
    for _ in range(20):
      monitor(HEALTHY)
    both = HEALTHY | ILL[second] | ILL[first]
    assert [monitor(both) for _ in range(measurements.PATIENCE)][-1] == first


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
  monitor = measurements.Monitor()
  for _ in range(20):
    monitor(HEALTHY)
  for _ in range(5):
    assert monitor(HEALTHY | HALF | change) == ""


def test_a_row_without_a_discriminator_is_no_equilibrium():
  monitor = measurements.Monitor()
  assert {monitor(dict(loss=1.0, spread=1.0)) for _ in range(20)} == {""}
  flat = [monitor(dict(loss=1.0, spread=0.0)) for _ in range(3)]
  assert flat[-1] == "generator collapsed"


@pytest.mark.parametrize("name", ["equilibrium", "generator collapsed"])
def test_before_the_game_has_begun_nothing_is_named(name):
  """A D that knows nothing says one half; its G has heard nothing yet."""
  monitor = measurements.Monitor()
  row = HEALTHY | HALF | ILL[name]
  for _ in range(50):
    assert monitor(row) == ""
  found = [monitor(HEALTHY)]  # D once tells them apart.
  found += [
    monitor(row) for _ in range(measurements.PATIENCE + measurements.FIRST_ROWS)
  ]
  first = measurements.FIRST_ROWS + measurements.PATIENCE - 1
  assert found == [""] * first + [name] * (len(found) - first)


def test_the_first_rows_are_not_counted():
  row = HEALTHY | ILL["generator collapsed"]
  monitor = measurements.Monitor()
  found = [monitor(row) for _ in range(10)]
  assert found.index("generator collapsed") == measurements.FIRST_ROWS + 2
  assert measurements.PATIENCE == 3


def test_rows_of_scores_alone_are_not_counted():
  monitor, scores = measurements.Monitor(), dict(frechet=math.inf, spread=0.0)
  for _ in range(20):
    assert monitor(HEALTHY) == monitor(scores) == ""
  ill = HEALTHY | ILL["generator collapsed"]
  found = [monitor(row) for row in (ill, scores, ill, scores, scores, ill)]
  assert found == [""] * 5 + ["generator collapsed"]
  assert monitor(scores) == "generator collapsed"


def test_a_resumed_monitor_equals_an_unbroken_one(tmp_path):
  """Rows as `metrics.jsonl` gives them back, later ones left out."""
  kinds = [HEALTHY | ILL[name] for name in list(ILL)[1:]] + [HEALTHY]
  order = np.random.RandomState(0).permutation(2 * len(kinds)) % len(kinds)
  rows = [r for i in order for r in [kinds[i]] * 4 + [dict(frechet=3.0)]]
  unbroken = measurements.Monitor()
  expected = [unbroken(row) for row in rows]
  assert len(set(expected)) == 5
  with logs.Log(tmp_path, 100, 1) as log:
    for i, row in enumerate(rows):
      log.write(i + 1, row | {"diagnosis": expected[i]})
  history = logs.read_history(tmp_path)
  for cut in range(len(rows) + 1):
    resumed = measurements.Monitor(history, until=cut)
    assert resumed.diagnosis == (expected[cut - 1] if cut else "")
    assert [resumed(row) for row in rows[cut:]] == expected[cut:]


def test_not_finite_names_a_loss_before_other_numbers():
  row = {"diagnosis": "nan", "d_grad_norm": math.inf, "g_loss": math.nan}
  assert measurements.not_finite(row) == "g_loss is nan"
  del row["g_loss"]
  assert measurements.not_finite(row) == "d_grad_norm is inf"
  assert measurements.not_finite(dict(diagnosis="x", step=3, d_loss=1.0)) == ""


def test_what_stops_a_run():
  flag = "--config.stop_when=diverged, generator collapsed"
  config, _ = main.parse(["main", "--config=toy_ring:smoke", flag])
  monitor = measurements.Monitor(stop_when=config.stop_when)
  for name, stops in (
    ("equilibrium", False),
    ("generator collapsed", True),
    ("diverged", True),
  ):
    for _ in range(10):
      monitor(HEALTHY)
    assert not monitor.stop
    for _ in range(3):
      monitor(HEALTHY | ILL[name])
    assert monitor.diagnosis == name and monitor.stop == stops
  assert not measurements.Monitor().stop
  with pytest.raises(errors.UserError, match="did you mean 'equilibrium'"):
    measurements.Monitor(stop_when="diverged,equilibrum")


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
def provoke(tmp_path):
  """Trains a tiny net on the ring; what a run ends with is left out."""

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
    return train(config, tmp_path, jax.devices()[:1], report=False)

  return run


@pytest.mark.parametrize("name", list(PROVOKED)[:-1])
def test_a_provoked_diagnosis_stops_the_run(name, provoke, capsys, tmp_path):
  run = provoke(PROVOKED[name], stop_when=name)
  out, step = capsys.readouterr().out, run.step
  assert measurements.PATIENCE <= step < 150
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
  *good, last = logs.read_history(tmp_path)
  assert last["diagnosis"] == "not finite" and measurements.not_finite(last)
  assert not any(map(measurements.not_finite, good))
  assert "[not finite]" in capsys.readouterr().out.splitlines()[-1]
