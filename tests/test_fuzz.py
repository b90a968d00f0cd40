"""Random mistakes: whatever a file or a flag holds, the answer is one line."""

import contextlib
import copy
import functools
import io
import json
import pathlib
import tempfile
import warnings

import ml_collections
import numpy as np
import pytest
from hypothesis import HealthCheck, configuration, given, settings
from hypothesis import strategies as st
from PIL import Image

from ganjax import data, errors, main
from ganjax.data import cache, folder
from ganjax.evaluation import metrics
from ganjax.evaluation.convert import graph_def, state_dict
from ganjax.runs import configs, history
from ganjax.runs import run as runs
from ganjax.runs import scoring as sources
from ganjax.tools import evaluate
from ganjax.training import train

# Else hypothesis keeps notes of its own in the checkout.
configuration.set_hypothesis_home_dir(tempfile.gettempdir() + "/hypothesis")

GOLDEN = pathlib.Path(__file__).parent / "golden"

# Experiment -> shape of an image and number of classes.
EXPERIMENTS = {
  "digits_dcgan": ((16, 16, 1), 10),
  "cifar_r3gan": ((32, 32, 3), 10),
  "mnist_vae": ((28, 28, 1), 10),
  "toy_ring": ((2,), 8),
  "digits_bigan": ((8, 8, 1), 10),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return tmp_path_factory.mktemp("fuzz")


def fuzz(examples):
  """Always the same examples; ten seconds for one of them are a fault."""
  return settings(
    max_examples=examples,
    derandomize=True,
    database=None,
    deadline=10_000,
    suppress_health_check=list(HealthCheck),
  )


def one_line(error):
  text = str(error)
  assert len(text.splitlines()) == 1, text
  return text


def accepted(read, *args):
  """Returns what `read` returns, or None for a `UserError` of one line."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      return read(*args)
  except errors.UserError as error:
    one_line(error)
    return None


def damaged(good):
  """Returns bytes `good` with one to three of them changed, cut or added."""
  edit = st.tuples(
    st.sampled_from(["change", "cut", "insert"]),
    st.integers(0, len(good)),
    st.binary(min_size=1, max_size=6),
  )

  def apply(edits):
    result = good
    for kind, at, new in edits:
      rest = {
        "change": new + result[at + len(new) :],
        "cut": b"",
        "insert": new + result[at:],
      }[kind]
      result = result[:at] + rest
    return result

  return st.lists(edit, min_size=1, max_size=3).map(apply)


NAMES = "name value a gan vae adam cosine constant_schedule init_value".split()
TEXTS = st.sampled_from([*NAMES, "", "../x", "a\nb", "\0"]) | st.text(
  max_size=6
)
NUMBERS = (
  st.integers(-3, 3)
  | st.integers(-(10**400), 10**400)
  | st.sampled_from([2**31 - 1, 2**31, 2**63, 1e300, 1e-300])
  | st.floats()
)
VALUES = st.recursive(
  st.none() | st.booleans() | NUMBERS | TEXTS,
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
  ),
  max_leaves=4,
)


@functools.cache
def resolved(name):
  return configs.resolve(configs.load(f"{name}:smoke")).to_dict()


def paths(tree, start=()):
  for key, value in tree.items():
    yield (*start, key)
    if isinstance(value, dict):
      yield from paths(value, (*start, key))


PLACES = st.sampled_from(list(EXPERIMENTS)).flatmap(
  lambda name: st.tuples(
    st.just(name), st.sampled_from(list(paths(resolved(name))))
  )
)


@fuzz(500)
@given(PLACES, VALUES)
def test_a_config_is_built_or_its_wrong_key_is_named(where, value):
  name, path = where
  tree = copy.deepcopy(resolved(name))
  node = functools.reduce(dict.__getitem__, path[:-1], tree)
  node[path[-1]] = value
  try:
    config = configs.resolve(ml_collections.ConfigDict(tree))
    configs.build(config, *EXPERIMENTS[name])
  except errors.UserError as error:
    assert path[-1] in one_line(error)


FOUND = [
  ("toy_ring", "config.loss.name", ["a"], "must be a text"),
  ("toy_ring", "config.generator.hidden", [None], "not all are whole numbers"),
  ("toy_ring", "config.generator.front", [[1]], "not all are whole numbers"),
  ("toy_ring", "config.leave_out", [[1]], "not all are whole numbers"),
  ("cifar_r3gan", "config.augment.policy", [[1]], "not all are texts"),
  ("cifar_r3gan", "config.penalties.r1.gamma", 10**400, "written as 5e9"),
  ("toy_ring", "config.g_opt.learning_rate", 1e300, "finite in float32"),
  ("toy_ring", "config.d_steps_per_g_step", 2**30, "from 1 to 1000"),
]


@pytest.mark.parametrize("name, path, value, message", FOUND)
def test_values_that_once_were_not_refused(name, path, value, message):
  tree = copy.deepcopy(resolved(name))
  *inner, last = path.split(".")[1:]
  functools.reduce(dict.__getitem__, inner, tree)[last] = value
  with pytest.raises(errors.UserError, match=f"{path}=.*{message}"):
    configs.resolve(ml_collections.ConfigDict(tree))


@pytest.mark.parametrize(
  "flag, message",
  [
    ("--nodebug=1", "does not take an argument"),
    # The rest of the line is Python's own, which newer ones word otherwise.
    ("--workdir=a\0b", "embedded null"),
    ("--workdir=" + 5000 * "a", "--workdir is no path: File name too long"),
    ("--config=" + 5000 * "a", "--config is no path: File name too long"),
  ],
  ids=range(4),
)
def test_flags_that_once_were_not_refused(flag, message, capsys):
  smoke = [] if "--config" in flag else ["--config=toy_ring:smoke"]
  assert main.main(["main", flag, *smoke]) == 2
  assert message in one_line(capsys.readouterr().err)


KEYS = st.sampled_from(
  "config.num_steps config.seed config.generator config.generator.hidden "
  "config.g_opt.name config.g_opt.learning_rate config.penalties config. "
  "config.penalties.r1.gamma config.penalties..gamma config.evals.modes.every "
  "config.leave_out config.stop_when config.. config.__class__ config[0] "
  "config.system.name config.dataset.kind config config.g_opt.clip_gradients "
  "workdir debug nodebug x".split()
)
WRITTEN = (
  st.sampled_from("() (1,) ('a',) [1 { None nan 1e400 2**9 0x10 sgd".split())
  | VALUES.map(repr)
  | st.text(max_size=8)
  | st.integers(200, 300).map(lambda n: "9" * n)
)


@pytest.fixture(scope="module")
def untrained():
  """Trains nothing; a config that comes so far is checked once more."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train, "train", lambda config, _: configs.resolve(config))
    yield


@fuzz(300)
@given(st.lists(st.tuples(KEYS, WRITTEN), min_size=1, max_size=2))
def test_flags_are_taken_or_one_line_says_why(untrained, pairs):
  argv = ["main", *(f"--{key}={value}" for key, value in pairs)]
  if not any(key == "config" for key, _ in pairs):
    argv.append("--config=toy_ring:smoke")
  told = io.StringIO()
  with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
    code = main.main([a for a in argv if "--debug" not in a])
  assert code in (0, 2)
  if code:
    assert told.getvalue().startswith("error: ")
    one_line(told.getvalue())


def encoded(form, mode="RGB", **options):
  noise = np.random.RandomState(0).randint(0, 256, (11, 13, 3))
  file = io.BytesIO()
  image = Image.fromarray(noise.astype(np.uint8)).convert(mode)
  image.save(file, form, **options)
  return file.getvalue()


frames = [Image.new("P", (13, 11), i) for i in range(2)]
IMAGES = [
  encoded("PNG"),
  encoded("PNG", "P"),
  encoded("PNG", "LA"),
  encoded("JPEG"),
  encoded("JPEG", "CMYK"),
  encoded("GIF", "P", save_all=True, append_images=frames),
  encoded("WEBP"),
  encoded("WEBP", "RGBA", lossless=True),
  encoded("BMP"),
]


@fuzz(300)
@given(st.sampled_from(IMAGES).flatmap(damaged))
def test_a_damaged_image_is_decoded_or_named(place, content):
  pictures = place / "pictures"
  pictures.mkdir(exist_ok=True)
  (pictures / "a.png").write_bytes(content)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("GANJAX_CACHE", str(place / "cache"))
    arrays = accepted(folder.load, "all", str(pictures), 8)
  if arrays is not None:
    assert arrays.images.shape == (1, 8, 8, 3)
    assert arrays.images.dtype == np.uint8


ROWS = b'{"step": 1, "d_loss": 0.5, "note": "x"}\n{"step": 2, "a": "nan"}\n'


@fuzz(200)
@given(damaged(ROWS) | st.binary(max_size=50))
def test_a_damaged_history_gives_the_rows_that_are_whole(place, content):
  (place / history.HISTORY).write_bytes(content)
  rows = history.read_history(place)
  assert len(rows) <= len(content.split(b"\n"))
  for row in rows:
    assert isinstance(row["step"], int)


RECORD = metrics.Record({"frechet": 1.5}, {"step": 3}, ("constant",)).to_dict()


@fuzz(200)
@given(damaged(json.dumps(RECORD).encode()))
def test_a_damaged_score_is_a_record_or_computed_anew(place, content):
  (place / "score.json").write_bytes(content)
  found = sources._found(place / "score.json")
  assert found is None or isinstance(found, metrics.Record)


@fuzz(200)
@given(damaged(json.dumps({"last": {"frechet": RECORD}}).encode()))
def test_a_damaged_evaluation_is_read_or_refused(place, content):
  (place / "evaluation.json").write_bytes(content)
  mine = {"last": {"frechet": metrics.Record.from_dict(RECORD)}}
  accepted(evaluate._other, place / "evaluation.json", mine)


@functools.cache
def config_json():
  config = resolved("toy_ring")
  dataset = dict(image_shape=[2], num_classes=8)
  return json.dumps(dict(dataset=dataset, config=config)).encode()


def test_a_damaged_config_of_a_run_is_read_or_refused(place):
  path = place / "config.json"
  path.write_bytes(config_json())
  assert runs.read_config(place)[1:] == ((2,), 8)

  @fuzz(200)
  @given(damaged(config_json()) | damaged(config_json()[:80]))
  def check(content):
    path.write_bytes(content)
    accepted(runs.read_config, place)

  check()


DEEP = b"[" * 100_000


def test_json_that_is_nested_too_deep(place):
  (place / history.HISTORY).write_bytes(ROWS + DEEP)
  assert len(history.read_history(place)) == 2
  for name in ("config.json", "evaluation.json"):
    (place / name).write_bytes(DEEP)
  with pytest.raises(errors.UserError, match="is damaged"):
    runs.read_config(place)
  with pytest.raises(errors.UserError, match="is no result"):
    evaluate._other(place / "evaluation.json", {"last": {}})
  assert sources._found(place / "evaluation.json") is None


def test_a_record_whose_value_is_no_number_is_refused():
  for value in (None, [1], {}):
    with pytest.raises(TypeError):
      metrics.Record.from_dict(RECORD | {"values": {"frechet": value}})


def make(allocate):
  images = allocate((5, 4, 4, 1))
  images[:] = 7
  return data.Arrays(images, np.arange(5, dtype=np.int32), 5)


@pytest.fixture(scope="module")
def cached(place):
  """Returns the folder of a whole dataset in a cache of its own."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("GANJAX_CACHE", str(place / "arrays"))
    cache.cached({"name": "a"}, make)
    (made,) = (place / "arrays").iterdir()
    good = {path.name: path.read_bytes() for path in made.iterdir()}
    yield made, good


@pytest.mark.parametrize(
  "name, old, new",
  [
    ("images.npy", b"'|u1'", b"'|i1'"),
    ("labels.npy", b"'<i4'", b"'<u4'"),
    ("info.json", b'"num_classes": 5', b'"num_classes": 4'),
    ("info.json", b'"num_classes": 5', b'"num_classes": 1e999'),
    ("info.json", b"{", b"[" * 100_000),
    ("info.json", b'"labels.npy"', b'"other.npy"'),
  ],
  ids=range(6),
)
def test_damage_that_once_was_not_noticed(cached, name, old, new):
  made, good = cached
  assert old in good[name]
  (made / name).write_bytes(good[name].replace(old, new, 1))
  calls = []
  arrays = cache.cached({"name": "a"}, lambda a: calls.append(1) or make(a))
  assert calls and arrays.images.dtype == np.uint8 and arrays.num_classes == 5


@fuzz(150)
@given(st.data())
def test_a_damaged_cache_gives_arrays_of_the_right_form(cached, draw):
  made, good = cached
  name = draw.draw(st.sampled_from(sorted(good)))
  (made / name).write_bytes(draw.draw(damaged(good[name])))
  arrays = cache.cached({"name": "a"}, make)
  assert arrays.images.shape == (5, 4, 4, 1)
  assert arrays.images.dtype == np.uint8 and arrays.labels.dtype == np.int32
  assert set(arrays.labels.tolist()) <= set(range(arrays.num_classes))
  for file, content in good.items():
    (made / file).write_bytes(content)


def saved(save, *arrays, **named):
  file = io.BytesIO()
  save(file, *arrays, **named)
  return file.getvalue()


SAMPLES = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8, 1)
ARRAYS = [
  saved(np.save, SAMPLES),
  saved(np.savez, images=SAMPLES, labels=np.arange(2)),
  saved(np.savez_compressed, SAMPLES),
]


@fuzz(300)
@given(st.sampled_from(ARRAYS).flatmap(damaged))
def test_damaged_samples_are_read_or_refused(place, content):
  (place / "samples.npz").write_bytes(content)
  source = accepted(sources.of_path, place / "samples.npz", SAMPLES)
  if source is not None:
    drawn = source.draw(source.num, 0)
    assert drawn.ndim in (2, 4) and len(drawn) == source.num


def test_cached_arrays_are_read_or_made_anew(place):
  path = place / "features.npz"
  cache.write_arrays(path, {"a": SAMPLES})
  good = path.read_bytes()

  @fuzz(150)
  @given(damaged(good))
  def check(content):
    path.write_bytes(content)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      arrays = cache.read_arrays(path)
    if arrays is not None:  # Its digest says that it is what was written.
      np.testing.assert_array_equal(arrays["a"], SAMPLES)

  check()


WEIGHTS = [
  path.read_bytes() for path in sorted(GOLDEN.glob("state_dict_*.pth"))
]


@fuzz(200)
@given(st.sampled_from(WEIGHTS).flatmap(damaged))
def test_a_damaged_state_dict_is_read_or_refused(place, content):
  (place / "x.pth").write_bytes(content)
  arrays = accepted(state_dict.read, place / "x.pth")
  assert arrays is None or all(
    isinstance(array, np.ndarray) for array in arrays.values()
  )


# A node "x" of op "Const", its value the float32 numbers 0, 0 in a [2].
GRAPH = bytes.fromhex(
  "0a29 0a0178 1205436f6e7374 2a1d 0a0576616c7565"
  "1214 4212 0801 120412020802 22080000000000000000"
)


@fuzz(300)
@given(damaged(GRAPH) | st.binary(max_size=40))
def test_a_damaged_graph_is_read_or_refused(content):
  arrays = accepted(graph_def.constants, content, "x")
  assert arrays is None or all(a.dtype == np.float32 for a in arrays.values())
