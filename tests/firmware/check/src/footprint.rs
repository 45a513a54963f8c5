//! Sizes, stacks and instructions: the committed table, and the limits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind};

use crate::Build;
use crate::log::Log;

/// Growth that fails, and shrinkage that should be written down, in percent.
const TOLERANCE: f64 = 2.0;
/// Set to 1: the table is written instead of compared.
const UPDATE: &str = "QSC_GUARD_UPDATE";
/// What an allocator would leave in the symbol table.
const ALLOCATOR: [&str; 5] = ["rust_alloc", "rust_dealloc", "rust_realloc", "__rdl_", "__rg_"];

const FLASH: &str = "flash: code and constants beyond the images, bytes";
const STATIC: &str = "RAM: statics, bytes";
const DEEPEST: &str = "RAM: deepest stack, bytes";
/// What may not be exceeded: which build, which figures together, how much.
const LIMITS: [(&str, &[&str], u64); 4] = [
    ("thumbv7em-none-eabihf.trees", &[FLASH], 48 * 1024),
    ("thumbv7em-none-eabihf.trees", &[STATIC, DEEPEST], 8 * 1024),
    ("thumbv7em-none-eabihf.nets", &[FLASH], 96 * 1024),
    ("thumbv7em-none-eabihf.nets", &["depth-6: instructions per 100 trees"], 7500),
];

/// Figures by build and name.
#[derive(Default)]
pub(crate) struct Footprint(BTreeMap<String, BTreeMap<String, u64>>);

impl Footprint {
    /// Takes up what a build is and what it did.
    pub(crate) fn add(&mut self, build: &Build, elf: &[u8], log: &Log) -> anyhow::Result<()> {
        let mut figures = BTreeMap::new();
        let file = object::File::parse(elf)?;
        for symbol in file.symbols() {
            let name = symbol.name()?;
            ensure!(!ALLOCATOR.iter().any(|part| name.contains(part)), "an allocator is linked: {name}");
        }
        let (mut flash, mut ram) = (0, 0);
        for section in file.sections() {
            // How many interrupts a chip has is its own affair.
            if section.name() == Ok(".vector_table") {
                continue;
            }
            match section.kind() {
                SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => {
                    flash += section.size()
                }
                // Initial values lie in flash, too.
                SectionKind::Data => (flash, ram) = (flash + section.size(), ram + section.size()),
                SectionKind::UninitializedData => ram += section.size(),
                _ => {}
            }
        }
        let images: &[&[u8]] = if build.nets {
            &[
                qsc_models::XGB,
                qsc_models::LGBM,
                qsc_models::NHITS,
                qsc_models::PATCHTST,
                include_bytes!("../../depth-6.qsm"),
            ]
        } else {
            &[qsc_models::XGB, qsc_models::LGBM]
        };
        for image in images {
            let part = &image[1024..4096];
            ensure!(elf.windows(part.len()).any(|window| window == part), "an image is not in the firmware");
            flash -= image.len() as u64;
        }
        figures.insert(FLASH.to_owned(), flash);
        figures.insert(STATIC.to_owned(), ram);
        figures.insert(DEEPEST.to_owned(), log.deepest);
        for (call, took) in &log.calls {
            figures.insert(format!("{call}: stack, bytes"), took.stack);
            if let Some(instructions) = took.instructions() {
                figures.insert(format!("{call}: instructions"), instructions.round() as u64);
            }
        }
        for (model, per_tree) in &log.trees {
            figures.insert(format!("{model}: instructions per 100 trees"), (per_tree * 100.0).round() as u64);
        }
        self.0.insert(format!("{}.{}", build.target, build.variant()), figures);
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "# What ./ci.sh embedded compares: the firmware of tests/firmware as linked, and its calls as counted under QEMU (mean of the\n\
             # calls, the deepest stack of them). Written by QSC_GUARD_UPDATE=1 ./ci.sh embedded.\n",
        );
        for (build, figures) in &self.0 {
            writeln!(text, "\n[{build}]").expect("a string takes text");
            for (name, figure) in figures {
                writeln!(text, "{name:?} = {figure}").expect("a string takes text");
            }
        }
        text
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut table = Self::default();
        let mut build = String::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut build);
                continue;
            }
            let (name, figure) = line.split_once("\" = ").with_context(|| format!("no figure: {line}"))?;
            let figures = table.0.entry(build.clone()).or_default();
            figures.insert(name.trim_start_matches('"').to_owned(), figure.parse()?);
        }
        Ok(table)
    }
}

/// Compares with the committed table, or writes it, and holds the limits.
pub(crate) fn judge(measured: &Footprint) -> anyhow::Result<ExitCode> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../FOOTPRINT.toml");
    let mut holds = within_limits(measured)?;
    if env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(&path, measured.text())?;
        println!("FOOTPRINT.toml is written: look at the difference, and commit it");
    } else {
        holds &= compare(measured, &Footprint::parse(&fs::read_to_string(&path)?)?);
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn within_limits(measured: &Footprint) -> anyhow::Result<bool> {
    let mut holds = true;
    for (build, names, limit) in LIMITS {
        let figure = |name: &&str| measured.0.get(build)?.get(*name).copied();
        let figures: Option<Vec<u64>> = names.iter().map(figure).collect();
        let sum: u64 = figures.with_context(|| format!("{build}: {names:?} was not measured"))?.iter().sum();
        println!(
            "{} {build}, {}: {sum} of {limit}",
            if sum <= limit { "holds  " } else { "EXCEEDS" },
            names.join(" + ")
        );
        holds &= sum <= limit;
    }
    Ok(holds)
}

/// Prints every figure that differs; false for those that grew, are new, or are gone.
fn compare(measured: &Footprint, committed: &Footprint) -> bool {
    let (mut holds, mut better, mut count) = (true, false, 0);
    for (build, figures) in &measured.0 {
        for (name, &now) in figures {
            count += 1;
            let Some(&before) = committed.0.get(build).and_then(|figures| figures.get(name)) else {
                println!("NEW     {build}, {name}: {now} is not in FOOTPRINT.toml");
                holds = false;
                continue;
            };
            let change = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
            if change > TOLERANCE {
                println!(
                    "WORSE   {build}, {name}: {now}, was {before} ({change:+.2} %, allowed {TOLERANCE} %)"
                );
                holds = false;
            } else if change < -TOLERANCE {
                println!("better  {build}, {name}: {now}, was {before} ({change:+.2} %)");
                better = true;
            }
        }
    }
    for (build, figures) in &committed.0 {
        for name in figures.keys() {
            if measured.0.get(build).is_none_or(|figures| !figures.contains_key(name)) {
                println!("GONE    {build}, {name}: in FOOTPRINT.toml, but not measured here");
                holds = false;
            }
        }
    }
    println!("{count} figures compared");
    if !holds || better {
        println!("where that is meant to be: {UPDATE}=1 ./ci.sh embedded, and commit FOOTPRINT.toml");
    }
    holds
}
