"""Values and gradients of the objectives, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors
from ganjax.objectives import divergences, losses, relativism

REAL = jnp.array([0.0, 2.0])
FAKE = jnp.array([-1.0, 0.5])


def sp(x):
  return np.log1p(np.exp(np.float64(x)))


def sigmoid(x):
  return 1 / (1 + np.exp(-np.float64(x)))


CROSS_ENTROPY = (sp(0) + sp(-2)) / 2 + (sp(-1) + sp(0.5)) / 2
# name -> D's loss, dD/d(real, fake), G's loss, dG/d(fake); N = 2.
BY_HAND = {
  "minimax": (
    CROSS_ENTROPY,
    ([-sigmoid(0) / 2, -sigmoid(-2) / 2], [sigmoid(-1) / 2, sigmoid(0.5) / 2]),
    -(sp(-1) + sp(0.5)) / 2,
    [-sigmoid(-1) / 2, -sigmoid(0.5) / 2],
  ),
  "non_saturating": (
    CROSS_ENTROPY,
    ([-sigmoid(0) / 2, -sigmoid(-2) / 2], [sigmoid(-1) / 2, sigmoid(0.5) / 2]),
    (sp(1) + sp(-0.5)) / 2,
    [-sigmoid(1) / 2, -sigmoid(-0.5) / 2],
  ),
  # (r - 1)^2 = 1, 1; f^2 = 1, .25; (f - 1)^2 = 4, .25.
  "least_squares": (
    1 + 0.625,
    ([-1.0, 1.0], [-1.0, 0.5]),
    2.125,
    [-2.0, -0.5],
  ),
  # max(0, 1 - r) = 1, 0; max(0, 1 + f) = 0, 1.5 (at f = -1 the kink).
  "hinge": (0.5 + 0.75, ([-0.5, 0.0], [0.0, 0.5]), 0.25, [-0.5, -0.5]),
  "wasserstein": (-0.25 - 1.0, ([-0.5, -0.5], [0.5, 0.5]), 0.25, [-0.5, -0.5]),
  # T(r) = log 2 - sp(-r), f*(T(f)) = sp(f) - log 2: two constants beside CE.
  "f_divergence": (
    CROSS_ENTROPY - 2 * np.log(2),
    ([-sigmoid(0) / 2, -sigmoid(-2) / 2], [sigmoid(-1) / 2, sigmoid(0.5) / 2]),
    (sp(1) + sp(-0.5)) / 2 - np.log(2),
    [-sigmoid(1) / 2, -sigmoid(-0.5) / 2],
  ),
}


def test_every_loss_is_here():
  assert BY_HAND.keys() == losses.LOSSES.keys()


@pytest.mark.parametrize("name", BY_HAND)
def test_values_and_gradients(name):
  loss = losses.get(name)
  d_value, (d_real, d_fake), g_value, g_fake = BY_HAND[name]
  value, grads = jax.value_and_grad(loss.discriminator, (0, 1))(REAL, FAKE)
  np.testing.assert_allclose(value, d_value, rtol=1e-6)
  np.testing.assert_allclose(grads[0], d_real, atol=1e-6)
  np.testing.assert_allclose(grads[1], d_fake, atol=1e-6)
  value, grads = jax.value_and_grad(loss.generator, (0, 1))(REAL, FAKE)
  np.testing.assert_allclose(value, g_value, rtol=1e-6)
  np.testing.assert_allclose(grads[0], [0, 0], atol=1e-6)
  np.testing.assert_allclose(grads[1], g_fake, atol=1e-6)


SYMMETRIC = ("non_saturating", "least_squares", "hinge")
FORMS = (
  [(name, {}) for name in losses.LOSSES if name != "f_divergence"]
  + [("f_divergence", dict(divergence=d)) for d in divergences.DIVERGENCES]
  + [(n, dict(relativism=r)) for n in SYMMETRIC for r in relativism.RELATIVISM]
  + [
    ("least_squares", dict(relativism=r, unbiased=True))
    for r in relativism.BIAS
  ]
)


@pytest.mark.parametrize(("name", "hyper"), FORMS)
def test_float32_finite_and_scalar(name, hyper):
  loss = losses.get(name, **hyper)
  for scale in (1.0, 1e4):
    real = jnp.array([scale, -scale], jnp.bfloat16)
    for function in loss.discriminator, loss.generator:
      for argnum in 0, 1:
        value, grad = jax.value_and_grad(function, argnum)(real, -real)
        assert value.dtype == jnp.float32 and value.shape == ()
        assert jnp.isfinite(value) and jnp.isfinite(grad).all()


@pytest.mark.parametrize(("name", "hyper"), FORMS)
def test_who_sees_what(name, hyper):
  """The flags of a loss say what its functions do."""
  loss = losses.get(name, **hyper)
  for function in loss.discriminator, loss.generator:
    shift = function(REAL + 3, FAKE + 3) - function(REAL, FAKE)
    if function is loss.discriminator or loss.generator_uses_real:
      assert (abs(shift) < 1e-5) == loss.shift_invariant
  real_pull = jax.grad(loss.generator)(REAL, FAKE)
  assert bool((real_pull != 0).any()) == loss.generator_uses_real


# What each form judges with REAL and FAKE, and its derivatives after r1, r2,
# f1, f2. The means are 1 and -1/4, their mean is 3/8.
DIFFERENCES = {
  "pairing": ([1, 1.5], [[1, 0, -1, 0], [0, 1, 0, -1]]),
  "pairing_mvue": (
    [1, -0.5, 3, 1.5],
    [[1, 0, -1, 0], [1, 0, 0, -1], [0, 1, -1, 0], [0, 1, 0, -1]],
  ),
  "average": (
    [0.25, 2.25, 2, 0.5],
    [
      [1, 0, -0.5, -0.5],
      [0, 1, -0.5, -0.5],
      [0.5, 0.5, -1, 0],
      [0.5, 0.5, 0, -1],
    ],
  ),
  "centered": (
    [-0.375, 1.625, 1.375, -0.125],
    [
      [0.75, -0.25, -0.25, -0.25],
      [-0.25, 0.75, -0.25, -0.25],
      [0.25, 0.25, -0.75, 0.25],
      [0.25, 0.25, 0.25, -0.75],
    ],
  ),
}
TERMS = {
  "non_saturating": (lambda y: sp(-y), lambda y: -sigmoid(-y)),
  "least_squares": (lambda y: (y - 1) ** 2, lambda y: 2 * (y - 1)),
  "hinge": (lambda y: np.maximum(0, 1 - y), lambda y: -1.0 * (y < 1)),
}


@pytest.mark.parametrize("form", relativism.RELATIVISM)
@pytest.mark.parametrize("name", SYMMETRIC)
def test_relativism_by_hand(name, form):
  loss = losses.get(name, relativism=form)
  term, slope = TERMS[name]
  # A kink (hinge at 1) has no one derivative: keep away from it.
  real = REAL + jnp.array([0.01, 0.0])
  fake = FAKE
  differences, jacobian = map(np.float64, DIFFERENCES[form])
  differences = differences + jacobian @ [0.01, 0, 0, 0]
  # G sees the differences with the roles exchanged: minus those of D, but
  # for the centred and averaged ones, whose order of players is exchanged.
  for function, sign in (loss.discriminator, 1), (loss.generator, -1):
    value, grads = jax.value_and_grad(function, (0, 1))(real, fake)
    y = sign * differences
    np.testing.assert_allclose(value, term(y).mean(), rtol=1e-5)
    expected = sign * slope(y) @ jacobian / len(y)
    np.testing.assert_allclose(np.concatenate(grads), expected, atol=1e-6)


@pytest.mark.parametrize("form", relativism.BIAS)
def test_the_unbiased_form_is(form):
  """Over every batch of two of a population, the mean is the population's."""
  population = np.array([-1.0, 0.5, 2.0, 4.0])
  others = np.array([0.0, 1.0, -2.0])

  def pairs(x):
    return np.array([(a, b) for a in x for b in x], np.float32)

  batches = [(r, f) for r in pairs(population) for f in pairs(others)]
  real, fake = (jnp.array(x) for x in zip(*batches, strict=True))

  def mean(unbiased):
    loss = losses.get("least_squares", relativism=form, unbiased=unbiased)
    return jax.vmap(loss.discriminator)(real, fake).mean()

  # The true one: with the means of the populations.
  r = population.mean()
  f = others.mean()
  to_real, to_fake = (f, r) if form == "average" else ((r + f) / 2,) * 2
  expected = (
    np.square(population - to_real - 1).mean()
    + np.square(others - to_fake + 1).mean()
  ) / 2
  np.testing.assert_allclose(mean(unbiased=True), expected, rtol=1e-5)
  biased = mean(unbiased=False)
  assert abs(biased - expected) > 0.1
  # The average form is too large, the centered too small.
  assert (biased > expected) == (form == "average")


