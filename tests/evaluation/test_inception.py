"""The network against torch-fidelity's, and the contract of an extractor.

`python tests/evaluation/test_inception.py` writes the golden features anew
where torch-fidelity 0.4.0 is installed; torch 2.13.0 made those that are here.
"""

import importlib
import importlib.util
import pathlib
import sys
import types
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ganjax import data, errors
from ganjax.evaluation import extractors
from ganjax.evaluation.convert import names
from ganjax.evaluation.extractors import inception, weights

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "inception.npz"
SMALL = 107  # The last blocks see 2 x 2 then: what their pools do still shows.


def random_arrays(shapes):
  """Returns parameters that keep activations near 1, the same for ever."""
  rng = np.random.RandomState(0)
  arrays = {}
  for name, shape in sorted(shapes.items()):
    x = rng.random_sample(shape).astype(np.float32)
    leaf = name.rpartition("/")[2]
    if leaf == "kernel":
      x = (2 * x - 1) * np.float32(np.sqrt(6 / np.prod(shape[:-1])))
    elif leaf in ("bias", "mean"):
      x = x - np.float32(0.5)
    else:
      x = x + np.float32(0.5)
    arrays[name] = x
  return arrays


def random_images(num):
  """Returns smooth ones with noise: uint8 `[num, SMALL, SMALL, 3]`."""
  rng = np.random.RandomState(1)
  wave = np.sin(np.arange(SMALL) / rng.uniform(3, 20, size=(num, 3, 1)))
  images = 128 + 60 * wave[:, :, None] * wave[:, :, :, None]
  images = images + rng.uniform(-60, 60, size=images.shape)
  return images.transpose(0, 2, 3, 1).astype(np.uint8)


@pytest.fixture(scope="module")
def arrays():
  return random_arrays(inception.shapes())


@pytest.fixture(scope="module")
def extractor(arrays, tmp_path_factory):
  """Returns one for `SMALL` pixels: 299 would take 8 times as long."""
  path = tmp_path_factory.mktemp("weights") / "inception.npz"
  weights.write(path, inception.KIND, arrays, {})
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(inception, "SIZE", SMALL)
    patch.setattr(inception, "CHUNK", 2)
    patch.setenv("GANJAX_INCEPTION", str(path))
    made = extractors.find("inception")("any", *splits())
    made(random_images(1))  # Traced while the patches hold.
  return made


def splits(shape=(4, 8, 8, 3), dtype="uint8"):
  return [data.Arrays(np.zeros(shape, dtype))] * 2


def relative(a, b):
  return np.abs(a - b).max() / np.abs(b).max()


def test_features_and_logits_are_those_of_torch_fidelity(extractor):
  features, logits = extractor(random_images(2))
  with np.load(GOLDEN) as golden:
    assert relative(features, golden["features"]) < 1e-5
    assert relative(logits, golden["logits"]) < 1e-5
  assert features.shape == (2, 2048) and logits.shape == (2, 1008)
  assert features.dtype == logits.dtype == np.float32


def test_torch_fidelity_says_the_same_where_it_is_installed(extractor, arrays):
  images = random_images(3)[1:]
  expected = torch_fidelity(arrays, images)
  out = extractor(images)
  assert relative(out.features, expected[0]) < 1e-5
  assert relative(out.logits, expected[1]) < 1e-5


def test_an_image_does_not_depend_on_the_others_nor_on_their_number(extractor):
  images = random_images(3)
  together, alone = extractor(images), extractor(images[2:])
  np.testing.assert_allclose(
    together.features[2:], alone.features, rtol=1e-4, atol=1e-6
  )
  assert together.logits.shape == (3, 1008)
  assert extractor(images[:0]).features.shape == (0, 2048)


def test_it_names_itself_its_digest_and_its_resize(extractor, arrays):
  assert extractor.name == "inception:2015"
  assert extractor.digest == weights.digest(arrays)[:16]
  assert np.isnan(extractor.accuracy)
  assert extractor.protocol == {"resize": "tf1"}
  other = arrays | {"fc/kernel": arrays["fc/kernel"] + 1}
  assert weights.digest(other)[:16] != extractor.digest


