"""A run on disk that cannot be lost.

In: a state of tensors and plain values. Out: last.pth, best.pth and their checksums. Read store.py first.
"""
