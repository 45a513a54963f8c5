//! `/metrics`: the board as Prometheus text 0.0.4 or as OpenMetrics, whichever the reader asks for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use qsc_kernel::{Action, Inactive};

use super::board::{Board, HostStage, KernelStage, SIDES, known};
use super::boards::Boards;
use super::health;
use super::histogram::Histogram;
use crate::identity;
use crate::stream::{Refusal, Shard};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What every reader understands.
    Prometheus,
    /// For readers that ask for it.
    OpenMetrics,
}

impl Format {
    /// The format for this `Accept` header.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let asked = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            // `q=0` says that it is not wanted.
            parts.next() == Some("application/openmetrics-text")
                && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
        });
        if asked { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the board whenever it is asked for.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// The exposition of `boards`.
    #[must_use]
    pub fn new(boards: Arc<Boards>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Figures(boards)));
        Self(registry)
    }

    /// The figures as they are.
    #[must_use]
    pub fn text(&self, format: Format) -> String {
        let mut out = String::new();
        match format {
            Format::Prometheus => prometheus_text::encode(&mut out, &self.0),
            Format::OpenMetrics => text::encode(&mut out, &self.0),
        }
        .expect("writing to a string does not fail");
        out
    }
}

#[derive(Debug)]
struct Figures(Arc<Boards>);

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.0.read(|board| page.board(board))?;
        page.shards(&self.0)
    }
}

fn of(cell: &std::sync::atomic::AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

/// The page being written.
struct Page<'encoder>(DescriptorEncoder<'encoder>);

