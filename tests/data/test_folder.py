import os
import time

import numpy as np
import pytest
from PIL import Image

from ganjax import errors
from ganjax.data import cache, folder


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
  monkeypatch.setenv("GANJAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def place(tmp_path):
  (tmp_path / "pictures").mkdir()
  return tmp_path / "pictures"


def write(path, value=100, size=(6, 4)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("L", size, value).save(path)


def load_all(place, **kwargs):
  """Loads a folder whose every image must be in the training split."""
  return folder.load("train", path=str(place), test_fraction=1e-9, **kwargs)


def failure(place, split="train", **kwargs):
  with pytest.raises(errors.UserError) as caught:
    folder.load(split, path=str(place), **kwargs)
  (line,) = str(caught.value).splitlines()
  return line


def test_class_folders_become_labels_in_the_order_of_their_names(place):
  for label, value in (("dog", 20), ("cat", 10)):
    for i in range(3):
      write(place / label / "deeper" / f"{i}.png", value + i)
  arrays = load_all(place, size=8)
  assert arrays.images.shape == (6, 8, 8, 3)
  assert arrays.images.dtype == np.uint8 and arrays.labels.dtype == np.int32
  assert arrays.images[:, 0, 0, 0].tolist() == [10, 11, 12, 20, 21, 22]
  assert arrays.labels.tolist() == [0, 0, 0, 1, 1, 1]
  assert arrays.num_classes == 2


def test_without_class_folders_there_are_no_labels(place):
  write(place / "a.png")
  write(place / ".hidden.png")
  write(place / ".git" / "b.png")
  (place / "notes.txt").write_text("")
  arrays = load_all(place, channels=1)
  assert arrays.images.shape == (1, 32, 32, 1)
  assert arrays.labels is None and arrays.num_classes == 0


def test_a_hash_of_the_name_splits_the_images_for_good(place):
  for i in range(200):
    write(place / f"{i}.png", i, size=(1, 1))

  def values(split):
    arrays = folder.load(split, path=str(place), size=1, test_fraction=0.2)
    return set(arrays.images[:, 0, 0, 0].tolist())

  train, test = values("train"), values("test")
  assert train | test == set(range(200)) and not train & test
  assert 20 < len(test) < 60
  for i in range(200, 250):  # New images leave the old ones where they are.
    write(place / f"{i}.png", i, size=(1, 1))
  assert train < values("train") and test < values("test")


def test_train_and_test_folders_are_the_splits(place):
  write(place / "train" / "cat" / "1.png", 1)
  write(place / "train" / "dog" / "2.png", 2)
  write(place / "test" / "dog" / "3.png", 3)
  train = folder.load("train", path=str(place))
  test = folder.load("test", path=str(place))
  assert train.labels.tolist() == [0, 1]
  assert test.images[:, 0, 0, 0].tolist() == [3]
  assert test.labels.tolist() == [1] and test.num_classes == 2


def test_the_central_square_is_kept(place):
  image = np.zeros((10, 30), np.uint8)
  image[:, 10:20] = 200
  Image.fromarray(image).save(place / "wide.png")
  np.testing.assert_array_equal(load_all(place, size=10).images, 200)


def save_mode(path, mode):
  """Saves an image whose right reading is the colour 200, 100, 50."""
  colour = (200, 100, 50)
  if mode == "RGBA":  # 0 opaque is black; half of it upon white is grey.
    Image.new("RGBA", (4, 4), (145, 0, 0, 128)).save(path)
  elif mode == "16-bit":
    Image.fromarray(np.full((4, 4), 200 * 257, np.uint16)).save(path)
  elif mode == "frames":
    frames = [Image.new("RGB", (4, 4), c) for c in (colour, "black")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
  elif mode == "palette":
    Image.new("RGB", (4, 4), colour).quantize(4).save(path)
  else:
    Image.new("RGB", (4, 4), colour).convert(mode).save(path, quality=100)


@pytest.mark.parametrize(
  ("name", "mode", "expected"),
  [
    ("a.PNG", "RGB", (200, 100, 50)),
    ("a.jpg", "CMYK", (200, 100, 50)),
    ("a.jpeg", "L", (124, 124, 124)),
    ("a.webp", "RGB", (200, 100, 50)),
    ("a.bmp", "1", None),
    ("a.gif", "frames", (200, 100, 50)),
    ("a.png", "palette", (200, 100, 50)),
    ("a.png", "16-bit", (200, 200, 200)),
    ("a.png", "RGBA", (200, 127, 127)),
  ],
)
def test_every_mode_and_format_is_read_properly(place, name, mode, expected):
  save_mode(place / name, mode)
  pixels = load_all(place, size=4).images
  if expected is None:  # One bit: dithered to black and white.
    assert set(pixels.ravel().tolist()) == {0, 255}
  else:
    np.testing.assert_allclose(pixels.reshape(-1, 3).mean(0), expected, atol=6)


def test_a_few_corrupt_images_are_skipped_and_the_first_is_named(place):
  for i in range(8):
    write(place / f"{i}" / "a.png", i)
  (place / "3" / "a.png").write_bytes(b"no image")
  whole = (place / "5" / "a.png").read_bytes()
  (place / "5" / "a.png").write_bytes(whole[:-30])
  with pytest.warns(UserWarning) as warned:
    arrays = load_all(place, size=4)
  assert arrays.images[:, 0, 0, 0].tolist() == [0, 1, 2, 4, 6, 7]
  assert arrays.labels.tolist() == [0, 1, 2, 4, 6, 7]
  assert arrays.num_classes == 8
  text = str(warned[0].message)
  assert "2 of 8 images cannot be read" in text
  assert str(place / "3" / "a.png") in text


def test_many_corrupt_images_are_an_error(place):
  for i in range(300):
    (place / f"{i:03}.png").write_bytes(b"no image")
  start = time.monotonic()
  message = failure(place, test_fraction=1e-9)
  assert "at least 4 of 300 images cannot be read" in message
  assert "000.png (cannot identify" in message
  assert time.monotonic() - start < 10


def test_too_large_an_image_is_named(place, monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
  write(place / "a.png", size=(40, 40))
  message = failure(place, test_fraction=1e-9)
  assert "a.png (Image size (1600 pixels) exceeds limit of 1000" in message


def test_links_out_of_the_folder_are_not_followed(place, tmp_path):
  write(tmp_path / "secret" / "a.png")
  (place / "a.png").symlink_to(tmp_path / "secret" / "a.png")
  (place / "all").symlink_to(tmp_path / "secret")
  (place / "loop.png").symlink_to(place / "loop.png")
  assert "links that lead out of it do not count" in failure(place)
  write(place / "b.png")
  (place / "c.png").symlink_to(place / "b.png")
  assert len(load_all(place).images) == 2


def test_it_is_read_again_only_when_a_file_changes(place, monkeypatch):
  write(place / "a.bmp", 1)  # Uncompressed: its size will stay the same.
  assert load_all(place).images.max() == 1
  with monkeypatch.context() as patch:
    patch.setattr(folder, "_image", None)
    assert isinstance(load_all(place).images, np.memmap)
  write(place / "a.bmp", 2)
  os.utime(place / "a.bmp", (1, 1))
  arrays = load_all(place)
  assert arrays.images.max() == 2
  assert cache.digest(arrays) != cache.digest(load_all(place, size=8))


def test_mistakes(place):
  assert "path is empty, set it" in failure("")
  assert "nowhere is not a folder" in failure(place / "nowhere")
  assert "size is 0, it must be at least 1" in failure(place, size=0)
  assert "channels is 2, it must be 1 or 3" in failure(place, channels=2)
  assert "test_fraction is 1" in failure(place, test_fraction=1.0)
  assert "no images in" in failure(place)
  write(place / "cat" / "a.png")
  message = failure(place, "test", test_fraction=1e-9)
  assert "no images for the test split" in message
  write(place / "b.png")
  assert "both inside and beside class sub-folders" in failure(place)
  write(place / "train" / "a.png")
  assert f"put them into {place}/test" in failure(place, "test")
