"""What is noted of the machine and the versions that a run had."""

import json

import ganjax
from ganjax.runs.environment import environment, version_of


def test_the_environment_is_json(monkeypatch):
  found = json.loads(json.dumps(environment()))
  assert found["versions"]["jax"] and found["versions"]["python"]
  assert found["device_count"] >= 1 and found["command"]
  assert found["time"].endswith("+00:00")
  monkeypatch.setenv("PATH", "")  # There may be no git.
  assert environment()["git_commit"] is None
  assert environment()["git_dirty"] is None


def test_the_version_is_that_of_the_code_that_runs(tmp_path, monkeypatch):
  monkeypatch.setattr(ganjax, "__version__", "7.8.9")
  found = environment()
  assert found["versions"]["ganjax"] == "7.8.9"
  assert version_of(tmp_path) == ""
  path = tmp_path / "environment.json"
  path.write_text(json.dumps(found))
  assert version_of(tmp_path) == "7.8.9"
  for damaged in ("", "[", "[]", "{}", '{"versions": 3}', 9999 * "["):
    path.write_text(damaged)
    assert version_of(tmp_path) == ""
