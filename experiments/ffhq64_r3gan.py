"""R3GAN on faces of 64x64 pixels, in the published setting.

Huang et al. 2025 (https://arxiv.org/abs/2501.05441) on FFHQ, whose pictures
are found in `data/ffhq64`, or where `--config.dataset.path` says.

    ganjax train --config ffhq64_r3gan

Published: FID 1.95 (Inception) after 100 million images, real ones flipped
beforehand; here the pipe alone flips. The whole run was not made yet: see
results/README.md. `smoke` draws digits.
"""

import ml_collections

BATCH_SIZE = 256
PIPE = dict(name="pipe", policy=("blit", "geometric", "color", "cutout"))
TINY = dict(widths=(8, 8, 4), num_blocks=1, group_size=8)
SMOKE = dict(
  num_steps=2,
  generator=TINY,
  discriminator=TINY,
  augment=dict(policy=("blit",)),
)


def cosine(init_value: float, end_value: float) -> dict:
  """A number over the burn-in of 20 million images."""
  ends = dict(init_value=init_value, end_value=end_value)
  return dict(name="cosine", decay_steps=20e6 / BATCH_SIZE) | ends


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  net = dict(name="r3gan", widths=(768,) * 4 + (384,), group_size=16)
  adam = dict(name="adam", b1=0.0, eps=1e-8)
  adam |= dict(learning_rate=cosine(2e-4, 5e-5), b2=cosine(0.9, 0.99))
  gamma = dict(gamma=cosine(2.0, 0.2))
  config = ml_collections.ConfigDict(
    dict(
      num_steps=100_000_000 // BATCH_SIZE,
      batch_size=BATCH_SIZE,
      system=dict(name="gan", z_dim=64),
      dataset=dict(name="folder", path="data/ffhq64", size=64),
      generator=net,
      discriminator=net,
      loss=dict(name="non_saturating", relativism="pairing"),
      g_opt=adam,
      d_opt=adam,
      penalties=dict(r1=gamma, r2=gamma),
      augment=PIPE | dict(p=cosine(0.0, 0.3), color_strength=0.5),
      ema=dict(half_life=cosine(0.0, 5e5)),
      samples=dict(every=1000, num=64),
      checkpoint=dict(every=5000, keep=3),
    )
  )
  if arg == "smoke":
    config.dataset, config.batch_size = dict(name="digits"), 8
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
