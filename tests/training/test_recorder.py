"""What happens between steps, and how fast the steps between are."""

from ganjax.training import recorder


def test_speed_counts_training_alone(monkeypatch):
  """Steps of 2 s and a pause of 7; the first step took a minute to compile."""
  now = [60.0]
  monkeypatch.setattr(recorder.time, "perf_counter", lambda: now[0])
  speed = recorder.Speed(images_per_step=8)
  speed.step_done(1)
  assert speed.since_last(1) == 0.0
  for done in (2, 3, 4):
    now[0] += 2.0
    speed.step_done(done)
  assert speed.since_last(4) == 4.0
  with speed.pause():
    now[0] += 7.0
  now[0] += 2.0
  speed.step_done(5)
  assert speed.since_last(5) == 4.0
