"""Pictures of a run's numbers, drawn with matplotlib.

In: a journal, matrices, pictures with captions. Out: PNG files. Read curves.py first.
"""
