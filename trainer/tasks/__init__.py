"""The problems that can be trained, one a file.

In: networks, and batches of a dataset. Out: losses to learn from, meters, predictions. Read classification.py first.
"""
