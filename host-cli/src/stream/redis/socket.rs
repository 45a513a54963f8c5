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

use super::Pulse;

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
    pub(super) fn connect(node: &ConnectionAddr, timeout: Duration, pulse: &Pulse) -> io::Result<Self> {
        let (host, port) = match node {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host, *port),
            ConnectionAddr::Unix(path) => return UnixStream::connect(path).map(Self::Unix),
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host.as_str(), port).to_socket_addrs()? {
            pulse.beat();
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

    /// A single read waits for a part of `timeout` only, see [`Patient`].
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Pulse::part_of(timeout);
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }

    /// As [`set_read_timeout`](Self::set_read_timeout).
    pub(super) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Pulse::part_of(timeout);
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }

    /// Looks for so long.
    fn read_awake(
        &self,
        buffer: &mut [u8],
        between: &mut dyn FnMut(),
        patience: Duration,
    ) -> io::Result<usize> {
        let mut end = None;
        loop {
            match recv(self, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                received => return Ok(received?.1),
            }
            let now = Instant::now();
            if *end.get_or_insert(now + patience) <= now {
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

/// A socket that is read with patience of one kind, for so long and with a pulse.
pub(super) struct Patient<'s, 'p> {
    pub(super) socket: &'s Socket,
    pub(super) patience: Patience<'p>,
    pub(super) timeout: Duration,
    pub(super) pulse: &'s Pulse,
}

impl Patient<'_, '_> {
    /// Acts again after each part of the time-out, until all of it is over. A process that was stopped and goes on finds
    /// its wait interrupted: it waits that part again.
    fn patiently(&mut self, mut act: impl FnMut(&mut Self) -> io::Result<usize>) -> io::Result<usize> {
        let mut left = Pulse::parts(self.timeout);
        loop {
            let done = act(self);
            match done.as_ref().map_err(io::Error::kind) {
                Err(io::ErrorKind::Interrupted) => {}
                Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) if left > 1 => left -= 1,
                _ => return done,
            }
            self.pulse.beat();
        }
    }
}

impl Read for Patient<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = Pulse::part_of(self.timeout);
        self.patiently(|patient| match (&mut patient.patience, patient.socket) {
            (Patience::Awake(between), socket) => socket.read_awake(buffer, between, part),
            (Patience::Asleep, Socket::Tcp(stream)) => (&*stream).read(buffer),
            (Patience::Asleep, Socket::Unix(stream)) => (&*stream).read(buffer),
        })
    }
}

impl Write for Patient<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|patient| match patient.socket {
            Socket::Tcp(stream) => (&*stream).write(bytes),
            Socket::Unix(stream) => (&*stream).write(bytes),
        })
    }

    /// Nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(50);

    fn pair() -> (Socket, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        let socket = Socket::Unix(here);
        socket.set_read_timeout(TIMEOUT).unwrap();
        (socket, there)
    }

    fn patient<'s, 'p>(socket: &'s Socket, patience: Patience<'p>, pulse: &'s Pulse) -> Patient<'s, 'p> {
        Patient { socket, patience, timeout: TIMEOUT, pulse }
    }

    #[test]
    fn whoever_waits_gives_signs_of_life() {
        let (socket, _there) = pair();
        let timeout = Duration::from_millis(2500);
        socket.set_read_timeout(timeout).unwrap();
        for patience in [Patience::Asleep, Patience::Awake(&mut || ())] {
            let beats = Arc::new(AtomicUsize::new(0));
            let felt = Arc::clone(&beats);
            let pulse = Pulse::new(move || {
                felt.fetch_add(1, Ordering::Relaxed);
            });
            let started = Instant::now();
            let mut patient = Patient { socket: &socket, patience, timeout, pulse: &pulse };
            assert!(patient.read(&mut [0; 8]).is_err());
            assert!(started.elapsed() >= timeout - Duration::from_millis(20), "{:?}", started.elapsed());
            assert_eq!(beats.load(Ordering::Relaxed), 2);
        }
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
        let pulse = Pulse::default();
        let read = patient(&socket, Patience::Awake(&mut || looks += 1), &pulse).read(&mut buffer);
        assert_eq!((read.unwrap(), &buffer[..6]), (6, &b"answer"[..]));
        assert!(looks > 1);
        drop(sender.join().unwrap());
        let read = patient(&socket, Patience::Awake(&mut || ()), &pulse).read(&mut buffer);
        assert_eq!(read.unwrap(), 0, "the end");
    }

    #[test]
    fn nobody_waits_longer_than_the_time_out() {
        let (socket, _there) = pair();
        for patience in [Patience::Asleep, Patience::Awake(&mut || ())] {
            let started = Instant::now();
            let error = patient(&socket, patience, &Pulse::default()).read(&mut [0; 8]).unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
            assert!(started.elapsed() >= Duration::from_millis(50));
        }
    }
}
