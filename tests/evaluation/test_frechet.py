import functools
import itertools
import operator

import numpy as np
import pytest
import scipy.linalg

from ganjax import errors
from ganjax.evaluation.metrics import frechet as module
from ganjax.evaluation.metrics.frechet import Moments


def frechet(real, fake):
  return module.frechet()(real, fake).values["frechet"]


def flags(real, fake):
  return module.frechet()(real, fake).flags


def by_sqrtm(real, fake):
  """Returns the distance as it is usually computed, by np.cov and sqrtm."""
  mean, mean2 = real.mean(axis=0), fake.mean(axis=0)
  cov, cov2 = np.cov(real.T), np.cov(fake.T)
  root = np.real(scipy.linalg.sqrtm(cov @ cov2))
  return np.sum((mean - mean2) ** 2) + np.trace(cov + cov2 - 2 * root)


def samples(num, dims=6, seed=0, scale=1.0, offset=0.0):
  return scale * np.random.RandomState(seed).normal(size=(num, dims)) + offset


def same(a, b, rtol=1e-12):
  assert a.n == b.n
  np.testing.assert_allclose(a.mean, b.mean, rtol=rtol, atol=rtol)
  np.testing.assert_allclose(a.cov, b.cov, rtol=rtol, atol=rtol)


def test_commuting_gaussians_have_a_closed_form():
  rng = np.random.RandomState(1)
  basis, _ = np.linalg.qr(rng.normal(size=(5, 5)))
  a, b = rng.uniform(0.1, 4, size=(2, 5))
  mean = rng.normal(size=5)
  real = Moments(np.zeros(5), basis * a @ basis.T, 100)
  fake = Moments(mean, basis * b @ basis.T, 100)
  expected = mean @ mean + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
  np.testing.assert_allclose(frechet(real, fake), expected, rtol=1e-12)


def test_torch_fidelity_gives_the_same():
  # torch-fidelity 0.4.0: fid_features_to_statistics of these float64 arrays,
  # then fid_statistics_to_metric.
  rng = np.random.RandomState(0)
  real = rng.normal(size=(60, 8))
  fake = 1.5 * rng.normal(size=(50, 8)) + 0.25
  expected = 3.3005461848172075
  np.testing.assert_allclose(frechet(real, fake), expected, rtol=1e-12)


@pytest.mark.parametrize("real, fake", [(60, 50), (60, 9), (9, 60)])
def test_the_matrix_square_root_gives_the_same(real, fake):
  # With 9 samples in 12 dims a covariance has rank 8, which sqrtm bears with
  # some loss of accuracy.
  real = samples(real, 12, seed=1)
  fake = samples(fake, 12, seed=2, scale=2, offset=0.5)
  np.testing.assert_allclose(frechet(real, fake), by_sqrtm(real, fake), 1e-6)


@pytest.mark.parametrize("num", [20, 60])
def test_a_distance_to_itself_is_0_and_to_a_shift_its_square(num):
  x, shift = samples(num, 30), np.arange(30) / 5
  assert 0 <= frechet(x, x) < 1e-6
  np.testing.assert_allclose(frechet(x, x + shift), shift @ shift, rtol=1e-9)


def test_few_samples_lose_no_accuracy():
  # Of a scaled copy: (2 - 1)^2 of trace and mean. The eigenvalue form takes
  # roots of eigenvalues that are 0 but for rounding, and is off by 1e-8.
  x = samples(20, 200, offset=0.1)
  expected = np.trace(np.cov(x.T)) + np.sum(x.mean(axis=0) ** 2)
  np.testing.assert_allclose(frechet(x, 2 * x), expected, rtol=1e-12)


@pytest.mark.parametrize("real, fake", [(20, 15), (20, 90), (90, 20)])
@pytest.mark.parametrize("rows", [7, 40, 4096])
def test_both_forms_of_the_trace_agree(monkeypatch, real, fake, rows):
  monkeypatch.setattr(module, "ROWS", rows)
  x, y = samples(real, 30, 1, offset=3), samples(fake, 30, 2, scale=2)
  exact = module.trace_from_samples(x, y)
  assert max(len(module._compact(z)) for z in (x, y)) <= 30  # Not 50,000.
  covs = np.cov(x.T), np.cov(y.T)
  np.testing.assert_allclose(module.trace_from_covs(*covs), exact, rtol=1e-6)
  np.testing.assert_allclose(
    exact, np.real(np.trace(scipy.linalg.sqrtm(covs[0] @ covs[1]))), rtol=1e-6
  )
  # And the moments of many rows, made from a few at a time.
  same(Moments.of(y), Moments(y.mean(axis=0), covs[1], fake))


