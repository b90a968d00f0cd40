import pytest
from PIL import Image
from verbs import Verb

prepare = Verb("prepare")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
  monkeypatch.setenv("GANJAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


def test_every_kind_of_dataset_can_be_named(root, tmp_path, capsys):
  for i in range(40):
    Image.new("L", (4, 4), i).save(tmp_path / f"{i}.png")
  assert prepare.main([f"folder:{tmp_path}", "--split", "train"]) == 0
  assert prepare.main(["digits", "--split", "test", "--size", "8"]) == 0
  out = capsys.readouterr().out
  (place,) = root.iterdir()
  assert "32x32x3" in out and f"cached in {place}" in out
  assert f"config.dataset = dict(name='folder', path='{tmp_path}')" in out
  assert "360  8x8x1" in out
  assert "config.dataset = dict(name='digits', size=8)" in out


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("toy --size 3", "toy has no option --size"),
    ("mnits", "unknown TFDS dataset 'mnits'; did you mean 'mnist'"),
    ("folder:", "folder: path is empty"),
    ("digits --split val", "unknown split 'val'"),
  ],
)
def test_prepare_ends_mistakes_with_one_line(line, message, capsys):
  assert prepare.main(line.split()) == 2
  out, err = capsys.readouterr()
  assert out == "" and err.count("\n") == 1
  assert err.startswith(f"error: {message}")
