"""MetaD2A: generate cells for a dataset that was never seen, and rank them, from a few of its images.

Source: Lee et al., "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets", ICLR 2021.
"""
