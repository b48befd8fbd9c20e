# What the connections of one listener share: their bounds, their counts, the functions that answer. Included in `_http.pyx`.

from email.utils import formatdate


cdef class Limits:
    """Bounds of one server. Times in seconds, sizes in bytes."""

    cdef readonly int head_bytes_max, headers_max, pipelined_max, connections_max
    cdef readonly long long bodies_bytes_max
    cdef readonly double head_s, body_s, idle_s

    def __init__(
        self, int head_bytes_max=16384, int headers_max=64, int pipelined_max=16,
        int connections_max=10_000, long long bodies_bytes_max=268_435_456,
        double head_s=5.0, double body_s=30.0, double idle_s=60.0,
    ):
        self.head_bytes_max = head_bytes_max
        self.headers_max = headers_max
        self.pipelined_max = pipelined_max
        self.connections_max = connections_max
        self.bodies_bytes_max = bodies_bytes_max
        self.head_s = head_s
        self.body_s = body_s
        self.idle_s = idle_s


cdef class Server:
    """What the connections of one listener share. `protocol()` makes one connection's protocol.

    `admit(request) -> int` gives the bound of the body; `dispatch(request) -> None` handles a request;
    `refuse(status, code, detail) -> bytes` makes the problem document for what is not even a request.
    """

    cdef readonly Limits limits
    cdef object admit, dispatch, refuse, clock
    cdef set connections
    cdef bint draining
    cdef bytes date_line
    cdef readonly long long requests, bytes_in, bytes_out, refused, body_bytes

    def __init__(self, admit, dispatch, refuse, clock, Limits limits):
        self.admit = admit
        self.dispatch = dispatch
        self.refuse = refuse
        self.clock = clock
        self.limits = limits
        self.connections = set()
        self.draining = False
        self.date_line = f"Date: {formatdate(usegmt=True)}\r\n".encode()

    def protocol(self):
        """A new connection's protocol, for `loop.create_server`."""
        return Connection(self)

    @property
    def open_connections(self):
        return len(self.connections)

    @property
    def busy_connections(self):
        cdef Connection connection
        cdef int busy = 0
        for connection in self.connections:
            if connection.current is not None or connection.queue:
                busy += 1
        return busy

    def sweep(self):
        """Closes connections whose time ran out; to be called about twice a second."""
        cdef double now = self.clock()
        cdef Connection connection
        self.date_line = f"Date: {formatdate(usegmt=True)}\r\n".encode()
        for connection in list(self.connections):
            if connection.deadline and now >= connection.deadline:
                connection.time_out()

    def drain(self):
        """Takes no further request: idle connections close now, the others after their answer."""
        cdef Connection connection
        self.draining = True
        for connection in list(self.connections):
            if connection.current is None and not connection.queue:
                connection.close()

    def abort(self):
        """Closes every connection at once."""
        cdef Connection connection
        for connection in list(self.connections):
            connection.abandon()
