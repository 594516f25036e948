"""How networks are trained.

Source: Lee et al., ICLR 2021, released code (cells: NAS-Bench-201's training without augmentation; sub-networks: that
of NSGANetV2).
"""

from common.kd.recipe import Recipe

CELL_RECIPE = Recipe(
    loss="ce",
    epochs=200,
    batch_size=256,
    learning_rate=0.1,
    weight_decay=5e-4,
    padding=0,
    flip="no",
    validate_every=10,
)
"""SGD with Nesterov momentum 0.9, cosine to 0. The released code keeps the rate constant inside an epoch, here it falls
with every step; it trains on MNIST for 50 epochs."""

SUPERNET_RECIPE = Recipe(
    loss="ce",
    epochs=120,
    batch_size=64,
    learning_rate=0.1,
    weight_decay=3e-5,
    label_smoothing=0.1,
    clip_norm=5.0,
    channels_last=True,
)
"""Of a supernet; those of Cai et al. took 180 epochs for its largest network and 305 for the others, on 32 GPUs."""

SUBNET_RECIPE = Recipe(
    loss="ce",
    epochs=150,
    batch_size=96,
    learning_rate=0.01,
    nesterov=False,
    weight_decay=4e-5,
    clip_norm=5.0,
    channels_last=True,
)
"""Fine-tuning of a network with inherited weights. The released code also has AutoAugment, cutout, dropout and
stochastic depth, which are left out here, and reports the best epoch by test accuracy; ours counts the last one."""
