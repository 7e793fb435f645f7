"""Samplers for data.sampler, one a file: how many samples an epoch has, which ones, and in which order.

In: a dataset, and a generator that is seeded for each epoch. Out: indices. Read class_balanced.py first.
"""
