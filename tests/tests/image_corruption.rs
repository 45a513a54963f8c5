//! Hostile images: an altered one is refused, and one with a valid digest cannot make the kernel panic or spin.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use qsc_cli::compile::ir::{LibraryRules, Link, Missing, Node};
use qsc_cli::image::ImageBytes;
use qsc_kernel::ensemble::ConfidenceRule;
use qsc_kernel::image::SectionKind;
use qsc_kernel::trees::TreeLayout;
use qsc_kernel::{GoldenError, ImageError, Model, Scratch};
use qsc_tests::models::{image, image_as, ladder, model, one_of_each, tree};
use qsc_tests::surgery::{Anatomy, HEADER, reseal};

/// What a reader might take for a count, a size, an index or a sign.
const EXTREMES: [u32; 14] = [0, 1, 2, 3, 7, 16, 63, 64, 255, 256, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
/// What one hostile image of at most a megabyte may cost in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// One change of an image.
type Damage = fn(&mut Anatomy);

/// Rows `[n_features] f32` around everything the small images ask about.
fn probe_rows(n_features: usize) -> Vec<Vec<f32>> {
    let values =
        [0.0, -0.0, 0.5, 1.5, 2.0, 33.0, 300.0, -1.0, 1e-36, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    (0..values.len())
        .map(|at| (0..n_features).map(|f| values[(at + 5 * f) % values.len()]).collect())
        .collect()
}

/// One of the small images.
fn named(name: &str) -> ImageBytes {
    one_of_each().into_iter().find(|(of, _)| *of == name).unwrap().1
}

/// Uses an image every way there is. True if the kernel took it.
fn survives(bytes: &[u8], what: impl Fn() -> String) -> bool {
    let used = catch_unwind(AssertUnwindSafe(|| {
        let Ok(model) = Model::check(bytes) else { return false };
        // Sizes come from the image: what it says it needs must fit what it is.
        assert!(model.n_features() <= bytes.len() && model.n_raw() <= bytes.len(), "sizes beyond the image");
        let mut scratch = vec![0; model.scratch_bytes() + 64];
        let _ = model.check_golden(Scratch::new(&mut scratch));
        for row in probe_rows(model.row_len()) {
            if let Ok(output) = model.predict(&row, Scratch::new(&mut scratch)) {
                let vote = model.decide(&row, &output, ConfidenceRule::Margin);
                assert!(vote.is_err() || output.values.iter().all(|value| value.is_finite()));
            }
        }
        let texts = model.feature_names().map(str::len).sum::<usize>();
        let _ = (texts, model.name(), model.source_file(), model.objective(), model.classes().count());
        true
    }));
    used.unwrap_or_else(|_| panic!("panicked on {}", what()))
}

#[test]
fn every_single_byte_change_is_refused() {
    for (at, (name, image)) in one_of_each().into_iter().enumerate() {
        let good = image.as_bytes().to_vec();
        let mut bytes = image;
        // Every value for the smallest image, the telling ones for the others.
        for (offset, &here) in good.iter().enumerate() {
            let every: Vec<u8> = (0..=255).collect();
            let telling = [0, 0xff, here.wrapping_add(1), here.wrapping_sub(1), here ^ 0x80, !here];
            for &value in if at == 0 { &every[..] } else { &telling } {
                if value == here {
                    continue;
                }
                bytes.as_bytes_mut()[offset] = value;
                let verdict = Model::check(bytes.as_bytes());
                assert!(verdict.is_err(), "{name}: byte {offset} as {value:#04x} was accepted");
                if offset >= HEADER {
                    assert_eq!(verdict.unwrap_err(), ImageError::Digest, "{name}: byte {offset}");
                }
            }
            bytes.as_bytes_mut()[offset] = here;
        }
        assert!(Model::check(bytes.as_bytes()).is_ok());
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    for (name, image) in one_of_each() {
        let good = image.as_bytes();
        let resized = |len: usize, fill: u8| {
            let mut bytes = good[..len.min(good.len())].to_vec();
            bytes.resize(len, fill);
            bytes
        };
        for len in 0..good.len() + 192 {
            if len == good.len() {
                continue;
            }
            for fill in [0, 0xff] {
                let mut bytes = resized(len, fill);
                assert!(Model::check(ImageBytes::copy_of(&bytes).as_bytes()).is_err(), "{name}: {len} bytes");
                // The same with a header that knows the new length.
                if let Some(total) = bytes.get_mut(16..24) {
                    total.copy_from_slice(&(len as u64).to_le_bytes());
                    reseal(&mut bytes);
                    let accepted = Model::check(ImageBytes::copy_of(&bytes).as_bytes()).is_ok();
                    assert!(!accepted, "{name}: {len} bytes, resealed");
                }
            }
        }
    }
}

#[test]
fn resealed_single_byte_changes_never_panic() {
    for (at, (name, image)) in one_of_each().into_iter().enumerate() {
        let mut bytes = image.clone();
        let (mut tried, mut taken) = (0, 0);
        for offset in (0..image.as_bytes().len()).filter(|offset| !(32..64).contains(offset)) {
            let here = image.as_bytes()[offset];
            let every: Vec<u8> = (0..=255).collect();
            let telling = [0, 1, 0x7f, 0x80, 0xff, here.wrapping_add(1), here.wrapping_sub(1), here ^ 0x80];
            for &value in if at == 0 { &every[..] } else { &telling } {
                if value == here {
                    continue;
                }
                bytes.as_bytes_mut()[offset] = value;
                reseal(bytes.as_bytes_mut());
                tried += 1;
                taken +=
                    u32::from(survives(bytes.as_bytes(), || format!("{name}: byte {offset} = {value:#04x}")));
            }
            bytes.as_bytes_mut()[offset] = here;
        }
        println!("{name}: {tried} changes, {taken} still an image");
        // Leaves, thresholds and texts may change; most of the rest must not.
        assert!(taken > 0 && taken < tried, "{name}: the sweep did not reach both sides");
    }
}

#[test]
fn resealed_extreme_fields_never_panic() {
    for (name, image) in one_of_each() {
        let mut bytes = image.clone();
        let len = image.as_bytes().len();
        for offset in (0..len).step_by(4).filter(|offset| !(32..64).contains(offset)) {
            for value in EXTREMES.into_iter().chain([len as u32, len as u32 - 64]) {
                bytes.as_bytes_mut()[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
                reseal(bytes.as_bytes_mut());
                survives(bytes.as_bytes(), || format!("{name}: u32 at {offset} = {value:#x}"));
            }
            for value in
                [u64::MAX, i64::MIN as u64, i64::MAX as u64, f64::NAN.to_bits(), f64::INFINITY.to_bits()]
            {
                let Some(place) = bytes.as_bytes_mut().get_mut(offset..offset + 8) else { continue };
                place.copy_from_slice(&value.to_le_bytes());
                reseal(bytes.as_bytes_mut());
                survives(bytes.as_bytes(), || format!("{name}: u64 at {offset} = {value:#x}"));
            }
            let end = (offset + 8).min(len);
            bytes.as_bytes_mut()[offset..end].copy_from_slice(&image.as_bytes()[offset..end]);
        }
    }
}

/// Several changes at once, also to the lengths of sections, with a table and a digest that hold.
#[test]
fn resealed_random_surgery_never_panics() {
    const ROUNDS: u64 = 12_000;
    for (name, image) in one_of_each() {
        let whole = Anatomy::of(image.as_bytes());
        let mut taken = 0;
        for round in 0..ROUNDS {
            let mut random = Random(round);
            let mut anatomy = whole.clone();
            for _ in 0..=random.below(3) {
                operate(&mut anatomy, &mut random);
            }
            let bytes = anatomy.assemble();
            taken += u32::from(survives(bytes.as_bytes(), || format!("{name}: surgery {round}")));
        }
        println!("{name}: {taken} of {ROUNDS} still an image");
        assert!(taken > 0, "{name}: every operation was fatal");
    }
}

fn operate(anatomy: &mut Anatomy, random: &mut Random) {
    let at = random.below(anatomy.sections.len());
    let (kind, section) = &mut anatomy.sections[at];
    let words = section.len() / 4;
    match random.below(8) {
        // A word becomes an extreme, a small number, or moves by one.
        0..=4 if words > 0 => {
            let place = 4 * random.below(words);
            let place = &mut section[place..][..4];
            let word = u32::from_le_bytes(place.try_into().unwrap());
            let value = match random.below(4) {
                0 => EXTREMES[random.below(EXTREMES.len())],
                1 => random.below(40) as u32,
                2 => word.wrapping_add(1),
                _ => word.wrapping_sub(1),
            };
            place.copy_from_slice(&value.to_le_bytes());
        }
        5 => section.truncate(random.below(section.len() + 1)),
        6 => {
            let more: Vec<u8> = section.iter().copied().cycle().take(random.below(65)).collect();
            section.extend(more);
        }
        7 => *kind = random.below(34) as u32,
        _ => {
            let other = random.below(anatomy.sections.len());
            anatomy.sections.swap(at, other);
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }
}

#[test]
fn an_image_needs_its_alignment() {
    let (_, image) = one_of_each().remove(0);
    let good = image.as_bytes();
    for shift in 1..64 {
        let mut moved = vec![0; shift];
        moved.extend(good);
        let moved = ImageBytes::copy_of(&moved);
        assert_eq!(Model::check(&moved.as_bytes()[shift..]).unwrap_err(), ImageError::Misaligned, "{shift}");
    }
}

#[test]
fn foreign_headers_are_refused_by_name() {
    let (_, image) = one_of_each().remove(0);
    let with = |at: usize, value: &[u8]| {
        let mut bytes = image.clone();
        bytes.as_bytes_mut()[at..at + value.len()].copy_from_slice(value);
        reseal(bytes.as_bytes_mut());
        Model::check(bytes.as_bytes()).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, b"GGUF"), ImageError::NotAnImage);
    for major in [0_u16, 2, u16::MAX] {
        assert_eq!(with(8, &major.to_le_bytes()), ImageError::Version { major, minor: 0 });
    }
    for minor in [1_u16, u16::MAX] {
        assert_eq!(with(10, &minor.to_le_bytes()), ImageError::Version { major: 1, minor });
    }
    for kind in [0_u32, 3, 15, 16, u32::MAX] {
        assert_eq!(with(12, &kind.to_le_bytes()), ImageError::Kind(kind));
    }
    assert_eq!(with(28, &[1]), ImageError::SectionTable, "reserved");
    let len = image.as_bytes().len() as u64;
    for expected in [0, len - 64, len + 64, u64::MAX] {
        assert_eq!(with(16, &expected.to_le_bytes()), ImageError::Length { expected, actual: len });
    }
    // Without a whole header there is no length to hold the bytes against.
    for len in [8, 63] {
        assert_eq!(Model::check(&image.as_bytes()[..len]).unwrap_err(), ImageError::NoHeader);
    }
    assert!(matches!(Model::check(&image.as_bytes()[..64]), Err(ImageError::Length { actual: 64, .. })));
}

#[test]
fn broken_section_tables_are_refused() {
    let (_, image) = one_of_each().remove(0);
    let whole = Anatomy::of(image.as_bytes());
    let refused = |what: &str, alter: &dyn Fn(&mut Anatomy)| {
        let mut anatomy = whole.clone();
        alter(&mut anatomy);
        Model::check(anatomy.assemble().as_bytes()).map(|_| ()).expect_err(what)
    };
    for number in [0, 9, 15, 29, 31, 37, 64, u32::MAX] {
        let error = refused("unknown", &|anatomy| anatomy.sections[3].0 = number);
        assert_eq!(error, ImageError::SectionTable, "section number {number}");
    }
    for at in 0..whole.sections.len() {
        let twice = refused("twice", &|anatomy| anatomy.sections.push(anatomy.sections[at].clone()));
        assert_eq!(twice, ImageError::SectionTable);
        let missing = refused("missing", &|anatomy| drop(anatomy.sections.remove(at)));
        assert!(matches!(missing, ImageError::MissingSection(kind) if kind.number() == whole.sections[at].0));
    }

    // Places in the table itself: entry 1 is strings, entry 2 feature names.
    let table = |entry: usize, field: usize, value: &dyn Fn(u32) -> u32| {
        let mut bytes = image.clone();
        let place = HEADER + 16 * entry + 4 * field;
        let place = &mut bytes.as_bytes_mut()[place..place + 4];
        let old = u32::from_le_bytes((&*place).try_into().unwrap());
        place.copy_from_slice(&value(old).to_le_bytes());
        reseal(bytes.as_bytes_mut());
        Model::check(bytes.as_bytes()).map(|_| ()).unwrap_err()
    };
    let offset = |entry: usize| {
        let at = HEADER + 16 * entry + 4;
        u32::from_le_bytes(image.as_bytes()[at..at + 4].try_into().unwrap())
    };
    assert_eq!(table(2, 1, &|_| offset(1)), ImageError::SectionTable, "overlap");
    assert_eq!(table(2, 1, &|old| old + 64), ImageError::SectionTable, "a gap of 64 bytes");
    assert_eq!(table(2, 1, &|old| old + 1), ImageError::SectionTable, "off its boundary");
    assert_eq!(table(1, 1, &|_| 0), ImageError::SectionTable, "over the header");
    assert_eq!(table(1, 1, &|_| u32::MAX - 63), ImageError::SectionTable, "beyond the image");
    assert_eq!(table(1, 2, &|_| u32::MAX), ImageError::SectionTable, "longer than the image");
    assert_eq!(table(1, 3, &|_| 1), ImageError::SectionTable, "reserved");

    // Padding is part of the image: one model has one encoding.
    let mut bytes = image.clone();
    let names = Anatomy::of(image.as_bytes()).sections[2].1.len();
    bytes.as_bytes_mut()[offset(2) as usize + names] = 1;
    reseal(bytes.as_bytes_mut());
    assert_eq!(Model::check(bytes.as_bytes()).unwrap_err(), ImageError::SectionTable);
}

/// One contradiction at a time in an image whose table and digest hold; offsets are those of FORMAT.md.
#[test]
fn contradictions_are_refused_by_section() {
    use SectionKind::{
        Classes, FeatureNames, Features, GoldenOutputs, GoldenRaw, GoldenRows, Groups, LeafBlocks, Leaves,
        MaskTrees, MiddleBlocks, Model as Record, PlainNodes, PlainTrees, Slots, Strings, Thresholds,
        TopBlocks, Trees,
    };
    type Alteration = (&'static str, SectionKind, fn(&mut Anatomy));
    fn float(anatomy: &mut Anatomy, kind: SectionKind, at: usize, value: f32) {
        anatomy.set(kind, at, value.to_bits());
    }
    fn last(anatomy: &mut Anatomy, kind: SectionKind) -> usize {
        anatomy.section(kind).len() - 4
    }
    let alterations: [Alteration; 44] = [
        ("no feature", Features, |a| a.set(Record, 0, 0)),
        ("a feature more", Features, |a| a.set(Record, 0, 3)),
        ("two steps", Record, |a| a.set(Record, 4, 2)),
        ("a margin more", Groups, |a| a.set(Record, 8, 2)),
        ("an output more", Record, |a| a.set(Record, 12, 2)),
        ("a golden row more", GoldenRows, |a| a.set(Record, 16, 17)),
        ("257 golden rows", Record, |a| a.set(Record, 16, 257)),
        ("little scratch", Record, |a| a.set(Record, 20, 128)),
        ("much scratch", Record, |a| a.set(Record, 20, u32::MAX)),
        ("unknown decision", Record, |a| a.set(Record, 24, 3)),
        ("classes without classes", Classes, |a| {
            [24, 28, 32].into_iter().zip([1, 0, 0]).for_each(|(at, value)| a.set(Record, at, value));
        }),
        ("dead zone upside down", Record, |a| float(a, Record, 28, 0.7)),
        ("dead zone below 0", Record, |a| float(a, Record, 28, -0.1)),
        ("dead zone above 1", Record, |a| float(a, Record, 32, 1.1)),
        ("dead zone NaN", Record, |a| float(a, Record, 32, f32::NAN)),
        ("reserved", Record, |a| a.set(Record, 36, 1)),
        ("name beyond the texts", Strings, |a| a.set(Record, 52, 1000)),
        ("name of 4 GiB", Strings, |a| a.set(Record, 48, u32::MAX)),
        ("feature name beyond the texts", Strings, |a| a.set(FeatureNames, 0, 1000)),
        ("texts that are no UTF-8", Strings, |a| a.section(Strings)[0] = 0xff),
        ("a name missing", FeatureNames, |a| a.section(FeatureNames).truncate(8)),
        ("a class for a dead zone", Classes, |a| a.section(Classes).push(0)),
        ("a golden margin missing", GoldenRaw, |a| a.section(GoldenRaw).truncate(120)),
        ("a golden output missing", GoldenOutputs, |a| a.section(GoldenOutputs).truncate(60)),
        ("ranks of 9 bits", Trees, |a| a.set(Trees, 0, 9)),
        ("unknown sum", Trees, |a| a.set(Trees, 4, 4)),
        ("a unit beyond f64", Trees, |a| a.set(Trees, 8, 1100)),
        ("the smallest scale there is", Trees, |a| a.set(Trees, 8, 0x8000_0000)),
        ("unknown link", Trees, |a| a.set(Trees, 12, 7)),
        ("a vote by margins", Classes, |a| a.set(Trees, 12, 0)),
        ("a vote by counts", Classes, |a| a.set(Trees, 12, 3)),
        ("link scale NaN", Trees, |a| a.set(Trees, 20, 0x7ff8_0000)),
        ("link scale below 0", Trees, |a| a.set(Trees, 20, 0xbff0_0000)),
        ("unknown comparison", Trees, |a| a.set(Trees, 24, 2)),
        ("thresholds that fall", Features, |a| float(a, Thresholds, 4, -9.0)),
        ("a threshold twice", Features, |a| float(a, Thresholds, 4, 0.5)),
        ("a threshold NaN", Features, |a| float(a, Thresholds, 0, f32::NAN)),
        ("a run that skips a threshold", Features, |a| a.set(Features, 0, 1)),
        ("a slot of no feature", Slots, |a| a.set(Slots, 0, 2)),
        ("unknown slot rule", Slots, |a| a.set(Slots, 4, 9)),
        ("a set for a number", Slots, |a| a.set(Slots, 12, 1)),
        ("unknown layout", Trees, |a| a.set(Trees, 28, 10)),
        ("blocks of 16-bit ranks", Trees, |a| a.set(Trees, 0, 16)),
        ("a group that skips a tree", Groups, |a| a.set(Groups, 8, 1)),
    ];
    let plain: [Alteration; 8] = [
        ("trees of no group", PlainTrees, |a| a.set(Groups, 12, 1)),
        ("an empty tree", PlainTrees, |a| a.set(PlainTrees, 4, 0)),
        ("a child that is its parent", PlainNodes, |a| a.set(PlainNodes, 4, 0)),
        ("a child beyond the tree", PlainNodes, |a| a.set(PlainNodes, 4, 6)),
        ("a node of no slot", PlainNodes, |a| a.set(PlainNodes, 0, 9)),
        ("a leaf out of order", PlainNodes, |a| {
            let at = last(a, PlainNodes);
            a.set(PlainNodes, at, 0);
        }),
        ("a leaf of no node", PlainNodes, |a| a.section(Leaves).extend([0; 4])),
        ("another layout's section", LeafBlocks, |a| a.section(LeafBlocks).extend([0; 64])),
    ];
    let blocks: [Alteration; 13] = [
        ("a tree of no group", LeafBlocks, |a| a.set(Groups, 12, 1)),
        ("eight trees more", TopBlocks, |a| a.set(Groups, 12, 9)),
        ("leaves of their own", Leaves, |a| a.section(Leaves).extend([0; 4])),
        ("leaves of eight bytes", Trees, |a| a.set(Trees, 4, 1)),
        ("a level more", MiddleBlocks, |a| a.set(Trees, 28, 8)),
        ("a top block missing", TopBlocks, |a| a.section(TopBlocks).clear()),
        ("a middle block missing", MiddleBlocks, |a| a.section(MiddleBlocks).truncate(240)),
        ("a node of no slot", TopBlocks, |a| a.section(TopBlocks)[1] = 9),
        ("a node below its block's levels", TopBlocks, |a| a.section(TopBlocks)[64 + 2] = 1),
        ("a node above the root", LeafBlocks, |a| a.section(LeafBlocks)[8] = 0),
        ("a slot where there is no node", MiddleBlocks, |a| a.section(MiddleBlocks)[7] = 1),
        ("bytes behind the leaves", LeafBlocks, |a| a.section(LeafBlocks)[63] = 1),
        ("a leaf of a tree that is none", LeafBlocks, |a| {
            let at = a.section(LeafBlocks).len() - 20;
            a.set(LeafBlocks, at, 1);
        }),
    ];
    let masks: [Alteration; 10] = [
        ("a tree of no group", MaskTrees, |a| a.set(Groups, 12, 1)),
        ("four trees more", MaskTrees, |a| a.set(Groups, 12, 5)),
        ("masks of 32 leaves", MaskTrees, |a| a.set(Trees, 28, 32)),
        ("a leaf missing", Leaves, |a| a.section(Leaves).truncate(4 * 255)),
        ("a node of no slot", MaskTrees, |a| a.section(MaskTrees)[0] = 9),
        ("a slot where there is no node", MaskTrees, |a| a.section(MaskTrees)[9] = 1),
        ("a leaf where there is no node", MaskTrees, |a| a.section(MaskTrees)[128 + 9] = 1),
        ("a left subtree behind its node", MaskTrees, |a| a.section(MaskTrees)[128] = 1),
        ("a leaf of another's left subtree", MaskTrees, |a| a.section(MaskTrees)[128 + 2] = 1),
        ("a leaf of a tree that is none", MaskTrees, |a| {
            let at = last(a, Leaves);
            a.set(Leaves, at, 1);
        }),
    ];
    let (_, image) = one_of_each().remove(0);
    let refusal = |alter: fn(&mut Anatomy), image: &ImageBytes| {
        let mut anatomy = Anatomy::of(image.as_bytes());
        alter(&mut anatomy);
        Model::check(anatomy.assemble().as_bytes()).map(|_| ())
    };
    assert_eq!(refusal(|_| (), &image), Ok(()));
    let each = |alterations: &[Alteration], name: &str| {
        let image = named(name);
        assert_eq!(refusal(|_| (), &image), Ok(()));
        for &(what, section, alter) in alterations {
            assert_eq!(refusal(alter, &image), Err(ImageError::Invalid(section)), "{name}: {what}");
        }
    };
    each(&alterations, "i32");
    each(&plain, "plain");
    each(&blocks, "blocks-7");
    each(&masks, "masks-64");
    let overflow: [(&str, Damage); 3] = [
        ("plain", |a| a.set(Leaves, 0, i32::MAX as u32)),
        ("blocks-7", |a| a.set(LeafBlocks, 16, i32::MAX as u32)),
        ("masks-64", |a| a.set(Leaves, 0, i32::MAX as u32)),
    ];
    for (name, alter) in overflow {
        let verdict = refusal(alter, &named(name));
        assert_eq!(verdict, Err(ImageError::Invalid(Leaves)), "{name}: a sum that overflows");
    }
    let (_, classes) = one_of_each().remove(1);
    assert_eq!(
        refusal(|a| a.section(Classes)[1] = 3, &classes),
        Err(ImageError::Invalid(Classes)),
        "class 3"
    );
    let zone: fn(&mut Anatomy) = |a| float(a, Record, 28, 0.4);
    assert_eq!(refusal(zone, &classes), Err(ImageError::Invalid(Record)), "a dead zone beside classes");
    let set: fn(&mut Anatomy) = |a| {
        let rules = |a: &mut Anatomy, at: usize| a.section(Slots)[at + 4];
        let at = (0..).step_by(16).find(|&at| rules(a, at) == 8).unwrap();
        a.set(Slots, at + 8, 1);
    };
    assert_eq!(refusal(set, &classes), Err(ImageError::Invalid(Slots)), "a set beyond the categories");
}

#[test]
fn altered_golden_bits_do_not_hold() {
    for (name, image) in one_of_each() {
        for (kind, width) in [(SectionKind::GoldenRaw, 8), (SectionKind::GoldenOutputs, 4)] {
            let mut anatomy = Anatomy::of(image.as_bytes());
            let len = anatomy.section(kind).len();
            anatomy.section(kind)[len - width] ^= 1;
            let altered = anatomy.assemble();
            let model = Model::check(altered.as_bytes()).unwrap();
            let mut scratch = vec![0; model.scratch_bytes() + 64];
            let verdict = model.check_golden(Scratch::new(&mut scratch));
            assert_eq!(verdict, Err(GoldenError::Mismatch { row: model.golden_rows() - 1 }), "{name}");
        }
    }
}

#[test]
fn an_image_without_golden_vectors_proves_nothing() {
    let (_, image) = one_of_each().remove(0);
    let mut anatomy = Anatomy::of(image.as_bytes());
    for kind in [SectionKind::GoldenRows, SectionKind::GoldenRaw, SectionKind::GoldenOutputs] {
        anatomy.section(kind).clear();
    }
    anatomy.set(SectionKind::Model, 16, 0);
    let bare = anatomy.assemble();
    let model = Model::check(bare.as_bytes()).unwrap();
    let mut scratch = vec![0; model.scratch_bytes() + 64];
    assert_eq!(model.check_golden(Scratch::new(&mut scratch)), Err(GoldenError::Absent));
}

/// Runs `survives` against the clock.
fn is_quick(what: &str, image: &ImageBytes) -> bool {
    let started = Instant::now();
    let taken = survives(image.as_bytes(), || what.to_owned());
    let elapsed = started.elapsed();
    println!(
        "{what}: {} bytes, {elapsed:?}, {}",
        image.as_bytes().len(),
        if taken { "taken" } else { "refused" }
    );
    assert!(elapsed < PATIENCE, "{what}: {elapsed:?} for {} bytes", image.as_bytes().len());
    taken
}

/// Overlapping groups over overlapping trees over the same nodes: small tables that name a cubic amount of work.
#[test]
fn overlapping_tables_cost_no_more_than_their_size() {
    let image = named("plain");
    let (groups, trees, nodes) = (10_000_u32, 20_000_u32, 20_000_u32);
    for sharing in ["groups", "trees", "both"] {
        let mut anatomy = Anatomy::of(image.as_bytes());
        let share_groups = sharing != "trees";
        let share_trees = sharing != "groups";
        let group = |at: u32| if share_groups { [0, 0, 0, trees] } else { [0, 0, at * 2, 2] };
        let tree = |at: u32| if share_trees { [0, nodes] } else { [at, 1] };
        let leaf = |at: u32| [u32::from(u16::MAX), if share_trees { 0 } else { at }];
        let words = |words: Vec<u32>| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        *anatomy.section(SectionKind::Groups) = words((0..groups).flat_map(group).collect());
        *anatomy.section(SectionKind::PlainTrees) = words((0..trees).flat_map(tree).collect());
        *anatomy.section(SectionKind::PlainNodes) = words((0..nodes).flat_map(leaf).collect());
        *anatomy.section(SectionKind::Leaves) = vec![0; 4 * nodes as usize];
        anatomy.set(SectionKind::Model, 8, groups);
        anatomy.set(SectionKind::Model, 12, groups);
        assert!(!is_quick(&format!("shared {sharing}"), &anatomy.assemble()));
    }
}

/// Groups of one tree each, which three or seven fill up: each is looked at where it is, not from the start.
#[test]
fn many_small_groups_cost_no_more_than_their_size() {
    let mut idle = model(LibraryRules::XgBoost, &["a"], 1, Link::Identity);
    idle.trees = vec![tree(0, vec![Node::Leaf(0.0)])];
    let groups = 100_000_u32;
    for layout in [TreeLayout::Masks { leaves: 32 }, TreeLayout::Blocks { levels: 4 }] {
        let image = image_as(&idle, false, None, Some(layout));
        let mut anatomy = Anatomy::of(image.as_bytes());
        let group = |at: u32| [0, 0, at, 1];
        let records = (0..groups).flat_map(group).flat_map(u32::to_le_bytes).collect();
        *anatomy.section(SectionKind::Groups) = records;
        let trees =
            [SectionKind::MaskTrees, SectionKind::TopBlocks, SectionKind::LeafBlocks, SectionKind::Leaves];
        for kind in trees {
            let section = anatomy.section(kind);
            *section = section.repeat(groups as usize);
        }
        for kind in [SectionKind::GoldenRows, SectionKind::GoldenRaw, SectionKind::GoldenOutputs] {
            anatomy.section(kind).clear();
        }
        let padded = |bytes: u32| bytes.next_multiple_of(64);
        let scratch = padded(8 * groups) + padded(4 * groups) + 256;
        for (at, value) in [(8, groups), (12, groups), (16, 0), (20, scratch)] {
            anatomy.set(SectionKind::Model, at, value);
        }
        assert!(is_quick(&format!("{groups} groups as {layout}"), &anatomy.assemble()));
    }
}

/// Many golden rows through a tree as deep as it has nodes: a quadratic amount of work, all of it valid.
#[test]
fn golden_rows_through_a_deep_tree_cost_no_more_than_their_size() {
    let mut deep = model(LibraryRules::XgBoost, &["a"], 1, Link::Identity);
    deep.trees = vec![ladder(0, 40_000, Missing::Nan { left: false })];
    let image = image(&deep, false, None);
    assert!(is_quick("a deep tree", &image));

    let mut anatomy = Anatomy::of(image.as_bytes());
    let rows = 40_000_u32;
    for (kind, width) in
        [(SectionKind::GoldenRows, 4), (SectionKind::GoldenRaw, 8), (SectionKind::GoldenOutputs, 4)]
    {
        // The last golden bits repeated: NaN goes right everywhere, to the deepest leaf.
        let row = match kind {
            SectionKind::GoldenRows => f32::NAN.to_le_bytes().to_vec(),
            SectionKind::GoldenRaw => (-1.0_f64).to_le_bytes().to_vec(),
            _ => (-1.0_f32).to_le_bytes().to_vec(),
        };
        assert_eq!(row.len(), width);
        *anatomy.section(kind) = row.repeat(rows as usize);
    }
    anatomy.set(SectionKind::Model, 16, rows);
    assert!(!is_quick("a deep tree with 40 000 golden rows", &anatomy.assemble()));
}
