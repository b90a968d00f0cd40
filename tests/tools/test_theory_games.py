"""The small games of the papers, played out, and their pictures."""

import json
import math

import jax
import numpy as np
import pytest
from PIL import Image
from verbs import Verb

from ganjax.runs import plots
from ganjax.tools import theory
from ganjax.tools.theory import games, gan_1d

cli = Verb("theory")


@pytest.fixture
def double():
  with games.float64():
    yield


# The relativistic game and the Dirac-GAN.


def test_the_pairing_optimum(double):
  """Sup E log sigmoid(r - f) + log 2 = JSD(p x q, q x p), at log p / q."""
  p, q = np.random.default_rng(7).dirichlet(np.full(20, 2.0), 2)
  critic = np.asarray(games.fit_pairing(p, q))
  jsd = theory.jensen_shannon(*games.pairs(p, q))
  assert jsd > 0.05
  found = games.pairing_value(critic, p, q) + math.log(2)
  np.testing.assert_allclose(found, jsd, rtol=1e-12)
  off = critic - np.log(p / q)
  np.testing.assert_allclose(off, off[0], atol=1e-6)


def test_dirac_orbits_circle_and_euler_leaves_the_circle(double):
  orbit = games.dirac_orbit([1.0, 0.0], 2000, 0.01)
  np.testing.assert_allclose((orbit**2).sum(1), 1, atol=1e-10)
  assert orbit[:, 0].min() < -0.99  # It goes round.
  euler = games.dirac_orbit([1.0, 0.0], 200, 0.1, "euler")
  assert (np.diff((np.asarray(euler) ** 2).sum(1)) > 0).all()
  # Non-saturating: d(theta^2 + psi^2)/dt = -2 theta psi tanh(theta psi / 2).
  there = games.dirac_orbit([1.0, 0.0], 2000, 0.01, non_saturating=True)
  radius = np.asarray((there**2).sum(1))
  assert 0.2 < radius[-1] < 0.8 and (np.diff(radius) < 1e-15).all()


@pytest.mark.parametrize("gammas", [(0, 0), (0.3, 0), (0, 0.3), (0.8, 0.7)])
@pytest.mark.parametrize(
  ("f", "slope"), [(jax.nn.log_sigmoid, 0.5), (lambda t: t, 1.0)]
)
def test_dirac_eigenvalues(double, gammas, f, slope):
  """-g / 2 +- sqrt(g^2 / 4 - f'(0)^2), g = gamma1 + gamma2."""
  gamma = sum(gammas)
  root = np.sqrt(complex(gamma**2 / 4 - slope**2))
  by_hand = np.array([-gamma / 2 - root, -gamma / 2 + root])
  for non_saturating in False, True:
    found = games.dirac_eigenvalues(
      gamma1=float(gammas[0]),
      gamma2=float(gammas[1]),
      f=f,
      non_saturating=non_saturating,
    )
    np.testing.assert_allclose(
      np.sort_complex(found), np.sort_complex(by_hand), atol=1e-12
    )


@pytest.mark.parametrize("gammas", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_dirac_is_critically_damped_at_gamma_1(double, gammas):
  roots = lambda factor: games.dirac_eigenvalues(
    gamma1=factor * gammas[0], gamma2=factor * gammas[1]
  )
  np.testing.assert_allclose(roots(1.0), -0.5, atol=1e-7)
  assert abs(np.imag(roots(0.99))).min() > 0.05  # Below it turns round 0,
  assert abs(np.imag(roots(1.01))).max() == 0  # above it creeps.


def test_r1_stops_the_orbit(double):
  end = games.dirac_orbit([1.0, 0.0], 400, 0.2, "euler", gamma1=0.3)[-1]
  np.testing.assert_allclose(end, 0, atol=1e-4)


# The GAN on the line.


def test_a_frozen_d_makes_g_collapse():
  start = gan_1d.Generator(3.0, 1.2)
  g = gan_1d.train_generator(start, gan_1d.optimal_logits, start, 1000, 0.03)
  best = gan_1d.surest(start)
  x = np.linspace(3, 5, 2001)
  sure = theory.optimal_discriminator(gan_1d.DATA.density(x), start.density(x))
  np.testing.assert_allclose(x[np.argmax(sure)], best, atol=1e-3)
  assert (np.diff(g.scale) < 1e-8).all()
  end = gan_1d.Generator(g.mean[-1], g.scale[-1])(gan_1d.uniform(100))
  assert end.var() < 1e-8
  np.testing.assert_allclose(end, best, atol=1e-3)


def test_generator_and_density_agree():
  g = gan_1d.Generator(1.0, 2.0)
  x = np.asarray(g(gan_1d.uniform(10_000)))
  assert (np.diff(x) > 0).all()
  np.testing.assert_allclose([x.mean(), x.std()], [1, 2], rtol=1e-3)
  # p_g(x) = p_z / |G'(z)|.
  slope = np.gradient(x, 1e-4)[1000:-1000]
  np.testing.assert_allclose(g.density(x)[1000:-1000], 1 / slope, rtol=1e-2)


@pytest.mark.slow
def test_figure_1_ends_at_one_half():
  stages = gan_1d.figure_1(jax.random.key(1), 4000, 300, 20)
  partly, inner, moved, end = stages
  assert gan_1d.sup_error(partly.d, partly.g) > 0.1
  assert gan_1d.sup_error(inner.d, inner.g) < 0.05
  assert gan_1d.risen(inner.d, inner.g, moved.g) > 0.9
  np.testing.assert_allclose(end.g, gan_1d.DATA, atol=0.03)
  d = jax.nn.sigmoid(gan_1d.logits(end.d, gan_1d.GRID))
  np.testing.assert_allclose(d[gan_1d.judged(end.g)], 0.5, atol=0.05)


@pytest.mark.slow
def test_the_command_draws_and_writes(tmp_path, capsys):
  assert cli.main(["--out", str(tmp_path / "new"), "--smoke"]) == 0
  document = json.loads((tmp_path / "new" / "theory.json").read_text())
  assert document["smoke"] and document["environment"]["versions"]
  out = capsys.readouterr().out
  for row in document["numbers"]:
    assert math.isfinite(row["found"]) and row["name"] in out
  paths = list((tmp_path / "new").glob("*.png"))
  assert {p.stem for p in paths} == {
    "figure_1", "saturation", "criterion", "dirac", "collapse",
  }  # fmt: skip
  for path in paths:
    assert path.stat().st_size < plots.MAX_BYTES
    assert min(Image.open(path).size) >= 500


def test_the_command_names_mistakes(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  for argv, message in (
    (["--seed", "-1"], "--seed -1 must be at least 0"),
    (["--out", str(tmp_path / "file")], "File exists"),
  ):
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
