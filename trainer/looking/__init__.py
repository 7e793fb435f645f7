"""Looks at the networks of a config or a run, on a copy of them: summary, doctor, lr_find, features.

In: a config or a checkpoint. Out: tables, verdicts in words, PNG and JSON files. Read opened.py, then doctor.py.
"""
