"""Schedulers that torch does not have, one a file; a folder schedules/ of one's own adds more.

In: an optimizer. Out: its learning rates, changed by each step(). Read decay_on_rise.py first.
"""
