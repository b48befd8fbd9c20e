# One request and its answer, as whoever handles it sees them. Included in `_http.pyx`.


cdef class Request:
    """One request. `route` and `params` are the caller's own; `on_gone` is called without arguments
    when the client left before the answer (or the end of the stream)."""

    cdef readonly str method, path, query
    cdef readonly dict headers
    cdef readonly bytes body
    cdef public object route, params, on_gone
    cdef readonly double started
    cdef Connection connection
    cdef list chunks
    cdef bint keep_alive, old, answered
    cdef readonly int status
    cdef tuple rejection

    cpdef answer(self, int status, bytes body, bytes content_type=b"application/json", bytes extra=b""):
        """Sends the whole answer. `extra` holds further header lines, each ended by CRLF.

        Does nothing when the client is gone. Raises RuntimeError on a second answer.
        """
        if self.answered:
            raise RuntimeError("a request is answered once")
        self.answered = True
        self.status = status
        self.on_gone = None
        if self.connection is not None:
            self.connection.write_answer(self, status, body, content_type, extra)

    @property
    def is_answered(self):
        return self.answered

    def stream(self, int status, bytes content_type, bytes extra=b""):
        """Starts an answer of unknown length and returns its `Stream`."""
        if self.answered:
            raise RuntimeError("a request is answered once")
        self.answered = True
        self.status = status
        stream = Stream.__new__(Stream)
        (<Stream>stream).request = self
        if self.connection is not None:
            self.connection.begin_stream(self, <Stream>stream, status, content_type, extra)
        else:
            (<Stream>stream).ended = True
        return stream


cdef class Stream:
    """An answer sent in pieces. `on_drain` is called when a full write buffer has emptied."""

    cdef Request request
    cdef bint ended
    cdef public object on_drain

    @property
    def open(self):
        return not self.ended

    @property
    def writable(self):
        """Whether the client keeps up: else wait for `on_drain` before sending more."""
        return not self.ended and self.request.connection is not None and self.request.connection.writable

    def send(self, bytes piece):
        """Sends a piece; pieces after the end are dropped."""
        if self.ended or self.request.connection is None or not piece:
            return
        if self.request.old:
            self.request.connection.write(piece)
        else:
            self.request.connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end(self):
        if self.ended:
            return
        self.ended = True
        self.on_drain = None
        self.request.on_gone = None
        if self.request.connection is not None:
            if not self.request.old:
                self.request.connection.write(b"0\r\n\r\n")
            self.request.connection.finish(self.request)
