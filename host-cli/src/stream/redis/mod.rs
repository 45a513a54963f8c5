//! Redis: what a URL names ([`RedisAddress`]), which server that is (`locate`), how it is spoken to ([`LinkOptions`],
//! `login`, `socket`, `wire`), what can go wrong ([`Trouble`]), why a server takes no writes for now ([`Refusal`]), what it
//! keeps ([`Durability`]), and how a stream is read without writing to it (`pages`).
//!
//! A [`Link`] is one connection to the one server that owns a key. It never sends a command twice: what became of a
//! command whose answer is missing is [`Trouble::Unknown`], and only who sent it can find out.

mod address;
mod backoff;
mod durability;
mod link;
mod locate;
mod login;
mod options;
mod pages;
mod pulse;
mod refusal;
mod socket;
mod trouble;
mod wire;

pub use address::RedisAddress;
pub use backoff::Backoff;
pub use durability::Durability;
pub use link::{Link, command_name};
pub use locate::key_slot;
pub use options::{LinkOptions, SentinelLogin, TlsFiles};
pub use pages::Dump;
pub(super) use pages::RedisStream;
pub use pulse::Pulse;
pub use refusal::Refusal;
pub use socket::Patience;
pub use trouble::Trouble;
