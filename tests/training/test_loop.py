"""Who moves runs: one to its end, or several that take their steps together."""

import pytest

from ganjax import errors
from ganjax.training import loop


def a_run(num_steps, closed, error=None, fails_at=-1):
  """Asks for steps 0, 1, ...; returns the answers, as a run returns itself."""
  answers = []
  try:
    for step in range(num_steps):
      if step == fails_at:
        raise error
      answer = yield loop.Step(None, None, None, None, step)
      answers.append(answer)
    return answers
  finally:
    closed.append(True)


def answer_of(state, arrays, indices, key, step):
  return f"state {step}", {"loss": step}


def test_a_run_is_driven_to_its_end():
  closed = []
  found = loop.drive(a_run(3, closed), answer_of)
  assert found == [(f"state {i}", {"loss": i}) for i in range(3)]
  assert closed == [True]
  assert loop.drive(a_run(0, closed), answer_of) == []


# A `StopIteration` is what a generator's end looks like from outside.
@pytest.mark.parametrize("kind", [KeyboardInterrupt, StopIteration])
def test_an_error_in_a_step_closes_the_run(kind):
  closed = []

  def fail(*step):
    raise kind

  with pytest.raises(kind):
    loop.drive(a_run(3, closed), fail)
  assert closed == [True]


def test_members_end_each_in_its_own_time():
  """The third fails; the others go on. One step a round, the last name's."""
  closed, rounds = [], []
  error = errors.SaveError("no space")
  members = {
    "a": a_run(2, closed),
    "b": a_run(3, closed),
    "c": a_run(5, closed, error, fails_at=1),
    "d": a_run(0, closed),
  }

  def take(wanted):
    rounds.append({name: step.step for name, step in wanted.items()})
    name = sorted(wanted)[-1]
    return {name: answer_of(*wanted[name])}

  finished, failed = loop.drive_all(members, take)
  assert [*finished] == ["a", "b", "d"] and failed == {"c": error}
  assert [len(answers) for answers in finished.values()] == [2, 3, 0]
  assert rounds[:2] == [dict(a=0, b=0, c=0), dict(a=0, b=0)]
  assert rounds[-1] == dict(a=1) and len(rounds) == 1 + 3 + 2
  assert len(closed) == 4


def test_what_no_member_may_end_with_closes_all():
  closed = []
  members = {
    "a": a_run(3, closed),
    "b": a_run(3, closed, ValueError("a mistake"), fails_at=1),
  }
  with pytest.raises(ValueError, match="a mistake"):
    loop.drive_all(
      members, lambda wanted: {k: answer_of(*v) for k, v in wanted.items()}
    )
  assert closed == [True, True]
