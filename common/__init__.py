"""The shared layer: data, spaces, distillation, meta-learning, records, runs and reports."""
