"""Learning to learn: adaptation by gradient and measures of a ranking."""
