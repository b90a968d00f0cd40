import numpy as np
import pytest
from PIL import Image

from ganjax.data import digits, toy
from ganjax.runs import plots


@pytest.fixture(scope="module")
def images():
  return digits.load("test").images


@pytest.fixture(scope="module")
def noise():
  shape = (100, 64, 64, 3)
  return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def points():
  return toy.load("test").images


def read(path):
  assert 0 < path.stat().st_size < 300_000
  assert [p.name for p in path.parent.iterdir()] == [path.name]  # No temporary.
  return np.asarray(Image.open(path).convert("RGB")).astype(int)


def has(picture, colour):
  """Returns how many pixels are nearly of a colour such as "#0072B2"."""
  rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
  return np.sum(np.abs(picture - rgb).max(axis=2) < 24)


@pytest.mark.parametrize(
  "shape, factor", [((8, 8, 1), 8), ((28, 28, 1), 2), ((64, 48, 3), 1)]
)
def test_a_tile_stands_in_its_place_enlarged(shape, factor):
  tiles = np.random.RandomState(0).randint(0, 256, (5, *shape), np.uint8)
  picture = plots.grid(tiles, columns=3)
  gap = plots.GAP
  h, w = (factor * side for side in shape[:2])
  assert picture.dtype == np.uint8
  assert picture.shape == (2 * h + 3 * gap, 3 * w + 4 * gap, shape[2])
  for i, tile in enumerate(tiles):
    y = gap + i // 3 * (h + gap)
    x = gap + i % 3 * (w + gap)
    found = picture[y : y + h, x : x + w]
    np.testing.assert_array_equal(found[::factor, ::factor], tile)
    np.testing.assert_array_equal(found[factor - 1 :: factor], found[::factor])
  assert (picture[:gap] == plots.GAP_COLOUR).all()
  assert (picture[h + 2 * gap :, 2 * (w + gap) + gap :] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_written_without_loss(tmp_path, channels):
  image = np.random.RandomState(0).randint(0, 256, (9, 7, channels), np.uint8)
  path = tmp_path / "new" / "x.png"
  plots.save_png(path, image)
  found = read(path)
  assert found.shape == (9, 7, 3)
  np.testing.assert_array_equal(found, np.broadcast_to(image, (9, 7, 3)))


def test_a_large_picture_loses_levels_before_pixels(tmp_path):
  smooth = np.random.RandomState(0).randint(64, 192, (340, 340, 3), np.uint8)
  plots.save_png(tmp_path / "x.png", smooth)
  found = read(tmp_path / "x.png")
  assert found.shape == smooth.shape
  assert np.abs(found - smooth).max() <= 8


def test_a_large_flat_picture_keeps_its_pixels_and_its_few_colours(tmp_path):
  rng = np.random.RandomState(0)
  colours = rng.randint(0, 256, (16, 3), np.uint8)
  image = colours[rng.randint(16, size=(700, 700))]
  for flat in (False, True):
    path = tmp_path / str(flat) / "x.png"
    plots.save_png(path, image, flat)
    assert (read(path).shape == image.shape) == flat
  np.testing.assert_array_equal(read(path), image)


def test_even_noise_fits(tmp_path, noise):
  plots.samples(tmp_path / "x.png", noise)
  assert min(read(tmp_path / "x.png").shape[:2]) > 300


def test_samples_are_the_grid(tmp_path, images):
  plots.samples(tmp_path / "x.png", images[:64])
  expected = plots.grid(images[:64], 8)
  np.testing.assert_array_equal(read(tmp_path / "x.png")[..., :1], expected)


def test_a_title_stands_above_the_grid(tmp_path, images):
  plots.samples(tmp_path / "x.png", images[:6], "Step 3")
  picture = read(tmp_path / "x.png")
  expected = plots.grid(images[:6], 3)
  top = len(picture) - len(expected)
  np.testing.assert_array_equal(picture[top:, :, :1], expected)
  assert picture[:top].min() < 64  # Some ink.


def test_samples_stand_left_of_as_many_real_images(tmp_path, images):
  fake = 255 - images[:16]
  plots.beside_real(tmp_path / "x.png", fake, images)
  picture = read(tmp_path / "x.png")
  left = plots.grid(fake, 4)
  right = plots.grid(images[:16], 4)
  h, w = left.shape[:2]
  np.testing.assert_array_equal(picture[-h:, :w, :1], left)
  np.testing.assert_array_equal(picture[-h:, -w:, :1], right)


@pytest.mark.parametrize("num_times, rows", [(1, 1), (3, 3), (13, 8)])
def test_over_time_has_a_row_a_time_and_a_column_a_latent(
  tmp_path, images, num_times, rows
):
  # Each picture is of one grey, which tells its time and its latent.
  greys = [
    10 * t + np.arange(20).reshape(20, 1, 1, 1) for t in range(num_times)
  ]
  snapshots = [
    (100 * t, np.broadcast_to(g, (20, 16, 16, 1)).astype(np.uint8))
    for t, g in enumerate(greys)
  ]
  plots.over_time(tmp_path / "x.png", snapshots)
  picture = read(tmp_path / "x.png")
  pitch = 64 + plots.GAP
  centres = picture[pitch // 2 + 4 :: pitch, ::-1][:, pitch // 2 :: pitch, 0]
  centres = centres[:rows, 11::-1]
  assert centres.shape == (rows, 12)
  np.testing.assert_array_equal(centres[0], np.arange(12))
  np.testing.assert_array_equal(
    centres[-1], 10 * (num_times - 1) + np.arange(12)
  )
  assert (np.diff(centres[:, 0]) > 0).all()
  assert len(picture) == rows * pitch + plots.GAP + 4


def test_points_are_scattered_within_fixed_limits(tmp_path, points):
  paths = [tmp_path / name / "x.png" for name in ("a", "b", "c")]
  plots.samples(paths[0], points)
  plots.samples(paths[1], np.concatenate([points, [[50.0, np.nan]] * 9]))
  plots.samples(paths[2], points[:1] * 0 + 50)
  inside, same, outside = (read(path) for path in paths)
  assert has(inside, plots.BLUE) > 50
  assert not has(inside, plots.ORANGE)
  np.testing.assert_array_equal(inside, same)  # The first 2,000 are drawn.
  assert has(outside, plots.ORANGE) and not has(outside, plots.BLUE)


def test_points_have_the_other_pictures_too(tmp_path, points):
  for name in ("beside", "time"):
    (tmp_path / name).mkdir()
  plots.beside_real(tmp_path / "beside" / "x.png", points * 0.5, points)
  plots.over_time(
    tmp_path / "time" / "x.png", [(s, points * s / 20) for s in range(21)]
  )
  for name, shape in (("beside", (380, 720)), ("time", (760, 1440))):
    picture = read(tmp_path / name / "x.png")
    assert picture.shape[:2] == shape
    assert has(picture, plots.BLUE) > 50


def test_pyplot_stays_out_of_it(tmp_path, images):
  import sys

  plots.samples(tmp_path / "x.png", images[:4], "title")
  assert "matplotlib.pyplot" not in sys.modules
