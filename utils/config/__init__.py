"""From YAML and flags to typed, frozen values, without importing torch.

In: text with its places. Out: dataclasses, components, and each mistake with its place. Read convert.py first.
"""
