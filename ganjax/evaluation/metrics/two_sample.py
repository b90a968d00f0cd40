"""Tests by a classifier whether reals and fakes have the same law."""

import warnings

import numpy as np
from scipy import stats
from scipy.spatial import distance

from ganjax import errors
from ganjax.evaluation import metrics


# The accuracies of the nearest neighbour have no direction, they are best at
# 0.5: below it the fakes are nearer to the reals than the reals are to one
# another.
@metrics.register(
  on="features",
  better={"two_sample_accuracy": "lower", "two_sample_p_value": "higher"},
  formats={
    "two_sample_accuracy": ".3f",
    "nn_accuracy_real": ".3f",
    "nn_accuracy_fake": ".3f",
  },
)
def two_sample(num: int = 2000, seed: int = 0) -> metrics.Metric:
  """Returns the classifier two-sample tests of real against fake.

  A logistic regression learns on one half to tell reals from fakes and is
  tested on the other: Lopez-Paz and Oquab 2017, section 3. If both have the
  same law then its accuracy t is distributed as N(1/2, 1 / (4 n)), n the size
  of the tested half, and the p-value is the probability of t or more. A
  logistic regression sees little but a shift of the mean. The accuracy of the
  nearest neighbour among all other samples, of reals and of fakes apart, sees
  more: Xu et al. 2018, section 2.1. Near 1 for both: the laws are apart; near 1
  for fakes alone: these have collapsed to the centres of modes; both below a
  half: the fakes are copies of reals.

  Args:
    num: how many reals and as many fakes are used, at most.
    seed: decides which samples are used, and which of them are tested.

  Returns:
    `metric(real [N, d], fake [M, d])` with the values `two_sample_accuracy`,
    `two_sample_p_value`, `nn_accuracy_real` and `nn_accuracy_fake`, all in
    [0, 1] and the accuracies 1/2 if the laws are the same. If the nearest real
    and the nearest fake are equally near, that counts as half. Its flags:
    "constant", all reals or all fakes are the same; "not converged", the
    logistic regression.

  Raises:
    UserError: `num` is below 4; when called with fewer than four samples, or
      with non-finite ones.
  """
  if num < 4:
    raise errors.UserError(f"two_sample: num is {num}, it must be at least 4")

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("two_sample", real, fake, min_samples=4)
    protocol: dict[str, object] = {
      "num_real": len(real),
      "num_fake": len(fake),
      "num": min(num, len(real), len(fake)),
      "seed": seed,
    }
    real, fake = _balanced(real, fake, num, seed)
    flags = []
    if any(np.all(x == x[0]) for x in (real, fake)):
      flags.append("constant")
    accuracy, num_test, converged = _logistic(real, fake)
    if not converged:
      flags.append("not converged")
    # Under N(1/2, 1 / (4 n)) the deviation of the accuracy is 1 / (2 sqrt(n)).
    deviations = (accuracy - 0.5) * 2 * np.sqrt(num_test)
    nn_real, nn_fake = _nearest(real, fake)
    values = {
      "two_sample_accuracy": accuracy,
      "two_sample_p_value": float(stats.norm.sf(deviations)),
      "nn_accuracy_real": nn_real,
      "nn_accuracy_fake": nn_fake,
    }
    return metrics.Record(values, protocol, tuple(flags))

  return metric


def _balanced(
  real: np.ndarray, fake: np.ndarray, num: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns as many of both, at most `num`, in random order and scaled.

  All is divided by the same number, so that no square overflows.
  """
  num = min(num, len(real), len(fake))
  rng = np.random.RandomState(seed)
  real = real[rng.permutation(len(real))[:num]]
  fake = fake[rng.permutation(len(fake))[:num]]
  largest = max(np.abs(real).max(), np.abs(fake).max()) or 1.0
  return real / largest, fake / largest


def _logistic(real: np.ndarray, fake: np.ndarray) -> tuple[float, int, bool]:
  """Returns accuracy, number of tested samples, and whether it converged."""
  # Not at the top: scikit-learn takes a second to import.
  from sklearn import exceptions, linear_model, pipeline, preprocessing

  half = len(real) // 2
  classifier = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(max_iter=1000),
  )
  train = np.concatenate([real[:half], fake[:half]])
  test = np.concatenate([real[half:], fake[half:]])
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", exceptions.ConvergenceWarning)
    classifier.fit(train, np.arange(len(train)) >= half)
  converged = not any(
    issubclass(w.category, exceptions.ConvergenceWarning) for w in caught
  )
  is_fake = np.arange(len(test)) >= len(test) // 2
  accuracy = float(np.mean(classifier.predict(test) == is_fake))
  return accuracy, len(test), converged


def _nearest(real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
  """Returns the leave-one-out accuracies of reals and of fakes."""
  across = distance.cdist(real, fake, "sqeuclidean")
  accuracies = []
  for x, other in ((real, across.min(axis=1)), (fake, across.min(axis=0))):
    within = distance.cdist(x, x, "sqeuclidean")
    np.fill_diagonal(within, np.inf)
    own = within.min(axis=1)
    accuracies.append(float(np.mean((own < other) + (own == other) / 2)))
  return accuracies[0], accuracies[1]