@pytest.mark.parametrize("num", [5, 60])
def test_a_large_offset_is_harmless(num):
  # Sums of squares near 1e8 would leave 8 of 16 digits of the covariance.
  x, y = samples(num, 8), samples(num, 8, seed=1, scale=1.2, offset=0.3)
  np.testing.assert_allclose(
    frechet(x + 1e4, y + 1e4), frechet(x, y), rtol=1e-10
  )
  halves = [Moments.of(part + 1e4) for part in np.array_split(x, 2)]
  np.testing.assert_allclose((halves[0] + halves[1]).cov, np.cov(x.T), 1e-8)


def test_moments_of_shards_merge_in_any_order():
  x = samples(53, offset=7)
  x[:20] += 5  # Shards of different means.
  whole = Moments(x.mean(axis=0), np.cov(x.T), 53)
  same(Moments.of(x), whole)
  shards = [Moments.of(part) for part in np.split(x, [1, 20, 31])]
  for order in itertools.permutations(shards):
    same(functools.reduce(operator.add, order), whole)


def test_moments_stream():
  x = samples(50).astype(np.float32)
  stream = Moments.of(x[:7])
  for start in range(7, 50, 7):  # The last batch has one sample only.
    before = stream
    stream = stream.add(x[start : start + 7])
    assert before.n == start
  assert stream.cov.dtype == np.float64
  same(stream, Moments.of(x))


def test_moments_stand_for_their_samples():
  real, fake = samples(60), samples(40, seed=1, scale=1.5)
  expected = module.frechet()(real, fake)
  assert expected.protocol == {"num_real": 60, "num_fake": 40, "dims": 6}
  assert expected.flags == ()
  a, b = Moments.of(real), Moments.of(fake)
  for sides in ((a, fake), (real, b), (a, b)):
    record = module.frechet()(*sides)
    assert record.protocol == expected.protocol and record.flags == ()
    value = record.values["frechet"]
    np.testing.assert_allclose(value, expected.values["frechet"], rtol=1e-12)


def test_moments_are_saved_and_loaded(tmp_path):
  moments = Moments.of(samples(20))
  path = tmp_path / "statistics"  # And nothing is appended to it.
  moments.save(path)
  loaded = Moments.load(path)
  assert type(loaded.n) is int
  same(loaded, moments, rtol=0)
  with np.load(path) as file:
    assert sorted(file) == ["mu", "num", "sigma"]
    np.testing.assert_array_equal(file["sigma"], moments.cov)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_published_statistics_do_not_say_how_many(tmp_path, write):
  x, fake = samples(90), samples(40, seed=1)
  path = tmp_path / "fid_stats.npz"
  cov = np.cov(x.T).astype(np.float32)
  write(path, mu=x.mean(axis=0), sigma=cov, other=np.arange(3))
  real = Moments.load(path)
  assert real.n is None and real.cov.dtype == np.float64
  record = module.frechet()(real, fake)
  assert record.protocol["num_real"] == "unknown"
  assert record.flags == ("number of samples unknown",)
  np.testing.assert_allclose(
    record.values["frechet"], frechet(x, fake), rtol=1e-5
  )
  real.save(path)
  assert Moments.load(path).n is None
  with pytest.raises(errors.UserError, match="know their number"):
    real.add(x)


MU, SIGMA = np.zeros(3), np.eye(3)


