"""What every other room may use, and what uses none of them.

In: plain values. Out: errors in words, files written whole, random numbers, devices. Read errors.py first.
"""
