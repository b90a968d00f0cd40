"""Pictures of runs of all sorts, and the command as a whole."""

import json
import math
import types
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from verbs import Verb

import ganjax
from ganjax import data, errors
from ganjax.data import scaling
from ganjax.evaluation import extractors
from ganjax.evaluation.evaluator import Evaluator
from ganjax.runs import configs, plots
from ganjax.runs.run import Run
from ganjax.runs.sampler import Sampler
from ganjax.tools import analyze
from ganjax.tools.analyze import (
  classes,
  embedding,
  neighbours,
  pages,
  spectrum,
  truncation,
)
from ganjax.tools.analyze.subject import COLOURS, Subject, flat
from ganjax.training.train import train

command = Verb("analyze")


NAMES = [
  "classes",
  "discriminator",
  "embedding",
  "interpolation",
  "neighbours",
  "spectrum",
  "traversal",
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
    conditional=conditional, num_classes=num_classes, traverse=None
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


def read(path):
  assert 0 < path.stat().st_size < 300_000
  return np.asarray(Image.open(path).convert("RGB"))


def test_points_of_both_kinds_are_where_they_are(none, tmp_path):
  # Real ones at the lower left, samples at the upper right.
  rng = np.random.RandomState(0)
  low = rng.uniform(-1, -0.8, (30, 2)).astype(np.float32)
  made = subject(low, low, -low)
  _, numbers = embedding.draw(made, tmp_path / "x.png")
  assert numbers == {}
  picture = read(tmp_path / "x.png")[60:, 80:].astype(float)
  places = {}
  for kind in ("train", "fake"):
    rgb = [int(COLOURS[kind][i : i + 2], 16) for i in (1, 3, 5)]
    faint = 255 - 0.4 * (255 - np.array(rgb))  # Of one point on white.
    near = np.abs(picture - faint).max(axis=2) < 12
    assert near.sum() > 50
    places[kind] = np.median(np.argwhere(near), axis=0)
  (y, x), (fake_y, fake_x) = places["train"], places["fake"]
  assert x + 100 < fake_x and fake_y + 100 < y


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


def test_the_pictures_are_these():
  assert analyze.names() == NAMES
  with pytest.raises(errors.UserError, match="did you mean 'spectrum'"):
    analyze.find("spektrum")


def test_a_picture_from_elsewhere(stub, tmp_path):
  (tmp_path / "mine.py").write_text(
    "def brightness(subject, path):\n"
    "  path.write_bytes(b'a picture')\n"
    "  mean = float(subject.batches['fake'].images.mean())\n"
    "  return 'how bright samples are', {'mean': mean}\n"
  )
  made = subject(images(40), images(30, 1), images(25, 2))
  only = [f"{tmp_path}/mine.py:brightness"]
  (outcome,) = analyze.analyze(made, tmp_path / "out", only)
  assert outcome.path == tmp_path / "out" / "brightness.png"
  assert outcome.path.read_bytes() == b"a picture"
  found = json.loads((tmp_path / "out" / "analysis.json").read_text())
  mean = found["pictures"]["brightness"]["mean"]
  assert mean == made.batches["fake"].images.mean()


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
  config.num_steps, config.evals, config.system.latent = 1, {}, "uniform"
  train(config, folder, ONE, report=False)
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
  for name in ("classes", "neighbours", "spectrum", "traversal"):
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
