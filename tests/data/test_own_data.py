"""A dataset of a file that is no part of ganjax."""

import textwrap

import numpy as np
import pytest

from ganjax import data, errors
from ganjax.runs import configs

DATA = """
  import numpy as np
  from ganjax import data

  class Stripes:
    image_shape = (8, 8, 1)
    dtype = np.dtype(np.uint8)
    num_classes = 0

    def __init__(self, width):
      self.width = width

    def __len__(self):
      return 12

    def __getitem__(self, i):
      row = (np.arange(8) + i) // self.width % 2 * 255
      return np.broadcast_to(row[:, None], (8, 8, 1)).astype(np.uint8), None

  def source(split="train", width: int = 2):
    return Stripes(width)

  @data.register(name="stripes", source=source)
  def load(split="train", width: int = 2) -> data.Arrays:
    rows = source(split, width)
    return data.Arrays(np.stack([rows[i][0] for i in range(len(rows))]))

  @data.register
  def plain(split="train"):
    return load(split)
"""


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "my_data.py"
  path.write_text(textwrap.dedent(DATA))
  yield path
  for name in ("stripes", "plain"):
    data.DATASETS.pop(name, None)


def test_a_dataset_of_a_file(file):
  name = f"{file}:load"
  arrays = data.find(name)("test", width=4)
  assert arrays.images.shape == (12, 8, 8, 1)
  # Once its module is imported, the registered name is enough.
  assert data.find("stripes") is data.find(name)
  assert {"stripes", "plain"} < {*data.names()}
  open_source = data.find_source(name)
  assert open_source is not None
  image, label = open_source("train", width=4)[3]
  np.testing.assert_array_equal(image, arrays.images[3])
  assert label is None
  assert data.find_source("plain") is None


def test_own_datasets_with_files_are_streams():
  assert [n for n in data.names() if data.find_source(n)] == ["folder", "tfds"]


def test_a_config_names_it_and_sets_its_options(file):
  config = configs.load("digits_mlp:smoke")
  config.dataset = dict(name=f"{file}:load", width=4)
  config.extractor = dict(name="classifier")
  config = configs.resolve(config)
  assert config.dataset.width == 4
  images = configs.load_data(config, "train").images
  np.testing.assert_array_equal(images, data.find("stripes")(width=4).images)
  config.dataset.unlock()
  config.dataset.widht = 3
  with pytest.raises(errors.UserError, match="did you mean 'width'"):
    configs.resolve(config)


def test_what_is_not_there_is_named(file):
  with pytest.raises(errors.UserError, match="did you mean 'load'"):
    data.find(f"{file}:loda")
  with pytest.raises(errors.UserError, match="there is no file"):
    data.find(f"{file.parent}/other.py:load")
  with pytest.raises(errors.UserError, match="'digits'"):
    data.find("digitz")
