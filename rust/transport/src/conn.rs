//! One stream: its bytes in and out. What they mean is decided in [`crate::net`].

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::frame::DecodeError;
use codec::peer::{Hello, Lane, PeerBody};
use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use crate::event::NetEvent;
use crate::frame_bytes_max;
use crate::framing::{FrameReader, encode};
use crate::outbox::PeerQueues;
use crate::queue::Outgoing;

/// `Hello` must have been said by then, the connection's own handshake included.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Bytes that were sent must be acknowledged within this time, or the stream is dead: TCP alone
/// would go on for a quarter of an hour.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes before `Hello`: nobody unknown makes this node hold more.
const HELLO_BYTES_MAX: usize = 64 << 10;
/// Most bytes taken from a queue for one vectored write.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Most bytes read from one stream before others have their turn.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;

pub(crate) enum Side {
    Dialed { link: usize },
    Accepted,
}

pub(crate) struct Conn {
    pub(crate) stream: TcpStream,
    pub(crate) side: Side,
    /// Known from the start on a dialed stream, from `Hello` on an accepted one.
    pub(crate) lane: Option<Lane>,
    /// What the peer said; `None` until then.
    pub(crate) peer: Option<Hello>,
    /// Where a dialed stream takes its messages from, once both said `Hello`.
    pub(crate) queues: Option<Arc<PeerQueues>>,
    /// A message that the sink had no room for: nothing is read until it is taken.
    pub(crate) parked: Option<NetEvent>,
    pub(crate) deadline: Instant,
    pub(crate) connected: bool,
    reader: FrameReader,
    out: Outgoing,
    writable: bool,
}

/// How a turn of reading ended.
pub(crate) enum ReadEnd {
    /// Nothing more is there now.
    Drained,
    /// The turn is over, but there is more.
    More,
    Closed,
}

impl Conn {
    pub(crate) fn new(stream: TcpStream, side: Side, lane: Option<Lane>, now: Instant) -> Self {
        let connected = matches!(side, Side::Accepted);
        Self {
            stream,
            side,
            lane,
            peer: None,
            queues: None,
            parked: None,
            deadline: now + HELLO_TIMEOUT,
            connected,
            reader: FrameReader::new(HELLO_BYTES_MAX),
            out: Outgoing::default(),
            writable: connected,
        }
    }

    /// Options of every stream, once it is connected.
    pub(crate) fn set_options(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let socket = SockRef::from(&self.stream);
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(1));
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT))?;
        Ok(())
    }

    /// Both sides have said `Hello`: the lane's own bound applies from here on.
    pub(crate) fn established(&mut self, hello: Hello, lane: Lane) {
        self.reader.set_frame_bytes_max(frame_bytes_max(lane));
        self.lane = Some(lane);
        self.peer = Some(hello);
    }

    pub(crate) fn push(&mut self, body: PeerBody) {
        self.out.push(encode(body));
    }

    pub(crate) fn set_writable(&mut self) {
        self.writable = true;
    }

    /// Writes what was pushed and what is queued until the stream is full or all is written;
    /// returns the bytes written.
    pub(crate) fn write(&mut self) -> io::Result<u64> {
        let mut total = 0;
        while self.writable {
            if self.out.is_empty()
                && let (Some(queues), Some(lane)) = (&self.queues, self.lane)
            {
                queues.lane(lane).lock().drain_to(&mut self.out, WRITE_BYTES_MAX);
                if !self.out.is_empty() {
                    queues.notify_room();
                }
            }
            if self.out.is_empty() {
                return Ok(total);
            }
            failpoint::point!("transport::conn::write", |reason: String| Err(io::Error::other(reason)));
            total += self.out.write_to(&mut self.stream)? as u64;
            self.writable = self.out.is_empty();
        }
        Ok(total)
    }

    /// Reads once into `scratch` and feeds the framing.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> io::Result<(usize, ReadEnd)> {
        failpoint::point!("transport::conn::read", |reason: String| Err(io::Error::other(reason)));
        match self.stream.read(scratch) {
            Ok(0) => Ok((0, ReadEnd::Closed)),
            Ok(length) => {
                self.reader.feed(&scratch[..length]);
                Ok((length, ReadEnd::More))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((0, ReadEnd::Drained)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok((0, ReadEnd::More)),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn next_message(&mut self) -> Result<Option<PeerBody>, DecodeError> {
        self.reader.take()
    }
}
