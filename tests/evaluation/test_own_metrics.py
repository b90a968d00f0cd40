"""Metrics and extractors of a file that is no part of ganjax."""

import json
import textwrap

import numpy as np
import pytest
from verbs import Verb

from ganjax import errors
from ganjax.data import digits
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import extractors, metrics, table
from ganjax.runs import configs

command = Verb("evaluate")

pytestmark = pytest.mark.usefixtures("without_figures")

METRIC = """
  import numpy as np
  from ganjax import metrics

  @metrics.register(
    on="samples",
    better={"gap": "lower"},
    formats={"gap": ".2f"},
    spreads={"gap": "gap_error"},
  )
  def gap(power: float = 1.0) -> metrics.Metric:
    def metric(real, fake):
      real, fake = metrics.check("gap", real, fake)
      gaps = np.abs(real.mean(axis=0) - fake.mean(axis=0)) ** power
      return metrics.Record(
        {"gap": float(gaps.mean()), "gap_error": float(gaps.std())},
        {"num_real": len(real), "num_fake": len(fake), "power": power},
      )

    return metric

  def undeclared():
    return lambda real, fake: metrics.Record({}, {})
"""
EXTRACTOR = """
  import numpy as np
  from ganjax.evaluation import extractors

  class Pixels:
    name = "pixels"
    digest = "0"
    accuracy = float("nan")

    def __init__(self, scale):
      self.protocol = {"scale": scale}

    def __call__(self, images):
      flat = images.reshape(len(images), -1).astype(np.float32)
      return extractors.Features(flat[:, ::16] * self.protocol["scale"])

  @extractors.register(name="pixels")
  def make(dataset, train, test, scale: float = 1.0):
    return Pixels(scale)
"""


@pytest.fixture
def metric_file(tmp_path):
  path = tmp_path / "my_metrics.py"
  path.write_text(textwrap.dedent(METRIC))
  yield path
  metrics.METRICS.pop("gap", None)


@pytest.fixture
def extractor_file(tmp_path):
  path = tmp_path / "my_extractor.py"
  path.write_text(textwrap.dedent(EXTRACTOR))
  yield path
  extractors.EXTRACTORS.pop("pixels", None)


def test_a_metric_of_a_file_says_what_it_is(metric_file):
  name = f"{metric_file}:gap"
  assert metrics.input_of(name) == "samples" and not metrics.needs(name)
  assert metrics.values_of(name) == ["gap"]
  assert metrics.better("gap") == "lower" and metrics.format_of("gap") == ".2f"
  # Once its module is imported, its own name is enough.
  assert metrics.find("gap") is metrics.find(name)
  record = metrics.get(name, power=2.0)(np.zeros((3, 2)), np.full((4, 2), 3))
  assert record.values == {"gap": 9.0, "gap_error": 0.0}
  assert table.cells({name: record}) == {"gap": "9.00 ± 0.00"}


def test_a_metric_of_a_module(metric_file, monkeypatch):
  monkeypatch.chdir(metric_file.parent)
  assert metrics.input_of("my_metrics:gap") == "samples"
  config = configs.load("digits_mlp:smoke")
  config.evals = {"my_metrics:gap": dict(every=0, power=2.0)}
  config.checkpoint = dict(best="gap")
  config = configs.resolve(config)
  assert config.evals["my_metrics:gap"].power == 2.0
  train, test = digits.load("train"), digits.load("test")
  evaluator = evaluate.Evaluator("digits", train, test)
  specs = config.evals.to_dict()
  evaluator.prepare(specs)
  record = evaluator.compare(specs, test.images)["my_metrics:gap"]
  assert record.protocol["power"] == 2.0 and record.values["gap"] > 0


def test_a_metric_of_the_command_line(metric_file, tmp_path, capsys):
  test = digits.load("test")
  np.savez(tmp_path / "samples.npz", images=test.images[:50])
  call = [str(tmp_path / "samples.npz"), "--against", "digits:test"]
  call += ["--out", str(tmp_path / "out.json"), "--metrics"]
  assert command.main([*call, f"{metric_file}:gap:power=2.0"]) == 0
  assert "±" in capsys.readouterr().out
  rows = json.loads((tmp_path / "out.json").read_text())
  record = rows["samples.npz"][f"{metric_file}:gap"]
  assert record["protocol"]["power"] == 2.0
  # What is kept for the next call lies in the cache, not beside the file.
  assert sorted(p.name for p in metric_file.parent.glob("*.json")) == [
    "out.json"
  ]
  for name, text in (
    (f"{metric_file}:gap:power", "write"),
    (f"{metric_file}:gop", "did you mean 'gap'"),
    (f"{metric_file}:undeclared", "@metrics.register"),
    ("no_such_module:gap", "no module 'no_such_module'"),
    ("frechet:gap", "key=value"),
  ):
    assert command.main([*call, name]) == 2
    message = capsys.readouterr().err
    assert text in message and message.count("\n") == 1


@pytest.mark.parametrize(
  "declared, text",
  [
    (dict(on="pixels"), "'pixels'"),
    (dict(on="samples", better={"x": "larger"}), "'larger'"),
  ],
)
def test_what_a_metric_declares_is_checked(declared, text):
  with pytest.raises(errors.UserError, match=text):
    metrics.register(**declared)


def test_an_extractor_of_a_file(extractor_file):
  train, test = digits.load("train"), digits.load("test")
  name = f"{extractor_file}:make"
  spec = {"name": name, "scale": 0.5}
  evaluator = evaluate.Evaluator("digits", train, test, extractor=spec)
  record = evaluator.compare({"frechet": {}}, test.images)["frechet"]
  assert record.protocol["scale"] == 0.5 and record.protocol["dims"] == 16
  assert extractors.find("pixels") is extractors.find(name)
  with pytest.raises(errors.UserError, match="has no logits"):
    evaluator.compare({"classes": {}}, test.images)
