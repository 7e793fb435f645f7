"""A trained network out in the world: predictions for any files, other formats, a bundle for no internet.

In: a run folder or a .pth file, and files to predict. Out: tables, pictures, exported networks, zips. Read predict.py
first.
"""
