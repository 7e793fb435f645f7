"""The fault campaign: what a training promises, tried against kills, full disks, flipped bits and hostile files.

python -m tests.faults [FAMILY …] [--trials=N] [--seed=S] [--scale=0.1] [--json=PATH] [--write=PATH]
"""