@pytest.mark.parametrize(
  "arrays, text",
  [
    (dict(mu=MU), "has no sigma"),
    (dict(sigma=SIGMA), "has no mu"),
    (dict(mu=MU, sigma=np.eye(2)), r"\(3,\) and sigma \(2, 2\)"),
    (dict(mu=MU, sigma=SIGMA[:2]), r"sigma \(2, 3\)"),
    (dict(mu=SIGMA, sigma=SIGMA), r"mu \(3, 3\)"),
    (dict(mu=MU, sigma=SIGMA * np.nan), "not finite"),
    (dict(mu=MU + np.inf, sigma=SIGMA), "not finite"),
    (dict(mu=MU, sigma=SIGMA + [[0, 1, 0], [0] * 3, [0] * 3]), "symmetric"),
    (dict(mu=MU, sigma=SIGMA.astype(str)), "must be numbers"),
    (dict(mu=MU, sigma=SIGMA, num=0), "num must be"),
    (dict(mu=MU, sigma=SIGMA, num=2.5), "num must be"),
    (dict(mu=MU, sigma=SIGMA, num=[3]), "num must be"),
    (dict(mu=MU, sigma=np.array([{}], object)), "not a whole .npz"),
  ],
)
def test_statistics_that_are_none_are_named(tmp_path, arrays, text):
  path = tmp_path / "bad.npz"
  np.savez(path, **arrays)
  with pytest.raises(errors.UserError, match=text) as e:
    Moments.load(path)
  assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_a_damaged_file_is_named(tmp_path):
  path = tmp_path / "statistics.npz"
  Moments.of(samples(20)).save(path)
  whole = path.read_bytes()
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 1
  for damaged in (whole[:-200], whole[:100], b"", b"mu", bytes(flipped)):
    path.write_bytes(damaged)
    with pytest.raises(errors.UserError, match="not a whole .npz") as e:
      Moments.load(path)
    assert "\n" not in str(e.value)
  with open(path, "wb") as file:
    np.save(file, SIGMA)  # An array alone.
  with pytest.raises(errors.UserError, match="has no mu"):
    Moments.load(path)
  with pytest.raises(errors.UserError, match="cannot be read: No such file"):
    Moments.load(tmp_path / "none.npz")
  with pytest.raises(errors.UserError, match="cannot be written"):
    Moments.of(samples(20)).save(tmp_path / "no folder" / "x.npz")


@pytest.mark.parametrize("num, deficient", [(4, True), (8, True), (9, False)])
def test_too_few_samples_for_a_covariance_are_flagged(num, deficient):
  x, few = samples(20, 8), samples(num, 8, seed=1)
  expected = ("rank deficient",) if deficient else ()
  assert flags(x, few) == flags(few, x) == expected
  assert flags(x, Moments.of(few)) == expected


@pytest.mark.parametrize("num", [4, 20])
def test_a_collapsed_generator_is_a_result_and_flagged(num):
  x = samples(20, 8)
  collapsed = np.repeat(x[:1] + 0.1, num, axis=0)
  shift = np.sum((x.mean(axis=0) - collapsed[0]) ** 2)
  for fake in (collapsed, Moments.of(collapsed)):
    assert "constant" in flags(x, fake)
    expected = shift + np.trace(np.cov(x.T))
    np.testing.assert_allclose(frechet(x, fake), expected, rtol=1e-12)
    assert frechet(fake, fake) == 0
  assert "constant" not in flags(x, x)


@pytest.mark.parametrize(
  "real, fake, text",
  [
    (np.zeros((5, 3)), np.zeros((1, 3)), "1 fake samples are too few"),
    (Moments(MU, SIGMA, 1), np.zeros((5, 3)), "1 real samples are too few"),
    (np.zeros((5, 3)), np.zeros((5, 2)), r"\(5, 3\) and fake \(5, 2\)"),
    (np.zeros(5), np.zeros(5), r"\[N, d\]"),
    (Moments(MU, SIGMA, 9), np.zeros((5, 2)), r"\(3,\) and one fake \(2,\)"),
    (np.zeros((5, 2)), Moments(MU, SIGMA, 9), r"\(2,\) and one fake \(3,\)"),
    (Moments(MU, SIGMA, None), np.full((5, 3), np.nan), "5 of 5 fake"),
  ],
)
def test_what_has_no_distance_is_refused(real, fake, text):
  with pytest.raises(errors.UserError, match=text):
    frechet(real, fake)


def test_moments_refuse_what_has_none():
  with pytest.raises(errors.UserError, match="2 of 5 samples are not finite"):
    Moments.of([[1.0], [np.nan], [3.0], [np.inf], [5.0]])
  for x in (np.zeros((0, 3)), np.zeros(3)):
    with pytest.raises(errors.UserError, match=r"must be \[N, d\]"):
      Moments.of(x)
  with pytest.raises(errors.UserError, match="3 and 2 dims"):
    Moments.of(np.zeros((5, 3))).add(np.zeros((5, 2)))
