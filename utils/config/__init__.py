"""From YAML and flags to typed, frozen values; no torch is imported here.

In: text with its places. Out: dataclasses, components, and every mistake with its place. Read convert.py first.
"""
