"""MFKD: search of architectures by cheap evaluations with distillation and Gaussian processes.

Source: Trofimov et al., "Multi-fidelity Neural Architecture Search with Knowledge Distillation", arXiv 2006.08341.
"""
