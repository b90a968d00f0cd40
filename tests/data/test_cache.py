import concurrent.futures
import json
import os
import pathlib
import shutil
import time

import numpy as np
import pytest

from ganjax import data, errors
from ganjax.data import cache


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
  monkeypatch.setenv("GANJAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


def images(value=7):
  return np.full((5, 4, 4, 1), value, np.uint8)


def make(allocate):
  allocated = allocate((5, 4, 4, 1))
  allocated[:] = 7
  return data.Arrays(allocated, np.arange(5, dtype=np.int32), 5)


def must_not_run(allocate):
  raise AssertionError("it is cached")


def test_cache_maps_what_was_made_and_makes_it_once(root):
  first = cache.cached({"name": "a"}, make)
  second = cache.cached({"name": "a"}, must_not_run)
  for arrays in (first, second):
    assert isinstance(arrays.images, np.memmap)
    assert not arrays.images.flags.writeable
    np.testing.assert_array_equal(arrays.images, images())
    assert arrays.labels.tolist() == [0, 1, 2, 3, 4]
    assert arrays.num_classes == 5
  (place,) = root.iterdir()
  assert place.name.startswith("a-")
  info = json.loads((place / "info.json").read_text())
  assert info["key"] == {"name": "a"} and info["shape"] == [5, 4, 4, 1]
  assert info["digest"] == cache.digest(first)
  with pytest.raises(AssertionError, match="it is cached"):
    cache.cached({"name": "b"}, must_not_run)


def test_a_folder_appears_at_once_and_is_not_copied(root):
  def observed(allocate):
    arrays = make(allocate)
    (hidden,) = root.iterdir()
    assert hidden.name.startswith(".")
    inodes.append(os.stat(arrays.images.filename).st_ino)
    return arrays

  inodes = []
  cache.cached({"name": "a"}, observed)
  (file,) = root.glob("*/images.npy")
  assert [file.stat().st_ino] == inodes


def test_cache_keeps_what_was_not_allocated_and_parts_of_what_was(root):
  def part(allocate):
    allocated = allocate((9, 4, 4, 1))
    allocated[:5] = 7
    return data.Arrays(allocated[:5])

  def plain(allocate):
    return data.Arrays(images())

  for make_one in (part, plain):
    arrays = cache.cached({"name": make_one.__name__}, make_one)
    np.testing.assert_array_equal(arrays.images, images())
    assert arrays.labels is None
  assert {p.name for p in root.glob("*/*")} == {"images.npy", "info.json"}


def test_digest_depends_on_shape_dtype_and_every_byte():
  labels = np.arange(5, dtype=np.int32)
  changed = images()
  changed[-1, -1, -1] += 1
  variants = [
    data.Arrays(images()),
    data.Arrays(images().reshape(5, 2, 8, 1)),
    data.Arrays(images().view(np.int8)),
    data.Arrays(changed),
    data.Arrays(images(), labels),
    data.Arrays(images(), labels[::-1]),
  ]
  assert len({cache.digest(arrays) for arrays in variants}) == len(variants)


def test_a_failure_leaves_nothing_and_old_leftovers_are_swept(root):
  def fail(allocate):
    allocate((5, 4, 4, 1))[:] = 1
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    cache.cached({"name": "a"}, fail)
  assert list(root.iterdir()) == []
  for name, age in ((".making-old", 25 * 3600), (".making-new", 0)):
    (root / name).mkdir()
    born = time.time() - age
    os.utime(root / name, (born, born))
  cache.cached({"name": "a"}, make)
  assert [p.name for p in root.glob(".making-*")] == [".making-new"]


def truncate(place):
  os.truncate(place / "images.npy", 100)


def cut_info(place):
  (place / "info.json").write_text('{"key":')


def lose_labels(place):
  (place / "labels.npy").unlink()


def lose_all(place):
  shutil.rmtree(place)
  place.mkdir()
  (place / "stray").write_text("")


def swap(place):
  np.save(place / "images.npy", images().reshape(5, 1, 16, 1))


@pytest.mark.parametrize(
  "damage", [truncate, cut_info, lose_labels, lose_all, swap]
)
def test_a_damaged_cache_is_made_anew(root, damage):
  cache.cached({"name": "a"}, make)
  (place,) = root.iterdir()
  damage(place)
  arrays = cache.cached({"name": "a"}, make)
  np.testing.assert_array_equal(arrays.images, images())
  assert list(root.iterdir()) == [place]
  cache.cached({"name": "a"}, must_not_run)


@pytest.mark.parametrize("damaged", [False, True])
def test_racing_makers_all_succeed(root, damaged):
  if damaged:
    cache.cached({"name": "a"}, make)
    truncate(next(root.iterdir()))

  def slow(allocate):
    time.sleep(0.05)
    return make(allocate)

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    jobs = [pool.submit(cache.cached, {"name": "a"}, slow) for _ in range(8)]
  for job in jobs:
    np.testing.assert_array_equal(job.result().images, images())
  assert len(list(root.iterdir())) == 1


def test_an_unwritable_or_full_cache_names_the_variable(
  root, tmp_path, monkeypatch
):
  def huge(allocate):
    return data.Arrays(allocate((10**9, 10**9)))

  with pytest.raises(errors.UserError, match="GB.*set GANJAX_CACHE to"):
    cache.cached({"name": "a"}, huge)
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("GANJAX_CACHE", str(tmp_path / "file" / "cache"))
  with pytest.raises(errors.UserError, match="cannot write.*GANJAX_CACHE"):
    cache.cached({"name": "a"}, make)


def test_root_follows_the_environment(monkeypatch, tmp_path):
  monkeypatch.delenv("GANJAX_CACHE")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert cache.root() == tmp_path / "ganjax"
  monkeypatch.delenv("XDG_CACHE_HOME")
  assert cache.root() == pathlib.Path.home() / ".cache" / "ganjax"
