"""TANS: retrieve a trained network for a dataset from a zoo, by a space in which datasets and networks meet.

Source: Jeong et al., "Task-Adaptive Neural Network Search with Meta-Contrastive Learning", NeurIPS 2021.
"""