def test_it_has_the_94_convolutions_of_the_published_file():
  shapes = inception.shapes()
  assert sum(name.endswith("/conv/kernel") for name in shapes) == 94
  # 472 float tensors are published; the bias of the logits is left out.
  assert len(shapes) == 471
  assert shapes["fc/kernel"] == (2048, 1008)
  assert shapes["Mixed_6b/branch7x7_2/conv/kernel"] == (1, 7, 128, 128)


class Probe(nn.Module):
  """Shows the pixels that the network would see."""

  @nn.compact
  def __call__(self, x):
    one = self.param("one", nn.initializers.ones, (1,))
    return extractors.Features(x.reshape(len(x), -1) * one[None])


@pytest.fixture
def probe(monkeypatch, tmp_path):
  path = tmp_path / "probe.npz"
  one = {"one": np.ones(1, np.float32)}
  weights.write(path, inception.KIND, one, {})
  monkeypatch.setattr(inception, "Inception", Probe)
  monkeypatch.setattr(inception, "shapes", lambda: {"one": (1,)})
  monkeypatch.setattr(inception, "CHUNK", 4)
  return path


@pytest.mark.parametrize("mode", ["tf1", "clean"])
def test_the_network_sees_299_pixels_from_minus_1_to_1(probe, mode):
  images = np.random.RandomState(2).randint(0, 256, (3, 9, 7, 1), np.uint8)
  made = inception.make("any", *splits(), weights=str(probe), resize=mode)
  seen = made(images).features.reshape(3, 299, 299, 3)
  assert made.protocol == {"resize": mode}
  assert -1 <= seen.min() < -0.9 and 0.9 < seen.max() < 1
  np.testing.assert_array_equal(seen[..., 0], seen[..., 2])  # Grey.
  if mode == "tf1":  # Corner on corner.
    corner = (images[:, 0, 0, 0].astype(float) - 128) / 128
    np.testing.assert_allclose(seen[:, 0, 0, 0], corner, atol=1e-6)
  else:  # Not quantised again.
    pil = Image.fromarray(images[0, :, :, 0].astype(np.float32))
    pil = np.clip(np.asarray(pil.resize((299, 299), 3)), 0, 255)
    np.testing.assert_allclose(seen[0, :, :, 0], (pil - 128) / 128, atol=1e-4)


@pytest.mark.parametrize(
  "arrays, hyper, text",
  [
    (splits(), {"resize": "tf2"}, "unknown resize mode 'tf2'.*'tf1'"),
    (splits((4, 2), "float32"), {}, r"not float32 \[2\]"),
    (splits((4, 8, 8, 4)), {}, r"not uint8 \[8, 8, 4\]"),
    (splits(), {"weights": "/no/file"}, "there is no /no/file"),
    (splits(), {}, "no weights are named"),
  ],
)
def test_what_cannot_work_is_refused_when_it_is_made(
  arrays, hyper, text, monkeypatch
):
  monkeypatch.delenv("GANJAX_INCEPTION", raising=False)
  with pytest.raises(errors.UserError, match=text) as error:
    inception.make("any", *arrays, **hyper)
  assert "\n" not in str(error.value)
  if "weights" in text or "file" in text:
    for help in ("pt_inception-2015-12-05-6726825d.pth", "ganjax.convert"):
      assert help in str(error.value)


