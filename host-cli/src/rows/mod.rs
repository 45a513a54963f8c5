//! Rows of numbers from and to `.npy`, CSV and JSONL.
//!
//! | file | does |
//! | --- | --- |
//! | `npy` | NumPy arrays, `<f4` and `<f8` |
//! | `csv` | comma-separated values, with or without a line of names |
//! | `jsonl` | one JSON array or object per line |
//! | `lines` | numbered lines of text, for messages that say where |
//!
//! Text is parsed as f64 and every value rounded to f32 once, as XGBoost does; beyond f32's range that is an
//! infinity, which the model's input guard refuses. NaN is a missing value. A file either gives all its rows or
//! an error: nothing is padded, skipped or guessed.

mod csv;
mod jsonl;
mod lines;
mod npy;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::bounded;
use crate::stream::AtomicFile;

pub use self::csv::write as write_csv;
pub use self::jsonl::write as write_jsonl;
pub use self::npy::{Array, write as write_npy};

/// The shape of one row: `[n_features]`, or `[seq_len, n_features]` for a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowShape {
    /// Time steps, where a row is a sequence.
    pub seq_len: Option<usize>,
    /// Features (per time step).
    pub n_features: usize,
}

impl RowShape {
    /// `[n_features]`.
    #[must_use]
    pub const fn flat(n_features: usize) -> Self {
        Self { seq_len: None, n_features }
    }

    /// `[seq_len, n_features]`.
    #[must_use]
    pub const fn sequence(seq_len: usize, n_features: usize) -> Self {
        Self { seq_len: Some(seq_len), n_features }
    }

    /// How many values one row has; saturating.
    #[must_use]
    pub const fn values(&self) -> usize {
        match self.seq_len {
            Some(steps) => steps.saturating_mul(self.n_features),
            None => self.n_features,
        }
    }
}

/// At least one row of at least one f32, all of one shape, in C order: `[n_rows, n_features]` or
/// `[n_rows, seq_len, n_features]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    n_rows: usize,
    shape: RowShape,
    data: Vec<f32>,
    names: Option<Vec<String>>,
}

impl Rows {
    /// Rows of `shape` out of `data`, whose columns have `names` (one per feature, unique, not empty) or none.
    ///
    /// # Errors
    /// Which of these conditions is not met.
    pub fn new(shape: RowShape, data: Vec<f32>, names: Option<Vec<String>>) -> anyhow::Result<Self> {
        let values = shape.values();
        ensure!(values > 0, "the rows have no values");
        ensure!(!data.is_empty(), "there are no rows");
        ensure!(data.len().is_multiple_of(values), "{} values are no whole rows of {values}", data.len());
        if let Some(names) = &names {
            ensure!(
                names.len() == shape.n_features,
                "{} names are given for {} features",
                names.len(),
                shape.n_features
            );
            check_names(names)?;
        }
        Ok(Self { n_rows: data.len() / values, shape, data, names })
    }

