# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False, autotestdict=False
"""HTTP/1.1 between sockets and plain functions: framing by httptools (llhttp), the rest here.

What always holds:

* A connection dispatches one request at a time and answers in the order of arrival.
* `admit` is called once a request's headers are complete and says how many body bytes it may carry;
  `dispatch` is called once, with a whole request, and whoever handles it calls `answer` or `stream` once.
* Everything read has a bound (`Limits`); what breaks a bound or the framing is answered with a
  problem document in its turn, and the connection is closed after it: nothing behind it is parsed.
* No asyncio Task exists per request. All methods belong to the event loop's thread.

One module, because its classes know each other: this file holds the connection, `server.pxi` what connections share,
`exchange.pxi` a request with its answer, `scan.pxi` the check of a body's JSON text.
"""

import logging
from collections import deque

import httptools

cdef object LOG = logging.getLogger("taskquorum.http")

cdef dict REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 304: "Not Modified",
    400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    409: "Conflict", 410: "Gone", 412: "Precondition Failed", 413: "Content Too Large",
    415: "Unsupported Media Type", 421: "Misdirected Request", 422: "Unprocessable Content",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
    507: "Insufficient Storage",
}
cdef dict STATUS_LINES = {
    status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()
}

cdef double LINGER_S = 1.0

cdef enum:
    READING_IDLE = 0      # between requests
    READING_HEAD = 1
    READING_BODY = 2
    READING_ENDED = 3     # nothing more is read from this connection

include "server.pxi"
include "exchange.pxi"


