//! What the firmware does and the host does too: every model's outputs, refusals, guards and votes, hashed.
//!
//! The same text runs on Cortex-M (`main.rs`), on the machine that checks it (`check/`) and on AArch64 (`tests/tests/identity.rs`):
//! all must come to the same digests.

use qsc_kernel::ensemble::{
    ConfidenceRule, Decided, Decision, Degeneracy, Feature, Member, Outcome, Pipeline, Ppm, VoteRules, Window,
};
use qsc_kernel::guard::FingerprintLayout;
use qsc_kernel::guard::input::Missing;
use qsc_kernel::{ImageError, Inactive, Model, Output, PredictError, Scratch};
use sha2::{Digest as _, Sha256};

/// Features of the vector: at most this many of all models together.
const FEATURES: usize = 25;
/// Events of a voting ensemble that differ.
const EVENTS: usize = 4;
/// Equal events: more than a degeneracy window holds.
const FROZEN: usize = 104;

/// The machine the work is done on.
pub(crate) trait Machine {
    /// Calls an entry point of the kernel for a model or an ensemble, and may measure it.
    fn call<R>(&mut self, entry: &'static str, of: &'static str, work: impl FnOnce() -> R) -> R;
    /// Predicts, and may watch what the time goes into.
    fn predict<'s>(
        &mut self,
        name: &'static str,
        model: &Model<'_>,
        row: &[f32],
        scratch: Scratch<'s>,
    ) -> Result<Output<'s>, PredictError> {
        self.call("predict", name, || model.predict(row, scratch))
    }
    /// Hears what an event came to.
    fn decided<const N: usize>(&mut self, event: usize, decided: &Decided<N>);
    /// Hears the digest of a part of the work.
    fn digest(&mut self, of: &'static str, digest: [u8; 32]);
}

/// Working memory.
pub(crate) struct Memory<'m> {
    /// Of the greediest model, and the row of a tabular one; on a boundary of 64 bytes.
    pub(crate) scratch: &'m mut [u8],
    /// The longest row.
    pub(crate) row: &'m mut [f32],
    /// Names and values of the vector, as they are hashed.
    pub(crate) layout: &'m mut [u8],
    /// Two windows of each sequence model.
    pub(crate) windows: &'m mut [f32],
}

/// Models by name.
pub(crate) type Images<'i> = &'i [(&'static str, &'static [u8])];

/// All of it; ends with the digest of all digests. The first two images are trees, which vote by themselves, too; those of
/// `alone` only predict. `N` is the largest ensemble, 2 or 4.
///
/// # Errors
/// What went wrong; none of it can with the images and the memory this is made for.
pub(crate) fn work<const N: usize>(
    machine: &mut impl Machine,
    images: Images<'_>,
    alone: Images<'_>,
    memory: &mut Memory<'_>,
) -> Result<(), &'static str> {
    let mut all = Sha256::new();
    for &(name, image) in images.iter().chain(alone) {
        let digest = predictions(machine, name, image, memory)?;
        machine.digest(name, digest);
        all.update(digest);
    }
    for (name, voters, frozen) in [("two", 2, FROZEN), ("four", 4, 0)] {
        if let Some(voters) = images.get(..voters) {
            let digest = votes::<N>(machine, name, voters, frozen, memory)?;
            machine.digest(name, digest);
            all.update(digest);
        }
    }
    machine.digest("all", all.finalize().into());
    Ok(())
}

/// One model: refused where its head or tail is cut off, checked, its golden rows predicted, and rows mixed of them.
#[inline(never)]
fn predictions(
    machine: &mut impl Machine,
    name: &'static str,
    image: &'static [u8],
    memory: &mut Memory<'_>,
) -> Result<[u8; 32], &'static str> {
    let mut hash = Sha256::new();
    let cut = image.get(..image.len().saturating_sub(64)).unwrap_or_default();
    let headless = image.get(1..).unwrap_or_default();
    let refused = (Model::check(cut).err(), Model::check(headless).err());
    if !matches!(refused, (Some(ImageError::Length { .. }), Some(ImageError::NotAnImage))) {
        return Err("a damaged image was not refused");
    }
    let model = machine.call("check", name, || Model::check(image)).map_err(|_| "an image is invalid")?;
    machine
        .call("check_golden", name, || model.check_golden(Scratch::new(memory.scratch)))
        .map_err(|_| "golden vectors give other bits here")?;
    let row = memory.row.get_mut(..model.row_len()).ok_or("a row is longer than there is room for")?;
    let tabular = model.seq_len() == 1;
    let mut mixer = Mixer(0x1234_5678);
    for at in 0..if tabular { 24 } else { 2 } {
        for (column, place) in row.iter_mut().enumerate() {
            *place = mixer.value(&model, column, tabular && at >= 8);
        }
        let output = machine
            .predict(name, &model, row, Scratch::new(memory.scratch))
            .map_err(|_| "a row was not predicted")?;
        output.raw.iter().for_each(|&value| hash.update(bits64(value)));
        output.values.iter().for_each(|&value| hash.update(bits32(value)));
        let answer = model.decide(row, &output, ConfidenceRule::Max);
        let outcome = match answer {
            Ok(prediction) => Outcome::Active { prediction, degenerate: false },
            Err(reason) => Outcome::Inactive { reason, prediction: None, degenerate: false },
        };
        absorb(&mut hash, &outcome);
    }
    // What a network does not take, a tree does.
    row.iter_mut().for_each(|value| *value = f32::NAN);
    let refused = model.predict(row, Scratch::new(memory.scratch)).err();
    let short = model.predict(row.get(1..).unwrap_or_default(), Scratch::new(memory.scratch)).err();
    if refused != (!tabular).then_some(PredictError::NonFiniteInput)
        || !matches!(short, Some(PredictError::RowLength { .. }))
    {
        return Err("a row that cannot be predicted was not refused");
    }
    Ok(hash.finalize().into())
}

