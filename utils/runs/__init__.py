"""The folders below checkpoints/: named, owned, read.

In: a run's name or path. Out: its lock, its status, its rows. Read folder.py first.
"""
