"""Values and gradients of the penalties, by hand on linear networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors
from ganjax.objectives import augment, penalties, per_example

RNG = np.random.RandomState(0)
N, D, Z = 5, 6, 3  # D: images of 2x3 pixels.
W = np.float32([0.5, -1.0, 2.0, 0.0, 1.5, -0.5])
A = np.float32(RNG.normal(size=(Z, D)))
REAL, FAKE = np.float32(RNG.normal(size=(2, N, D)))
LATENTS = np.float32(RNG.normal(size=(N, Z)))
KEYS = jax.random.split(jax.random.key(0), N)


def images(x):
  return jnp.reshape(x, (-1, 2, 3, 1))


def view(w=W, a=A, real=REAL, fake=FAKE, critic=None, keys=KEYS):
  """A linear critic C(x) = w x and a linear generator G(z) = z A."""
  draw_z = jax.vmap(lambda key: jax.random.normal(key, (Z,)))

  def linear(x):
    return jnp.reshape(x, (-1, D)) @ w

  return penalties.View(
    d_fn=critic or linear,
    g_fn=lambda z: images(z @ a),
    draw_z=draw_z,
    params={"dense": {"kernel": a, "bias": w}},
    real=images(real),
    fake=images(fake),
    z=jnp.asarray(LATENTS),
    keys=keys,
    mean=lambda tree: tree,
  )


def value_and_grad(name, player="discriminator", memory=None, **hyper):
  """The value, and the gradient after w for D or after A for G."""
  penalty = penalties.get(name, **hyper)
  memory = penalty.memory if memory is None else memory
  function = getattr(penalty, player)

  def of_w(w):
    return function(view(w=w), memory)[0]

  def of_a(a):
    return function(view(a=a, fake=LATENTS @ a), memory)[0]

  after_w = player == "discriminator"
  value, grad = jax.value_and_grad(of_w if after_w else of_a)(
    jnp.asarray(W if after_w else A)
  )
  return float(value), np.asarray(grad)


NORM = np.sqrt(np.sum(np.float64(W) ** 2))
# C is linear: its gradient is w everywhere.
ON_A_LINEAR_CRITIC = {
  "r1": (dict(gamma=3.0), 1.5 * NORM**2, 3.0 * W),
  "r2": (dict(gamma=3.0), 1.5 * NORM**2, 3.0 * W),
  "gradient_penalty": (
    dict(weight=4.0, target=1.5),
    4.0 * (NORM - 1.5) ** 2,
    8.0 * (NORM - 1.5) * W / NORM,
  ),
  "zero_centered": (dict(weight=2.0), 2.0 * NORM**2, 4.0 * W),
  "dragan": (
    dict(weight=2.0, target=0.5),
    2.0 * (NORM - 0.5) ** 2,
    4.0 * (NORM - 0.5) * W / NORM,
  ),
}


@pytest.mark.parametrize("name", ON_A_LINEAR_CRITIC)
def test_gradient_penalties_by_hand(name):
  hyper, value, grad = ON_A_LINEAR_CRITIC[name]
  got, got_grad = value_and_grad(name, **hyper)
  np.testing.assert_allclose(got, value, rtol=1e-5)
  np.testing.assert_allclose(got_grad, grad, rtol=1e-5)


def test_one_sided_spares_small_gradients():
  for target, zero in ((NORM + 1, True), (NORM - 1, False)):
    value, grad = value_and_grad(
      "gradient_penalty", one_sided=True, target=target
    )
    assert (value == 0) == zero and (grad == 0).all() == zero


def at(name, a=2.0, real=REAL, fake=FAKE, **hyper):
  """The penalty of the quadratic critic a/2 |x|^2, with gradient a x."""

  def critic(x):
    return a / 2 * jnp.square(x.reshape(len(x), -1)).sum(1)

  penalty = penalties.get(name, **hyper)
  return penalty.discriminator(view(real=real, fake=fake, critic=critic), {})[0]


def test_where_gradients_are_taken():
  """Reals, fakes, in between, near reals: told apart by a curved critic."""

  def mean_square(x):
    return np.square(x).sum(1).mean()

  np.testing.assert_allclose(at("r1", gamma=1.0), 2 * mean_square(REAL), 1e-5)
  np.testing.assert_allclose(at("r2", gamma=1.0), 2 * mean_square(FAKE), 1e-5)
  u = np.asarray(per_example.draw(jax.random.uniform, KEYS))[:, None]
  assert ((u > 0) & (u < 1)).all() and len(np.unique(u)) == N
  between = u * REAL + (1 - u) * FAKE
  got = at("zero_centered", weight=1.0)
  np.testing.assert_allclose(got, 4 * mean_square(between), 1e-5)
  norms = np.linalg.norm(2 * between, axis=1)
  got = at("gradient_penalty", weight=1.0)
  np.testing.assert_allclose(got, np.square(norms - 1).mean(), 1e-5)
  # Near reals: x + u scale s U(0, 1), never further than scale s a pixel.
  ones = np.ones_like(REAL)
  np.testing.assert_allclose(
    at("dragan", real=ones, weight=1.0),  # Of one image: s = 0.
    (2 * np.sqrt(D) - 1) ** 2,
    rtol=1e-5,
  )
  near = at("dragan", real=np.abs(REAL), weight=1.0, target=0.0, scale=0.5)
  far = np.abs(REAL) + 0.5 * np.abs(REAL).std()
  assert 4 * mean_square(REAL) < near < 4 * mean_square(far)


def test_a_flat_critic_has_finite_penalties():
  for name in ON_A_LINEAR_CRITIC:
    penalty = penalties.get(name)

    def of_w(w, penalty=penalty):
      return penalty.discriminator(view(w=w), penalty.memory)[0]

    assert np.isfinite(jax.grad(of_w)(jnp.zeros(D))).all()


def test_lecam_by_hand():
  r = np.float64(REAL @ W)
  f = np.float64(FAKE @ W)
  value, grad = value_and_grad("lecam", weight=2.0, decay=0.9)
  # The first running means are the batch's own.
  expected = np.square(r - f.mean()).mean() + np.square(f - r.mean()).mean()
  np.testing.assert_allclose(value, 2 * expected, rtol=1e-5)
  pull = (r - f.mean()) @ REAL + (f - r.mean()) @ FAKE
  np.testing.assert_allclose(grad, 4 * pull / N, rtol=1e-4)
  # The second: .9 old + .1 new, over the weights .9 * .1 + .1.
  old = dict(real=0.1 * 7.0, fake=0.1 * -3.0, total=0.1)
  penalty = penalties.get("lecam", weight=1.0, decay=0.9)
  value, new = penalty.discriminator(view(), old)
  to_fake = (0.9 * 0.1 * -3 + 0.1 * f.mean()) / 0.19
  to_real = (0.9 * 0.1 * 7 + 0.1 * r.mean()) / 0.19
  expected = np.square(r - to_fake).mean() + np.square(f - to_real).mean()
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(new["total"], 0.19, rtol=1e-6)
  np.testing.assert_allclose(new["fake"] / new["total"], to_fake, rtol=1e-5)


def moved(x):
  apply = augment.consistency().apply
  return np.asarray(apply(images(x), KEYS, 1.0)).reshape(N, D)


@pytest.mark.parametrize("name", ["consistency", "balanced_consistency"])
def test_consistency_by_hand(name):
  """(w x - w T(x))^2, T a flip or a shift of each image."""
  both = name != "consistency"
  hyper = dict(weight_real=3.0, weight_fake=2.0) if both else dict(weight=3.0)
  value, grad = value_and_grad(name, **hyper)
  expected = 0.0
  pull = np.zeros(D)
  for x, weight in ((REAL, 3.0), (FAKE, 2.0 * both)):
    change = x - moved(x)
    assert (change != 0).any()
    expected += weight * np.square(change @ W).mean()
    pull += weight * 2 * (change @ W) @ change / N
  np.testing.assert_allclose(value, expected, rtol=1e-4)
  np.testing.assert_allclose(grad, pull, rtol=1e-4, atol=1e-4)


def test_latent_consistency_by_hand():
  noise = np.asarray(per_example.draw(jax.random.normal, KEYS, LATENTS))
  hyper = dict(d_weight=5.0, g_weight=0.5, sigma=0.1)
  penalty = penalties.get("latent_consistency", **hyper)

  def of_w(w):
    return penalty.discriminator(view(w=w, fake=LATENTS @ A), {})[0]

  value, grad = jax.value_and_grad(of_w)(jnp.asarray(W))
  step = 0.1 * noise @ A
  np.testing.assert_allclose(value, 5 * np.square(step @ W).mean(), rtol=1e-3)
  expected = 10 * (step @ W) @ step / N
  np.testing.assert_allclose(grad, expected, rtol=1e-2, atol=1e-3)
  value, grad = value_and_grad("latent_consistency", "generator", **hyper)
  np.testing.assert_allclose(value, -0.5 * np.square(step).mean(), rtol=1e-3)
  expected = -(0.1 * noise).T @ step / step.size
  np.testing.assert_allclose(grad, expected, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("player", ["discriminator", "generator", "both"])
def test_orthogonal_by_hand(player):
  penalty = penalties.get("orthogonal", weight=0.5, player=player)
  assert (penalty.discriminator is None) == (player == "generator")
  assert (penalty.generator is None) == (player == "discriminator")
  function = penalty.discriminator or penalty.generator

  def of_kernel(kernel):
    params = {"kernel": kernel, "bias": jnp.ones(2)}
    return function(view()._replace(params=params), {})[0]

  kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]])
  value, grad = jax.value_and_grad(of_kernel)(kernel)
  # The columns' product is 1 * 2 + 3 * 4 = 14, twice off the diagonal.
  assert value == 0.5 * 2 * 14**2
  expected = 4 * 14 * np.array([[2, 1], [4, 3]]) * 0.5
  np.testing.assert_allclose(grad, expected)
  # A convolution's kernel is the matrix [kh kw in, out].
  np.testing.assert_allclose(of_kernel(kernel.reshape(2, 1, 1, 2)), value)


def test_path_length_by_hand():
  y = np.asarray(per_example.draw(jax.random.normal, KEYS, images(FAKE)))
  y = y.reshape(N, D) / np.sqrt(6)  # 2x3 pixels.
  pulled = y @ A.T  # J^T y
  lengths = np.linalg.norm(pulled, axis=1)
  memory = dict(length=jnp.float32(2.0))
  value, grad = value_and_grad(
    "path_length", "generator", memory, weight=3.0, decay=0.25
  )
  mean = 0.75 * 2.0 + 0.25 * lengths.mean()
  np.testing.assert_allclose(value, 3 * np.square(lengths - mean).mean(), 1e-5)
  slope = 2 * (lengths - mean) / lengths / N
  expected = 3 * (slope[:, None] * pulled).T @ y
  np.testing.assert_allclose(grad, expected, rtol=1e-4)
  penalty = penalties.get("path_length", decay=0.25)
  _, new = penalty.generator(view(), memory)
  np.testing.assert_allclose(new["length"], mean, rtol=1e-6)


def test_mode_seeking_by_hand():
  value, grad = value_and_grad("mode_seeking", "generator", weight=2.0)
  other = np.asarray(view().draw_z(KEYS))
  dz = LATENTS - other
  image = np.abs(dz @ A).mean()
  latent = np.abs(dz).mean()
  ratio = image / latent + 1e-5
  np.testing.assert_allclose(value, 2.0 / ratio, rtol=1e-5)
  image_grad = dz.T @ np.sign(dz @ A) / (N * D)
  expected = -2.0 / ratio**2 * image_grad / latent
  np.testing.assert_allclose(grad, expected, rtol=1e-4)


def test_every_penalty_has_its_hand_computed_value():
  """A new penalty fails here until it has a test above."""
  others = (
    "lecam consistency balanced_consistency latent_consistency orthogonal "
    "path_length mode_seeking"
  )
  tested = ON_A_LINEAR_CRITIC.keys() | set(others.split())
  assert penalties.PENALTIES.keys() == tested


@pytest.mark.parametrize("name", penalties.PENALTIES)
def test_noise_belongs_to_the_example(name):
  """Examples in another order, each with its key: the same penalty."""
  penalty = penalties.get(name)
  order = np.array([3, 0, 4, 1, 2])
  one = view()
  other = view(real=REAL[order], fake=FAKE[order])
  other = other._replace(z=one.z[order], keys=KEYS[order])
  for function in penalty.discriminator, penalty.generator:
    if function is not None:
      values = [function(v, penalty.memory)[0] for v in (one, other)]
      np.testing.assert_allclose(*values, rtol=1e-5)
      assert values[0].dtype == jnp.float32 and values[0].shape == ()


def test_one_of_a_users_own(tmp_path, monkeypatch):
  """By where it is, or by a name that is registered."""
  file = tmp_path / "mine.py"
  file.write_text(
    "from ganjax.objectives.penalties import Penalty\n\n"
    "def drift(weight: float = 1.0):\n"
    "  def function(view, memory):\n"
    "    return weight * (view.d_fn(view.real) ** 2).mean(), memory\n"
    "  return Penalty(discriminator=function)\n"
  )
  found = penalties.PENALTIES.find(f"{file}:drift")
  monkeypatch.setitem(penalties.PENALTIES, "drift", found)
  for name in f"{file}:drift", "drift":
    value, grad = value_and_grad(name, weight=3.0)
    np.testing.assert_allclose(value, 3 * np.square(REAL @ W).mean(), 1e-5)
    np.testing.assert_allclose(grad, 6 * (REAL @ W) @ REAL / N, 1e-4)


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="did you mean 'r1'"):
    penalties.get("r11")
  with pytest.raises(errors.UserError, match="did you mean 'generator'"):
    penalties.get("orthogonal", player="generato")
