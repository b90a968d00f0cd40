"""MNIST from 100 labels, 10 of each class.

Salimans et al. 2016 (https://arxiv.org/abs/1606.03498), section 5.1: feature
matching and noise on D's input. Theirs has noise and weight norm in every
layer, too, and an error of .93 % over ten choices of the labels; these nets
are small convolutional ones without weight norm.

    pip install -e '.[tfds]' && ganjax train --config mnist_semi_supervised

Expected (3 seeds, each with other labels): test errors of 7.5, 8.3 and 10.0 %,
within 13 minutes on one core; 22.4, 20.1 and 22.1 % from the same labels alone,
with --config.system.supervised_only=True. The generator serves the classifier:
its digits are fragments.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  system=dict(num_labeled=20, num_features=8),
  generator=dict(width=4),
  encoder=dict(width=4),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", b1=0.5)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=5000,
      batch_size=100,
      system=dict(
        name="semi_supervised", num_labeled=100, z_dim=100, instance_noise=0.6
      ),
      dataset=dict(name="tfds", builder="mnist"),
      generator=dict(name="dcgan", width=16, output_bias=True),
      encoder=dict(name="dcgan", width=16, norm="none"),
      g_opt=adam | dict(learning_rate=1e-3),
      d_opt=adam | dict(learning_rate=3e-4),
      ema=dict(decay=0.999),
      evals=dict(
        classes=dict(every=1000),
        classification_error=dict(every=1000),
        frechet=dict(every=1000),
      ),
      samples=dict(every=1000, num=100),
      checkpoint=dict(every=1000, keep=2),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
