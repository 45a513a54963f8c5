//! The HTTP server: GET and HEAD on a handful of paths, for a scraper, a prober and one person with a browser.
//!
//! It has threads of its own and only reads the board. Requests, time and connections are bounded; every answer closes
//! its connection.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::exposition::{Exposition, Format};
use super::live::Live;
use super::{Boards, Meter, health};
use crate::engine::config::ModelsConfig;
use crate::stream::Shard;

/// Connections served at a time; further ones wait in the system's queue.
const WORKERS: usize = 4;
/// Bytes of a request, its headers included.
const LONGEST_REQUEST: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// From the connection to the end of the answer.
const TIME_LIMIT: Duration = Duration::from_secs(3);
/// After a refusal: how much more is read, so that the answer is not lost in a reset connection.
const DRAINED: usize = 256 << 10;

/// An address that is listened on, and nobody served yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`, e.g. `127.0.0.1:9464`, and nowhere else.
    ///
    /// # Errors
    /// One sentence on why that is not possible: no such address, or it is taken.
    pub fn bind(address: &str) -> anyhow::Result<Self> {
        let parsed: SocketAddr = address.parse().map_err(|_| {
            anyhow!("--metrics {address:?} is no address; give IP:PORT, e.g. 127.0.0.1:9464 or [::1]:9464")
        })?;
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                anyhow!(
                    "cannot serve metrics on {parsed}: the port is in use; stop what listens there or give another with --metrics"
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                anyhow!(
                    "cannot serve metrics on {parsed}: this machine has no such address; give one of its own with --metrics"
                )
            }
            io::ErrorKind::PermissionDenied => {
                anyhow!(
                    "cannot serve metrics on {parsed}: this user may not listen there; give a port from 1024 with --metrics"
                )
            }
            _ => anyhow!("cannot serve metrics on {parsed}: {error}; give another address with --metrics"),
        };
        let listener = TcpListener::bind(parsed).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Self { listener, address })
    }

    /// Where it listens; the port is the one the system chose where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the figures of engines of these models until the process ends: one for each of `loops`, which decides for a
    /// shard or for none. What is returned writes them, in that order.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn serve(
        self,
        config: &ModelsConfig,
        live: Live,
        loops: &[Option<Shard>],
    ) -> anyhow::Result<Vec<Meter>> {
        let (boards, meters) = Boards::new(config, loops);
        let boards = Arc::new(boards);
        let pages = Arc::new(Pages { exposition: Exposition::new(Arc::clone(&boards)), live, boards });
        let listener = Arc::new(self.listener);
        for _ in 0..WORKERS {
            let (listener, pages) = (Arc::clone(&listener), Arc::clone(&pages));
            thread::Builder::new()
                .name("metrics".to_owned())
                .spawn(move || work(&listener, &pages))
                .context("cannot start a thread for --metrics")?;
        }
        Ok(meters)
    }
}

