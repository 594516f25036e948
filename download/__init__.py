"""Datasets, official checkpoints and preprocessed files: sources with checksums, resumable."""
