"""Pictures made of a run's numbers, with matplotlib.

In: a journal, matrices, pictures with captions. Out: PNG files. Read curves.py first.
"""
