//! The descriptor that wakes the event loop: an eventfd on Linux, a pipe elsewhere.
//!
//! The ring signals only what is not signalled and clears only what is, so neither call blocks.

#[cfg(not(target_os = "linux"))]
pub(crate) use by_pipe::Wake;
#[cfg(target_os = "linux")]
pub(crate) use eventfd::Wake;

#[cfg(target_os = "linux")]
mod eventfd {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

    #[derive(Debug)]
    pub(crate) struct Wake(OwnedFd);

    impl Wake {
        /// # Errors
        /// The process has no file descriptor left.
        pub(crate) fn new() -> io::Result<Self> {
            // SAFETY: `eventfd` has no memory arguments.
            let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the descriptor is open, and nothing else owns it.
            Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
        }

        pub(crate) fn fd(&self) -> RawFd {
            self.0.as_raw_fd()
        }

        pub(crate) fn signal(&self) {
            let one = 1u64.to_ne_bytes();
            // SAFETY: `one` is 8 bytes long, what an eventfd takes; the descriptor is open.
            let written = unsafe { libc::write(self.fd(), one.as_ptr().cast(), one.len()) };
            assert_eq!(written, 8, "an eventfd at zero takes a write");
        }

        pub(crate) fn clear(&self) {
            let mut value = [0u8; 8];
            // SAFETY: `value` is 8 bytes long, what an eventfd gives; the descriptor is open.
            let read = unsafe { libc::read(self.fd(), value.as_mut_ptr().cast(), value.len()) };
            assert_eq!(read, 8, "an eventfd that was written gives its count");
        }
    }
}

/// Compiled for the tests of every platform, so that it does not rot.
#[cfg(any(test, not(target_os = "linux")))]
mod by_pipe {
    use std::io::{self, PipeReader, PipeWriter, Read, Write};
    use std::os::fd::{AsRawFd, RawFd};

    #[derive(Debug)]
    pub(crate) struct Wake {
        reader: PipeReader,
        writer: PipeWriter,
    }

    impl Wake {
        /// # Errors
        /// The process has no file descriptor left.
        pub(crate) fn new() -> io::Result<Self> {
            let (reader, writer) = io::pipe()?;
            Ok(Self { reader, writer })
        }

        pub(crate) fn fd(&self) -> RawFd {
            self.reader.as_raw_fd()
        }

        pub(crate) fn signal(&self) {
            (&self.writer).write_all(&[1]).expect("an empty pipe takes a byte");
        }

        pub(crate) fn clear(&self) {
            (&self.reader).read_exact(&mut [0]).expect("a pipe that was written gives its byte");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::RawFd;

    fn readable(fd: RawFd) -> bool {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one `pollfd` is given, and it outlives the call.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    #[test]
    fn a_signal_is_readable_until_it_is_cleared() {
        let (native, pipe) = (super::Wake::new().expect("made"), super::by_pipe::Wake::new().expect("made"));
        for _ in 0..3 {
            assert!(!readable(native.fd()) && !readable(pipe.fd()));
            native.signal();
            pipe.signal();
            assert!(readable(native.fd()) && readable(pipe.fd()));
            native.clear();
            pipe.clear();
        }
    }
}
