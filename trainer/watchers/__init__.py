"""Views of a run while it trains: they look and never touch.

In: a run, its steps and validations. Out: pictures, histograms. Read pictures.py first.
"""
