"""The folders below checkpoints/: naming, locking and reading them.

In: a run's name or path. Out: its lock, its status, its rows. Read folder.py first.
"""
