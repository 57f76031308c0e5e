"""What the program costs, each figure next to that of a peer in the same run.

`python -m benchmarks` runs all of them.
"""
