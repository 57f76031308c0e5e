"""What the program costs, each figure beside a peer's of the same run.

Run them all by `python -m benchmarks`.
"""
