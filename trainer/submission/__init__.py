"""The command test: predictions as a file that can be trusted.

In: one checkpoint or several. Out: a CSV that was read back and checked before it is there. Read predict.py first.
"""
