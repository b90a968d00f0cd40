"""Checkpoints under faults: nothing damaged is restored, nothing good lost."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors
from ganjax.runs import checkpoint, manifest


def state_of(step):
  return {
    "net": {"kernel": np.full((3, 4), step, np.float32)},
    "step": np.int32(step),
  }


LIKE = jax.tree.map(
  lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state_of(0)
)


def opened(folder, **options):
  return checkpoint.Checkpoints(folder, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A folder with the checkpoints of steps 1 and 2."""
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  with opened(folder) as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, state_of(step), {})
  return folder


@pytest.fixture
def folder(saved, tmp_path):
  """A copy of it that may be damaged."""
  copy = tmp_path / "checkpoints"
  copy_tree(saved, copy)
  return copy


def copy_tree(source, target):
  for path in sorted(source.rglob("*")):
    new = target / path.relative_to(source)
    new.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
      new.mkdir(exist_ok=True)
    else:
      new.write_bytes(path.read_bytes())


def files_of(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file())


def test_the_best_is_one_of_those_that_have_the_value(tmp_path):
  """Metrics have intervals of their own; not all are there at every save."""
  values = {
    1: {},
    2: {"frechet": 3.0},
    3: {"parzen": 9.0},
    4: {"frechet": 5.0, "parzen": 1.0},
    5: {"parzen": 2.0},
  }
  with opened(tmp_path, keep=1, best="frechet") as checkpoints:
    for step, found in values.items():
      checkpoints.save(step, state_of(step), found)
    checkpoints.wait()
    assert checkpoints.best() == 2
  with opened(tmp_path, keep=1, best="frechet") as checkpoints:
    assert checkpoints.best() == 2 and checkpoints.steps() == [2, 5]
  with opened(tmp_path, keep=1, best="psnr", better="higher") as checkpoints:
    with pytest.raises(errors.UserError, match="has a score yet"):
      checkpoints.best()
    for step, found in (6, {"psnr": 20.0}), (7, {"psnr": 19.0}):
      checkpoints.save(step, state_of(step), found)
    checkpoints.wait()
    assert checkpoints.best() == 6 and checkpoints.steps() == [6, 7]


def resume(folder):
  with opened(folder) as checkpoints:
    return checkpoints.resume(LIKE)


def test_the_newest_is_resumed(folder):
  step, state = resume(folder)
  assert step == 2
  jax.tree.map(np.testing.assert_array_equal, state, state_of(2))
  assert not list(folder.glob("*.damaged"))


def damage(path, how):
  content = path.read_bytes()
  if how == "flipped":
    place = len(content) // 2
    flipped = bytes([content[place] ^ 1]) if content else b"x"
    path.write_bytes(content[:place] + flipped + content[place + 1 :])
  elif how == "truncated":
    path.write_bytes(content[:-1] or b"x")
  elif how == "emptied":
    path.write_bytes(b"" if content else b"x")
  else:
    path.unlink()


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "deleted"])
def test_damage_of_any_file_is_noticed(saved, tmp_path, how):
  names = [p.relative_to(saved) for p in files_of(saved / "2")]
  assert len(names) >= 8 and pathlib.Path("2", manifest.NAME) in names
  for i, name in enumerate(names):
    copy = tmp_path / str(i)
    copy_tree(saved, copy)
    damage(copy / name, how)
    unfinished = how == "deleted" and name.name == manifest.NAME
    text = "no checkpoint of step 2" if unfinished else "step 2 is damaged: "
    with opened(copy, read_only=True) as checkpoints:
      with pytest.raises(errors.UserError, match=text) as e:
        checkpoints.restore(LIKE, 2)
      assert unfinished or name.name in str(e.value)
    assert resume(copy)[0] == 1
    kind = "unfinished" if unfinished else "damaged"
    assert [p.name for p in copy.glob("2*")] == [f"2.{kind}"]


def test_a_file_too_many_is_noticed(folder):
  (folder / "2" / "state" / "new").write_bytes(b"")
  assert manifest.problem(folder / "2").endswith("does not belong there")


def test_what_was_set_aside_does_not_count_again(folder, capsys):
  damage(folder / "2" / "_CHECKPOINT_METADATA", "flipped")
  assert resume(folder)[0] == 1
  assert "it is now 2.damaged" in capsys.readouterr().err
  with opened(folder) as checkpoints:
    assert checkpoints.steps() == [1]
    checkpoints.save(2, state_of(2), {})
  assert resume(folder)[0] == 2
  assert capsys.readouterr().err == ""