# name -> (T(v), its slope, f*(T(v)), its slope), from the published tables:
# g_f(v), and f*(t) at t = g_f(v).
VARIATIONAL = {
  "kl": (lambda v: v, lambda v: 1.0 + 0 * v, lambda v: np.exp(v - 1)),
  "reverse_kl": (
    lambda v: -np.exp(-v),
    lambda v: np.exp(-v),
    lambda v: -1 - np.log(np.exp(-v)),
  ),
  "pearson": (
    lambda v: v,
    lambda v: 1.0 + 0 * v,
    lambda v: v**2 / 4 + v,
  ),
  "squared_hellinger": (
    lambda v: 1 - np.exp(-v),
    lambda v: np.exp(-v),
    lambda v: (1 - np.exp(-v)) / (1 - (1 - np.exp(-v))),
  ),
  "jensen_shannon": (
    lambda v: np.log(2) - np.log1p(np.exp(-v)),
    lambda v: sigmoid(-v),
    lambda v: -np.log(2 - np.exp(np.log(2) - np.log1p(np.exp(-v)))),
  ),
}
# d f*(T(v)) / dv by hand.
CONJUGATE_SLOPES = {
  "kl": lambda v: np.exp(v - 1),
  "reverse_kl": lambda v: 1.0 + 0 * v,
  "pearson": lambda v: v / 2 + 1,
  "squared_hellinger": np.exp,
  "jensen_shannon": sigmoid,
}
# name -> generator f of D_f(P || Q) = E_Q f(P / Q).
GENERATORS = {
  "kl": lambda u: u * np.log(u),
  "reverse_kl": lambda u: -np.log(u),
  "pearson": lambda u: (u - 1) ** 2,
  "squared_hellinger": lambda u: (np.sqrt(u) - 1) ** 2,
  "jensen_shannon": lambda u: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
}


