//! The socket below a connection, and how an answer on it is waited for.

use std::hint;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use redis::ConnectionAddr;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// How an answer is waited for that is not there yet.
pub enum Patience<'a> {
    /// Asleep: the core is free for others, and what was in its caches is gone on waking.
    Asleep,
    /// On the core, looking again and again; this is called between two looks.
    Awake(&'a mut dyn FnMut()),
}

/// A connected socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to the first of the node's addresses that takes it, within `timeout` for each.
    pub(super) fn connect(node: &ConnectionAddr, timeout: Duration) -> io::Result<Self> {
        let (host, port) = match node {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host, *port),
            ConnectionAddr::Unix(path) => return UnixStream::connect(path).map(Self::Unix),
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host.as_str(), port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }

    pub(super) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }

    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        match self {
            Self::Tcp(stream) => stream.read_timeout(),
            Self::Unix(stream) => stream.read_timeout(),
        }
    }

    fn read_awake(&self, buffer: &mut [u8], between: &mut dyn FnMut()) -> io::Result<usize> {
        let mut end = None;
        loop {
            match recv(self, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                received => return Ok(received?.1),
            }
            let now = Instant::now();
            let end = match end {
                Some(end) => end,
                // A socket without a time-out is waited for as if asleep: for ever.
                None => *end.insert(self.read_timeout()?.map(|timeout| now + timeout)),
            };
            if end.is_some_and(|end| end <= now) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            between();
            hint::spin_loop();
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A socket that is read with patience of one kind.
pub(super) struct Patient<'s, 'p> {
    pub(super) socket: &'s Socket,
    pub(super) patience: Patience<'p>,
}

impl Read for Patient<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&mut self.patience, self.socket) {
            (Patience::Awake(between), socket) => socket.read_awake(buffer, between),
            (Patience::Asleep, Socket::Tcp(stream)) => (&*stream).read(buffer),
            (Patience::Asleep, Socket::Unix(stream)) => (&*stream).read(buffer),
        }
    }
}

impl Write for Patient<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket {
            Socket::Tcp(stream) => (&*stream).write(bytes),
            Socket::Unix(stream) => (&*stream).write(bytes),
        }
    }

    /// Nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn pair() -> (Socket, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        (Socket::Unix(here), there)
    }

    #[test]
    fn whoever_is_awake_looks_until_there_is_something() {
        let (socket, mut there) = pair();
        let sender = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            there.write_all(b"answer").unwrap();
            there
        });
        let (mut looks, mut buffer) = (0, [0; 8]);
        let read =
            Patient { socket: &socket, patience: Patience::Awake(&mut || looks += 1) }.read(&mut buffer);
        assert_eq!((read.unwrap(), &buffer[..6]), (6, &b"answer"[..]));
        assert!(looks > 1);
        drop(sender.join().unwrap());
        let read = Patient { socket: &socket, patience: Patience::Awake(&mut || ()) }.read(&mut buffer);
        assert_eq!(read.unwrap(), 0, "the end");
    }

    #[test]
    fn nobody_waits_longer_than_the_time_out() {
        let (socket, _there) = pair();
        for patience in [Patience::Asleep, Patience::Awake(&mut || ())] {
            let started = Instant::now();
            let error = Patient { socket: &socket, patience }.read(&mut [0; 8]).unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
            assert!(started.elapsed() >= Duration::from_millis(50));
        }
    }
}