impl Page<'_> {
    fn board(&mut self, board: &Board) -> fmt::Result {
        let page = self;
        page.counter("qsc_events", "Feature events taken from the source", &board.events)?;
        page.counter("qsc_rejects", "Events that could not be decided at all", &board.rejects)?;
        let sides = SIDES.into_iter().zip(&board.sides);
        page.family("qsc_decisions", "Decisions by side", MetricType::Counter, |family| {
            sides.clone().try_for_each(|(side, count)| {
                family
                    .encode_family(&[("side", side)])?
                    .encode_counter::<NoLabelSet, _, f64>(&of(count), None)
            })
        })?;
        page.models(board)?;
        page.latencies(board)?;
        page.stream(board)?;
        page.process(board)
    }

    /// Which shards this process owns, and how far behind it is in each.
    fn shards(&mut self, boards: &Boards) -> fmt::Result {
        let shards = boards.shards();
        if shards.clone().next().is_none() {
            return Ok(());
        }
        let label = |shard: Shard| [("shard", shard.index().to_string())];
        self.family("qsc_shard_held", "1 if this process owns the shard", MetricType::Gauge, |family| {
            shards.clone().try_for_each(|(shard, lag)| {
                family.encode_family(&label(shard))?.encode_gauge(&i64::from(lag.is_some()))
            })
        })?;
        let help = "Entries of a shard owned that are not settled";
        self.family("qsc_shard_lag_entries", help, MetricType::Gauge, |family| {
            let held = shards.filter_map(|(shard, lag)| Some((shard, lag?)));
            held.into_iter()
                .try_for_each(|(shard, lag)| family.encode_family(&label(shard))?.encode_gauge(&(lag as f64)))
        })
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(&mut self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn counter(&mut self, name: &str, help: &str, cell: &std::sync::atomic::AtomicU64) -> fmt::Result {
        self.family(name, help, MetricType::Counter, |metric| {
            metric.encode_counter::<NoLabelSet, _, f64>(&of(cell), None)
        })
    }

    /// A gauge; left out as long as its value is not known.
    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        self.family(name, help, MetricType::Gauge, |metric| metric.encode_gauge(&value))
    }

    fn models(&mut self, board: &Board) -> fmt::Result {
        self.family("qsc_predictions", "Votes of active models by action", MetricType::Counter, |family| {
            board.models.iter().try_for_each(|model| {
                Action::ALL.iter().zip(&model.actions).try_for_each(|(action, count)| {
                    let labels = [("model", model.name.as_str()), ("action", action.wire_name())];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&of(count), None)
                })
            })
        })?;
        self.family(
            "qsc_inactive",
            "Outcomes without a vote, by model and reason",
            MetricType::Counter,
            |family| {
                board.models.iter().try_for_each(|model| {
                    let reasons = Inactive::ALL.iter().zip(&model.inactive);
                    // Only telemetry of other producers gives that reason.
                    let own = reasons.filter(|(reason, _)| **reason != Inactive::FallbackRules);
                    own.into_iter().try_for_each(|(reason, count)| {
                        let labels = [("model", model.name.as_str()), ("reason", reason.wire_name())];
                        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&of(count), None)
                    })
                })
            },
        )?;
        self.family(
            "qsc_model_weight",
            "Weight in force, of 1 over all models",
            MetricType::Gauge,
            |family| {
                board.models.iter().try_for_each(|model| {
                    let labels = [("model", model.name.as_str())];
                    family.encode_family(&labels)?.encode_gauge(&Board::weight(model))
                })
            },
        )?;
        self.family(
            "qsc_model_loaded",
            "1 if the model's image was loaded and holds",
            MetricType::Gauge,
            |family| {
                board.models.iter().try_for_each(|model| {
                    let labels = [("model", model.name.as_str())];
                    family
                        .encode_family(&labels)?
                        .encode_gauge(&i64::from(model.loaded.load(Ordering::Relaxed)))
                })
            },
        )?;
        let generation = of(&board.generation) as f64;
        self.gauge(
            "qsc_weights_generation",
            "Generation of the weights in force; 0 is MODELS.toml",
            Some(generation),
        )
    }

    fn latencies(&mut self, board: &Board) -> fmt::Result {
        let mut histograms = |name, help, label, series: &[(&str, &Histogram)]| {
            self.family(name, help, MetricType::Histogram, |family| {
                series.iter().try_for_each(|(value, histogram)| {
                    let snapshot = histogram.snapshot();
                    family.encode_family(&[(label, *value)])?.encode_histogram::<NoLabelSet>(
                        snapshot.sum,
                        snapshot.count,
                        &snapshot.buckets,
                        None,
                    )
                })
            })
        };
        let stages: Vec<_> = HostStage::ALL.iter().map(|stage| stage.name()).zip(&board.stages).collect();
        histograms("qsc_stage_seconds", "Time of an event in each stage of its way", "stage", &stages)?;
        let stages: Vec<_> =
            KernelStage::ALL.iter().map(|stage| stage.name()).zip(&board.kernel_stages).collect();
        histograms(
            "qsc_kernel_stage_seconds",
            "Time in the parts of a decision besides the models",
            "stage",
            &stages,
        )?;
        let models: Vec<_> = board.models.iter().map(|model| (model.name.as_str(), &model.time)).collect();
        histograms("qsc_model_seconds", "Time of one prediction", "model", &models)
    }

    fn stream(&mut self, board: &Board) -> fmt::Result {
        let newest = known(&board.newest_event).map(|ms| ms as f64 / 1e3);
        self.gauge("qsc_newest_event_timestamp_seconds", "Time of the newest event decided", newest)?;
        let stream = &board.stream;
        if !stream.is_one.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.gauge(
            "qsc_lag_entries",
            "Entries of the stream that are not settled",
            Some(of(&stream.lag) as f64),
        )?;
        self.gauge(
            "qsc_pending_entries",
            "Entries delivered to a consumer of the group and not settled",
            Some(of(&stream.pending) as f64),
        )?;
        self.family(
            "qsc_write_refusals",
            "Writes the server did not take for now, by its code; they are sent again",
            MetricType::Counter,
            |family| {
                Refusal::ALL.into_iter().zip(&stream.refusals).try_for_each(|(refusal, count)| {
                    family
                        .encode_family(&[("code", refusal.code())])?
                        .encode_counter::<NoLabelSet, _, f64>(&of(count), None)
                })
            },
        )?;
        self.counter("qsc_settled_intents", "Intents of settled batches", &stream.settled)?;
        self.counter(
            "qsc_dead_letters",
            "Events given up, with their reason, in the dead-letter stream",
            &stream.dead,
        )?;
        self.counter(
            "qsc_lost_entries",
            "Entries removed from the stream before they were read",
            &stream.lost,
        )?;
        self.counter("qsc_reconnects", "Connections to the server made after the first", &stream.reconnects)?;
        self.counter("qsc_leases_lost", "Times the lease went to another consumer", &stream.leases_lost)
    }

    fn process(&mut self, board: &Board) -> fmt::Result {
        let ready = i32::from(health::readiness(board).well);
        self.gauge("qsc_ready", "1 if it can decide, as /readyz says", Some(f64::from(ready)))?;
        let silence = health::silence(board).as_secs_f64();
        self.gauge(
            "qsc_loop_silence_seconds",
            "Time since the deciding loop's last sign of life",
            Some(silence),
        )?;
        self.gauge("qsc_start_time_seconds", "When the engine started, Unix time", Some(board.started_at))?;
        self.family(
            "qsc_build_info",
            "What this binary was built from; always 1",
            MetricType::Gauge,
            |family| {
                let labels = [("version", env!("CARGO_PKG_VERSION")), ("build", identity::build())];
                family.encode_family(&labels)?.encode_gauge(&1_i64)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_openmetrics_gets_it() {
        for accept in ["", "*/*", "text/plain", "application/openmetrics-text;q=0, text/plain"] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
    }
}
