//! Real `redis-server`s for tests, on Unix sockets and on loopback: one alone ([`RedisServer`]), under Sentinels
//! ([`Sentinels`]) and as a Cluster ([`Cluster`]), with certificates of their own authority ([`Authority`]).

mod certificates;
mod cluster;
mod sentinels;
mod server;

use std::time::{Duration, Instant};

pub use certificates::{Authority, Identity};
pub use cluster::Cluster;
pub use sentinels::{MASTER, Sentinels};
pub use server::{Options, RedisServer};

/// Waits until `done` says so.
///
/// # Panics
/// If it has not within 30 seconds.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