@pytest.mark.parametrize("name", divergences.DIVERGENCES)
def test_f_divergences_by_hand(name):
  real = np.float64(REAL)
  fake = np.float64(FAKE)
  output, slope, conjugate = VARIATIONAL[name]
  loss = losses.get("f_divergence", divergence=name)
  value, grads = jax.value_and_grad(loss.discriminator, (0, 1))(REAL, FAKE)
  expected = -output(real).mean() + conjugate(fake).mean()
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(grads[0], -slope(real) / 2, rtol=1e-5)
  np.testing.assert_allclose(
    grads[1], CONJUGATE_SLOPES[name](fake) / 2, rtol=1e-5
  )
  value, grad = jax.value_and_grad(loss.generator, 1)(REAL, FAKE)
  np.testing.assert_allclose(value, -output(fake).mean(), rtol=1e-5)
  np.testing.assert_allclose(grad, -slope(fake) / 2, rtol=1e-5)
  zero_sum = losses.get("f_divergence", divergence=name, saturating=True)
  value, grad = jax.value_and_grad(zero_sum.generator, 1)(REAL, FAKE)
  np.testing.assert_allclose(value, -conjugate(fake).mean(), rtol=1e-5)
  np.testing.assert_allclose(grad, -CONJUGATE_SLOPES[name](fake) / 2, rtol=1e-5)


