import contextlib
import functools
import importlib
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from verbs import Verb

from ganjax import data, errors
from ganjax.data import cache, tfds

prepare = Verb("prepare")


NUM = {"train": 10, "test": 4}


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
  """A new data_dir; a machine with TensorFlow and without a network."""
  monkeypatch.setenv("GANJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
  monkeypatch.setattr(tfds, "reachable", lambda urls: False)
  pretend_tensorflow(monkeypatch, True)
  return tmp_path / "tfds"


def pretend_tensorflow(monkeypatch, installed):
  find_spec = importlib.util.find_spec

  def find(name, *args):
    if name == "tensorflow":
      return object() if installed else None
    return find_spec(name, *args)

  monkeypatch.setattr(importlib.util, "find_spec", find)


def pixels(i):
  return np.random.RandomState(i).randint(256, size=(8, 6, 3), dtype=np.uint8)


def write_tfds(
  data_dir,
  shape=(8, 6, 3),
  file_format="array_record",
  image="image",
  label="label",
  record=None,
):
  """Writes the files that TFDS would write, but without TensorFlow."""
  import tensorflow_datasets as library

  record_writer = importlib.import_module(
    "array_record.python.array_record_module"
  ).ArrayRecordWriter
  proto = importlib.import_module("tensorflow_datasets.proto")

  place = data_dir / "tiny" / "1.0.0"
  place.mkdir(parents=True)
  features = library.features.FeaturesDict(
    {
      image: library.features.Image(shape=shape),
      label: library.features.ClassLabel(num_classes=3),
    }
  )
  features.save_config(str(place))
  for split, num in NUM.items():
    file = place / f"tiny-{split}.{file_format}-00000-of-00001"
    writer = record_writer(str(file), "group_size:1")
    for i in range(num):
      png = io.BytesIO()
      Image.fromarray(pixels(i)).save(png, "PNG")
      example = proto.tf_example_pb2.Example()
      example.features.feature[image].bytes_list.value.append(png.getvalue())
      example.features.feature[label].int64_list.value.append(i % 3)
      writer.write(record or example.SerializeToString())
    writer.close()
  splits = [
    {
      "name": split,
      "shardLengths": [str(num)],
      "numBytes": "1",
      "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    for split, num in NUM.items()
  ]
  info = dict(
    name="tiny", version="1.0.0", fileFormat=file_format, splits=splits
  )
  (place / "dataset_info.json").write_text(json.dumps(info))


def failure(*args, **kwargs):
  """Returns the one line of the error, which must come within 10 s."""
  start = time.monotonic()
  with pytest.raises(errors.UserError) as caught:
    tfds.load(*args, **kwargs)
  assert time.monotonic() - start < 10
  (line,) = str(caught.value).splitlines()
  return line


def test_a_prepared_dataset_is_read_as_it_is(data_dir):
  write_tfds(data_dir)
  for split, num in NUM.items():
    arrays = tfds.load(split, builder="tiny")
    expected = [pixels(i) for i in range(num)]
    np.testing.assert_array_equal(arrays.images, expected)
    assert arrays.labels.tolist() == [i % 3 for i in range(num)]
    assert arrays.images.dtype == np.uint8 and arrays.labels.dtype == np.int32
    assert arrays.num_classes == 3


def test_splits_may_be_parts_and_images_resized(data_dir):
  write_tfds(data_dir)
  load = functools.partial(
    tfds.load,
    builder="tiny",
    train_split="train[:7]",
    test_split="train[7:]",
    size=4,
  )
  train, test = load("train"), load("test")
  assert train.images.shape == (7, 4, 4, 3)
  assert train.labels.tolist() == [i % 3 for i in range(7)]
  assert test.labels.tolist() == [i % 3 for i in range(7, 10)]
  # The central 6x6 of 8x6 pixels is kept.
  square = np.mean([pixels(i)[1:7] for i in range(7)])
  assert abs(train.images.mean() - square) < 3
  named = tfds.load("train[7:]", builder="tiny", size=4)
  assert cache.digest(named) == cache.digest(test)


def test_images_of_many_shapes_need_a_size(data_dir):
  write_tfds(data_dir, shape=(None, None, 3))
  assert "differ in shape" in failure(builder="tiny")
  assert "set size, e.g. size=64" in failure(builder="tiny")
  arrays = tfds.load(builder="tiny", size=6)
  expected = [pixels(i)[1:7] for i in range(10)]
  np.testing.assert_array_equal(arrays.images, expected)


def test_without_a_label_there_are_no_labels(data_dir):
  write_tfds(data_dir, label="other")
  arrays = tfds.load(builder="tiny")
  assert arrays.labels is None and arrays.num_classes == 0


def test_the_second_load_imports_neither_tfds_nor_tensorflow(data_dir):
  write_tfds(data_dir)
  script = (
    "import sys; from ganjax.data import tfds; "
    "print(tfds.load(builder='tiny').images.sum()); "
    "print({'tensorflow', 'tensorflow_datasets'} & set(sys.modules))"
  )
  outputs = [
    subprocess.run(
      [sys.executable, "-c", script],
      env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
      capture_output=True,
      text=True,
      check=True,
    ).stdout.split("\n")
    for _ in range(2)
  ]
  total = str(sum(int(pixels(i).sum()) for i in range(10)))
  assert outputs[0][:2] == [total, "{'tensorflow_datasets'}"]
  assert outputs[1][:2] == [total, "set()"]


def test_data_dirs_do_not_share_a_cache(data_dir, tmp_path):
  write_tfds(data_dir)
  tfds.load(builder="tiny")
  message = failure(builder="tiny", data_dir=str(tmp_path / "other"))
  assert "unknown TFDS dataset 'tiny'" in message


def test_mistakes_in_names_and_splits(data_dir):
  write_tfds(data_dir)
  message = failure("val", builder="tiny")
  assert "tiny has no split 'val', it has train, test" in message
  assert "no split 'train[:99]'" in failure("train[:99]", builder="tiny")
  assert "'train[:0]' of tiny is empty" in failure("train[:0]", builder="tiny")
  assert "'mnits'; did you mean 'mnist'" in failure(builder="mnits")
  assert "foo not found" in failure(builder="cifar10/foo")
  assert "Parsing builder name" in failure(builder="no name")
  assert "size is -1" in failure(size=-1)
  message = failure(builder="ag_news_subset")
  assert "not a dataset of 8-bit images" in message and "title" in message


def test_a_dataset_without_the_feature_image(data_dir):
  write_tfds(data_dir, image="picture")
  assert "its examples have label, picture" in failure(builder="tiny")


def test_a_corrupt_record_is_named(data_dir):
  write_tfds(data_dir, record=b"no example")
  message = failure(builder="tiny")
  assert "cannot be read at example 0" in message
  assert f"remove {data_dir}/tiny/1.0.0" in message


def test_preparing_without_tensorflow_names_the_command(data_dir, monkeypatch):
  pretend_tensorflow(monkeypatch, False)
  message = failure(builder="mnist")
  assert f"mnist is not prepared in {data_dir}" in message
  assert message.endswith("pip install -e '.[tfds]'")
  write_tfds(data_dir, file_format="tfrecord")
  message = failure(builder="tiny")
  assert "in the format tfrecord, which needs TensorFlow" in message
  assert message.endswith("pip install -e '.[tfds]'")


def test_preparing_without_a_network_names_command_and_files(data_dir):
  message = failure(builder="cifar10")
  manual = data_dir / "downloads" / "manual"
  assert "its server cannot be reached" in message
  assert "`ganjax prepare cifar10 --data_dir" in message
  assert f"copy {data_dir}/cifar10 here" in message
  assert f"or place cifar-10-binary.tar.gz in {manual}" in message
  message = failure(builder="imagenet2012", size=8)
  assert f"only you may download it: place its files in {manual}" in message


@pytest.mark.parametrize("how", ["network", "files"])
def test_what_is_missing_is_prepared(data_dir, monkeypatch, how):
  import tensorflow_datasets as library

  def download(builder, *, file_format, **kwargs):
    assert file_format == "array_record"
    raise OSError("reached\nthe download")

  monkeypatch.setattr(
    library.core.DatasetBuilder, "download_and_prepare", download
  )
  if how == "network":
    monkeypatch.setattr(tfds, "reachable", lambda urls: True)
  else:
    manual = data_dir / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / "cifar-10-binary.tar.gz").write_text("")
  message = failure(builder="cifar10")
  assert message == "tfds: preparing cifar10 failed: reached the download"
  assert not list(cache.root().glob("*"))


def test_reachable_is_quick_and_needs_one_answer(monkeypatch):
  monkeypatch.undo()  # The real function.
  for name in ("http_proxy", "https_proxy", "all_proxy"):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(name.upper(), raising=False)
  with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
    start = time.monotonic()
    assert not tfds.reachable([url], seconds=0.3)
    assert time.monotonic() - start < 2
  assert not tfds.reachable([url], seconds=2)  # Nobody listens any more.
  # Looking up a name may hang, whatever the timeout of the connection.
  monkeypatch.setattr(tfds, "_answers", lambda url, seconds: time.sleep(3))
  start = time.monotonic()
  assert not tfds.reachable([url], seconds=0.3)
  assert time.monotonic() - start < 2
  monkeypatch.setattr(tfds, "_answers", lambda url, seconds: "good" in url)
  assert tfds.reachable(["https://bad.example/a", "https://good.example/b"])


def test_the_command_prints_what_it_made_and_where(data_dir, capsys):
  write_tfds(data_dir)
  assert prepare.main(["tiny", "--size", "4", "--data_dir", str(data_dir)]) == 0
  out = capsys.readouterr().out
  assert [line.split()[:5] for line in out.splitlines()[1:3]] == [
    ["train", "10", "4x4x3", "3", "0.0"],
    ["test", "4", "4x4x3", "3", "0.0"],
  ]
  (place,) = cache.root().glob("*train*")
  assert f"cached in {place}" in out
  config = out.splitlines()[-1].removeprefix("config.dataset = ")
  kwargs = eval(config, {"dict": dict})
  assert data.find(kwargs.pop("name"))(**kwargs).images.shape[0] == 10
