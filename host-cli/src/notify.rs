//! What the engine tells the service manager: ready, alive, stopping (`sd_notify(3)`, `sd_watchdog_enabled(3)`).
//!
//! Without a manager all of it does nothing. A datagram that cannot be sent is no reason to stop deciding: the manager
//! draws its own conclusions from silence.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

/// Between two updates of the status where the manager asks for no sign of life.
const STATUS: Duration = Duration::from_secs(5);

/// The line to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// The manager ends a service that is silent for twice this long.
    watchdog: Option<Duration>,
    next: Option<Instant>,
}

impl Notifier {
    /// Looks for the manager where `NOTIFY_SOCKET` says it is.
    #[must_use]
    pub fn from_env() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|address| connect(&address).ok());
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        // Meant for another process where a wrapper has passed its environment on.
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let interval = number("WATCHDOG_USEC").filter(|&usec| for_us && usec > 0).map(Duration::from_micros);
        Self { socket, watchdog: interval.map(|interval| interval / 2), next: None }
    }

    /// Models are loaded and the source is reachable; from now on [`beat`](Self::beat) is heard.
    pub fn ready(&mut self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
        self.next = Some(Instant::now());
    }

    /// The service goes on: called wherever it provably does. Sends a sign of life when one is due.
    pub fn beat(&mut self, status: impl FnOnce() -> String) {
        let Some(next) = self.next.filter(|_| self.socket.is_some()) else { return };
        let now = Instant::now();
        if now < next {
            return;
        }
        let alive = if self.watchdog.is_some() { "WATCHDOG=1\n" } else { "" };
        self.send(&format!("{alive}STATUS={}", status()));
        self.next = Some(now + self.watchdog.unwrap_or(STATUS));
    }

    /// The service ends of its own accord.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1\nSTATUS=writing what was decided");
        self.next = None;
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// A path, or `@name` in the abstract namespace.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_hear_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let abstract_name = format!("qsc-notify-{}", process::id());
        let abstract_address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (heard, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{abstract_name}").into()),
        ] {
            heard.set_nonblocking(true).unwrap();
            let said = || {
                let mut buffer = [0; 256];
                let length = heard.recv(&mut buffer).ok()?;
                Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
            };
            let watchdog = Some(Duration::from_mins(1));
            let mut notifier = Notifier { socket: Some(connect(&address).unwrap()), watchdog, next: None };
            notifier.beat(|| unreachable!("not ready"));
            assert_eq!(said(), None, "no sign of life before it is ready");
            notifier.ready("0 intents");
            assert_eq!(said().unwrap(), "READY=1\nSTATUS=0 intents");
            notifier.beat(|| "1 intents".to_owned());
            assert_eq!(said().unwrap(), "WATCHDOG=1\nSTATUS=1 intents");
            notifier.beat(|| unreachable!("not due"));
            assert_eq!(said(), None);
            notifier.stopping();
            assert!(said().unwrap().starts_with("STOPPING=1\n"));
            notifier.beat(|| unreachable!("it ends"));
        }
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let mut notifier = Notifier { socket: None, watchdog: None, next: None };
        notifier.ready("");
        notifier.beat(|| unreachable!("nobody listens"));
        notifier.stopping();
        assert!(connect(OsStr::new("/nowhere/notify")).is_err());
    }
}