def test_if_none_is_intact_nothing_begins_anew(folder):
  for step in "12":
    damage(folder / step / "_CHECKPOINT_METADATA", "flipped")
  for _ in range(2):  # The same command again gives the same answer.
    with pytest.raises(errors.UserError, match="is intact.*step 2.*step 1"):
      resume(folder)
  assert (folder / "1").is_dir() and (folder / "2").is_dir()


def test_a_kill_before_the_first_manifest_begins_anew(folder, capsys):
  (folder / "2" / manifest.NAME).unlink()
  (folder / "1" / manifest.NAME).unlink()
  with pytest.raises(errors.UserError, match="not finished"):  # Not by a kill.
    resume(folder)
  (folder / "1").rename(folder.parent / "elsewhere")
  assert resume(folder) == (0, None)
  assert "now 2.unfinished" in capsys.readouterr().err
  assert resume(folder) == (0, None)


def test_an_empty_folder_has_nothing_to_resume(tmp_path):
  assert resume(tmp_path / "new") == (0, None)


@pytest.mark.parametrize(
  "like, text",
  [
    ({"kernel": jnp.zeros((3, 5))}, r"\['kernel'\] is float32 \[3, 4\] there"),
    ({"kernel": jnp.zeros((3, 4), jnp.bfloat16)}, r"and bfloat16 \[3, 4\] in"),
    (
      {"other": jnp.zeros((3, 4))},
      r"\['kernel'\] is float32 \[3, 4\] there and",
    ),
    (
      {"kernel": jnp.zeros((3, 4)), "more": jnp.zeros(2)},
      r"\['more'\] is absent there and float32 \[2\] in",
    ),
  ],
)
def test_a_leaf_that_drifted_is_named(folder, like, text):
  with opened(folder, read_only=True) as checkpoints:
    with pytest.raises(errors.UserError, match=text):
      checkpoints.restore({"net": like, "step": jnp.int32(0)}, 2)


def fail(*_, **__):
  raise OSError(28, "No space left on device")


def test_a_save_that_fails_in_the_background_is_noticed(tmp_path, monkeypatch):
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, state_of(1), {})
    checkpoints.wait()
    with monkeypatch.context() as patch:
      patch.setattr(manifest, "write", fail)
      checkpoints.save(2, state_of(2), {})
      assert checkpoints._saving and checkpoints._saving.done.exception()
      with pytest.raises(errors.SaveError, match="step 2 .*No space left"):
        checkpoints.poll()
    assert checkpoints.steps() == [1]
    checkpoints.poll()  # It is told once,
    checkpoints.save(2, state_of(2), {})  # and the step may be saved again.
  assert resume(tmp_path)[0] == 2


def test_a_save_that_fails_at_once_is_noticed(tmp_path, monkeypatch):
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, state_of(1), {})
    checkpoints.wait()
    with monkeypatch.context() as patch:
      patch.setattr(checkpoints._manager, "save", fail)
      with pytest.raises(
        errors.SaveError, match=r"good are those of steps \[1\]"
      ):
        checkpoints.save(2, state_of(2), {})
    checkpoints.save(2, state_of(2), {})
  assert resume(tmp_path)[0] == 2


def test_the_last_failure_is_not_swallowed(tmp_path, monkeypatch):
  with pytest.raises(errors.SaveError, match="step 1"):
    with opened(tmp_path) as checkpoints:
      monkeypatch.setattr(manifest, "write", fail)
      checkpoints.save(1, state_of(1), {})


def test_an_older_step_is_refused_and_deletes_nothing(folder):
  with opened(folder) as checkpoints:
    with pytest.raises(errors.SaveError, match=r"holds steps \[1, 2\]"):
      checkpoints.save(2, state_of(5), {})
  assert resume(folder)[0] == 2


def test_the_manifest_comes_last(tmp_path, monkeypatch):
  """A kill at any moment before leaves a step that does not count."""
  seen = []
  write = manifest.write

  def watched(folder, leaves):
    seen.append((manifest.exists(folder), len(files_of(folder))))
    write(folder, leaves)

  monkeypatch.setattr(manifest, "write", watched)
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, state_of(1), {})
  assert seen == [(False, len(files_of(tmp_path / "1")) - 1)]
  assert not [name for name in os.listdir(tmp_path) if manifest.NAME in name]


def test_a_manifest_has_the_format_of_its_state(folder):
  """By which another version knows that it cannot read it."""
  assert manifest.formats(folder) == {manifest.FORMAT}
  assert manifest.formats(folder / "nowhere") == set()
  damage(folder / "2" / manifest.NAME, "truncated")
  assert manifest.formats(folder) == {manifest.FORMAT}