    /// How many rows there are; at least one.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The shape of each row.
    #[must_use]
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// The features' names, where the file has them.
    #[must_use]
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// All values in C order.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Row `index`, `[n_features]` or `[seq_len, n_features]`.
    ///
    /// # Panics
    /// If `index` is not below [`n_rows`](Self::n_rows).
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        let values = self.shape.values();
        &self.data[index * values..][..values]
    }

    /// The rows one after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.shape.values())
    }

    /// The rows as windows of `seq_len` steps (`None`: as tabular rows): a univariate window may come as `[seq_len]` values.
    ///
    /// # Errors
    /// Rows of another shape.
    pub fn windows(self, seq_len: Option<usize>, n_features: usize) -> anyhow::Result<Self> {
        match (self.shape.seq_len, seq_len) {
            (given, wanted) if given == wanted => Ok(self),
            (Some(1), None) => Ok(Self { shape: RowShape::flat(self.shape.n_features), ..self }),
            (None, Some(steps))
                if n_features == 1 && self.shape.n_features == steps && self.names.is_none() =>
            {
                Ok(Self { shape: RowShape::sequence(steps, 1), ..self })
            }
            (given, wanted) => {
                let text = |steps: Option<usize>, features: usize| match steps {
                    Some(steps) => format!("{steps} time steps of {features} features"),
                    None => format!("{features} features and no time steps"),
                };
                bail!(
                    "the rows have {} where the model wants {}",
                    text(given, self.shape.n_features),
                    text(wanted, n_features)
                )
            }
        }
    }

    /// The rows with the columns a model wants, in its order: by name where the rows have names (more columns may
    /// be there), else by position, which needs exactly as many.
    ///
    /// # Errors
    /// Names every wanted column that is absent, or says how many columns there are and should be.
    pub fn bind(self, feature_names: &[impl AsRef<str>]) -> anyhow::Result<Self> {
        let Some(names) = &self.names else {
            ensure!(
                self.shape.n_features == feature_names.len(),
                "the rows have {} features and the model wants {}",
                self.shape.n_features,
                feature_names.len()
            );
            return Ok(self);
        };
        let position: HashMap<&str, usize> =
            names.iter().enumerate().map(|(column, name)| (name.as_str(), column)).collect();
        let (mut columns, mut missing) = (Vec::new(), Vec::new());
        for name in feature_names.iter().map(AsRef::as_ref) {
            match position.get(name) {
                Some(&column) => columns.push(column),
                None => missing.push(name),
            }
        }
        if !missing.is_empty() {
            bail!(
                "the rows lack the model's feature `{}`: their columns are bound by name",
                missing.join("`, `")
            );
        }
        if columns.iter().copied().eq(0..self.shape.n_features) {
            return Ok(self);
        }
        let data = self
            .data
            .chunks_exact(self.shape.n_features)
            .flat_map(|step| columns.iter().map(|&column| step[column]))
            .collect();
        let names = feature_names.iter().map(|name| name.as_ref().to_owned()).collect();
        Self::new(RowShape { n_features: columns.len(), ..self.shape }, data, Some(names))
    }
}

/// Names must tell columns apart.
fn check_names(names: &[String]) -> anyhow::Result<()> {
    let mut seen = HashMap::new();
    for (column, name) in (1..).zip(names) {
        ensure!(
            !name.is_empty(),
            "column {column} has no name (pandas writes its index so: use index=False)"
        );
        if let Some(first) = seen.insert(name, column) {
            bail!("columns {first} and {column} have the same name `{name}`");
        }
    }
    Ok(())
}

/// The one rounding of a value on its way in.
fn round_once(value: f64) -> f32 {
    value as f32
}

/// The three formats, told by a file's extension.
enum RowFormat {
    Npy,
    Csv,
    Jsonl,
}

impl RowFormat {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("npy") => Ok(Self::Npy),
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::Jsonl),
            _ => bail!("{}: rows come as .npy, .csv or .jsonl: use one of these extensions", path.display()),
        }
    }
}

/// Reads the rows of a `.npy`, `.csv` or `.jsonl` file.
///
/// # Errors
/// One sentence with the file, the place in it and what is wrong there.
pub fn read(path: &Path) -> anyhow::Result<Rows> {
    match RowFormat::of(path)? {
        RowFormat::Npy => read_whole(path).and_then(|bytes| npy::rows(&bytes)),
        RowFormat::Csv => open(path).and_then(csv::read),
        RowFormat::Jsonl => open(path).and_then(jsonl::read),
    }
    .with_context(|| path.display().to_string())
}

/// Reads a `.npy` array in f64, for instance the values a prediction is compared with.
///
/// # Errors
/// One sentence with the file, the place in it and what is wrong there.
pub fn read_f64(path: &Path) -> anyhow::Result<Array> {
    match RowFormat::of(path)? {
        RowFormat::Npy => read_whole(path).and_then(|bytes| npy::array(&bytes)),
        RowFormat::Csv | RowFormat::Jsonl => bail!("only a .npy file is read here: save it with numpy.save"),
    }
    .with_context(|| path.display().to_string())
}

/// Writes rows in the format of the file's extension; the file is there whole or not at all.
///
/// # Errors
/// Why the file could not be written, or why the rows do not fit its format.
pub fn write(path: &Path, rows: &Rows) -> anyhow::Result<()> {
    let format = RowFormat::of(path)?;
    let mut file = AtomicFile::create(path)?;
    match format {
        RowFormat::Npy => write_npy(&mut file, rows),
        RowFormat::Csv => write_csv(&mut file, rows),
        RowFormat::Jsonl => write_jsonl(&mut file, rows),
    }
    .with_context(|| format!("cannot write {}", path.display()))?;
    file.replace()
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(1 << 16, File::open(path).context("cannot be opened")?))
}

