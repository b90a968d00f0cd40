"""How often a classifier sees the class that a sample was drawn for."""

import numpy as np
from numpy.typing import ArrayLike

from ganjax import errors
from ganjax.evaluation import metrics


@metrics.register(
  on="logits",
  better={"label_accuracy": "higher", "label_accuracy_worst": "higher"},
  formats={
    "label_accuracy": ".3f",
    "label_accuracy_worst": ".3f",
    "label_accuracy_real": ".3f",
  },
)
def label_accuracy(
  labels: ArrayLike | None,
  fake_labels: ArrayLike | None,
  held_out: np.ndarray | None,
  held_out_labels: ArrayLike | None,
) -> metrics.Metric:
  """Returns the accuracy of a conditional generator's labels.

  A classifier of real images looks at fakes, as for the "Inception accuracy" of
  Odena et al. 2017. Here it is the classifier of the extractor, and its
  accuracy on held-out images is reported, too. The metric does not see variety:
  one good image for each class is enough for an accuracy of 1, where
  `classification_accuracy` falls.

  Args:
    labels: int `[N]` in [0, K), the class of each real.
    fake_labels: int `[M]`, the class that each fake was drawn for.
    held_out: logits `[L, K]` of the test split.
    held_out_labels: int `[L]`, its classes.

  Returns:
    `metric(real [N, K], fake [M, K])` on class logits, with the values
    `label_accuracy`; `label_accuracy_worst`, that of the class for which it is
    lowest; and `label_accuracy_real`, the accuracy on the held-out images; all
    in [0, 1]. Its flag: "other classes", the logits are not of as many classes
    as the labels, such as Inception's of ImageNet.

  Raises:
    UserError: the dataset has no labels or no test split; when called without
      labels of the fakes, with other than N reals and M fakes, without samples,
      or with non-finite ones.
  """
  if labels is None or held_out is None or held_out_labels is None:
    raise errors.UserError(
      "label_accuracy: it needs a dataset with labels and a test split"
    )

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    name = "label_accuracy"
    real, fake = metrics.check(name, real, fake)
    _, test = metrics.check(name, real, held_out)
    given = metrics.check_labels(
      name,
      real=(labels, real),
      fake=(fake_labels, fake),
      held_out=(held_out_labels, test),
    )
    _, fake_y, test_y = given
    num_classes = max(int(y.max()) for y in given) + 1
    right = fake.argmax(axis=1) == fake_y
    return metrics.Record(
      {
        name: float(right.mean()),
        f"{name}_worst": min(
          float(right[fake_y == k].mean()) for k in np.unique(fake_y)
        ),
        f"{name}_real": float(np.mean(test.argmax(axis=1) == test_y)),
      },
      {
        "num_real": len(real),
        "num_fake": len(fake),
        "num_held_out": len(test),
        "classes": num_classes,
      },
      () if num_classes == fake.shape[1] else ("other classes",),
    )

  return metric