@pytest.mark.parametrize("name", divergences.DIVERGENCES)
def test_the_bound_is_tight_at_the_optimal_logit(name):
  """The sup of the variational form is D_f, at the D* = p / (p + q)."""
  p = np.array([0.1, 0.3, 0.6])
  q = np.array([0.4, 0.35, 0.25])
  form = divergences.DIVERGENCES.find(name)()
  logits = jnp.linspace(-4, 4, 20_001)
  best = np.outer(p, form.output(logits)) - np.outer(q, form.conjugate(logits))
  expected = (q * GENERATORS[name](p / q)).sum()
  np.testing.assert_allclose(best.max(1).sum(), expected, rtol=1e-4)
  at = form.probability(logits[best.argmax(1)])
  np.testing.assert_allclose(at, p / (p + q), atol=2e-3)


@pytest.mark.parametrize("name", ["minimax", "non_saturating", "least_squares"])
def test_probability_at_the_optimal_logit(name):
  p = np.array([0.1, 0.3, 0.6])
  q = np.array([0.4, 0.35, 0.25])
  hyper = {}
  if name == "least_squares":
    hyper = dict(fake_target=-1.0, real_target=3.0, generator_target=3.0)
  loss = losses.get(name, **hyper)
  assert loss.terms is not None
  real_term, fake_term = loss.terms
  logits = jnp.linspace(-4, 4, 20_001)
  value = np.outer(p, real_term(logits)) + np.outer(q, fake_term(logits))
  at = loss.probability(logits[value.argmin(1)])
  np.testing.assert_allclose(at, p / (p + q), atol=2e-3)


def test_hinge_probability_has_the_right_boundary():
  got = losses.get("hinge").probability(jnp.array([-2.0, 0.0, 0.5, 9.0]))
  np.testing.assert_allclose(got, [0, 0.5, 0.75, 1])


def test_label_smoothing_by_hand():
  """Target .9 for reals: .9 sp(-r) + .1 sp(r); fakes as before."""
  loss = losses.smooth(losses.get("non_saturating", d_weight=0.5), 0.1)
  value, grads = jax.value_and_grad(loss.discriminator, (0, 1))(REAL, FAKE)
  real = 0.9 * (sp(0) + sp(-2)) / 2 + 0.1 * (sp(0) + sp(2)) / 2
  expected = 0.5 * (real + (sp(-1) + sp(0.5)) / 2)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  # d/dr of BCE with target .9 is sigmoid(r) - .9.
  pull = 0.5 * (sigmoid(np.array([0.0, 2.0])) - 0.9) / 2
  np.testing.assert_allclose(grads[0], pull, rtol=1e-5)
  plain = losses.get("non_saturating", d_weight=0.5)
  np.testing.assert_allclose(
    grads[1], jax.grad(plain.discriminator, 1)(REAL, FAKE)
  )
  assert loss.generator(REAL, FAKE) == plain.generator(REAL, FAKE)
  with pytest.raises(errors.UserError, match="relativistic"):
    losses.smooth(losses.get("hinge", relativism="pairing"), 0.1)


def test_label_smoothing_keeps_the_weight_of_g():
  plain = losses.get("non_saturating", d_weight=0.5, g_weight=3.0)
  loss = losses.smooth(plain, 0.1)
  assert loss.generator(REAL, FAKE) == plain.generator(REAL, FAKE)
  assert loss.weights == (0.5, 3.0)


# Of a user's own file: a margin in place of the hinge's 1, and a form that
# doubles the differences of "pairing".
MINE = """
import jax
from ganjax.objectives import losses

def margin(size: float = 1.0):
  return losses._separate(
    real_term=lambda r: jax.nn.relu(size - r),
    fake_term=lambda f: jax.nn.relu(size + f),
    g_term=lambda f: -f,
    symmetric=True,
  )

def double(real, fake):
  return 2.0 * (real - fake)
"""


