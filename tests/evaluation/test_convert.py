import hashlib
import io
import json
import os
import pathlib
import pickle
import struct
import sys
import tarfile
import types
import zipfile

import numpy as np
import pytest
from verbs import Verb

from ganjax import errors
from ganjax.evaluation import convert
from ganjax.evaluation.convert import graph_def, names, state_dict
from ganjax.evaluation.extractors import dinov2, inception, weights

command = Verb("convert")


GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
# Written by torch.save of torch 2.13.0, in both of its formats: the state_dict
# of Sequential(Conv2d(2, 3, (1, 2)), BatchNorm2d(3), Linear(3, 2)), tensor i
# filled with (i + 1) / 2 * arange, the counter with 7; then "table" = arange
# as 3 x 4, and "view" = table[1:, ::2].T.
FORMATS = ["zip", "stream"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_state_dict_of_torch_is_read(form):
  arrays = state_dict.read(GOLDEN / f"state_dict_{form}.pth")
  shapes = {
    "0.weight": (3, 2, 1, 2),
    "0.bias": (3,),
    "1.weight": (3,),
    "1.bias": (3,),
    "1.running_mean": (3,),
    "1.running_var": (3,),
    "1.num_batches_tracked": (),
    "2.weight": (2, 3),
    "2.bias": (2,),
  }
  table = np.arange(12, dtype=np.float32).reshape(3, 4)
  expected = {"table": table, "view": np.array([[4.0, 8], [6, 10]])}
  for i, (name, shape) in enumerate(shapes.items()):
    expected[name] = (np.arange(np.prod(shape)) * (i + 1) / 2).reshape(shape)
  expected["1.num_batches_tracked"] = np.array(7)
  assert arrays.keys() == expected.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(array, expected[name])
    counter = name == "1.num_batches_tracked"
    assert array.dtype == (np.int64 if counter else np.float32)


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_state_dict_is_a_user_error_and_nothing_else(form, tmp_path):
  good = (GOLDEN / f"state_dict_{form}.pth").read_bytes()
  path = tmp_path / "state_dict.pth"
  for size in range(0, len(good) - 1, 61):
    path.write_bytes(good[:size])
    with pytest.raises(errors.UserError, match="download it again") as error:
      state_dict.read(path)
    assert "\n" not in str(error.value)
  for at in range(0, len(good), 13):
    flipped = bytearray(good)
    flipped[at] ^= 0x55
    path.write_bytes(flipped)
    try:
      state_dict.read(path)
    except errors.UserError as error:
      assert "\n" not in str(error)


class Touch:
  """Unpickled as Python does it, it would make a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", FORMATS)
def test_a_payload_is_refused_by_name_and_does_not_run(form, tmp_path):
  marker, path = tmp_path / "marker", tmp_path / "evil.pth"
  payload = pickle.dumps({"weight": Touch(marker)}, protocol=2)
  if form == "zip":
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("evil/data.pkl", payload)
  else:
    path.write_bytes(payload)
  with pytest.raises(errors.UserError, match=r"asks for \w+\.system") as error:
    state_dict.read(path)
  assert "\n" not in str(error.value)
  assert not marker.exists()
  pickle.loads(payload)  # It is a payload indeed.
  assert marker.exists()


@pytest.mark.parametrize(
  "value, text",
  [
    ([1, 2], "holds a list"),
    ({}, "holds a dict, no state_dict"),
    ({"epoch": 3}, "'epoch' is a int, not a tensor"),
  ],
)
def test_a_pickle_of_something_else_is_refused(value, text, tmp_path):
  path = tmp_path / "other.pth"
  start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, value, []]
  path.write_bytes(b"".join(pickle.dumps(part, 2) for part in start))
  with pytest.raises(errors.UserError, match=text):
    state_dict.read(path)


@pytest.mark.parametrize(
  "offset, shape, strides",
  [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2,), (-1,)), (-1, (1,), (1,))],
)
def test_a_tensor_outside_its_storage_is_refused(
  offset, shape, strides, tmp_path
):
  path = tmp_path / "outside.pth"
  view = View(np.arange(4, dtype=np.float32), offset, shape, strides)
  path.write_bytes(torch_bytes({"x": view}))
  with pytest.raises(errors.UserError, match="outside its storage"):
    state_dict.read(path)


def test_a_storage_of_another_size_is_refused(tmp_path):
  data = torch_bytes({"x": np.arange(4, dtype=np.float32)})
  path = write(tmp_path / "x.pth", data)
  np.testing.assert_array_equal(state_dict.read(path)["x"], [0, 1, 2, 3])
  size = struct.pack("<q", 4)
  assert data.count(size) == 1
  write(path, data.replace(size, struct.pack("<q", 5)))
  with pytest.raises(errors.UserError, match="a storage of another size"):
    state_dict.read(path)


@pytest.mark.parametrize(
  "theirs, graph, ours",
  [
    ("Conv2d_1a_3x3.conv.weight", "conv/conv2d_params", 0),
    ("Conv2d_4a_3x3.bn.weight", "conv_4/batchnorm/gamma", "scale"),
    ("Mixed_5b.branch1x1.conv.weight", "mixed/conv/conv2d_params", 0),
    ("Mixed_5c.branch5x5_2.bn.bias", "mixed_1/tower/conv_1/b*/beta", "bias"),
    (
      "Mixed_5d.branch3x3dbl_3.bn.running_mean",
      "mixed_2/tower_1/conv_2/b*/moving_mean",
      "mean",
    ),
    ("Mixed_6a.branch3x3.conv.weight", "mixed_3/conv/conv2d_params", 0),
    ("Mixed_6a.branch3x3dbl_2.conv.weight", "mixed_3/tower/conv_1/*_params", 0),
    (
      "Mixed_6e.branch7x7dbl_5.bn.running_var",
      "mixed_7/tower_1/conv_4/b*/moving_variance",
      "var",
    ),
    ("Mixed_6b.branch_pool.conv.weight", "mixed_4/tower_2/conv/*_params", 0),
    ("Mixed_7a.branch3x3_2.conv.weight", "mixed_8/tower/conv_1/*_params", 0),
    (
      "Mixed_7a.branch7x7x3_4.conv.weight",
      "mixed_8/tower_1/conv_3/*_params",
      0,
    ),
    (
      "Mixed_7b.branch3x3_2a.conv.weight",
      "mixed_9/tower/mixed/conv/*_params",
      0,
    ),
    (
      "Mixed_7c.branch3x3dbl_3b.conv.weight",
      "mixed_10/tower_1/mixed/conv_1/*_params",
      0,
    ),
    ("fc.weight", "softmax/weights", 0),
  ],
)
def test_names_are_those_of_the_published_files(theirs, graph, ours):
  name = theirs.replace(".", "/").rpartition("/")[0] + f"/{ours or 'kernel'}"
  graph = graph.replace("b*", "batchnorm").replace("*", "conv2d")
  assert name in inception.shapes()
  assert names.in_state_dict(name) == theirs
  assert names.in_graph_def(name) == graph


def test_no_two_parameters_share_a_published_name():
  shapes = inception.shapes()
  for name_of in (names.in_state_dict, names.in_graph_def):
    assert len({name_of(name) for name in shapes}) == len(shapes)
  assert names.in_state_dict("cls_token") == "cls_token"
  assert names.in_state_dict("blocks.3/ls1.gamma") == "blocks.3.ls1.gamma"
  assert names.in_state_dict("blocks.3/mlp.fc1/kernel") == (
    "blocks.3.mlp.fc1.weight"
  )


def test_a_graph_def_is_read_in_all_its_spellings():
  four = np.arange(4, dtype=np.float32)
  floats = struct.pack("<2f", 1.5, 2.5)
  single = b"".join(bytes([5 << 3 | 5]) + floats[i : i + 4] for i in (0, 4))
  unknown = field(1000, b"new") + bytes([7 << 3 | 1]) + b"12345678"
  data = node("content", tensor((2, 2), field(4, four.tobytes())))
  data += node("packed", tensor((2, 2), field(5, floats) + field(5, floats)))
  data += node("single", tensor((2, 2), single + unknown))
  data += node("scalar", tensor((), field(5, floats[:4])))
  data += node("ints", tensor((1,), field(4, b"1234"), dtype=3))
  data += node("variable", tensor((2, 2), field(4, four.tobytes())), op="Relu")
  arrays = graph_def.constants(data, "x")
  assert sorted(arrays) == ["content", "packed", "scalar", "single"]
  np.testing.assert_array_equal(arrays["content"], four.reshape(2, 2))
  np.testing.assert_array_equal(arrays["packed"], [[1.5, 2.5], [1.5, 2.5]])
  np.testing.assert_array_equal(arrays["single"], [[1.5, 2.5], [2.5, 2.5]])
  assert arrays["scalar"] == np.float32(1.5) and not arrays["scalar"].shape


def test_a_graph_cut_in_its_last_list_is_not_filled_up():
  data = node("x", tensor((2, 2), field(5, struct.pack("<2f", 1.5, 2.5))))
  assert graph_def.constants(data, "x")["x"].tolist() == [[1.5, 2.5], [2.5] * 2]
  with pytest.raises(errors.UserError, match="damaged .truncated"):
    graph_def.constants(data[:-4], "x")


@pytest.fixture
def tiny(monkeypatch):
  """Shrinks every parameter of Inception; returns random ones."""
  rng = np.random.RandomState(0)
  sizes = {4: (1, 2, 3, 2), 2: (3, 2), 1: (2,)}
  shapes = {n: sizes[len(s)] for n, s in inception.shapes().items()}
  monkeypatch.setattr(inception, "shapes", lambda: shapes)
  return {n: rng.normal(size=s).astype("f4") for n, s in shapes.items()}


def as_torch(arrays):
  """Returns the state_dict of parameters, with what nobody needs."""
  state = {"fc.bias": np.zeros(2, np.float32)}
  for name, array in arrays.items():
    if name.endswith("/kernel"):
      array = np.moveaxis(array, (-1, -2), (0, 1))
    state[names.in_state_dict(name)] = array
    if name.endswith("/var"):
      theirs = names.in_state_dict(name)
      state[theirs.replace("running_var", "num_batches_tracked")] = np.array(3)
  return state


def as_graph(arrays):
  return b"".join(
    node(names.in_graph_def(name), tensor(x.shape, field(4, x.tobytes())))
    for name, x in arrays.items()
  )


def write(path, data):
  path.write_bytes(data)
  return path


def digest_of(path):
  return hashlib.sha256(path.read_bytes()).hexdigest()


def published(monkeypatch, path, kind="inception"):
  public = convert.Public(path.stat().st_size, digest_of(path))
  monkeypatch.setitem(convert.PUBLIC, kind, (public,))


def test_all_routes_give_the_same_parameters(tiny, monkeypatch, tmp_path):
  pth = write(tmp_path / "a.pth", torch_bytes(as_torch(tiny)))
  pb = write(tmp_path / graph_def.MEMBER, as_graph(tiny))
  tgz = tmp_path / "inception-2015-12-05.tgz"
  with tarfile.open(tgz, "w:gz") as archive:
    archive.add(pb, "cropped_panda.jpg")
    archive.add(pb, f"./{graph_def.MEMBER}")
  published(monkeypatch, pth)
  for source in (pth, pb, tgz):
    out = tmp_path / "new folder" / "inception.npz"
    made = convert.convert(source, out, "inception")
    assert made == {
      "kind": "inception:2015",
      "digest": weights.digest(tiny),
      "source": source.name,
      "source_sha256": digest_of(source),
      "verified": source is pth,
    }
    with np.load(out) as file:
      stored = dict(file)
    manifest = json.loads(str(stored.pop("manifest")))
    assert manifest == {"format": 1, **made}
    assert stored.keys() == tiny.keys()
    for name, array in stored.items():
      np.testing.assert_array_equal(array, tiny[name])
    read = weights.read(out, "inception:2015", inception.shapes())
    assert read.digest == weights.digest(tiny)
    assert os.listdir(out.parent) == ["inception.npz"]


def test_a_file_that_is_not_the_published_one_needs_a_digest(tiny, tmp_path):
  pth = write(tmp_path / "a.pth", torch_bytes(as_torch(tiny)))
  out = tmp_path / "inception.npz"
  with pytest.raises(errors.UserError, match="95,628,359.*--digest"):
    convert.convert(pth, out, "inception")
  with pytest.raises(errors.UserError, match="not 1234: download it again"):
    convert.convert(pth, out, "inception", "1234")
  assert not out.exists()
  right = digest_of(pth).upper()
  assert convert.convert(pth, out, "inception", right)["verified"]
  pb = write(tmp_path / "a.pb", as_graph(tiny))
  with pytest.raises(errors.UserError, match="not 1234"):
    convert.convert(pb, out, "inception", "1234")


def test_weights_of_another_network_are_refused(tiny, tmp_path):
  out = tmp_path / "inception.npz"

  def attempt(data, text):
    path = write(tmp_path / "source", data)
    with pytest.raises(errors.UserError, match=text) as error:
      convert.convert(path, out, "inception", digest_of(path))
    assert "\n" not in str(error.value) and not out.exists()

  state = as_torch(tiny)
  rest = {n: x for n, x in state.items() if not n.startswith("Mixed_7c.b")}
  attempt(torch_bytes(rest), r"lacks Mixed_7c\S+ and 44 more")
  attempt(torch_bytes(state | {"aux": state["fc.bias"]}), "the unknown aux")
  wrong = {"fc.weight": np.zeros((2, 4), np.float32)}
  attempt(torch_bytes(state | wrong), r"fc/kernel is float32 \[4, 2\], not")
  wrong = {"fc.weight": np.zeros((2, 3), np.int64)}
  attempt(torch_bytes(state | wrong), "fc/kernel is int64")
  graph = {n: x for n, x in tiny.items() if n != "fc/kernel"}
  attempt(as_graph(graph), "lacks softmax/weights:")
  graph = tiny | {"fc/kernel": np.zeros((2, 2), np.float32)}
  attempt(as_graph(graph), r"fc/kernel is float32 \[2, 2\], not")
  attempt(b"<!DOCTYPE html>", "no state_dict of PyTorch")


def test_a_damaged_graph_is_a_user_error_and_nothing_else(tiny, tmp_path):
  data = as_graph(tiny)
  out, path = tmp_path / "inception.npz", tmp_path / "graph.pb"
  for size in range(1, len(data), 4001):
    write(path, data[:size])
    with pytest.raises(errors.UserError, match="damaged|lacks") as error:
      convert.convert(path, out, "inception")
    assert "\n" not in str(error.value)
  for at in range(400):
    flipped = bytearray(data[:400])
    flipped[at] ^= 0x55
    try:
      graph_def.constants(bytes(flipped), "x")
    except errors.UserError as error:
      assert "\n" not in str(error)
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode="w:gz") as archive:
    archive.add(path, "other.txt")
  whole = packed.getvalue()
  for data, text in ((whole[:-400], "damaged"), (whole, "holds no classify")):
    with pytest.raises(errors.UserError, match=text):
      convert.convert(write(path, data), out, "inception")


def test_dinov2_is_known_by_its_width(monkeypatch, tmp_path):
  arrays = {
    "cls_token": np.ones((1, 1, 6), np.float32),
    "blocks.0/attn.qkv/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
  }
  shapes = {name: array.shape for name, array in arrays.items()}
  monkeypatch.setattr(dinov2, "SIZES", {"vitx14": dinov2.Size(6, 1, 1)})
  monkeypatch.setattr(dinov2, "shapes", lambda size: shapes)
  state = {
    "cls_token": arrays["cls_token"],
    "mask_token": np.zeros((1, 6), np.float32),
    "blocks.0.attn.qkv.weight": arrays["blocks.0/attn.qkv/kernel"].T,
  }
  path = write(tmp_path / "dinov2.pth", torch_bytes(state))
  published(monkeypatch, path, "dinov2")
  out = tmp_path / "dinov2.npz"
  made = convert.convert(path, out, "dinov2")
  assert made["kind"] == "dinov2:vitx14"
  read = weights.read(out, "dinov2:vitx14", shapes)
  assert read.digest == weights.digest(arrays) == made["digest"]
  del state["cls_token"]
  write(path, torch_bytes(state))
  with pytest.raises(errors.UserError, match="none of DINOv2's vitx14"):
    convert.convert(path, out, "dinov2", digest_of(path))
  write(path, as_graph({"fc/kernel": np.ones(1, np.float32)}))
  with pytest.raises(errors.UserError, match="GraphDef; there is none"):
    convert.convert(path, out, "dinov2")


def test_the_command(tiny, tmp_path, capsys):
  pb = write(tmp_path / "a.pb", as_graph(tiny))
  pth = write(tmp_path / "a.pth", torch_bytes(as_torch(tiny)))
  out = tmp_path / "inception.npz"
  assert command.main([str(pb), "--out", str(out)]) == 0
  printed = capsys.readouterr().out
  assert weights.digest(tiny) in printed and "not checked" in printed
  arguments = [str(pth), "--out", str(out), "--digest", digest_of(pth)]
  assert command.main(arguments) == 0
  assert "not checked" not in capsys.readouterr().out
  for arguments, text in (
    (["/no/file", "--out", "x"], "error: cannot read /no/file"),
    ([str(pb), "--out", f"{out}/x.npz"], "error: cannot write"),
    ([str(pb), "--out", "x", "--kind", "vgg"], "unknown kind of weights"),
  ):
    assert command.main(arguments) == 2
    printed = capsys.readouterr().err
    assert text in printed and printed.count("\n") == 1


# What follows writes the two formats, as far as the tests need them.


class View:
  """A tensor as torch pickles it; offset and strides count elements."""

  def __init__(self, array, offset, shape, strides):
    self.array = array
    self.state = offset, shape, strides


class Storage:
  def __init__(self, array):
    self.array = array


def torch_bytes(state):
  """Returns the older format of torch.save for a dict of arrays or views."""
  names_of = {np.dtype("f4"): "FloatStorage", np.dtype("i8"): "LongStorage"}
  torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

  def _rebuild_tensor_v2(*args):
    raise AssertionError(args)

  types_of = {}
  for dtype, name in names_of.items():
    types_of[dtype] = type(name, (), {"__module__": "torch"})
    vars(torch)[name] = types_of[dtype]
  _rebuild_tensor_v2.__module__ = "torch._utils"
  _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
  vars(utils)["_rebuild_tensor_v2"] = _rebuild_tensor_v2
  storages = []

  class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
      if not isinstance(obj, Storage):
        return None
      storages.append(obj.array)
      key, kind = str(len(storages) - 1), types_of[obj.array.dtype]
      return "storage", kind, key, "cpu", obj.array.size, None

    def reducer_override(self, obj):
      if not isinstance(obj, View):
        return NotImplemented
      return _rebuild_tensor_v2, (Storage(obj.array), *obj.state, False, {})

  def view(x):
    if isinstance(x, View):
      return x
    x = np.ascontiguousarray(x)
    strides = tuple(step // x.itemsize for step in x.strides)
    return View(x.reshape(-1), 0, np.shape(x), strides)

  file = io.BytesIO()
  for start in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
    file.write(pickle.dumps(start, 2))
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, "torch", torch)
    patch.setitem(sys.modules, "torch._utils", utils)
    Pickler(file, 2).dump({name: view(x) for name, x in state.items()})
  file.write(pickle.dumps([str(i) for i in range(len(storages))], 2))
  for array in storages:
    file.write(struct.pack("<q", array.size) + array.tobytes())
  return file.getvalue()


def varint(value):
  out = b""
  while value > 127:
    out += bytes([value & 127 | 128])
    value >>= 7
  return out + bytes([value])


def field(number, value):
  """Returns a field of a protocol buffer: an integer, or bytes."""
  if isinstance(value, int):
    return varint(number << 3) + varint(value)
  return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(shape, values, dtype=1):
  dims = b"".join(field(2, field(1, size)) for size in shape)
  return field(1, dtype) + field(2, dims) + values


def node(name, tensor, op="Const"):
  kind = field(5, field(1, b"dtype") + field(2, field(6, 1)))
  value = field(5, field(1, b"value") + field(2, field(8, tensor)))
  return field(
    1, field(1, name.encode()) + field(2, op.encode()) + kind + value
  )