fn work(listener: &TcpListener, pages: &Pages) {
    loop {
        match listener.accept() {
            // What becomes of one connection is of no consequence to anybody else.
            Ok((stream, _)) => drop(answer(stream, pages)),
            // Out of file descriptors, most likely: others may close theirs.
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// An answer.
struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Response {
    fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

const OK: &str = "200 OK";

fn answer(mut stream: TcpStream, pages: &Pages) -> io::Result<()> {
    let deadline = Instant::now() + TIME_LIMIT;
    let (response, with_body, refused) = match read(&mut stream, deadline)? {
        Ok(Request { head, path, accept }) => (pages.get(&path, &accept), !head, false),
        Err(refusal) => (refusal, true, true),
    };
    let Response { status, content_type, body } = response;
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n{}\r\n",
        body.len(),
        if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" },
    );
    if with_body {
        bytes.push_str(&body);
    }
    let mut rest = bytes.as_bytes();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        let written = stream.write(rest)?;
        rest = rest.get(written..).filter(|_| written > 0).ok_or(io::ErrorKind::WriteZero)?;
    }
    stream.shutdown(Shutdown::Write)?;
    if refused {
        let mut sink = [0; 4096];
        let mut drained = 0;
        while drained < DRAINED {
            stream.set_read_timeout(Some(left(deadline)?))?;
            match stream.read(&mut sink)? {
                0 => break,
                read => drained += read,
            }
        }
    }
    Ok(())
}

/// What is left of the time; never zero, which would mean for ever.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[derive(Debug)]
struct Request {
    head: bool,
    path: String,
    accept: String,
}

/// Reads a request; the inner error is the answer to one that is none.
fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<Result<Request, Response>> {
    let mut memory = [0; LONGEST_REQUEST];
    let mut filled = 0;
    loop {
        if let Some(request) = parse(&memory[..filled]) {
            return Ok(request);
        }
        if filled == memory.len() {
            return Ok(Err(Response::text(
                "431 Request Header Fields Too Large",
                "the request is too long\n",
            )));
        }
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut memory[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
}

/// The request that `bytes` begin with; `None` if more is needed to tell.
fn parse(bytes: &[u8]) -> Option<Result<Request, Response>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Some(Err(Response::text("431 Request Header Fields Too Large", "too many headers\n")));
        }
        Err(_) => return Some(Err(Response::text("400 Bad Request", "this is no HTTP/1 request\n"))),
    }
    let head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Err(Response::text("405 Method Not Allowed", "only GET and HEAD\n"))),
    };
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path).to_owned();
    let accept = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("accept");
    let accept: Vec<&str> = request
        .headers
        .iter()
        .filter(accept)
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .collect();
    Some(Ok(Request { head, path, accept: accept.join(",") }))
}

/// Everything that can be asked for.
struct Pages {
    boards: Arc<Boards>,
    exposition: Exposition,
    live: Live,
}

impl Pages {
    fn get(&self, path: &str, accept: &str) -> Response {
        match path {
            "/metrics" => {
                let format = Format::accepted(accept);
                Response {
                    status: OK,
                    content_type: format.content_type(),
                    body: self.exposition.text(format),
                }
            }
            "/healthz" => Self::health(&self.boards.read(health::health)),
            "/readyz" => Self::health(&self.boards.read(health::readiness)),
            "/" => Response {
                status: OK,
                content_type: "text/html; charset=utf-8",
                body: self.live.page().to_owned(),
            },
            "/scoreboard.json" => {
                Response { status: OK, content_type: "application/json", body: self.live.json(&self.boards) }
            }
            _ => Response::text(
                "404 Not Found",
                "there are /, /metrics, /healthz, /readyz and /scoreboard.json\n",
            ),
        }
    }

    fn health(health: &health::Health) -> Response {
        Response::text(if health.well { OK } else { "503 Service Unavailable" }, health.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_they_are_or_refused() {
        for text in
            ["", "9464", ":9464", "localhost:9464", "127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1:1"]
        {
            let error = Server::bind(text).unwrap_err().to_string();
            assert!(error.contains("IP:PORT") && !error.contains('\n'), "{error}");
        }
        let listener = Server::bind("127.0.0.1:0").unwrap();
        assert_ne!(listener.address().port(), 0);
        let error = Server::bind(&listener.address().to_string()).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        let error = Server::bind("192.0.2.1:9464").unwrap_err().to_string();
        assert!(error.contains("no such address"), "{error}");
    }

    #[test]
    fn requests_are_told_from_garbage() {
        let request = parse(b"HEAD /metrics?x=1 HTTP/1.1\r\nHost: x\r\nACCEPT: a/b\r\nAccept: c/d\r\n\r\n");
        let request = request.unwrap().ok().unwrap();
        assert_eq!(
            (request.head, request.path.as_str(), request.accept.as_str()),
            (true, "/metrics", "a/b,c/d")
        );
        assert!(parse(b"GET / HTTP/1.1\r\n").is_none());
        for (bytes, status) in [
            (&b"POST / HTTP/1.1\r\n\r\n"[..], "405"),
            (b"\x16\x03\x01\x02\x00\x01", "400"),
            (b"GET / HTTP/9.9\r\n\r\n", "400"),
        ] {
            assert!(parse(bytes).unwrap().err().unwrap().status.starts_with(status), "{bytes:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MOST_HEADERS + 1));
        assert!(parse(many.as_bytes()).unwrap().err().unwrap().status.starts_with("431"));
    }
}
