//! A whole decision: from bound features to the vote.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use qsc_kernel::ensemble::{Decided, Feature};
use qsc_kernel::observe::Stage;
use qsc_kernel::{Backend, Model};

use super::Measured;
use super::clock::{Shares, Stopwatch};
use super::latency::Latency;
use super::random::{Random, ranges};
use crate::engine::config::ModelsConfig;
use crate::engine::load::Images;
use crate::engine::panic_guard::PanicGuard;
use crate::engine::{Candidate, Engine, MAX_MODELS, bundled};

/// Events to rotate over; twice the longest window is taken if that is more.
const EVENTS: usize = 512;
/// Stages are measured apart, and for less long: the clock is read between them.
const STAGES: u32 = 4;

type Answer = Decided<MAX_MODELS>;
/// Smallest and largest value of each feature of a model.
type Spans = Vec<(f32, f32)>;
type ModelEngine<'i> = Engine<PanicGuard<Model<'i>>>;

pub(super) fn measure(models: Option<&Path>, backend: Backend, time: Duration) -> anyhow::Result<Measured> {
    let (config, images) = match models {
        Some(path) => {
            let config = ModelsConfig::read(path)?;
            let images = Images::read(&config);
            (config, images)
        }
        None => (bundled::config()?, bundled::images()),
    };
    let mut reasons = String::new();
    let mut engine = |backend: Backend| -> anyhow::Result<(ModelEngine<'_>, Vec<Spans>)> {
        let mut log = |line: String| {
            if line.contains("model_not_loaded") {
                reasons = line;
            }
        };
        let candidates = images.load(&config, &mut log)?;
        ensure!(
            candidates.iter().all(|candidate| candidate.predictor.is_some()),
            "a model was not loaded: {reasons}"
        );
        let on = |candidate: Candidate<PanicGuard<_>>| {
            let predictor = candidate
                .predictor
                .map(|PanicGuard(model): PanicGuard<Model<'_>>| PanicGuard(model.with_backend(backend)));
            Candidate { predictor, ..candidate }
        };
        let candidates: Vec<_> = candidates.into_iter().map(on).collect();
        let spans = candidates
            .iter()
            .filter_map(|candidate| Some(ranges(&candidate.predictor.as_ref()?.0)))
            .collect();
        Ok((Engine::new(&config, candidates)?, spans))
    };
    let (mut scalar, spans) = engine(Backend::SCALAR)?;
    let (mut engine, _) = engine(backend)?;
    let longest =
        engine.members().iter().filter_map(|member| Some(member.predictor()?.0.seq_len())).max().unwrap_or(1);
    let count = EVENTS.max(2 * longest);
    let events = match models {
        None => bundled::events(engine.schema())?.into_iter().take(count).collect(),
        Some(_) => random_events(&engine, &spans, count),
    };

    // Windows fill in the first turn; from the second on every turn gives the same answers.
    let mut expected = Vec::with_capacity(events.len());
    turn(&mut scalar, &events, |_, _, _| Ok(()))?;
    turn(&mut scalar, &events, |_, answer, _| {
        expected.push(answer);
        Ok(())
    })?;
    turn(&mut engine, &events, |_, _, _| Ok(()))?;
    let mut latency = Latency::new(1);
    let started = Instant::now();
    while started.elapsed() < time || latency.calls() == 0 {
        turn(&mut engine, &events, |at, answer, elapsed| {
            latency.record(elapsed);
            same(at, &answer, &expected, backend)
        })?;
    }

    let names: Vec<String> = config.models.iter().map(|model| model.name.clone()).collect();
    let name = |stage| match stage {
        Stage::Member(at) => names.get(at).cloned().unwrap_or_default(),
        stage => format!("{stage:?}").to_lowercase(),
    };
    let (mut stages, mut watch) = (Shares::default(), Stopwatch::new(latency.timer()));
    let started = Instant::now();
    while started.elapsed() < time / STAGES {
        for (at, event) in events.iter().enumerate() {
            watch.start();
            let answer = engine.decide_features("", event, None, &mut watch);
            same(at, &answer, &expected, backend)?;
            watch.enter(&mut stages, name);
        }
    }
    Ok(Measured {
        subject: format!(
            "a decision of {} ({})",
            names.join(", "),
            models.map_or_else(|| "bundled".to_owned(), |path| path.display().to_string())
        ),
        backend: backend.name(),
        batch: 1,
        rows: events.len(),
        latency,
        stages,
    })
}

/// Decides every event once.
fn turn(
    engine: &mut ModelEngine<'_>,
    events: &[Vec<Feature>],
    mut each: impl FnMut(usize, Answer, Duration) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for (at, event) in events.iter().enumerate() {
        let started = Instant::now();
        let decided = engine.decide_features("", event, None, &mut ());
        let elapsed = started.elapsed();
        each(at, decided, elapsed)?;
    }
    Ok(())
}

/// Events within what the golden rows of the models span; a feature of several models by the first of them.
fn random_events(engine: &ModelEngine<'_>, spans: &[Spans], count: usize) -> Vec<Vec<Feature>> {
    let mut random = Random::new();
    let models: Vec<&Model<'_>> =
        engine.members().iter().filter_map(|member| Some(&member.predictor()?.0)).collect();
    let named = || models.iter().zip(spans).flat_map(|(model, spans)| model.feature_names().zip(spans));
    let spans: Vec<(f32, f32)> = engine
        .schema()
        .names()
        .map(|name| named().find(|(known, _)| *known == name).map_or((-1.0, 1.0), |(_, span)| *span))
        .collect();
    (0..count).map(|_| spans.iter().map(|&span| Feature::Number(random.within(span))).collect()).collect()
}

fn same(at: usize, answer: &Answer, expected: &[Answer], backend: Backend) -> anyhow::Result<()> {
    ensure!(
        expected.get(at) == Some(answer),
        "event {at} was decided otherwise on {} than on scalar: this machine or this build cannot be trusted; run `qsc model verify`",
        backend.name()
    );
    Ok(())
}
