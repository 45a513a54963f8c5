//! From a source to a verdict: reads a window of events and lets a gate judge it. Commands and the canary judge here,
//! so that they cannot differ. [`drift`] reads the training rows that gates compare features with.

pub mod drift;

use std::num::NonZeroUsize;

use crate::gate::{Drift, QualityGate, QualityVerdict, Rules, SanityGate, SanityVerdict, Terms};
use crate::identity;
use crate::report::Header;
use crate::stream::{
    Item, LinkOptions, MARKET_FEATURES, Reading, Source, SourceSpec, TRADE_INTENT, Window, now_ms,
};

/// Newest intents that the quality gate judges unless told otherwise.
pub const QUALITY_EVENTS: u64 = 2000;
/// Newest events that feature-sanity judges unless told otherwise.
pub const SANITY_EVENTS: u64 = 200;

/// Whether events tell of a market. Every report on simulated ones is headed SYNTHETIC, and no activation takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An engine or another producer wrote them as they happened.
    Live,
    /// The demo made them up.
    Simulated,
}

/// Where events are: a source, and the key of the stream where that is a server.
#[derive(Clone, Debug)]
pub struct EventSource {
    /// The file or server.
    pub spec: SourceSpec,
    /// Key of the stream on a Redis server.
    pub stream: String,
    /// How the server is spoken to.
    pub link: LinkOptions,
    /// What the events are.
    pub origin: Origin,
}

impl EventSource {
    /// A source that somebody named: what it holds is judged as live, unless it says of itself that it is simulated.
    #[must_use]
    pub const fn live(spec: SourceSpec, stream: String, link: LinkOptions) -> Self {
        Self { spec, stream, link, origin: Origin::Live }
    }

    fn open(&self) -> anyhow::Result<Source> {
        Source::open(&self.spec, &self.stream, &self.link)
    }

    /// Hands the events of `window` to `observe`, oldest first.
    ///
    /// # Errors
    /// The source cannot be opened or read.
    pub fn read(&self, window: &Window<'_>, mut observe: impl FnMut(Item)) -> anyhow::Result<Reading> {
        self.read_of(window, |item, _| observe(item))
    }

    /// The same, telling with each event how many there are at most, where the source knows.
    fn read_of(
        &self,
        window: &Window<'_>,
        mut observe: impl FnMut(Item, Option<u64>),
    ) -> anyhow::Result<Reading> {
        let mut source = self.open()?;
        let most = source.most(window)?;
        source.for_each(window, |item| {
            observe(item, most);
            Ok(())
        })
    }

    /// Whether a second reading finds what the first found: stdin and pipes are gone then.
    #[must_use]
    pub fn can_be_read_again(&self) -> bool {
        match &self.spec {
            SourceSpec::File(path) => std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()),
            SourceSpec::Stdin => false,
            SourceSpec::Redis(_) => true,
        }
    }

    /// Refuses a source that one reading uses up, before anything waits for it. A file that is not there yet may come.
    ///
    /// # Errors
    /// It is stdin or a pipe.
    pub fn ensure_can_be_read_again(&self) -> anyhow::Result<()> {
        let used_up = match &self.spec {
            SourceSpec::File(path) => std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()),
            SourceSpec::Stdin => true,
            SourceSpec::Redis(_) => false,
        };
        anyhow::ensure!(
            !used_up,
            "{} can be read once, but is read again and again here; give --source redis://… or file:PATH",
            self.spec
        );
        Ok(())
    }

    /// The head of a report on these events; `now` in Unix ms fixes its time.
    ///
    /// # Errors
    /// The clock is needed and stands before 1970.
    pub fn header(&self, now: Option<u64>) -> anyhow::Result<Header> {
        let source = match &self.spec {
            SourceSpec::Redis(_) => format!("{}, stream {}", self.spec, self.stream),
            SourceSpec::File(_) | SourceSpec::Stdin => self.spec.to_string(),
        };
        Ok(Header {
            now: now.map_or_else(now_ms, Ok)?,
            source,
            build: identity::build().to_owned(),
            synthetic: self.origin == Origin::Simulated,
        })
    }
}

/// Judges the intents that `terms` ask for. `seen` is called for each event read, with how many there are at most, where
/// the source knows.
///
/// # Errors
/// The events could not be read: that is no verdict.
pub fn quality(
    source: &EventSource,
    terms: Terms,
    rules: &Rules,
    seen: impl FnMut(Option<u64>),
) -> anyhow::Result<QualityVerdict> {
    quality_with_drift(source, terms, rules, None, seen)
}

/// The same, also comparing the features with the training rows of `drift`'s models.
///
/// # Errors
/// The events could not be read.
pub fn quality_with_drift(
    source: &EventSource,
    terms: Terms,
    rules: &Rules,
    drift: Option<Drift>,
    mut seen: impl FnMut(Option<u64>),
) -> anyhow::Result<QualityVerdict> {
    let mut gate = QualityGate::new(terms).with_drift(drift);
    let window = window(terms.cutover, terms.requested, &[TRADE_INTENT]);
    // What was before is only compared with.
    if let Some(cutover) = terms.cutover.filter(|&cutover| cutover > 0 && source.can_be_read_again()) {
        let before = Window { after: None, ..window };
        source.open()?.until(cutover).for_each(&before, |item| {
            gate.observe_before(&item);
            Ok(())
        })?;
    }
    let reading = source.read_of(&window, |item, most| {
        gate.observe(&item);
        seen(most);
    })?;
    Ok(gate.finish(rules, reading.gap.as_ref()))
}

/// Judges the features of the newest `count` events (0: all) since `after`, Unix ms, and compares them with the training rows
/// of `drift`'s models. `seen` is called as by [`quality`].
///
/// # Errors
/// The events could not be read: that is no verdict.
pub fn sanity_with_drift(
    source: &EventSource,
    after: u64,
    count: u64,
    rules: &Rules,
    drift: Option<Drift>,
    mut seen: impl FnMut(Option<u64>),
) -> anyhow::Result<SanityVerdict> {
    let mut gate = SanityGate::new().with_drift(drift);
    let window = window(Some(after), count, &[TRADE_INTENT, MARKET_FEATURES]);
    let reading = source.read_of(&window, |item, most| {
        gate.observe(&item);
        seen(most);
    })?;
    Ok(gate.finish(rules, reading.gap.as_ref()))
}

fn window<'types>(after: Option<u64>, count: u64, event_types: &'types [&'types str]) -> Window<'types> {
    // More than memory can address is as good as all.
    let newest = NonZeroUsize::new(usize::try_from(count).unwrap_or(usize::MAX));
    Window { after, newest, event_types }
}