/// Rows over what an image's golden rows hold, now and then with everything floats can be.
struct Mixer(u32);

impl Mixer {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        usize::try_from(self.0).unwrap_or(0)
    }

    fn value(&mut self, model: &Model<'_>, column: usize, special: bool) -> f32 {
        const SPECIALS: [f32; 8] =
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -0.0, f32::MAX, 1e-35, -1e-35];
        let draw = self.next();
        if special && draw.is_multiple_of(16) {
            return SPECIALS.get(draw / 16 % 8).copied().unwrap_or(0.0);
        }
        golden(model, (draw / 16) % 64 * model.n_features() + column)
    }
}

/// Values of the golden rows, over and over.
fn golden(model: &Model<'_>, at: usize) -> f32 {
    let values = model.golden_inputs();
    let at = at.checked_rem(values.len()).unwrap_or(0);
    values.get(at).copied().unwrap_or(0.0)
}

/// The features of a member, by their place in the vector.
struct Places {
    places: [u16; FEATURES],
    len: usize,
}

impl AsRef<[u16]> for Places {
    fn as_ref(&self) -> &[u16] {
        self.places.get(..self.len).unwrap_or_default()
    }
}

/// The vector: each feature once, and which model's golden rows give its values.
struct Vector<'m> {
    names: [&'m str; FEATURES],
    sources: [(usize, usize); FEATURES],
    len: usize,
    /// Events before the first sick one.
    well: usize,
}

impl<'m> Vector<'m> {
    /// Finds the places of a model's features, and adds those that no model before had.
    fn bind(&mut self, at: usize, model: &Model<'m>) -> Option<Places> {
        let mut places = Places { places: [0; FEATURES], len: 0 };
        for (column, name) in model.feature_names().enumerate() {
            let known = self.names.iter().take(self.len).position(|known| *known == name);
            let place = known.unwrap_or(self.len);
            if known.is_none() {
                *self.names.get_mut(place)? = name;
                *self.sources.get_mut(place)? = (at, column);
                self.len += 1;
            }
            *places.places.get_mut(places.len)? = u16::try_from(place).ok()?;
            places.len += 1;
        }
        Some(places)
    }
}

type Voters<'m, const N: usize> = Pipeline<Model<'static>, Places, &'m mut [u8], N>;

/// The places of the models' features in the vector.
#[inline(never)]
fn bind<'m, const N: usize>(vector: &mut Vector<'m>, images: Images<'m>) -> [Option<Places>; N] {
    let mut bound = [const { None }; N];
    for (at, (place, (_, image))) in bound.iter_mut().zip(images).enumerate() {
        *place = Model::check(image).ok().and_then(|model| vector.bind(at, &model));
    }
    bound
}

/// An ensemble without members.
#[inline(never)]
fn nobody<'m, const N: usize>(vector: &Vector<'_>, layout: &'m mut [u8]) -> Option<Voters<'m, N>> {
    let names = vector.names.iter().take(vector.len).copied();
    let layout = FingerprintLayout::new(names, layout).ok()?;
    Some(Voters::new(VoteRules::STANDARD, Degeneracy::Enforce, layout))
}

/// Adds a model to an ensemble, and its features to the vector. The first one takes missing values.
#[inline(never)]
fn join<const N: usize>(voters: &mut Voters<'_, N>, places: Places, image: &'static [u8]) -> Option<()> {
    let (at, model) = (voters.ensemble().members().len(), Model::check(image).ok()?);
    let weight = [250_000, 250_000, 300_000, 200_000].get(at).copied().and_then(Ppm::new)?;
    let member = Member::new(Some(model), weight);
    let member = if at == 0 {
        member.with_missing(Missing::Native).with_confidence(ConfidenceRule::Margin)
    } else {
        member
    };
    voters.push(member, places).ok()
}

/// The event `of`: what the models' golden rows hold, a little off.
fn event<const N: usize>(voters: &Voters<'_, N>, vector: &Vector<'_>, of: usize) -> [Feature; FEATURES] {
    let mut features = [Feature::Absent; FEATURES];
    let sources = vector.sources.iter().take(vector.len);
    for (place, (feature, &(model, column))) in features.iter_mut().zip(sources).enumerate() {
        let model = voters.ensemble().members().get(model).and_then(Member::predictor);
        let value = model.map_or(0.5, |model| golden(model, of % 64 * model.n_features() + column));
        let value = if value.is_finite() { value } else { 0.5 };
        let factor = [0.96875, 0.984_375, 1.0, 1.015_625, 1.03125][(of * 7 + place) % 5];
        *feature = Feature::Number(value * factor);
    }
    if let Some(&(place, sickness)) = of.checked_sub(vector.well).and_then(|at| SICKNESSES.get(at))
        && let Some(feature) = features.get_mut(place)
    {
        *feature = sickness;
    }
    features
}

