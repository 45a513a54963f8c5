//! A proxy in front of a server, which cuts connections: all at once, or at a chosen command. It may also hold one up.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// When a proxy cuts a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees the command.
    Before,
    /// The server carries it out; its answer never arrives.
    After,
}

/// What a proxy does next.
#[derive(Default)]
struct Plan {
    /// The command to cut at, how many of them still pass, and where.
    at: Option<(&'static str, usize, Cut)>,
    /// Both ends of every open connection.
    open: Vec<(TcpStream, TcpStream)>,
    cuts: usize,
    /// How long every command takes to the server.
    delay: Duration,
    /// What a command is held up at, and whether one is.
    hold: Option<String>,
    holds: bool,
}

/// A proxy in front of a server, which cuts connections: all at once, or at a chosen command.
pub struct Proxy {
    plan: Arc<Mutex<Plan>>,
    port: u16,
}

impl Proxy {
    /// A proxy to the server on `port`.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else {
                    continue;
                };
                pump_both(&client, &server, &shared);
            }
        });
        Self { plan, port: own }
    }

    /// URL of the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts every open connection.
    ///
    /// # Panics
    /// If another thread died of it.
    pub fn cut(&self) {
        let mut plan = self.plan.lock().expect("no thread died");
        let Plan { open, cuts, .. } = &mut *plan;
        for (client, server) in open.drain(..) {
            // Closed already, perhaps.
            let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            *cuts += 1;
        }
    }

    /// Cuts the connection on which `command` is sent after `pass` of them have passed.
    ///
    /// # Panics
    /// If another thread died of it.
    pub fn cut_at(&self, command: &'static str, pass: usize, when: Cut) {
        self.plan.lock().expect("no thread died").at = Some((command, pass, when));
    }

    /// From now on every command takes so much longer.
    ///
    /// # Panics
    /// If another thread died of it.
    pub fn delay_by(&self, delay: Duration) {
        self.plan.lock().expect("no thread died").delay = delay;
    }

    /// Holds up the next command that has these `words` in it, until [`Self::release`].
    ///
    /// # Panics
    /// If another thread died of it.
    pub fn hold_at(&self, words: &str) {
        self.plan.lock().expect("no thread died").hold = Some(words.to_owned());
    }

    /// Whether a command is held up.
    ///
    /// # Panics
    /// If another thread died of it.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.plan.lock().expect("no thread died").holds
    }

    /// Lets the command pass that is held up.
    ///
    /// # Panics
    /// If another thread died of it.
    pub fn release(&self) {
        let mut plan = self.plan.lock().expect("no thread died");
        (plan.hold, plan.holds) = (None, false);
    }

    /// Connections cut so far.
    ///
    /// # Panics
    /// If another thread died of it.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.plan.lock().expect("no thread died").cuts
    }
}

fn pump_both(client: &TcpStream, server: &TcpStream, plan: &Arc<Mutex<Plan>>) {
    let ends = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some(kept), Some(up), Some(down)) = (ends(), ends(), ends()) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    plan.lock().expect("no thread died").open.push(kept);
    // An answer that must not arrive must not be on its way already either: both directions look at this.
    let deaf = Arc::new(Mutex::new(false));
    let (plan, deaf_down) = (Arc::clone(plan), Arc::clone(&deaf));
    thread::spawn(move || {
        let (mut from, mut to) = up;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let cut = {
                let mut plan = plan.lock().expect("no thread died");
                let hits = plan.at.map_or(0, |(command, _, _)| count(&buffer[..length], command));
                match plan.at {
                    Some((_, pass, when)) if hits > pass => {
                        plan.at = None;
                        plan.cuts += 1;
                        Some(when)
                    }
                    Some((command, pass, when)) => {
                        plan.at = Some((command, pass - hits, when));
                        None
                    }
                    None => None,
                }
            };
            hold(&plan, &buffer[..length]);
            let delay = plan.lock().expect("no thread died").delay;
            thread::sleep(delay);
            if cut == Some(Cut::Before) {
                break;
            }
            if cut == Some(Cut::After) {
                *deaf.lock().expect("no thread died") = true;
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
            if cut == Some(Cut::After) {
                // The server answers in order: once it answers anything, it has carried out the command.
                thread::sleep(Duration::from_millis(150));
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
    thread::spawn(move || {
        let (mut to, mut from) = down;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if !*deaf_down.lock().expect("no thread died") && to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// Waits for as long as what is in `bytes` is to be held up.
fn hold(plan: &Mutex<Plan>, bytes: &[u8]) {
    loop {
        let mut plan = plan.lock().expect("no thread died");
        plan.holds = plan.hold.as_ref().is_some_and(|words| count(bytes, words) > 0);
        if !plan.holds {
            return;
        }
        drop(plan);
        thread::sleep(Duration::from_millis(5));
    }
}

/// How often `word` is in `bytes`.
fn count(bytes: &[u8], word: &str) -> usize {
    bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count()
}