def test_a_flipped_bit_a_cut_and_another_network_are_refused(probe):
  shapes = {"one": (1,)}
  good = probe.read_bytes()
  at = good.index(np.ones(1, np.float32).tobytes())
  flipped = bytearray(good)
  flipped[at + 1] ^= 1
  for damaged in (bytes(flipped), good[: len(good) // 2], b"", b"<html>"):
    probe.write_bytes(damaged)
    with pytest.raises(errors.UserError, match="damaged.*convert"):
      weights.read(probe, inception.KIND, shapes)
  probe.write_bytes(good)
  with pytest.raises(errors.UserError, match="'inception:2015' in format 1"):
    weights.read(probe, "inception:2016", shapes)
  with pytest.raises(errors.UserError, match="lacks three and 1 more"):
    weights.read(probe, inception.KIND, {"one": (1,), "two": (), "three": ()})
  with pytest.raises(errors.UserError, match="has the unknown one"):
    weights.read(probe, inception.KIND, {})
  with pytest.raises(errors.UserError, match=r"float32 \[1\], not.* \[2\]"):
    weights.read(probe, inception.KIND, {"one": (2,)})


def test_a_changed_parameter_in_a_sound_archive_is_refused(probe):
  with np.load(probe) as file:
    arrays = dict(file)
  np.savez(probe, **arrays | {"one": arrays["one"] + 1})
  with pytest.raises(errors.UserError, match="do not have their digest"):
    weights.read(probe, inception.KIND, {"one": (1,)})


class Touch:
  """Unpickled, it makes a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_a_pickle_in_the_archive_is_not_loaded(probe, tmp_path):
  marker = tmp_path / "marker"
  np.savez(probe, manifest=np.array([Touch(marker)], object))
  with pytest.raises(errors.UserError, match="damaged"):
    weights.read(probe, inception.KIND, {"one": (1,)})
  assert not marker.exists()
  with np.load(probe, allow_pickle=True) as file:
    assert file["manifest"].shape == (1,)
  assert marker.exists()  # It is a payload indeed.


def test_weights_that_cannot_be_written_are_a_user_error(probe):
  with pytest.raises(errors.UserError, match="cannot write"):
    weights.write(probe / "under a file.npz", "any", {}, {})


def test_the_pools_differ_from_the_usual_ones():
  # A block whose convolutions pass one channel on: the pool's own numbers.
  x = jnp.arange(1.0, 10).reshape(1, 3, 3, 1)
  block = inception.Block((), pool_features=1, max_pool=False)
  one = np.ones((1, 1, 1, 1), np.float32)
  norm = {name: np.ones(1, np.float32) for name in ("scale", "var")}
  norm |= {name: np.zeros(1, np.float32) for name in ("bias", "mean")}
  params = {"branch_pool": {"conv": {"kernel": one}, "bn": norm}}

  def corner(block):
    out = inception.Mixed(block).apply({"params": params}, x)
    return float(jax.device_get(out)[0, 0, 0, 0]) * np.sqrt(1.001)

  # The mean of 1, 2, 4, 5 without the padding, and their maximum.
  np.testing.assert_allclose(corner(block), 3, rtol=1e-6)
  np.testing.assert_allclose(corner(block._replace(max_pool=True)), 5, 1e-6)
  assert [b.max_pool for b in inception.BLOCKS.values()] == (
    [False] * 3 + [True] + [False] * 4 + [True, False, True]
  )


def torch_fidelity(arrays, images):
  """Returns features and logits by torch-fidelity, as NumPy arrays."""
  torch = pytest.importorskip("torch")
  spec = importlib.util.find_spec("torch_fidelity")
  if spec is None:
    pytest.skip("torch-fidelity is not installed")
  with pytest.MonkeyPatch.context() as patch:
    # Its __init__ wants torchvision; the network does not.
    package = types.ModuleType("torch_fidelity")
    package.__path__ = list(spec.submodule_search_locations or ())
    patch.setitem(sys.modules, "torch_fidelity", package)
    theirs: Any = importlib.import_module(
      "torch_fidelity.feature_extractor_inceptionv3"
    )
    state = {"fc.bias": torch.zeros(1008)}
    for name, array in arrays.items():
      if name.endswith("/kernel"):
        array = array.transpose(*range(array.ndim)[::-1])
        if array.ndim == 4:
          array = array.transpose(0, 1, 3, 2)
      array = torch.from_numpy(np.ascontiguousarray(array))
      state[names.in_state_dict(name)] = array
      if name.endswith("/var"):
        count = names.in_state_dict(name).replace("running_var", "num_")
        state[count + "batches_tracked"] = torch.tensor(0)
    patch.setattr(torch, "load", lambda *_, **__: state)
    network = theirs.FeatureExtractorInceptionV3(
      "inception", ["2048", "logits_unbiased"], "any"
    )
    network.INPUT_IMAGE_SIZE = images.shape[1]
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return [out.numpy() for out in network(x)]


if __name__ == "__main__":
  made = torch_fidelity(random_arrays(inception.shapes()), random_images(2))
  GOLDEN.parent.mkdir(exist_ok=True)
  np.savez_compressed(GOLDEN, features=made[0], logits=made[1])
