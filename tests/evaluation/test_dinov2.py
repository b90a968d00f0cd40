"""The network against PyTorch's own transformer, which knows no LayerScale.

`python tests/evaluation/test_dinov2.py` prints the golden features anew where
torch is installed; torch 2.13.0 made those that are here.
"""

import jax
import numpy as np
import pytest

from ganjax import data, errors
from ganjax.evaluation import extractors
from ganjax.evaluation.extractors import dinov2, weights

TINY = dinov2.Size(width=8, depth=2, num_heads=2)
PIXELS = 70  # 5 x 5 patches


def random_arrays(shapes):
  """Returns parameters that keep activations near 1, the same for ever."""
  rng = np.random.RandomState(0)
  arrays = {}
  for name, shape in sorted(shapes.items()):
    x = rng.uniform(-1, 1, size=shape)
    if name.endswith("/kernel"):
      x = x * np.sqrt(3 / np.prod(shape[:-1]))
    if name.endswith(("scale", "gamma")):
      x = 1 + x / 2
    arrays[name] = x.astype(np.float32)
  return arrays


def random_images(num):
  rng = np.random.RandomState(1)
  return rng.randint(0, 256, (num, PIXELS, PIXELS, 3), np.uint8)


GOLDEN = """
0.159782 -0.495092 -0.918582 2.056323 1.619593 -0.406766 -1.621447 0.329725
0.309552 -0.361402 -1.360135 2.110528 1.600534 -0.481804 -1.454307 0.286144
"""


@pytest.fixture
def tiny(monkeypatch, tmp_path):
  """Makes "tiny" a size that there are weights of; returns their path."""
  monkeypatch.setattr(dinov2, "SIZES", {"tiny": TINY})
  monkeypatch.setattr(dinov2, "PIXELS", PIXELS)
  monkeypatch.setattr(dinov2, "CHUNK", 2)
  dinov2.shapes.cache_clear()
  path = tmp_path / "dinov2.npz"
  weights.write(path, "dinov2:tiny", random_arrays(dinov2.shapes("tiny")), {})
  return path


def splits(shape=(4, 8, 8, 3), dtype="uint8"):
  return [data.Arrays(np.zeros(shape, dtype))] * 2


def test_features_are_those_of_torch(tiny, monkeypatch):
  monkeypatch.setenv("GANJAX_DINOV2", str(tiny))
  made = extractors.find("dinov2")("any", *splits(), model="tiny")
  images = random_images(3)
  features, logits = made(images)
  assert logits is None and features.dtype == np.float32
  golden = np.array(GOLDEN.split(), float).reshape(2, TINY.width)
  np.testing.assert_allclose(features[:2], golden, rtol=1e-4, atol=2e-5)
  np.testing.assert_allclose(made(images[2:]).features, features[2:], 1e-4)
  arrays = random_arrays(dinov2.shapes("tiny"))
  assert made.name == "dinov2:tiny"
  assert made.digest == weights.digest(arrays)[:16]
  assert made.protocol == {"resize": "pil"}
  assert np.isnan(made.accuracy)


def test_torch_says_the_same_where_it_is_installed(tiny):
  made = dinov2.make("any", *splits(), weights=str(tiny), model="tiny")
  images = random_images(4)[2:]
  expected = by_torch(random_arrays(dinov2.shapes("tiny")), images)
  np.testing.assert_allclose(made(images).features, expected, 1e-4, 2e-5)


@pytest.mark.parametrize(
  "size, count",
  [("vits14", 22_056_576), ("vitb14", 86_580_480), ("vitl14", 304_368_640)],
)
def test_the_parameters_are_as_many_as_published(size, count):
  shapes = dinov2.shapes(size)
  # One more is published, for masked patches: no feature depends on it.
  mask_token = dinov2.SIZES[size].width
  assert sum(np.prod(s) for s in shapes.values()) + mask_token == count
  assert shapes["pos_embed"] == (1, 1370, mask_token)


def test_the_class_token_is_all_that_the_features_show():
  net = dinov2.Dinov2(dinov2.SIZES["vitl14"])
  images = jax.ShapeDtypeStruct((3, 224, 224, 3), np.float32)
  out = jax.eval_shape(net.init_with_output, jax.random.key(0), images)[0]
  assert out.shape == (3, 1024)


def test_positions_are_resized_as_by_torch():
  # interpolate(row, scale_factor=16.1 / 37, mode="bicubic") of torch 2.13.0.
  row = np.cos(np.arange(37) ** 1.5)
  golden = ROW.split()
  actual = dinov2.interpolation(37, 16) @ row
  np.testing.assert_allclose(actual, np.array(golden, float), atol=1e-5)
  np.testing.assert_allclose(dinov2.interpolation(37, 16).sum(axis=1), 1, 1e-6)
  np.testing.assert_array_equal(dinov2.interpolation(37, 37), np.eye(37))


