"""How a cell is trained.

Source: Lee et al., ICLR 2021, released code (NAS-Bench-201's training without augmentation).
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
