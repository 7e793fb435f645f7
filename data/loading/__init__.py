"""From a dataset to batches on a device.

In: a dataset, the section data of a config, a seed. Out: (indices, batch) from any position of any epoch.
Read loader.py first. workers.py holds the processes that read, threads.py the threads, fast.py the fused transforms.
"""
