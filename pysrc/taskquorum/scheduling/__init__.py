"""Placement on the leader: which ready task goes to which agent.

The policy only proposes; the log decides, and a decision taken on an old view is refused there one item at a time.
Nothing in this package is imported by an agent or a client: it needs numpy and numba.

`view` holds the queue and the agents as arrays, `queue_kernels` and `kernels` work on them, `policy` turns a view into
decisions, `predict` learns durations, `runner` drives all of it from the feed of a node.
"""