/// An ensemble of at most `N` models: windows are filled, it votes, inputs fail one way after the other, and it freezes.
#[inline(never)]
fn votes<const N: usize>(
    machine: &mut impl Machine,
    name: &'static str,
    images: Images<'_>,
    frozen: usize,
    memory: &mut Memory<'_>,
) -> Result<[u8; 32], &'static str> {
    const NO_PLACE: &str = "there are more features or models than places";
    let mut vector = Vector { names: [""; FEATURES], sources: [(0, 0); FEATURES], len: 0, well: 0 };
    let bound: [Option<Places>; N] = bind(&mut vector, images);
    // In its place from the start: moved, it would lie on the stack twice.
    let mut voters = nobody::<N>(&vector, memory.layout);
    let voters = voters.as_mut().ok_or(NO_PLACE)?;
    for (places, (_, image)) in bound.into_iter().zip(images) {
        places.and_then(|places| join(voters, places, image)).ok_or(NO_PLACE)?;
    }
    let mut rest = &mut *memory.windows;
    let mut windows = [const { None }; 2];
    let mut longest = 0;
    for (place, (seq_len, n_features)) in windows.iter_mut().zip(voters.windows()) {
        let (values, others) =
            rest.split_at_mut_checked(2 * seq_len * n_features).ok_or("windows lack memory")?;
        rest = others;
        longest = longest.max(seq_len);
        *place = Window::new(seq_len, n_features, values).ok();
    }
    let (mut both, mut none);
    // Trees look at one event.
    let windows: &mut [Window<&mut [f32]>] = if let [Some(first), Some(second)] = windows {
        both = [first, second];
        &mut both
    } else {
        none = [];
        &mut none
    };

    let mut hash = Sha256::new();
    let warm = longest;
    vector.well = warm + EVENTS;
    let ill = vector.well + SICKNESSES.len();
    for at in 0..ill + frozen {
        // Equal events follow the others.
        let features = event(voters, &vector, at.min(ill));
        let features = features.get(..vector.len).unwrap_or_default();
        let (entry, refused) = match at {
            _ if at < warm => ("decide (refused)", Some(Inactive::StaleInput)),
            _ if at < vector.well => ("decide", None),
            _ => ("decide (sick or frozen)", None),
        };
        let scratch = Scratch::new(memory.scratch);
        let decided = machine.call(entry, name, || voters.decide(features, windows, refused, scratch));
        absorb_decided(&mut hash, &decided);
        machine.decided(at, &decided);
    }
    hash.update(u32::try_from(voters.fingerprints().unique()).unwrap_or(0).to_le_bytes());
    Ok(hash.finalize().into())
}

/// What is wrong with an event: which place of the vector holds what.
const SICKNESSES: [(usize, Feature); 4] = [
    (0, Feature::Number(f32::NAN)),
    (1, Feature::Number(f32::INFINITY)),
    (2, Feature::Absent),
    (3, Feature::NotANumber),
];

/// Which NaN it is differs between architectures, and is no number on any.
fn bits64(value: f64) -> [u8; 8] {
    if value.is_nan() { f64::NAN } else { value }.to_bits().to_le_bytes()
}

fn bits32(value: f32) -> [u8; 4] {
    if value.is_nan() { f32::NAN } else { value }.to_bits().to_le_bytes()
}

fn absorb(hash: &mut Sha256, outcome: &Outcome) {
    let (state, reason, prediction) = match *outcome {
        Outcome::Active { prediction, degenerate } => (u8::from(degenerate), "", Some(prediction)),
        Outcome::Inactive { reason, prediction, .. } => (2, reason.wire_name(), prediction),
    };
    hash.update([state]);
    hash.update(reason);
    if let Some(prediction) = prediction {
        hash.update([prediction.action().code()]);
        hash.update(bits32(prediction.confidence()));
    }
}

fn absorb_decided<const N: usize>(hash: &mut Sha256, decided: &Decided<N>) {
    decided.round.outcomes.iter().for_each(|outcome| absorb(hash, outcome));
    decided.round.effective_weights.iter().for_each(|&weight| hash.update(bits64(weight)));
    match decided.round.vote {
        Ok(Decision::Side(side)) => {
            hash.update([side.prediction.action().code()]);
            hash.update(side.consensus.wire_name());
            hash.update(bits32(side.prediction.confidence()));
            hash.update(side.chose.to_le_bytes());
            hash.update(side.active.to_le_bytes());
        }
        Ok(Decision::Tie { active }) => hash.update(active.to_le_bytes()),
        Err(_) => hash.update([u8::MAX]),
    }
    hash.update(decided.fingerprint.0);
}
