"""Tools for all other rooms, which import none of them.

In: plain values. Out: readable errors, files written whole, random numbers, devices. Read errors.py first.
"""
