"""The progress line fits wherever it is shown."""

import pytest

from ganjax.runs import progress

GAN = dict(
  d_loss=1.3862,
  g_loss=0.6931,
  d_real_accuracy=0.78,
  d_fake_accuracy=1.0,
  images_per_sec=3456.7,
)


@pytest.mark.parametrize("width", [100, 80, 40, 20])
@pytest.mark.parametrize("num_steps", [9, 50_000, 1_000_000])
def test_the_progress_line_fits(width, num_steps):
  scalars = {**GAN, "g_loss": 12.5}
  rate = scalars.pop("images_per_sec")
  line = progress.line(num_steps // 3, num_steps, rate, 4000, scalars, width)
  assert len(line) <= width
  assert f"{num_steps // 3}/{num_steps}" in line
  if width >= 80:
    for part in ("3457", "1:06:40 left", "D loss 1.39", "G loss 12.5"):
      assert part in line or part.replace("1.39", "1.386") in line
    assert "78 / 100 %" in line or "78/100%" in line


def test_the_bar_is_as_full_as_the_run():
  for step, share in ((0, 0), (5, 0.5), (10, 1), (11, 1)):
    line = progress.line(step, 10, 0, None, {}, 80)
    full = line.count("━")
    empty = line.count("╌")
    assert full / (full + empty) == share


def test_other_systems_show_their_own_keys():
  scalars = {"reconstruction": 0.123456, "kl": float("nan")}
  line = progress.line(1, 9, 0, None, scalars, 80)
  assert line.endswith("1/9  reconstruction=0.1235  kl=nan")


def test_the_line_shows_no_health():
  health = {name: 0.5 for name in (*progress.HEALTH, "penalty_r1")}
  scalars = {**GAN, **health, "mine": 2.0}
  rate = scalars.pop("images_per_sec")
  line = progress.line(1, 9, rate, None, scalars, None)
  assert line == (
    "step 1/9  3457 images/s  D loss 1.386  G loss 0.693  "
    "D acc real / fake 78 / 100 %  mine=2"
  )
  assert len(health) == 12


NOTE = "discriminator saturated"


@pytest.mark.parametrize("width", range(8, 150, 3))
def test_the_note_is_the_last_to_go(width):
  scalars = {**GAN, "mine": 2.0}
  rate = scalars.pop("images_per_sec")
  line = progress.line(1000, 9999, rate, 4000, scalars, width, NOTE)
  assert len(line) <= width
  assert f"[{NOTE}]".startswith(line[-width:]) or line.endswith(f"[{NOTE}]")
  if width >= len(NOTE) + 2:
    assert line.endswith(f"[{NOTE}]")
  if width >= len(f"1000/9999  [{NOTE}]"):
    assert "1000/9999  " in line
  if width >= 135:
    assert "D loss 1.386" in line and "mine=2" in line