fn read_whole(path: &Path) -> anyhow::Result<Vec<u8>> {
    bounded::read_if(path, npy::MAGIC, bounded::ROWS).context("cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str], data: &[f32]) -> Rows {
        let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        Rows::new(RowShape::flat(names.len()), data.to_vec(), Some(names)).unwrap()
    }

    #[test]
    fn rows_are_whole_and_never_none() {
        for (shape, n) in [(RowShape::flat(0), 0), (RowShape::flat(2), 0), (RowShape::flat(2), 3)] {
            assert!(Rows::new(shape, vec![0.0; n], None).is_err(), "{shape:?} {n}");
        }
        let huge = RowShape::sequence(usize::MAX, 2);
        assert!(Rows::new(huge, vec![0.0; 2], None).is_err());
        let rows = Rows::new(RowShape::sequence(2, 3), (0..12_u8).map(f32::from).collect(), None).unwrap();
        assert_eq!((rows.n_rows(), rows.row(1)), (2, &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0][..]));
        assert_eq!(rows.iter().len(), 2);
    }

    #[test]
    fn names_tell_columns_apart() {
        let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        let error = |given| Rows::new(RowShape::flat(2), vec![0.0; 2], given).unwrap_err().to_string();
        assert!(error(names(&["a"])).contains("1 names are given for 2 features"));
        assert!(error(names(&["a", "a"])).contains("columns 1 and 2 have the same name `a`"));
        assert!(error(names(&["", "a"])).contains("column 1 has no name"));
    }

    #[test]
    fn bind_reorders_by_name_and_names_what_is_missing() {
        let rows = named(&["a", "b", "c"], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let bound = rows.clone().bind(&["c", "a"]).unwrap();
        assert_eq!(bound, named(&["c", "a"], &[3.0, 1.0, 6.0, 4.0]));
        assert_eq!(rows.clone().bind(&["a", "b", "c"]).unwrap(), rows);
        assert_eq!(rows.clone().bind(&["a", "b"]).unwrap(), named(&["a", "b"], &[1.0, 2.0, 4.0, 5.0]));
        let error = rows.bind(&["a", "macd", "rsi_14"]).unwrap_err().to_string();
        assert!(error.contains("`macd`, `rsi_14`"), "{error}");
    }

    #[test]
    fn bind_without_names_goes_by_position_and_count() {
        let rows = Rows::new(RowShape::flat(2), vec![1.0, 2.0], None).unwrap();
        assert_eq!(rows.clone().bind(&["x", "y"]).unwrap(), rows);
        let error = rows.bind(&["x"]).unwrap_err().to_string();
        assert!(error.contains("2 features and the model wants 1"), "{error}");
    }

    #[test]
    fn every_format_gives_back_what_it_took() {
        let directory = tempfile::tempdir().unwrap();
        let values = [0.1, -0.0, f32::NAN, f32::MAX, f32::from_bits(1), -1.5e-7, 3.0, 16_777_216.0];
        let rows = named(&["a, \"quoted\"", "ß"], &values);
        for extension in ["npy", "csv", "jsonl"] {
            let path = directory.path().join(format!("rows.{extension}"));
            write(&path, &rows).unwrap();
            let read = read(&path).unwrap();
            let bits = |rows: &Rows| rows.data().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&read), bits(&rows), "{extension}");
            assert_eq!(read.names(), if extension == "npy" { None } else { rows.names() }, "{extension}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let message = |name: &str| format!("{:#}", read(&directory.path().join(name)).unwrap_err());
        assert!(message("rows.parquet").contains("rows.parquet: rows come as .npy, .csv or .jsonl"));
        assert!(message("absent.csv").contains("absent.csv: cannot be opened"));
        assert!(message("absent.npy").contains("absent.npy: cannot be read"));
        std::fs::write(directory.path().join("bad.csv"), "1,x\n").unwrap();
        assert!(message("bad.csv").contains("bad.csv: line 1"));
    }
}