def test_one_of_a_users_own(tmp_path, monkeypatch):
  """By where it is, or by a name that is registered."""
  file = tmp_path / "mine.py"
  file.write_text(MINE)
  hinge = losses.get("hinge")
  monkeypatch.setitem(losses.LOSSES, "m", losses.LOSSES.find(f"{file}:margin"))
  for name in f"{file}:margin", "m":
    loss = losses.get(name, size=1.0)
    assert loss.discriminator(REAL, FAKE) == hinge.discriminator(REAL, FAKE)
  loss = losses.get("hinge", relativism=f"{file}:double")
  # 2 (r - f) = 2, 3: beyond the margin for D; -2, -3 for G.
  assert loss.discriminator(REAL, FAKE) == 0.0
  assert loss.generator(REAL, FAKE) == (3.0 + 4.0) / 2


@pytest.mark.parametrize("name", losses.LOSSES)
def test_columns_of_logits_are_refused(name):
  with pytest.raises(ValueError, match=r"\[2, 1\]"):
    losses.get(name).discriminator(REAL[:, None], FAKE)


def test_non_saturating_gradient_is_odds_times_minimax():
  """2014, section 3: the ratio of the two is (1 - D) / D."""
  logits = jnp.array([-4.0, -1.0, 0.0, 3.0])
  grad = {
    name: jax.grad(losses.get(name).generator, 1)(logits, logits)
    for name in ("minimax", "non_saturating")
  }
  d = sigmoid(logits)
  ratio = grad["non_saturating"] / grad["minimax"]
  np.testing.assert_allclose(ratio, (1 - d) / d, rtol=1e-5)


def test_equilibrium_constants():
  zeros = jnp.zeros(3)

  def at(name, logits, **hyper):
    return losses.get(name, **hyper).discriminator(logits, logits)

  np.testing.assert_allclose(at("minimax", zeros), np.log(4), rtol=1e-6)
  half = at("non_saturating", zeros, d_weight=0.5)
  np.testing.assert_allclose(half, np.log(2), rtol=1e-6)
  np.testing.assert_allclose(at("least_squares", zeros + 0.5), 0.5)
  np.testing.assert_allclose(at("hinge", zeros), 2.0)

  def relative(name, form):
    return at(name, zeros + 3, relativism=form)

  np.testing.assert_allclose(relative("non_saturating", "pairing"), np.log(2))
  np.testing.assert_allclose(relative("non_saturating", "average"), np.log(2))
  np.testing.assert_allclose(relative("least_squares", "average"), 1.0)
  np.testing.assert_allclose(relative("hinge", "average"), 1.0)


def test_least_squares_targets():
  loss = losses.get(
    "least_squares", fake_target=-1.0, real_target=1.0, generator_target=0.0
  )
  # (r - 1)^2 = 1, 1; (f + 1)^2 = 0, 2.25; f^2 = 1, .25.
  np.testing.assert_allclose(loss.discriminator(REAL, FAKE), 1 + 1.125)
  np.testing.assert_allclose(loss.generator(REAL, FAKE), 0.625)


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="did you mean 'hinge'"):
    losses.get("hinje")
  with pytest.raises(errors.UserError, match="d_weight=-1"):
    losses.get("hinge", d_weight=-1)
  with pytest.raises(errors.UserError, match="did you mean 'pairing'"):
    losses.get("hinge", relativism="pairings")
  with pytest.raises(errors.UserError, match="'wasserstein'.*no relativistic"):
    losses.get("wasserstein", relativism="pairing")
  with pytest.raises(errors.UserError, match="no relativistic"):
    losses.get("least_squares", relativism="pairing", generator_target=0.5)
  with pytest.raises(errors.UserError, match="average or centered, not hinge"):
    losses.get("hinge", relativism="average", unbiased=True)
  with pytest.raises(errors.UserError, match="not least_squares with 'none'"):
    losses.get("least_squares", unbiased=True)
  with pytest.raises(errors.UserError, match="both 1.0"):
    losses.get("least_squares", fake_target=1.0)
  with pytest.raises(errors.UserError, match="did you mean 'kl'"):
    losses.get("f_divergence", divergence="kld")
