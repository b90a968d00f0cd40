"""Runs of another version: refused in one line, and still compared."""

import hashlib
import json

import pytest

import ganjax
from ganjax import errors, files
from ganjax.runs import configs, manifest
from ganjax.runs import run as runs
from ganjax.tools.compare import runs as compared
from ganjax.training import train

# As ganjax 0.1.0 wrote them, of `toy_ring:smoke`.
VERSIONS = {"python": "3.11.7", "ganjax": "0.1.0", "jax": "0.10.2"}
ROW = {"step": 2, "d_loss": 1.387, "diagnosis": "", "modes_covered": 0.0}
RECORD = {
  "values": {"modes_covered": 0, "modes": 8, "high_quality": 0.0},
  "protocol": {
    "num_real": 10000,
    "num_fake": 10000,
    "sigmas": 3.0,
    "extractor": "none",
    "against": "train",
    "step": 2,
    "truncation": 0.0,
    "weights": "ema",
    "statistics": "running",
    "labels": "none",
  },
  "flags": [],
}
# Its manifests had no format, and its states a field a network.
MANIFEST = {
  "files": {"_CHECKPOINT_METADATA": "24daf3689e10849cdb3a944d07ef0081"},
  "leaves": {
    ".step": ["int32", []],
    ".generator.params['linear_0']['kernel']": ["float32", [2, 8]],
    ".discriminator.params['logit']['bias']": ["float32", [1]],
    ".ema.params['linear_0']['kernel']": ["float32", [2, 8]],
  },
}


def write_manifest(folder, content):
  folder.mkdir(parents=True, exist_ok=True)
  text = json.dumps(content)
  own = hashlib.sha256(text.encode()).hexdigest()
  (folder / manifest.NAME).write_text(f"{own}\n{text}\n")


@pytest.fixture
def workdir(tmp_path):
  """A run of ganjax 0.1.0, without the bytes of its arrays."""
  folder = tmp_path / "old"
  config = configs.resolve(configs.load("toy_ring:smoke")).to_dict()
  dataset = {"image_shape": [2], "num_classes": 8, "num_examples": 10000}
  files.write_json(folder / "config.json", dict(config=config, dataset=dataset))
  files.write_json(folder / "environment.json", {"versions": VERSIONS})
  files.write_json(folder / "evaluation.json", {"last": {"modes": RECORD}})
  (folder / "metrics.jsonl").write_text(json.dumps(ROW) + "\n")
  write_manifest(folder / "checkpoints" / "2", MANIFEST)
  return folder


@pytest.fixture(autouse=True)
def version(monkeypatch):
  monkeypatch.setattr(ganjax, "__version__", "0.2.0")


def refusal(workdir, version):
  return (
    f"{workdir} was written by ganjax {version}, whose checkpoints this "
    f"version (0.2.0) does not read: install ganjax {version} to sample from "
    "it, or train it again in another --workdir"
  )


def test_a_run_of_an_older_version_is_refused(workdir):
  for read in (ganjax.load, runs.read_config, runs.check_version):
    with pytest.raises(errors.UserError) as error:
      read(workdir)
    assert str(error.value) == refusal(workdir, "0.1.0")


def test_an_older_run_is_not_resumed_and_stays_as_it_is(workdir):
  before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
  with pytest.raises(errors.UserError) as error:
    train.train(configs.load("toy_ring:smoke"), workdir)
  assert refusal(workdir, "0.1.0") in str(error.value)
  after = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
  assert after == before


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, None])
def test_it_is_named_whatever_else_is_broken(workdir, name, content):
  path = workdir / name
  if content is None:
    path.unlink()
  else:
    path.write_text(content)
  (workdir / "checkpoints" / "1").mkdir()
  write_manifest(workdir / "checkpoints" / "3", ["no", "manifest"])
  (workdir / "checkpoints" / "4").mkdir()
  (workdir / "checkpoints" / "4" / manifest.NAME).write_bytes(b"\xff")
  with pytest.raises(errors.UserError) as error:
    runs.check_version(workdir)
  assert str(error.value) == refusal(workdir, "0.1.0")


def test_a_resumed_environment_does_not_hide_it(workdir):
  """The environment is written before checkpoints are read."""
  found = {"versions": {"ganjax": "0.2.0"}}
  files.write_json(workdir / "environment.json", found)
  with pytest.raises(errors.UserError) as error:
    ganjax.load(workdir)
  assert str(error.value) == refusal(workdir, "0.1.0")


def test_a_later_version_is_named(workdir):
  later = {**MANIFEST, "format": manifest.FORMAT + 1}
  write_manifest(workdir / "checkpoints" / "2", later)
  found = {"versions": {"ganjax": "3.0.0"}}
  files.write_json(workdir / "environment.json", found)
  with pytest.raises(errors.UserError) as error:
    ganjax.load(workdir)
  assert str(error.value) == refusal(workdir, "3.0.0")
  (workdir / "environment.json").unlink()
  with pytest.raises(errors.UserError, match="written by a later ganjax"):
    ganjax.load(workdir)


def test_a_run_of_this_version_is_read(workdir):
  # An installation that was not renewed may call itself by an older name.
  current = {**MANIFEST, "format": manifest.FORMAT}
  write_manifest(workdir / "checkpoints" / "2", current)
  config, shape, num_classes = runs.read_config(workdir)
  assert (config.num_steps, shape, num_classes) == (2, (2,), 8)
  (workdir / "checkpoints" / "2" / manifest.NAME).unlink()
  runs.check_version(workdir)  # No checkpoint, no other format.


def test_an_older_run_is_still_compared(workdir):
  (found,), notes = compared.read([workdir])
  assert not notes and found.state == "finished"
  assert found.steps == 2 and found.rows == [ROW]
  assert found.records["last"]["modes"].values["modes"] == 8
  assert found.environment["versions"]["ganjax"] == "0.1.0"
