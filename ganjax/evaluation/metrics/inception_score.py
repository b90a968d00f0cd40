"""The Inception score: confident classes each, all classes together."""

import numpy as np
from scipy import special

from ganjax import errors
from ganjax.evaluation import metrics


@metrics.register(
  on="logits",
  better={"inception_score_mean": "higher"},
  spreads={"inception_score_mean": "inception_score_std"},
)
def inception_score(splits: int = 10, seed: int = 2020) -> metrics.Metric:
  """Returns the score of Salimans et al. 2016, section 4, of the fakes.

  It is `exp(E_x KL(p(y|x) || p(y)))`. The shuffled fakes are divided into equal
  parts, and the mean over x and the marginal p(y) are those of a part. The
  score lies between 1 and the number of classes, is at most the number of
  samples in a part, and sees neither the reals nor variety within a class
  (Barratt and Sharma 2018).

  It may be compared with published numbers only if the logits are those of
  the Inception network of 2015 without their biases. With the logits of another
  classifier the formula is the same and the scale is another. torch-fidelity
  0.4.0, which shuffles alike, makes the same values of the same logits.

  Args:
    splits: how many parts the fakes are divided into.
    seed: decides how the fakes are shuffled.

  Returns:
    `metric(real [N, K], fake [M, K])` on logits, with the values
    `inception_score_mean` and `inception_score_std` (divisor `splits`) over
    the parts. The reals are counted, not used. It is flagged "few samples:
    one split" where there are fewer than `splits`, all in one part then;
    "fewer samples a split than classes", which bounds the score; and
    "constant" where all fakes have the same logits.

  Raises:
    UserError: `splits` is below 1; when called without samples, or with
      non-finite ones.
  """
  if splits < 1:
    raise errors.UserError(
      f"inception_score: splits is {splits}, it must be at least 1"
    )

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("inception_score", real, fake)
    num, num_classes = fake.shape
    parts = splits if num >= splits else 1
    order = np.random.RandomState(seed).permutation(num)
    edges = [i * num // parts for i in range(parts + 1)]
    scores = [
      score(fake[order[start:stop]])
      for start, stop in zip(edges[:-1], edges[1:], strict=True)
    ]
    flags = {
      "few samples: one split": parts < splits,
      "fewer samples a split than classes": num // parts < num_classes,
      "constant": bool((fake == fake[0]).all()),
    }
    return metrics.Record(
      {
        "inception_score_mean": float(np.mean(scores)),
        "inception_score_std": float(np.std(scores)),
      },
      {
        "num_real": len(real),
        "num_fake": num,
        "num_classes": num_classes,
        "splits": parts,
        "seed": seed,
      },
      tuple(flag for flag, holds in flags.items() if holds),
    )

  return metric


def score(logits: np.ndarray) -> float:
  """Returns exp(E_x KL(p(y|x) || p(y))) of float64 logits `[N, K]`."""
  # In logarithms, p(y) too: a class that nobody has is 0 * finite, not NaN.
  log_p = special.log_softmax(logits, axis=1)
  log_marginal = special.logsumexp(log_p, axis=0) - np.log(len(log_p))
  kl = np.sum(np.exp(log_p) * (log_p - log_marginal), axis=1)
  return float(np.exp(kl.mean()))