ROW = """
0.859221 0.424909 0.009389 0.059118 0.867583 -0.862875 -0.268824 0.531996
0.407973 -0.606902 -0.598784 0.871152 -0.611910 -0.381488 0.613244 0.924696
"""


@pytest.mark.parametrize(
  "arrays, hyper, text",
  [
    (splits(), {"model": "vitg14"}, "unknown model of DINOv2 'vitg14'.*vitl14"),
    (splits(), {"resize": "bicubic"}, "unknown resize mode 'bicubic'"),
    (splits((4, 2), "float32"), {}, "dinov2 sees uint8 images"),
    (splits(), {}, "dinov2_vitl14_pretrain.pth.*--kind dinov2.*GANJAX_DINOV2"),
  ],
)
def test_what_cannot_work_is_refused_when_it_is_made(
  arrays, hyper, text, monkeypatch
):
  monkeypatch.delenv("GANJAX_DINOV2", raising=False)
  with pytest.raises(errors.UserError, match=text) as error:
    dinov2.make("any", *arrays, **hyper)
  assert "\n" not in str(error.value)


def test_the_weights_of_another_size_are_refused(tiny, monkeypatch):
  sizes = {"other": TINY._replace(depth=1)}
  monkeypatch.setattr(dinov2, "SIZES", sizes)
  with pytest.raises(errors.UserError, match="'dinov2:tiny'.*'dinov2:other'"):
    dinov2.make("any", *splits(), weights=str(tiny), model="other")


def by_torch(arrays, images):
  """Returns the features by torch's own encoder layers, as a NumPy array."""
  torch = pytest.importorskip("torch")
  functional = torch.nn.functional
  p = {name: torch.from_numpy(array) for name, array in arrays.items()}
  mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
  x = ((images / 255 - mean) / std).astype(np.float32)
  x = torch.from_numpy(x).permute(0, 3, 1, 2)
  kernel = p["patch_embed.proj/kernel"].permute(3, 2, 0, 1)
  x = functional.conv2d(x, kernel, p["patch_embed.proj/bias"], stride=14)
  side, width = x.shape[-1], x.shape[1]
  position = p["pos_embed"][:, 1:].reshape(1, 37, 37, width)
  x = x + functional.interpolate(
    position.permute(0, 3, 1, 2), scale_factor=(side + 0.1) / 37, mode="bicubic"
  )
  cls = (p["cls_token"] + p["pos_embed"][:, :1]).expand(len(x), 1, width)
  x = torch.cat([cls, x.flatten(2).permute(0, 2, 1)], 1)
  for i in range(TINY.depth):
    block = {
      name.split("/", 1)[1]: value
      for name, value in p.items()
      if name.startswith(f"blocks.{i}/")
    }
    layer = torch.nn.TransformerEncoderLayer(
      width,
      TINY.num_heads,
      4 * width,
      dropout=0.0,
      activation="gelu",
      layer_norm_eps=1e-6,
      batch_first=True,
      norm_first=True,
    )
    state = {
      "self_attn.in_proj_weight": block["attn.qkv/kernel"].T,
      "self_attn.in_proj_bias": block["attn.qkv/bias"],
      "linear1.weight": block["mlp.fc1/kernel"].T,
      "linear1.bias": block["mlp.fc1/bias"],
    }
    # LayerScale multiplies what these two give.
    for theirs, ours, scale in (
      ("self_attn.out_proj", "attn.proj", block["ls1.gamma"]),
      ("linear2", "mlp.fc2", block["ls2.gamma"]),
    ):
      state[f"{theirs}.weight"] = (block[f"{ours}/kernel"] * scale).T
      state[f"{theirs}.bias"] = block[f"{ours}/bias"] * scale
    for norm in ("norm1", "norm2"):
      state[f"{norm}.weight"] = block[f"{norm}/scale"]
      state[f"{norm}.bias"] = block[f"{norm}/bias"]
    layer.load_state_dict(state)
    x = layer.eval()(x)
  scale, bias = p["norm/scale"], p["norm/bias"]
  x = functional.layer_norm(x[:, 0], (width,), scale, bias, 1e-6)
  return x.detach().numpy()


if __name__ == "__main__":
  shapes = weights.shapes_of(dinov2.Dinov2(TINY), 14)
  print(by_torch(random_arrays(shapes), random_images(2)))
