//! The same figures per symbol: what is well on the whole may be dead on one market.

use std::collections::BTreeMap;

use serde::Serialize;

use super::model::{Actions, Said};
use super::stats::Moments;

/// Symbols kept apart; further ones share one slice.
const MAX_SYMBOLS: usize = 32;
/// Models kept apart in a slice.
const MAX_MODELS: usize = 16;
/// Characters of a symbol that are kept.
const MAX_NAME: usize = 40;
/// The slice of further symbols.
const OTHER: &str = "(other)";
/// The slice of events without a symbol.
const NONE: &str = "(none)";

/// What the models said about one symbol.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Slice {
    /// Events of the symbol.
    pub events: u64,
    /// By model.
    pub models: BTreeMap<String, SliceFigures>,
}

/// What one model said about one symbol.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SliceFigures {
    /// Active predictions.
    pub predictions: u64,
    /// Entries marked inactive.
    pub inactive: u64,
    /// Active predictions by action.
    pub actions: Actions,
    /// Mean of the valid confidences.
    pub confidence_mean: Option<f64>,
    /// Their population standard deviation.
    pub confidence_std: Option<f64>,
}

/// Collects [`Slice`]s.
#[derive(Debug, Default)]
pub(super) struct Slices(BTreeMap<String, Symbol>);

#[derive(Debug, Default)]
pub(super) struct Symbol {
    events: u64,
    models: BTreeMap<String, (SliceFigures, Moments)>,
}

/// The entry of `name`, whose text is only copied for the first one.
fn entry<'map, V: Default>(map: &'map mut BTreeMap<String, V>, name: &str) -> &'map mut V {
    if !map.contains_key(name) {
        map.insert(name.to_owned(), V::default());
    }
    map.get_mut(name).expect("it was there or has just been inserted")
}

impl Symbol {
    /// Takes what one model said.
    pub(super) fn observe(&mut self, model: &str, said: Said) {
        if self.models.len() == MAX_MODELS && !self.models.contains_key(model) {
            return;
        }
        let (figures, confidences) = entry(&mut self.models, model);
        match said {
            Said::Inactive => figures.inactive += 1,
            Said::Active { action, confidence } => {
                figures.predictions += 1;
                action.into_iter().for_each(|action| figures.actions.add(action));
                confidence.into_iter().for_each(|confidence| confidences.add(confidence));
            }
        }
    }
}

impl Slices {
    /// Counts an event of this symbol; what the models said in it is told to the slice.
    pub(super) fn event(&mut self, symbol: Option<&str>) -> &mut Symbol {
        let name = symbol.unwrap_or(NONE);
        let name = name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end]);
        let room = self.0.len() < MAX_SYMBOLS || self.0.contains_key(name);
        let symbol = entry(&mut self.0, if room { name } else { OTHER });
        symbol.events += 1;
        symbol
    }

    pub(super) fn finish(self) -> BTreeMap<String, Slice> {
        let model = |(name, (mut figures, confidences)): (String, (SliceFigures, Moments))| {
            (figures.confidence_mean, figures.confidence_std) = confidences.mean_std().unzip();
            (name, figures)
        };
        self.0
            .into_iter()
            .map(|(name, symbol)| {
                let models = symbol.models.into_iter().map(model).collect();
                (name, Slice { events: symbol.events, models })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_without_end_share_one_slice() {
        let mut slices = Slices::default();
        for index in 0..1000 {
            let said = Said::Active { action: None, confidence: Some(0.5) };
            let slice = slices.event(Some(&format!("S{index}")));
            slice.observe("xgb", said);
            slice.observe("lgbm", Said::Inactive);
        }
        slices.event(None);
        slices.event(Some(&"ö".repeat(5000)));
        let slices = slices.finish();
        assert_eq!(slices.len(), MAX_SYMBOLS + 1);
        assert_eq!(slices.values().map(|slice| slice.events).sum::<u64>(), 1002);
        let xgb = &slices[OTHER].models["xgb"];
        assert_eq!((xgb.confidence_mean, xgb.confidence_std), (Some(0.5), Some(0.0)));
    }
}
