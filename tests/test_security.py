"""Files of unknown origin: nothing of theirs runs, escapes or floods memory."""

import ast
import collections
import functools
import io
import json
import operator
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ganjax import data, errors
from ganjax.data import cache, folder, npz
from ganjax.evaluation.convert import graph_def, state_dict
from ganjax.runs import run as runs
from ganjax.runs import scoring as sources

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "ganjax").rglob("*.py"))
LIKE = np.zeros((1, 8, 8, 3), np.uint8)

FORBIDDEN_MODULES = (
  "pickle pickletools marshal shelve dill cloudpickle joblib yaml dbm code "
  "torch runpy"
).split()
FORBIDDEN_CALLS = (
  "eval exec compile __import__ os.system os.popen pickle.load pickle.loads "
  "exec_module"
).split()
# Where one of them may stand all the same.
EXCEPTIONS = {
  "registry.py": {"exec_module"},  # A config file is code; README says so.
  # Restricted; see below.
  "evaluation/convert/state_dict.py": {"pickle", "pickletools"},
  "tools/sweep/tables.py": {"runpy"},  # So is a table.
  "data/streaming.py": {"pickle"},  # What this very process has pickled.
}


def forbidden(path):
  """Yields what a file has that could run something that it reads."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (a.name.split(".")[0] for a in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield (node.module or "").split(".")[0]
    elif isinstance(node, ast.Call):
      name = ast.unparse(node.func)
      own = node.args and ast.unparse(node.args[0]).startswith("pickle.dumps(")
      yield from () if own else (name, name.rpartition("loader.")[2])
      for keyword in node.keywords:
        yield f"{keyword.arg}={ast.unparse(keyword.value)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path):
  known = {*FORBIDDEN_MODULES, *FORBIDDEN_CALLS, "shell=True"}
  known.add("allow_pickle=True")  # NumPy 2 has False where it is not said.
  allowed = EXCEPTIONS.get(path.relative_to(ROOT / "ganjax").as_posix(), set())
  assert not known & set(forbidden(path)) - allowed


def test_readme_says_that_configs_are_code():
  assert "Configs are Python files" in (ROOT / "README.md").read_text()


class Global:
  """Pickled as the global `name`, called with `args`."""

  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


def frozen(value, protocol=2):
  return io.BytesIO(pickle.dumps(value, protocol))


def refused(path, read, match):
  """Asserts one line of a `UserError`, and that hardly any memory is taken."""
  tracemalloc.start()
  try:
    with pytest.raises(errors.UserError, match=match) as error:
      read(path)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert len(str(error.value).splitlines()) == 1
  assert peak < 50e6


def stored_zip(path, compression=zipfile.ZIP_STORED, **members):
  """Writes members, `data__pkl` for `a/data.pkl`, as torch.save would."""
  with zipfile.ZipFile(path, "w", compression) as archive:
    for name, content in members.items():
      archive.writestr("a/" + name.replace("__", "."), content)
  return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
  "payload",
  [
    Global(os.system, "touch MARKER"),
    Global(eval, "open('MARKER', 'w')"),
    Global(getattr, 1, "real"),
    Global(functools.partial, 1),
    Global(operator.attrgetter, "x"),
    Global(subprocess.Popen, ["touch", "MARKER"]),
    collections.OrderedDict.fromkeys,
  ],
  ids=lambda p: str(getattr(p, "call", p))[:40],
)
def test_a_pickle_can_name_no_function(
  payload, protocol, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  content = frozen({"x": payload}, protocol).read()
  path = stored_zip(tmp_path / "x.pth", data__pkl=content)
  refused(path, state_dict.read, "asks for")
  assert os.listdir(tmp_path) == ["x.pth"]


def test_a_pickle_cannot_change_what_it_names():
  """BUILD sets attributes of a function: the next file must not see them."""
  name = b"ctorch._utils\n_rebuild_tensor_v2\n"
  defaults = b"(N}X\x0c\x00\x00\x00__defaults__(NNNNtstb."
  load = lambda text: state_dict._Unpickler(io.BytesIO(text)).load()
  changed = load(b"\x80\x02" + name + defaults)
  assert changed.__defaults__ == (None,) * 4
  assert load(b"\x80\x02" + name + b".").__defaults__ is None


def view_of(storage_size, offset, shape, strides):
  storage = state_dict.Storage("0", "<f4", storage_size)
  tensor = state_dict.Tensor(storage, offset, shape, strides)
  flat = {"0": np.zeros(storage_size, np.float32)}
  return lambda: state_dict._view(tensor, flat)


def test_a_tensor_cannot_repeat_or_leave_its_storage():
  assert view_of(20, 2, (2, 3), (9, 1))().shape == (2, 3)
  with pytest.raises(ValueError, match="larger than its storage"):
    view_of(20, 0, (2**13, 2**13), (0, 0))()
  # 16 * 2^60 is 0 in 64 bits.
  with pytest.raises(ValueError, match="outside its storage"):
    view_of(20, 0, (17,), (2**60,))()


def test_a_state_dict_cannot_flood_the_memory(tmp_path):
  far = b"\x80\x02Nr" + struct.pack("<I", 2**24) + b"."
  path = stored_zip(tmp_path / "far.pth", data__pkl=far)
  refused(path, state_dict.read, "memo")
  bomb = stored_zip(
    tmp_path / "bomb.pth",
    zipfile.ZIP_DEFLATED,
    data__pkl=pickle.dumps({}, 2),
    zeros=bytes(10**6),
  )
  refused(bomb, state_dict.read, "compressed")


def field(number, value):
  """Returns a field of a protocol buffer: an integer, or bytes."""
  if isinstance(value, int):
    return varint(number << 3) + varint(value)
  return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
  parts = []
  while value > 127:
    parts.append(value & 127 | 128)
    value >>= 7
  return bytes([*parts, value])


def graph(tensor, key=b"value"):
  start = field(1, key) if key else b""
  attribute = field(5, start + field(2, field(8, tensor)))
  return field(1, field(1, b"x") + field(2, b"Const") + attribute)


def test_a_graph_cannot_flood_the_memory(tmp_path, monkeypatch):
  def read(content):
    graph_def.constants(content, "x")

  def shaped(size, values):
    return field(1, 1) + field(2, field(2, field(1, size))) + values

  one = field(5, struct.pack("<f", 1.5))
  assert len(graph_def.constants(graph(shaped(9, one)), "x")["x"]) == 9
  refused(graph(shaped(2**32, one)), read, "damaged")
  refused(graph(shaped(1, field(5, 10**9))), read, "damaged")
  refused(graph(shaped(9, one), key=b""), read, "damaged")
  path = tmp_path / graph_def.MEMBER
  path.write_bytes(bytes(2000))
  with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
    archive.add(path, path.name)
  assert len(graph_def.load(tmp_path / "x.tgz")) == 2000
  monkeypatch.setattr(graph_def, "_LARGEST", 2000)
  refused(tmp_path / "x.tgz", graph_def.load, "holds no")
  many = graph(shaped(501, one))
  refused(many, read, "too large")


def npy(shape, dtype="|u1", content=b""):
  file = io.BytesIO()
  header = {"descr": dtype, "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + content


def plain_zip(path, compression=zipfile.ZIP_STORED, **members):
  with zipfile.ZipFile(path, "w", compression) as archive:
    for name, content in members.items():
      archive.writestr(f"{name}.npy", content)
  return path


def of_path(path):
  return sources.of_path(path, LIKE)


def test_arrays_that_declare_more_than_they_hold_take_no_memory(tmp_path):
  huge = npy((10**6, 10**3, 10**3, 1))
  (tmp_path / "x.npy").write_bytes(huge)
  refused(tmp_path / "x.npy", of_path, "no readable")
  path = plain_zip(tmp_path / "x.npz", images=huge)
  refused(path, of_path, "bytes are no uint8")
  with pytest.warns(UserWarning, match="damaged"):
    assert cache.read_arrays(path) is None


def test_an_archive_larger_than_the_memory_is_not_unpacked(
  tmp_path, monkeypatch
):
  shape = (30, 1000, 1000, 1)
  content = npy(shape, content=bytes(30 * 10**6))
  path = plain_zip(tmp_path / "x.npz", zipfile.ZIP_DEFLATED, images=content)
  assert path.stat().st_size < 10**5
  assert npz.read(path)["images"].shape == shape
  monkeypatch.setattr(os, "sysconf", lambda name: 4096)
  refused(path, of_path, "GB of arrays, and 0.0 of memory")


def test_arrays_of_objects_and_torn_archives_are_refused(tmp_path):
  trap = np.array([Global(os.system, f"touch {tmp_path}/marker")], object)
  for name, save in (("x.npy", np.save), ("x.npz", np.savez)):
    with open(tmp_path / name, "wb") as file:
      save(file, trap, allow_pickle=True)
    refused(tmp_path / name, of_path, "no readable")
  (tmp_path / "x.npy").write_bytes(pickle.dumps(trap))
  refused(tmp_path / "x.npy", of_path, "no readable")
  np.savez(tmp_path / "good.npz", images=LIKE)
  good = (tmp_path / "good.npz").read_bytes()
  for size in (0, 10, len(good) // 2, len(good) - 1):
    (tmp_path / "x.npz").write_bytes(good[:size])
    refused(tmp_path / "x.npz", of_path, "no readable")
  with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
    archive.writestr("images", "a text")
  refused(tmp_path / "x.npz", of_path, "no readable")
  assert not (tmp_path / "marker").exists()


@pytest.fixture
def place(tmp_path, monkeypatch):
  monkeypatch.setenv("GANJAX_CACHE", str(tmp_path / "cache"))
  (tmp_path / "pictures").mkdir()
  return tmp_path / "pictures"


def load(place):
  return folder.load("all", str(place), 8)


def encoded(mode="RGB", size=(8, 8), form="PNG", **options):
  file = io.BytesIO()
  Image.new(mode, size, 200).save(file, form, **options)
  return file.getvalue()


def png_that_declares(width, height):
  """Returns a PNG with a right header and the first pixels alone."""

  def chunk(kind, content):
    checked = kind + content
    ends = (
      struct.pack(">I", len(content)),
      struct.pack(">I", zlib.crc32(checked)),
    )
    return ends[0] + checked + ends[1]

  header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
  pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels


@pytest.mark.parametrize(
  "content",
  [
    png_that_declares(0, 8),
    encoded()[:-30],
    encoded(form="GIF")[:30],
    b"",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
    b"8BPS\0\1" + bytes(40),
    encoded(form="TIFF"),
    encoded(form="ICO"),
    encoded(form="PPM"),
  ],
  ids=range(10),
)
def test_what_is_no_image_of_a_known_format_is_refused(place, content):
  (place / "a.png").write_bytes(content)
  refused(place, load, "1 of 1 images cannot be read, the first: .*a.png")


@pytest.mark.parametrize("size", [(50_000, 50_000), (9_000, 9_950)])
def test_decompression_bombs_are_refused(place, size):
  (place / "a.png").write_bytes(png_that_declares(*size))
  refused(place, load, "a.png .Image size .* exceeds limit")


def test_unusual_images_are_read(place):
  orientation = Image.Exif()
  orientation[0x0112] = 6  # A quarter turn.
  wide = Image.new("RGB", (16, 8), "black")
  wide.paste("white", (0, 0, 8, 8))
  file = io.BytesIO()
  wide.save(file, "JPEG", exif=orientation, quality=95)
  palette = Image.new("P", (8, 8), 0)
  palette.putpalette([10, 20, 30] * 256)
  clear = io.BytesIO()
  palette.save(clear, "PNG", transparency=0)
  for name, content in (
    ("1_one_pixel.png", encoded("L", (1, 1))),
    ("2_wrong_suffix.png", encoded("L", (8, 8), "JPEG")),
    ("3_clear.png", clear.getvalue()),
    ("4_turned.jpg", file.getvalue()),
  ):
    (place / name).write_bytes(content)
  one, wrong, clear, turned = load(place).images.astype(int)
  assert (one == 200).all() and abs(wrong - 200).max() < 3
  assert (clear == 255).all()
  # The central square of the tall image: white above, black below.
  assert turned[0].min() > 200 and turned[-1].max() < 60


def test_odd_names_stay_in_the_folder_and_in_one_line(place):
  outside = place.parent / "outside.png"
  outside.write_bytes(encoded())
  odd = ["..x", "a\\..\\b", "new\nline", os.fsdecode(b"\xff\xfe"), " ", "*"]
  for name in odd:
    (place / name).mkdir()
    (place / name / f"{name}.png").write_bytes(encoded("L"))
  (place / "*" / "link.png").symlink_to(outside)
  arrays = load(place)
  assert arrays.num_classes == 5  # Names with a dot before them are hidden.
  assert sorted(arrays.labels.tolist()) == [0, 1, 2, 3, 4]
  written = {
    p.relative_to(place.parent).parts[0] for p in place.parent.rglob("*")
  }
  assert written == {"pictures", "cache", "outside.png"}
  for path in place.glob("*/*.png"):
    path.write_bytes(b"")
  refused(place, load, r"the first: '?/.*cannot identify")
  refused(place / "new\nline" / "nowhere", load, "is not a folder")


def test_a_cache_reads_no_file_beside_it(place):
  def make(allocate):
    images = allocate((2, 8, 8, 1))
    images[:] = 7
    return data.Arrays(images)

  cache.cached({"name": "a"}, make)
  (info,) = cache.root().glob("*/info.json")
  secret = place / "images.npy"
  np.save(secret, np.zeros((2, 8, 8, 1), np.uint8))
  changed = json.loads(info.read_text())
  changed["bytes"] = {str(secret): secret.stat().st_size}
  info.write_text(json.dumps(changed))
  assert (cache.cached({"name": "a"}, make).images == 7).all()


def test_a_size_that_overflows_is_too_large_for_the_disk(place):
  """2^32 * 2^32 is 0 in 64 bits."""

  def read(place):
    cache.cached({"name": "a"}, lambda allocate: allocate((2**32, 2**32)))

  refused(place, read, "the cache needs .* GB")


def test_a_saved_config_is_data(tmp_path, monkeypatch):
  """Names in it find only what ganjax has, wherever else such files lie."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "trap.py").write_text("open('marker', 'w')\nmake = load = 1\n")
  plain = dict(num_steps=1, batch_size=1, dataset=dict(name="digits"))
  calls = "trap", "os", "..trap", "trap.py", "__import__('os').system('id')"
  for name in calls:
    config = plain | {"system": dict(name=name)}
    saved = dict(config=config, dataset=dict(image_shape=[2], num_classes=0))
    (tmp_path / "config.json").write_text(json.dumps(saved))
    refused(tmp_path, runs.read_config, "config.system.name: unknown system")
  assert not (tmp_path / "marker").exists()


