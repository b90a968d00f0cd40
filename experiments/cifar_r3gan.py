"""R3GAN on CIFAR-10, conditional, in the published setting.

Huang et al. 2025 (https://arxiv.org/abs/2501.05441): relativistic pairing with
R1 and R2, every number on a cosine over the first 20 million images.

    pip install -e '.[tfds]' && ganjax train --config cifar_r3gan

Published: FID 1.96 (Inception) after 250 million images, four days on 8 L40.
The whole run was not made yet: see results/README.md. The last stages are in
bfloat16 there; real images are flipped beforehand, here by the pipe alone.
"""

import ml_collections

from ganjax import configs

NET = dict(name="r3gan", widths=(768,) * 4, group_size=16, conditional=True)
TINY = dict(widths=(8,) * 4, num_blocks=1, group_size=8)
SMOKE = dict(generator=TINY, discriminator=TINY, augment=dict(policy=("blit",)))
BATCH_SIZE = 512
FULL = dict(batch_size=BATCH_SIZE, num_steps=250_000_000 // BATCH_SIZE)


def cosine(init_value: float, end_value: float) -> dict:
  """A number over the burn-in of 20 million images."""
  ends = dict(init_value=init_value, end_value=end_value)
  return dict(name="cosine", decay_steps=20e6 / BATCH_SIZE) | ends


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  adam = dict(name="adam", b1=0.0, eps=1e-8)
  adam |= dict(learning_rate=cosine(2e-4, 5e-5), b2=cosine(0.9, 0.99))
  config.system.z_dim = 64
  config.generator = config.discriminator = NET
  config.loss.relativism = "pairing"
  config.g_opt = config.d_opt = adam
  gamma = dict(gamma=cosine(0.05, 0.005))
  config.penalties = dict(r1=gamma, r2=gamma)
  config.augment = dict(
    name="pipe",
    p=cosine(0.0, 0.55),
    policy=("blit", "geometric", "color", "cutout"),
    color_strength=0.5,
  )
  config.ema = dict(half_life=cosine(0.0, 5e6))
  config.update({"": FULL, "smoke": SMOKE}[arg])
  return config
