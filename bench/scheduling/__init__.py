"""The scheduling bench: public data sets and generated loads, driven through the policy object that serves.

`python -m bench.scheduling SET --data DIR --json OUT`; every result here is simulated under a clock that the bench owns.
"""