# Run in a process of its own: an audit hook stays for ever.
OBSERVED = """
import os, sys
log = open(os.environ["AUDIT"], "a", buffering=1)
def hook(event, args):
  if event == "open" and isinstance(args[0], (str, bytes)):
    path, mode, flags = args
    if set(mode or "") & set("wax+") or not mode and flags & 3:
      log.write(f"write {os.path.abspath(os.fsdecode(path))}\\n")
  elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink"):
    path = os.fsdecode(args[event == "os.rename"])
    log.write(f"write {os.path.abspath(path)}\\n")
  elif event in ("socket.connect", "socket.getaddrinfo", "os.system"):
    log.write(f"{event} {args}\\n")
sys.addaudithook(hook)
from ganjax import main
sys.exit(main.main(sys.argv))
"""


def test_a_training_writes_to_its_workdir_and_the_cache_alone(tmp_path):
  for name in ("home", "cwd", "tmp"):
    (tmp_path / name).mkdir()
  kept = {
    k: v
    for k, v in os.environ.items()
    if k == "PATH" or (k.startswith("JAX") and "_CACHE_" not in k)
  }
  environment = kept | {
    "HOME": str(tmp_path / "home"),
    "TMPDIR": str(tmp_path / "tmp"),
    "AUDIT": str(tmp_path / "audit"),
    "GANJAX_CACHE": str(tmp_path / "cache"),
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
  }
  subprocess.run(
    [
      sys.executable,
      "-c",
      OBSERVED,
      "--config=toy_ring:smoke",
      "--workdir=../run",
    ],
    cwd=tmp_path / "cwd",
    env=environment,
    check=True,
    capture_output=True,
  )
  # Matplotlib keeps its list of fonts.
  mine = [tmp_path / name for name in ("run", "cache", "tmp")]
  fonts = [tmp_path / "home" / name for name in (".cache", ".config")]
  lines = (tmp_path / "audit").read_text().splitlines()
  assert any(line.endswith("metrics.jsonl") for line in lines)
  for line in lines:
    what, _, path = line.partition(" ")
    assert what == "write", line
    path = pathlib.Path(path)
    inside = any(path.is_relative_to(p) for p in mine)
    inside |= path in fonts or any(
      path.is_relative_to(p / "matplotlib") for p in fonts
    )
    assert inside or path == pathlib.Path("/dev/null"), line
  # Not all that writes is Python: what is there is looked at, too.
  assert not os.listdir(tmp_path / "cwd")
  assert set(os.listdir(tmp_path / "home")) <= {".cache", ".config"}
  for place in fonts:
    assert not place.exists() or os.listdir(place) == ["matplotlib"]
