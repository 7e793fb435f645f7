"""The data of a config, looked at before they are trusted: all of them, once.

In: the datasets of the splits, a folder for the report. Out: findings, with names and the key that settles each.
Read look.py first. findings.py says when one spoils a run, files.py reads pictures, the others check one thing each.
"""
