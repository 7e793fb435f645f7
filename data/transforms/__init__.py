"""Transforms of pictures that torchvision does not have, one a file; a folder transforms/ of one's own adds more.

In: a picture. Out: the picture, changed, with torch's random numbers. All are called by the loaders of trainer.py.
"""
