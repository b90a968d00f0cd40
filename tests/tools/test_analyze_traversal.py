"""Traversals of latents: the numbers by hand, the picture of known systems."""

import types
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganjax import data, errors
from ganjax.evaluation.evaluator import Evaluator
from ganjax.runs import plots
from ganjax.tools.analyze import pages, traversal
from ganjax.tools.analyze.subject import Subject


def test_how_far_a_row_changes_by_hand():
  # Of 0, 255 and 255 the variance is 2/9; one of two pixels stands still.
  row = np.zeros((1, 3, 1, 2, 1), np.uint8)
  row[0, 1:, 0, 0] = 255
  assert traversal.change(row) == pytest.approx(np.sqrt(2 / 9 / 2))
  # Rows count alike, and what differs between them not at all.
  still = np.full_like(row, 255)
  both = np.concatenate([row, still])
  assert traversal.change(both) == pytest.approx(np.sqrt(2 / 9 / 4))
  assert traversal.change(still) == 0


def test_how_many_components_matter_by_hand():
  number = traversal.effective_number
  assert number(np.array([2.0, 2, 2, 0])) == pytest.approx(3)
  assert number(np.array([0, 5.0])) == pytest.approx(1)
  assert number(np.array([1.0, 2])) == pytest.approx(25 / 17)
  assert number(np.zeros(3)) == 0


def test_one_component_is_varied():
  z = np.array([1.0, 2, 3])
  rows = traversal.vary(z, 1, np.array([-2.0, 0]))
  assert rows.tolist() == [[1, -2, 3], [1, 0, 3]]


WEIGHTS = np.array([0.0, 3, 0, 1] + [0.0] * 8)


def subject(latent="normal", traverse=None, conditional=False, shape=(4, 4, 1)):
  """Returns a run whose images are even, as bright as z @ WEIGHTS says.

  Class k is by 40 k brighter.
  """
  calls = []

  def decode(z, labels=None):
    calls.append((z, labels))
    grey = 127 + 10 * (z @ WEIGHTS) + (0 if labels is None else 40 * labels)
    grey = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (len(z), *shape)).copy()

  system = types.SimpleNamespace(
    conditional=conditional, num_classes=3, traverse=traverse
  )
  run: Any = types.SimpleNamespace(
    decode=decode,
    latents=lambda n, seed: np.zeros((n, 12), np.float32),
    sampler=types.SimpleNamespace(system=system),
    config=types.SimpleNamespace(system=dict(latent=latent)),
    calls=calls,
  )
  arrays = data.Arrays(np.zeros((20, *shape), np.uint8))
  return Subject(run, Evaluator("stub", arrays, arrays)), calls


def test_components_come_by_how_much_they_change(tmp_path):
  made, calls = subject()
  text, numbers = traversal.draw(made, tmp_path / "x.png")
  changes = np.array(numbers["changes"])
  # From -2 to 2 a weight of 1 makes 40 levels, 20 on either side of the mean.
  np.testing.assert_allclose(changes[[1, 3]], [60 / 255, 20 / 255], rtol=1e-6)
  assert np.delete(changes, [1, 3]).max() == 0
  assert numbers["limit"] == 2
  assert numbers["effective"] == pytest.approx(100 / 82)
  assert text.startswith("1.22 of 12 components of z matter")
  # The picture's rows: first the component with the largest change.
  first, second = calls[-1][0].reshape(10, 4, 10, 12)[:2, 0]
  np.testing.assert_allclose(first[:, 1], np.linspace(-2, 2, 10), rtol=1e-6)
  np.testing.assert_allclose(second[:, 3], np.linspace(-2, 2, 10), rtol=1e-6)
  picture = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
  row = picture[pages.TOP + 8]  # Beside no text.
  levels = np.rint(127 + 30 * np.linspace(-2, 2, 10))
  assert [(row == level).sum() for level in levels] == [2 * plots.TILE] * 10
  places = [np.argmax(row == level) for level in levels]
  assert places == sorted(places)


def test_uniform_latents_go_to_their_ends(tmp_path):
  made, _ = subject("uniform")
  _, numbers = traversal.draw(made, tmp_path / "x.png")
  assert numbers["limit"] == pytest.approx(np.sqrt(3))


def test_codes_with_a_meaning_are_the_rows(tmp_path):
  def traverse(z):
    rows = np.repeat(z[None], 5, axis=0)
    rows[:, 1] = [0, 0, 0, 0, 4]
    return {"category": np.repeat(z[None], 3, axis=0), "code 1": rows}

  made, _ = subject(traverse=traverse)
  text, numbers = traversal.draw(made, tmp_path / "x.png")
  # One of five is 120 levels brighter: a standard deviation of 48.
  expected = {"category": 0.0, "code 1": pytest.approx(48 / 255)}
  assert numbers == {"changes": expected}
  assert "0.000 (category), 0.188 (code 1)" in text
  picture = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
  grid = plots.grid(np.zeros((10, 4, 4, 1), np.uint8), 5)
  assert picture.shape[0] >= pages.TOP + len(grid)
  # After the third category there is nothing but paper.
  last = picture[pages.TOP + 8]
  edges = np.flatnonzero(last == 127)
  assert len(edges) == 2 * 3 * plots.TILE


def test_a_row_stays_within_one_class(tmp_path):
  made, calls = subject(conditional=True)
  traversal.draw(made, tmp_path / "x.png")
  for _, labels in calls:
    rows = labels.reshape(-1, 4, 10 if labels is calls[-1][1] else 2)
    assert (rows == np.array([0, 1, 2, 0])[None, :, None]).all()


def test_points_have_no_traversal(tmp_path):
  made, _ = subject(shape=(4, 4, 1))
  points = data.Arrays(np.zeros((20, 2), np.float32))
  made = Subject(made.run, Evaluator("stub", points, points))
  with pytest.raises(errors.UserError, match="needs images"):
    traversal.draw(made, tmp_path / "x.png")
