"""Pictures of a run: their numbers by hand, and the command as a whole."""

import json
import math
import subprocess
import sys
import time
import types
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.spatial import distance

import ganjax
from ganjax import analyze, configs, data, errors, extractors, plots, report
from ganjax.analyze import (
  __main__ as command,
)
from ganjax.analyze import (
  classes,
  discriminator,
  embedding,
  interpolation,
  neighbours,
  pages,
  spectrum,
  truncation,
)
from ganjax.analyze.subject import Subject, flat
from ganjax.data import scaling
from ganjax.evaluate import Evaluator
from ganjax.run import Run
from ganjax.sampler import Sampler
from ganjax.train import train

NAMES = [
  "classes",
  "discriminator",
  "embedding",
  "interpolation",
  "neighbours",
  "spectrum",
  "truncation",
]


class Extractor:
  """Six pixels as features, the brightest of the first three as class."""

  name, digest, accuracy = "stub", "0", math.nan
  protocol = {}

  def __call__(self, images):
    features = flat(images)[:, :: max(1, images[0].size // 6)][:, :6]
    return extractors.Features(np.float32(features), features[:, :3])


@pytest.fixture
def stub(monkeypatch):
  """Every dataset has an extractor that needs no training."""
  monkeypatch.setattr(Evaluator, "extractor", Extractor())


@pytest.fixture
def none(monkeypatch):
  """No dataset has an extractor."""

  def extractor(self):
    raise errors.UserError("this dataset has no labels")

  monkeypatch.setattr(Evaluator, "extractor", property(extractor))


def images(n, seed=0, shape=(16, 16, 3)):
  return np.random.RandomState(seed).randint(0, 256, (n, *shape), np.uint8)


def subject(real, held_out, fake, conditional=False, num_classes=3, **how):
  """Returns a `Subject` whose run draws `fake`, clipped by the truncation.

  Its latents are points on the unit sphere of 4 dimensions, its D sees the
  mean of an image.
  """

  def sample(n, labels=None, seed=0, truncation=0.0):
    assert (labels is not None) == conditional
    assert seed == made.seed
    drawn = np.resize(fake, (n, *fake.shape[1:]))
    return np.clip(drawn, -truncation, truncation) if truncation else drawn

  def latents(n, seed=0, truncation=0.0):
    z = np.random.RandomState(seed).normal(size=(n, 4))
    return np.float32(z / np.linalg.norm(z, axis=1, keepdims=True))

  system = types.SimpleNamespace(
    conditional=conditional, num_classes=num_classes
  )
  run: Any = types.SimpleNamespace(
    sample=sample,
    latents=latents,
    decode=lambda z, labels=None: sample(len(z), labels, made.seed),
    score=lambda images, labels=None: flat(images).mean(axis=1),
    sampler=types.SimpleNamespace(system=system),
    config=configs.resolve(configs.load("digits_dcgan:smoke")),
    protocol=lambda: {"step": 3},
  )
  train, test = (
    data.Arrays(x, np.arange(len(x), dtype=np.int32) % 3, 3)
    for x in (real, held_out)
  )
  evaluator = Evaluator("stub", train, test)
  made = Subject(run, evaluator, **{"num": 20, "seed": 5} | how)
  return made


# Neighbours.


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_nearest_neighbours_are_those_of_all_pairs(block):
  rng = np.random.RandomState(0)
  queries, points = rng.normal(size=(7, 300)), rng.normal(size=(50, 300))
  queries[3] = points[41]
  far, index = neighbours.nearest(queries, points, block)
  every = distance.cdist(queries, points)
  np.testing.assert_array_equal(index, every.argmin(axis=1))
  np.testing.assert_allclose(far, every.min(axis=1), rtol=1e-12)
  assert far[3] == 0 and index[3] == 41


def test_pixels_are_compared_in_units_of_white():
  points = np.array([[[[0]]], [[[255]]], [[[51]]], [[[51]]]], np.uint8)
  far, index = neighbours.nearest(np.array([[0.5], [0.1]]), points, 2)
  np.testing.assert_allclose(far, [0.3, 0.1], rtol=1e-12)
  assert index.tolist() == [2, 0]  # Of two that are equally near, the first.


def test_a_copying_generator_is_seen():
  held_out = np.arange(1.0, 202.0)
  assert neighbours.compare(np.full(9, 50.5), held_out) == {
    "samples": 50.5,
    "held_out": 101.0,
    "ratio": 0.5,
    "suspicious": 0.0,
  }
  copies = neighbours.compare(np.array([0.0, 0, 0, 99]), held_out)
  assert copies["ratio"] == 0 and copies["suspicious"] == 0.75
  same = neighbours.compare(held_out, held_out)
  assert same["ratio"] == 1 and same["suspicious"] == pytest.approx(0.01, 0.1)
  assert neighbours.compare(np.ones(3), np.zeros(3))["ratio"] == math.inf


def test_neighbours_of_copies(stub, tmp_path):
  real, path = images(60), tmp_path / "x.png"
  copying = subject(real, images(30, 1), real[:20])
  text, numbers = neighbours.draw(copying, path)
  for space in ("pixels", "features"):
    assert numbers[space]["samples"] == numbers[space]["ratio"] == 0
    assert numbers[space]["suspicious"] == 1
  assert "0.00 in pixels, 0.00 in features" in text
  picture = read(path)
  tile = plots.grid(real[4:5], 1)
  h, w = tile.shape[:2]
  # The fifth sample, the end of the first row, and twice its own original.
  found = [
    x
    for x in range(picture.shape[1] - w)
    if (picture[60 : 60 + h, x : x + w] == tile).all()
  ]
  assert len(found) == 3


# Interpolation.


def test_paths_end_exactly_where_they_should():
  a, b = np.random.RandomState(0).normal(size=(2, 5, 3, 8))
  for way in interpolation.lerp, interpolation.slerp:
    path = way(a, b, np.linspace(0, 1, 10))
    assert path.shape == (5, 3, 10, 8)
    np.testing.assert_array_equal(path[..., 0, :], a)
    np.testing.assert_array_equal(path[..., -1, :], b)


def test_paths_by_hand():
  a, b, t = np.array([2.0, 0]), np.array([0, 2.0]), np.array([1 / 3, 0.5])
  straight = interpolation.lerp(a, b, t)
  np.testing.assert_allclose(straight, [[4 / 3, 2 / 3], [1, 1]], rtol=1e-14)
  bent = interpolation.slerp(a, b, t)
  root = [math.sqrt(3), 1], [math.sqrt(2), math.sqrt(2)]
  np.testing.assert_allclose(bent, root, rtol=1e-14)
  # The angle has no length: unequal ends keep their own.
  bent = interpolation.slerp(a, 3 * b, t[1:])
  np.testing.assert_allclose(bent, [[math.sqrt(2), 3 * math.sqrt(2)]])


def test_spherical_paths_keep_the_norm_of_normal_latents():
  ends = np.random.RandomState(0).normal(size=(2, 200, 100))
  t = np.linspace(0, 1, 11)
  unit = ends / np.linalg.norm(ends, axis=-1, keepdims=True)
  norms = np.linalg.norm(interpolation.slerp(unit[0], unit[1], t), axis=-1)
  np.testing.assert_allclose(norms, 1, rtol=1e-12)
  norms = np.linalg.norm(
    interpolation.slerp(ends[0], ends[1], t), axis=-1
  ).mean(axis=0)
  np.testing.assert_allclose(norms, 10, rtol=0.02)
  straight = interpolation.lerp(ends[0], ends[1], t)
  middle = np.linalg.norm(straight[:, 5], axis=-1).mean()
  assert middle == pytest.approx(10 / math.sqrt(2), rel=0.02)


def test_spherical_paths_without_a_circle():
  a = np.array([[1.0, 2.0]])
  t = np.linspace(0, 1, 5)
  for factor in (1, 1 + 1e-9, 3):
    np.testing.assert_allclose(
      interpolation.slerp(a, factor * a, t),
      interpolation.lerp(a, factor * a, t),
    )
  for b, message in ((-a, "opposite ends"), (0 * a, "other than 0")):
    with pytest.raises(errors.UserError, match=message):
      interpolation.slerp(a, b, t)


def test_jumps_and_norms_of_paths_by_hand():
  z = np.array([[[2.0, 0], [1, 1], [0, 2]]])
  places = np.array([[[0.0], [1.0], [4.0]]])
  found = interpolation.measure(z, places)
  assert found["middle_norm"] == pytest.approx(math.sqrt(0.5))
  assert found["largest_step"] == 0.75
  still = interpolation.measure(np.repeat(z, 2, axis=1), np.zeros((1, 6, 1)))
  assert still["largest_step"] == 0  # Nothing moves, nothing jumps.
  # Of an even number of points the middle is between two.
  assert still["middle_norm"] == pytest.approx(math.sqrt(0.5))


# Spectrum.


def test_white_noise_is_flat():
  noise = images(400, shape=(16, 16, 1))
  frequencies, power = spectrum.spectrum(noise)
  assert frequencies[0] == 1 / 16 and frequencies[-1] == 11 / 16
  variance = (256**2 - 1) / 12 / 255**2
  np.testing.assert_allclose(power.mean(axis=0), variance, rtol=0.08)
  grey = spectrum.spectrum(np.repeat(noise, 3, axis=3))[1]
  np.testing.assert_allclose(grey, power, rtol=1e-9)


@pytest.mark.parametrize("cycles", [1, 3, 8])
def test_a_wave_is_one_peak(cycles):
  x = np.cos(2 * np.pi * cycles * np.arange(16) / 16)
  wave = np.rint(127.5 + 127.5 * x).astype(np.uint8)[None, :, None, None]
  wave = wave * np.ones((1, 1, 16, 1), np.uint8)
  for image in (wave, wave.swapaxes(1, 2)):
    frequencies, power = spectrum.spectrum(image)
    peak = power[0].argmax()
    assert frequencies[peak] == cycles / 16
    assert power[0, peak] > 0.999 * power[0].sum()


def test_a_checkerboard_is_in_the_corner():
  board = np.indices((1, 8, 8, 1)).sum(axis=0) % 2 * 255
  frequencies, power = spectrum.spectrum(board)
  assert frequencies[power[0].argmax()] == 0.75  # sqrt(1/2), in eighths.
  # The only frequency of its ring holds |64 halves|^2 / 64.
  assert power[0].max() == pytest.approx(16)


def test_spectrum_of_oblong_images_and_of_one_colour():
  frequencies, power = spectrum.spectrum(images(3, shape=(8, 32, 3)))
  assert power.shape == (3, len(frequencies))
  assert frequencies[0] == 1 / 8 and frequencies[-1] <= 0.75
  flat_ones = np.full((2, 8, 8, 3), 9, np.uint8)
  assert not spectrum.spectrum(flat_ones)[1].any()


def test_power_of_bands_by_hand():
  frequencies = np.array([0.125, 0.25, 0.375, 0.5, 0.625])
  power = np.array([[1.0, 2, 3, 5, 7], [1, 2, 5, 7, 9]])
  assert spectrum.band_power(frequencies, power, 0.25, 0.5) == 5
  kinds = {
    "train": (frequencies, power),
    "test": (frequencies, 2 * power),
    "fake": (frequencies, power * [1, 1, 0, 0, 3]),
  }
  found = spectrum.compare(kinds)
  assert set(found["test"].values()) == {2}
  assert found["fake"] == {"rest": 1, "highest_octave": 0, "corners": 3}
  kinds["train"] = (frequencies, 0 * power)
  with pytest.raises(errors.UserError, match="only one colour"):
    spectrum.compare(kinds)


def test_blurred_samples_lack_the_highest_octave(stub, tmp_path):
  real, held_out = images(30), images(30, 1)
  blurred = real.astype(int)
  blurred = (blurred + np.roll(blurred, 1, axis=2)) // 2
  made = subject(real, held_out, np.uint8(blurred), num=30)
  text, numbers = spectrum.draw(made, tmp_path / "x.png")
  assert numbers["fake"]["highest_octave"] < 0.6 < 0.7
  assert numbers["test"]["highest_octave"] == pytest.approx(1, abs=0.1)
  assert f"{numbers['fake']['highest_octave']:.2f} of" in text
  small = images(30, shape=(4, 4, 1))
  tiny = subject(small, small, small)
  with pytest.raises(errors.UserError, match="8 pixels or more"):
    spectrum.draw(tiny, tmp_path / "y.png")


# The discriminator.


@pytest.mark.parametrize(
  "test, ratio", [(3.0, 0.0), (2.0, 0.25), (-1.0, 1.0), (-2.0, 1.25)]
)
def test_overfitting_by_hand(test, ratio):
  logits = [2.0, 4.0], [test] * 3, [-1.0, -1.0]
  found = discriminator.compare(*map(np.array, logits))
  assert found["means"] == {"train": 3.0, "test": test, "fake": -1.0}
  assert found["overfitting"] == ratio
  # d ratio / d train mean is (1 - ratio) / 4, and that mean's variance 1 / 2.
  error = abs(1 - ratio) / 4 * math.sqrt(0.5)
  assert found["overfitting_std"] == pytest.approx(error)
  assert not found["flags"]


def test_the_error_of_the_overfitting_is_what_it_varies_by():
  rng = np.random.RandomState(0)
  found = [
    discriminator.compare(
      rng.normal(2, 1, 60), rng.normal(1.5, 2, 40), rng.normal(0, 1, 50)
    )
    for _ in range(1000)
  ]
  ratios = [x["overfitting"] for x in found]
  assert np.mean(ratios) == pytest.approx(0.25, abs=0.02)
  errors_ = [x["overfitting_std"] for x in found]
  assert np.mean(errors_) == pytest.approx(np.std(ratios), rel=0.1)


def test_a_discriminator_at_a_loss_is_flagged():
  same = discriminator.compare(np.ones(5), np.ones(5), np.ones(5))
  assert math.isnan(same["overfitting"]) and same["flags"]
  wrong = discriminator.compare(np.zeros(5), np.ones(5), np.ones(5))
  assert wrong["flags"]
  few = np.array([0.0, 1.0])
  assert discriminator.compare(few + 0.5, few, few)["flags"]
  many = np.tile(few, 50)
  assert not discriminator.compare(many + 0.5, many, many)["flags"]


# Classes.


def test_rows_of_classes_go_evenly_from_the_surest():
  labels = np.array([0, 2, 2, 0, 2, 2, 2])
  sure = np.array([0.1, 0.2, 0.9, 0.8, 0.5, 0.4, 0.3])
  rows = classes.arrange(labels, sure, 3, 3)
  assert [row.tolist() for row in rows] == [[3, 0], [], [2, 5, 1]]
  asked = classes.arrange(labels, np.zeros(7), 3, 2)
  assert [row.tolist() for row in asked] == [[0, 3], [], [1, 6]]


def test_confidence_by_hand():
  logits = np.array([[0, math.log(3)], [1e4, 0], [5, 5]])
  np.testing.assert_allclose(classes.confidence(logits), [0.75, 1, 0.5])


def test_pages_of_classes_by_hand():
  logits = np.log([[3.0, 1, 1e-9], [1, 1e-9, 1e-9], [1, 3, 1e-9], [5, 3, 1e-9]])
  page = classes.recognised(logits)
  assert page.numbers["shares"] == [0.75, 0.25, 0.0]
  means = [(0.75 + 1 + 0.625) / 3, 0.75, 0]
  np.testing.assert_allclose(page.numbers["confidence_by_class"], means)
  assert page.numbers["confidence"] == pytest.approx(3.125 / 4)
  assert page.notes == ["75.0 %, 0.79", "25.0 %, 0.75", "none"]
  assert [row.tolist() for row in page.rows] == [[1, 0, 3], [2], []]
  asked = classes.asked_for(np.array([0, 1, 1, 0]), logits, 2)
  assert asked.numbers == {}  # Its classes are not those asked for.
  asked = classes.asked_for(np.array([0, 1, 1, 0]), logits[:, :2], 2)
  assert asked.numbers == {"recognised": 0.75, "by_class": [1.0, 0.5]}


def test_a_conditional_run_has_a_row_for_each_class_asked_for(none, tmp_path):
  fake = images(6)
  made = subject(images(30), images(30), fake, conditional=True)
  text, numbers = classes.draw(made, tmp_path / "x.png")
  assert numbers == {} and "asked for" in text
  picture = read(tmp_path / "x.png")
  shown = plots.grid(fake[[0, 3, 0, 3, 0, 3]], 6)  # 20 samples, 3 classes.
  h, w = len(shown) - 3, shown.shape[1] - 3  # Without what lies beyond it.
  places = range(picture.shape[1] - w)
  found = picture[pages.TOP : pages.TOP + h]
  assert any((found[:, x : x + w] == shown[:h, :w]).all() for x in places)


# Truncation, embedding.


def test_mean_distance_by_hand():
  triangle = np.array([[0.0, 0], [3, 0], [0, 4]])
  assert truncation.mean_distance(triangle) == 4


def test_truncation_costs_variety(tmp_path):
  points = np.random.RandomState(0).normal(size=(3, 400, 2))
  made = subject(*points.astype(np.float32), num=400)
  text, numbers = truncation.draw(made, tmp_path / "x.png")
  assert list(numbers) == ["0.2", "0.5", "1", "2", "no bound", "held-out"]
  *distances, real = (x["mean_distance"] for x in numbers.values())
  assert (np.diff(distances) > 0).all()
  # Of two normal points in the plane: sqrt(pi).
  assert real == pytest.approx(math.sqrt(math.pi), rel=0.05)
  assert distances[-1] == pytest.approx(real, rel=0.1)
  *costs, real = (x["frechet"] for x in numbers.values())
  assert (np.diff(costs) < 0).all() and real < 0.1
  assert f"{distances[0]:.3g} at 0.2" in text
  read(tmp_path / "x.png")


def test_principal_axes_by_hand():
  x, y = np.random.RandomState(0).normal(size=(2, 500))
  x, y = (v - v.mean() for v in (x, y))
  y -= x * (x @ y) / (x @ x)  # Uncorrelated, so the axes are known exactly.
  scale = 3 * np.sqrt((y @ y) / (x @ x))
  real = np.stack([y * 0, 1 - scale * x, y, 5 + 0 * y], axis=1)
  mean, axes, share = embedding.principal(real)
  np.testing.assert_allclose(mean, [0, 1, 0, 5], atol=1e-12)
  expected = [[0, 1, 0, 0], [0, 0, 1, 0]]
  np.testing.assert_allclose(axes.T, expected, atol=1e-9)
  assert share == pytest.approx(1)
  third = np.concatenate([real, real])
  third[:, 3] += np.repeat([1, -1], 500) * np.std(y)
  assert embedding.principal(third)[2] == pytest.approx(10 / 11)
  assert embedding.principal(np.ones((5, 3)))[2] == 0


def test_shares_of_classes_by_hand():
  logits = np.array([[1, 0, 0], [0, 0, 3], [2, 0, 1], [0, 0, 1.0]])
  np.testing.assert_array_equal(embedding.shares(logits), [0.5, 0, 0.5])


def test_neighboured_clusters_stay_apart():
  rng = np.random.RandomState(0)
  near, far = rng.normal(size=(30, 5)), 50 + rng.normal(size=(25, 5))
  a, b = embedding.neighboured([near, far], 0)
  assert a.shape == (30, 2) and b.shape == (25, 2)
  own = distance.cdist(a, a) + 1e9 * np.eye(30)
  assert (own.min(axis=1) < distance.cdist(a, b).min(axis=1)).all()


# Pages.


def read(path):
  assert 0 < path.stat().st_size < 300_000
  return np.asarray(Image.open(path).convert("RGB"))


def test_large_images_are_reduced_by_their_means():
  image = np.zeros((1, 130, 128, 1), np.uint8)
  image[0, 2:4, :2] = [[[0], [10]], [[20], [31]]]
  small = pages.reduced(image)
  assert small.shape == (1, 65, 64, 1) and small[0, 1, 0] == 15
  assert not small[0, 0].any()
  np.testing.assert_array_equal(pages.reduced(small), small)


def test_words_around_blocks_stay_on_the_page(tmp_path):
  shown = np.zeros((2, 16, 16, 1), np.uint8)
  long = "A title that is wider than its images"
  block = pages.Block(long, shown, 1, ["left of it", "x"], ["y", "right of it"])
  page, width = pages.blocks([block, block])
  plots.save(tmp_path / "x.png", page)
  picture = read(tmp_path / "x.png")
  assert picture.shape[1] == width
  assert (picture[:, [0, 1, -2, -1]] == 255).all()
  assert (picture[[0, -1]].reshape(-1, 3).max(axis=0) == 255).all()
  black = (picture == 0).all(axis=2).sum(axis=0) > 120
  assert np.flatnonzero(np.diff(black.astype(int)) == 1).size == 2  # Blocks.


# What becomes of runs of all sorts.


def test_the_pictures_are_these():
  assert analyze.names() == NAMES
  with pytest.raises(errors.UserError, match="did you mean 'spectrum'"):
    analyze.find("spektrum")


def test_without_an_extractor_pixels_are_compared(none, tmp_path):
  made = subject(images(40), images(30, 1), images(25, 2))
  found = {o.name: o for o in analyze.analyze(made, tmp_path)}
  left = {name for name, o in found.items() if o.path is None}
  assert left == {"classes"}
  assert found["classes"].text == "this dataset has no labels"
  document = json.loads((tmp_path / "analysis.json").read_text())
  assert document["left_out"] == {"classes": "this dataset has no labels"}
  assert document["protocol"]["extractor"] == {"name": "none"}
  assert set(document["pictures"]) == set(NAMES) - left
  assert set(document["pictures"]["neighbours"]) == {"pixels"}
  assert "shares" not in document["pictures"]["embedding"]
  assert "frechet" not in document["pictures"]["truncation"]["0.5"]


def test_numbers_of_other_samples_do_not_stay(stub, tmp_path):
  made = subject(images(40), images(30, 1), images(25, 2))
  drawn = lambda s, only: [o.name for o in analyze.analyze(s, tmp_path, only)]
  read_ = lambda: json.loads((tmp_path / "analysis.json").read_text())
  assert drawn(made, ["spectrum"]) == ["spectrum"]
  assert drawn(made, ["discriminator"]) == ["discriminator"]
  assert set(read_()["pictures"]) == {"spectrum", "discriminator"}
  other = subject(images(40), images(30, 1), images(25, 2), seed=6)
  assert drawn(other, ["spectrum"]) == ["spectrum"]
  assert set(read_()["pictures"]) == {"spectrum"}
  (tmp_path / "analysis.json").write_text("[")
  assert drawn(other, ["spectrum"]) == ["spectrum"]
  assert read_()["protocol"]["seed"] == 6


def test_a_diverged_run_says_so(stub, tmp_path):
  points = np.zeros((30, 2), np.float32)
  fake = points[:20].copy()
  fake[3:5] = np.nan
  (tmp_path / "embedding.png").write_text("of another step")
  made = subject(points, points, fake)
  for outcome in analyze.analyze(made, tmp_path, ["embedding", "truncation"]):
    assert outcome.path is None
    assert outcome.text.startswith("2 of 20 samples are not finite")
  assert not (tmp_path / "embedding.png").exists()


def test_real_images_are_chosen_by_the_seed(stub):
  made = [
    subject(images(40), images(30, 1), images(25), seed=s) for s in (1, 2)
  ]
  a, b = (x.batches["train"] for x in made)
  assert a.images.shape[0] == 20 and (a.images != b.images).any()
  every = images(40)
  assert a.labels is not None
  for image, label in zip(a.images, a.labels, strict=True):
    (at,) = np.flatnonzero((every == image).all(axis=(1, 2, 3)))
    assert at % 3 == label


ONE = jax.devices()[:1]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Of one step on points, with uniform latents."""
  folder = tmp_path_factory.mktemp("points")
  config = configs.load("toy_ring:smoke")
  config.update(num_steps=1, evals={})
  config.system.latent = "uniform"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(report, "show", lambda *_, **__: None)
    train(config, folder, ONE)
  return folder


@pytest.fixture
def untrained(monkeypatch):
  """Every workdir holds a generator of digits as it starts."""
  config = configs.resolve(configs.load("digits_dcgan:smoke"))
  system = configs.build(config, (16, 16, 1), 10)
  points = data.Arrays(np.zeros((2, 16, 16, 1), np.float32))
  state = jax.jit(system.init)(jax.random.key(0), points)
  stored = scaling.SCALINGS.find(config.scaling)()

  def load(workdir, step):
    return Run(config, workdir, step or 1, state, Sampler(system, stored))

  monkeypatch.setattr(ganjax, "load", load, raising=False)


def test_all_pictures_of_digits(untrained, stub, capsys, tmp_path):
  assert command.main([str(tmp_path), "--num", "40"]) == 0
  tmp_path /= "analysis"
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == [*NAMES, "step"]
  for name, line in zip(NAMES, lines, strict=False):
    assert line.endswith(f"{name}.png"), line
    assert min(read(tmp_path / f"{name}.png").shape[:2]) > 250
  document = json.loads((tmp_path / "analysis.json").read_text())
  assert document["protocol"]["step"] == 1 and document["protocol"]["num"] == 40
  assert not document["left_out"]
  found = document["pictures"]
  assert found["interpolation"]["spherical"]["middle_norm"] > 0.95
  assert found["interpolation"]["linear"]["middle_norm"] < 0.8
  numbers = [x for values in found.values() for x in leaves(values)]
  assert np.isfinite(numbers).all()


def leaves(values):
  """Yields the numbers of a JSON document."""
  if isinstance(values, dict):
    values = list(values.values())
  for value in values if isinstance(values, list) else [values]:
    if isinstance(value, (dict, list)):
      yield from leaves(value)
    elif not isinstance(value, str):
      yield value


def test_pictures_of_points_and_why_there_are_no_others(workdir, stub, capsys):
  assert command.main([str(workdir), "--num", "30"]) == 0
  lines = dict(
    line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()
  )
  for name in ("classes", "neighbours", "spectrum"):
    assert lines[name] == "not drawn: needs images, and this run makes points"
  assert lines["truncation"].startswith("not drawn: truncation needs a run")
  assert "spherical ones would leave the cube" in lines["interpolation"]
  drawn = sorted(x.name for x in (workdir / "analysis").iterdir())
  expected = ["analysis.json", "discriminator.png", "embedding.png"]
  assert drawn == [*expected, "interpolation.png"]


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--only", "spectrum,embeding"], "did you mean 'embedding'"),
    (["--num", "3"], "--num 3 must be at least 20"),
    (["--seed", "-1"], "--seed -1 must be in [0, 2**32)"),
    (["--step", "9"], "9"),
    ([], "holds no run"),
  ],
)
def test_mistakes_end_in_one_line(flags, message, workdir, capsys, tmp_path):
  assert command.main([str(workdir if flags else tmp_path), *flags]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert message in error


def test_help_is_quick():
  start = time.monotonic()
  argv = [sys.executable, "-m", "ganjax.analyze", "--help"]
  done = subprocess.run(argv, capture_output=True, text=True, check=True)
  assert "--only" in done.stdout
  assert time.monotonic() - start < 5
