"""DaSS: predict a student's accuracy after distillation from a given teacher on an unseen dataset.

Source: Lee et al., "Meta-prediction Model for Distillation-Aware NAS on Unseen Datasets", ICLR 2023.
"""
