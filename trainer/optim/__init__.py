"""One call of update: backward, accumulate, clip, step, schedule.

In: a loss and the role of a network. Out: changed weights. Read update.py first.
"""
