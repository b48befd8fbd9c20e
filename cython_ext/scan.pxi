# What to look for in JSON text that nobody decodes. Included in `_http.pyx`.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    SCAN_OK = 0
    SCAN_DEEP = 1
    SCAN_NUL = 2
    SCAN_SURROGATE = 3


def scan_json(bytes text, int depth_max):
    """Looks over JSON text for what a decoder of a part of it would let through.

    Returns 0 when there is none of it, 1 when objects and arrays nest deeper than `depth_max`, 2 for
    an escaped NUL character, 3 for half of a surrogate pair, 4 when the bytes are not UTF-8. Whether
    the text is JSON at all is the decoder's to say. One pass, about 1 GB/s.
    """
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef const unsigned char *end = at + PyBytes_GET_SIZE(text)
    cdef bint quoted = False
    cdef unsigned char c, high = 0
    cdef int depth = 0
    cdef int unit
    while at < end:
        c = at[0]
        at += 1
        high |= c
        if quoted:
            if c == 34:  # "
                quoted = False
            elif c == 92:  # \
                if at < end and at[0] == 117:  # u
                    unit = hex_unit(at + 1, end)
                    if unit == 0:
                        return SCAN_NUL
                    if 0xDC00 <= unit <= 0xDFFF:
                        return SCAN_SURROGATE
                    if 0xD800 <= unit <= 0xDBFF:
                        if end - at < 7 or at[5] != 92 or at[6] != 117:
                            return SCAN_SURROGATE
                        unit = hex_unit(at + 7, end)
                        if not 0xDC00 <= unit <= 0xDFFF:
                            return SCAN_SURROGATE
                        at += 6
                at += 1
        elif c == 34:
            quoted = True
        elif c == 123 or c == 91:  # { [
            depth += 1
            if depth > depth_max:
                return SCAN_DEEP
        elif c == 125 or c == 93:
            depth -= 1
    if high >= 128:
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            return 4
    return SCAN_OK


cdef int hex_unit(const unsigned char *at, const unsigned char *end) noexcept:
    """Four hexadecimal digits as a number, −1 when they are not there."""
    cdef int unit = 0
    cdef int i
    cdef unsigned char c
    if end - at < 4:
        return -1
    for i in range(4):
        c = at[i]
        if 48 <= c <= 57:
            unit = unit * 16 + (c - 48)
        elif 97 <= (c | 32) <= 102:
            unit = unit * 16 + ((c | 32) - 87)
        else:
            return -1
    return unit