cdef class Connection:
    """One client: an asyncio protocol and the callbacks of its parser."""

    cdef Server server
    cdef object transport, parser, queue
    cdef Request current
    cdef Request incoming
    cdef Stream streaming
    cdef str target
    cdef int reading, head_bytes, header_count, incoming_limit
    cdef long long body_bytes
    cdef double deadline
    cdef bint writable, paused, last, pumping, closed, lingering
    cdef tuple rejection

    def __init__(self, Server server):
        self.server = server
        self.queue = deque()
        self.writable = True
        self.parser = httptools.HttpRequestParser(self)

    # ---- asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        if len(self.server.connections) >= self.server.limits.connections_max:
            self.reading = READING_ENDED
            transport.write(self.refusal(503, "too_many_connections", "this node has no room for another connection"))
            transport.close()
            return
        self.server.connections.add(self)
        self.deadline = self.server.clock() + self.server.limits.idle_s

    def connection_lost(self, exc):
        cdef Request request
        self.closed = True
        self.reading = READING_ENDED
        self.server.connections.discard(self)
        gone = [self.current] if self.current is not None else []
        gone.extend(self.queue)
        if self.incoming is not None:
            gone.append(self.incoming)
        self.queue.clear()
        self.current = None
        self.incoming = None
        self.parser = None
        if self.streaming is not None:
            self.streaming.ended = True
            self.streaming = None
        for request in gone:
            self.release(request)
            request.connection = None
            callback, request.on_gone = request.on_gone, None
            if callback is not None:
                try:
                    callback()
                except Exception:
                    LOG.exception("a callback for a client that left failed")

    def eof_received(self):
        self.reading = READING_ENDED
        self.deadline = 0.0
        if self.current is None and not self.queue:
            return False
        if self.current is not None and self.current.on_gone is not None:
            return False  # Nobody is there any more for whom this request waits: `connection_lost` tells it.
        self.last = True
        return True

    def pause_writing(self):
        self.writable = False

    def resume_writing(self):
        self.writable = True
        if self.streaming is not None:
            callback = self.streaming.on_drain
            if callback is not None:
                callback()
        self.pump()

    def data_received(self, bytes data):
        if self.reading == READING_ENDED or self.last or self.rejection is not None:
            return
        self.server.bytes_in += len(data)
        if self.reading == READING_IDLE:
            self.deadline = self.server.clock() + self.server.limits.head_s
            self.reading = READING_HEAD
            self.head_bytes = 0
        elif self.reading == READING_HEAD:
            # Bytes of a header not yet ended are seen by no callback: count what came before.
            self.head_bytes += len(data)
            if self.head_bytes > 2 * self.server.limits.head_bytes_max:
                self.reject(431, "headers_too_large", "the header block is larger than %d bytes" % self.server.limits.head_bytes_max)
                self.pump()
                return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # An upgrade is only an offer: the request is answered as HTTP/1.1, and nothing follows it.
            self.end_reading()
        except httptools.HttpParserError as error:
            if self.rejection is None and not self.last:
                if isinstance(error, httptools.HttpParserCallbackError):
                    LOG.error("a parser callback failed", exc_info=error)
                    self.reject(500, "internal", "the request could not be read")
                elif isinstance(error, httptools.HttpParserInvalidMethodError):
                    self.reject(400, "malformed_request", "the request has an unknown method")
                else:
                    self.reject(400, "malformed_request", str(error)[:200] or "the request is not HTTP/1.1")
        self.pump()

    # ---- httptools -------------------------------------------------------------------------

    def on_message_begin(self):
        cdef Request request = Request.__new__(Request)
        request.connection = self
        request.headers = {}
        request.chunks = []
        request.started = self.server.clock()
        self.incoming = request
        self.reading = READING_HEAD
        self.target = ""
        self.head_bytes = 0
        self.header_count = 0
        self.body_bytes = 0
        self.incoming_limit = 0

    def on_url(self, bytes url):
        self.head_bytes += len(url)
        self.bound_head()
        # In pieces, if the bytes came so.
        self.target += url.decode("latin-1")

    def on_header(self, bytes name, bytes value):
        cdef str key
        cdef dict headers = self.incoming.headers
        self.header_count += 1
        self.head_bytes += len(name) + len(value) + 4
        self.bound_head()
        if self.reading == READING_BODY:
            return  # a trailer: counted and dropped
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key in headers:
            if key == "host" or key == "content-length" or key == "content-type" or key == "transfer-encoding":
                self.fail(400, "malformed_request", "the header %s stands twice" % key)
            headers[key] = headers[key] + ", " + text
        else:
            headers[key] = text

    cdef bound_head(self):
        if self.head_bytes > self.server.limits.head_bytes_max:
            self.fail(431, "headers_too_large", "the header block is larger than %d bytes" % self.server.limits.head_bytes_max)
        if self.header_count > self.server.limits.headers_max:
            self.fail(431, "headers_too_many", "the request has more than %d headers" % self.server.limits.headers_max)

    def on_headers_complete(self):
        cdef Request request = self.incoming
        cdef dict headers = request.headers
        version = self.parser.get_http_version()
        request.method = self.parser.get_method().decode("latin-1")
        request.old = version == "1.0"
        request.keep_alive = self.parser.should_keep_alive()
        if version != "1.1" and version != "1.0":
            self.fail(505, "http_version", "this server speaks HTTP/1.1")
        if "host" not in headers and not request.old:
            self.fail(400, "malformed_request", "the header host is missing")
        coding = headers.get("transfer-encoding")
        if coding is not None and (request.old or coding.lower() != "chunked"):
            self.fail(400, "malformed_request", "transfer-encoding can only be chunked, in HTTP/1.1")
        if not self.target.startswith("/"):
            self.fail(400, "malformed_request", "the request target is not a path")
        path, _, query = self.target.partition("?")
        if "#" in self.target:
            self.fail(400, "malformed_request", "the request target has a fragment")
        request.path = path
        request.query = query
        self.incoming_limit = self.server.admit(request)
        length = headers.get("content-length")
        if length is not None and (len(length) > 15 or int(length) > self.incoming_limit):
            self.fail(413, "body_too_large", "the body may have %d bytes" % self.incoming_limit)
        self.reading = READING_BODY
        self.head_bytes = 0
        if length is not None or coding is not None:
            self.deadline = request.started + self.server.limits.head_s + self.server.limits.body_s
            if headers.get("expect", "").lower() == "100-continue" and self.current is None and not self.queue:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, bytes piece):
        self.body_bytes += len(piece)
        if self.body_bytes > self.incoming_limit:
            self.fail(413, "body_too_large", "the body may have %d bytes" % self.incoming_limit)
        self.server.body_bytes += len(piece)
        self.incoming.chunks.append(piece)
        if self.server.body_bytes > self.server.limits.bodies_bytes_max:
            self.fail(503, "busy", "this node holds too many unanswered bytes")

    def on_message_complete(self):
        cdef Request request = self.incoming
        cdef list chunks = request.chunks
        self.incoming = None
        request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        request.chunks = None
        self.queue.append(request)
        self.reading = READING_IDLE
        self.deadline = 0.0
        if not request.keep_alive:
            self.last = True

    # ---- requests in order -----------------------------------------------------------------

    cdef fail(self, int status, str code, str detail):
        """Refuses what is being parsed, and leaves the parser."""
        self.reject(status, code, detail)
        raise _Rejected

    cdef reject(self, int status, str code, str detail):
        cdef Request request = self.incoming
        if request is None:
            request = Request.__new__(Request)
            request.connection = self
        else:
            self.release(request)
            self.incoming = None
        request.chunks = None
        request.body = b""
        request.rejection = (status, code, detail)
        self.rejection = request.rejection
        self.queue.append(request)
        self.end_reading()

    cdef end_reading(self):
        self.last = True
        self.reading = READING_ENDED
        self.deadline = 0.0

    cdef pause_reading(self):
        if not self.paused and self.transport is not None and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    cdef release(self, Request request):
        """Gives back what the request's body counted in the server's total."""
        if request.body is not None:
            self.server.body_bytes -= len(request.body)
            request.body = b""
        if request.chunks is not None:
            for piece in request.chunks:
                self.server.body_bytes -= len(piece)
            request.chunks = None

    cdef pump(self):
        """Dispatches what is queued, one request after the other's answer."""
        cdef Request request
        if self.pumping:
            return
        self.pumping = True
        try:
            while self.current is None and self.queue and self.writable and not self.closed:
                request = self.queue.popleft()
                self.current = request
                if request.rejection is not None:
                    self.server.refused += 1
                    request.answer(request.rejection[0], self.server.refuse(*request.rejection), b"application/problem+json")
                    continue
                self.server.requests += 1
                try:
                    self.server.dispatch(request)
                except Exception:
                    LOG.exception("dispatch failed")
                    if not request.answered:
                        request.answer(500, self.server.refuse(500, "internal", "the request failed"), b"application/problem+json")
        finally:
            self.pumping = False
        if self.closed:
            return
        waiting = len(self.queue) + (self.current is not None)
        if waiting >= self.server.limits.pipelined_max:
            self.pause_reading()
        elif self.paused and not self.last:
            self.paused = False
            self.transport.resume_reading()
        if waiting == 0 and self.deadline == 0.0 and self.reading == READING_IDLE:
            if self.last or self.server.draining:
                self.close()
            else:
                self.deadline = self.server.clock() + self.server.limits.idle_s

    cdef finish(self, Request request):
        """The answer of `request` is complete."""
        if self.current is not request:
            return
        self.release(request)
        self.current = None
        self.streaming = None
        request.connection = None
        if not self.queue and (self.last or self.server.draining):
            self.close()
        else:
            self.pump()

    # ---- writing ---------------------------------------------------------------------------

    cdef bint closes_after(self, Request request):
        return (self.last and not self.queue) or self.server.draining

    cdef bytes head(self, Request request, int status, bytes content_type, bytes extra, bytes framing):
        cdef bytes line = STATUS_LINES.get(status)
        if line is None:
            line = b"HTTP/1.1 %d Status\r\n" % status
        if self.closes_after(request):
            end = b"Connection: close\r\n\r\n"
        elif request.old:
            end = b"Connection: keep-alive\r\n\r\n"
        else:
            end = b"\r\n"
        return b"".join((line, self.server.date_line, b"Content-Type: ", content_type, b"\r\n", framing, extra, end))

    cdef write_answer(self, Request request, int status, bytes body, bytes content_type, bytes extra):
        framing = b"Content-Length: %d\r\n" % len(body)
        head = self.head(request, status, content_type, extra, framing)
        if request.method == "HEAD":
            body = b""
        if len(body) <= 65536:
            self.write(head + body)
        else:
            self.write(head)
            self.write(body)
        self.finish(request)

    cdef begin_stream(self, Request request, Stream stream, int status, bytes content_type, bytes extra):
        if request.old:
            self.last = True
            self.write(self.head(request, status, content_type, extra, b""))
        else:
            self.write(self.head(request, status, content_type, extra, b"Transfer-Encoding: chunked\r\n"))
        self.streaming = stream

    cdef write(self, bytes data):
        if self.transport is not None and not self.closed:
            self.server.bytes_out += len(data)
            self.transport.write(data)

    cdef bytes refusal(self, int status, str code, str detail):
        document = self.server.refuse(status, code, detail)
        return b"".join((
            STATUS_LINES[status], b"Content-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: ",
            str(len(document)).encode(), b"\r\n\r\n", document,
        ))

    cdef time_out(self):
        if self.reading == READING_IDLE or self.reading == READING_ENDED:
            self.abandon()
            return
        self.reject(408, "request_timeout", "the request did not arrive in time")
        self.pump()

    cdef close(self):
        """Closes once everything is written. Behind a refused request bytes may still come: closing on them
        would reset the connection and lose the refusal, so they are read and dropped for a while."""
        if self.rejection is None or self.lingering or self.transport is None or self.transport.is_closing():
            self.abandon()
            return
        self.lingering = True
        self.deadline = self.server.clock() + LINGER_S
        if self.paused:
            self.paused = False
            self.transport.resume_reading()
        self.transport.write_eof()

    cdef abandon(self):
        if self.transport is not None and not self.transport.is_closing():
            self.deadline = 0.0
            self.transport.close()


class _Rejection(Exception):
    """Leaves the parser after `Connection.fail`; seen by nobody else."""


cdef object _Rejected = _Rejection()


# The last: placed before the others, its loops came out a fifth slower.
include "scan.pxi"
