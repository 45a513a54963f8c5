//! Shards: one stream cut into several by symbol, so that a Cluster spreads them over its nodes.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::key_slot;

/// One shard of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u16,
    count: NonZeroU16,
}

impl Shard {
    /// The shard `index`, from 0, of `count`; `None` if there are not so many.
    #[must_use]
    pub fn new(index: u16, count: NonZeroU16) -> Option<Self> {
        (index < count.get()).then_some(Self { index, count })
    }

    /// The shard of a symbol: the slot that a Cluster would keep it in as a key, modulo the number of shards.
    #[must_use]
    pub fn of(symbol: &str, count: NonZeroU16) -> Self {
        Self { index: key_slot(symbol) % count, count }
    }

    /// Which one it is, from 0.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.index
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> NonZeroU16 {
        self.count
    }

    /// The key of this shard of a stream; its hash tag keeps all streams of a shard in one slot.
    #[must_use]
    pub fn key(self, stream: &str) -> String {
        format!("{stream}:{{{self}}}")
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "shard-{}", self.index)
    }
}

/// The shards a worker may own: `all`, or `a-b` with both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// Every one.
    All,
    /// From the first to the last of a range.
    Range(u16, u16),
}

impl Shards {
    /// Each of them, in order.
    ///
    /// # Errors
    /// There are not so many.
    pub fn of(self, count: NonZeroU16) -> Result<Vec<Shard>, String> {
        let (first, last) = match self {
            Self::All => (0, count.get() - 1),
            Self::Range(first, last) => (first, last),
        };
        let shards = (first..=last).map(|index| Shard::new(index, count));
        shards.collect::<Option<_>>().ok_or_else(|| {
            format!("--shards {first}-{last} goes beyond the last of {count} shards, {}", count.get() - 1)
        })
    }
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = || {
            let (first, last) = text.split_once('-')?;
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some(Self::Range(first, last))
        };
        if text == "all" { Some(Self::All) } else { range() }
            .ok_or_else(|| "shards are all, or a range with both ends, such as 0-3".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIGHT: NonZeroU16 = NonZeroU16::new(8).unwrap();

    #[test]
    fn symbols_are_placed_as_the_documentation_says() {
        // `CLUSTER KEYSLOT` of a Redis server, modulo 8.
        for (symbol, slot) in [("BTCUSDT", 8473), ("123456789", 12739), ("{user1000}.following", 3443)] {
            assert_eq!(key_slot(symbol), slot, "{symbol}");
            assert_eq!(Shard::of(symbol, EIGHT).index(), slot % 8);
        }
        assert_eq!(Shard::new(7, EIGHT).unwrap().key("quantum:f"), "quantum:f:{shard-7}");
        assert_eq!(Shard::new(8, EIGHT), None);
    }

    #[test]
    fn ranges_have_both_ends_and_stay_within_the_count() {
        assert_eq!("all".parse::<Shards>().unwrap().of(EIGHT).unwrap().len(), 8);
        let some = "2-4".parse::<Shards>().unwrap().of(EIGHT).unwrap();
        assert_eq!(some.iter().map(|shard| shard.index()).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!("7-7".parse::<Shards>().unwrap().of(EIGHT).unwrap().len(), 1);
        assert!("0-8".parse::<Shards>().unwrap().of(EIGHT).unwrap_err().contains("beyond"));
        for text in ["", "3", "-3", "3-", "4-3", "1-x", "ALL", "0-65536"] {
            assert!(text.parse::<Shards>().is_err(), "{text}");
        }
    }
}
