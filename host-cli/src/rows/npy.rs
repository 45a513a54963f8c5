//! NumPy arrays: `.npy` 1.0 to 3.0 of `<f4` or `<f8`, in C or Fortran order.
//!
//! Every size the header names is checked against the bytes that are there before anything is allocated.

use std::io::Write;

use anyhow::{Context, anyhow, bail, ensure};

use super::{RowShape, Rows, round_once};

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy aligns the data to this many bytes.
const ALIGNMENT: usize = 64;
/// NumPy leaves room for this many digits of the first dimension, so that a file can grow in place.
const GROWTH_DIGITS: usize = 21;

/// An array of f64 in C order with at least one dimension and one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    /// Its dimensions, outermost first; none is 0.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All values in C order.
    #[must_use]
    pub fn data(&self) -> &[f64] {
        &self.data
    }
}

/// Reads the bytes of a file as an array of f64.
pub(super) fn array(bytes: &[u8]) -> anyhow::Result<Array> {
    let view = View::check(bytes)?;
    Ok(Array { data: view.values(|value| value), shape: view.header.shape })
}

/// Reads the bytes of a file as rows. The first dimension counts them: `[n]` is n rows of one feature.
pub(super) fn rows(bytes: &[u8]) -> anyhow::Result<Rows> {
    let view = View::check(bytes)?;
    let shape = match view.header.shape[1..] {
        [] => RowShape::flat(1),
        [n_features] => RowShape::flat(n_features),
        [seq_len, n_features] => RowShape::sequence(seq_len, n_features),
        _ => bail!(
            "the array has {} dimensions: rows are [n_rows, n_features] or [n_rows, seq_len, n_features]",
            view.header.shape.len()
        ),
    };
    Rows::new(shape, view.values(round_once), None)
}

/// A file whose header is understood and whose data has the size the header says.
struct View<'a> {
    header: Header,
    data: &'a [u8],
}

impl<'a> View<'a> {
    fn check(bytes: &'a [u8]) -> anyhow::Result<Self> {
        let rest =
            bytes.strip_prefix(MAGIC).context("this is no .npy file: it does not begin with \\x93NUMPY")?;
        let torn = || anyhow!("the file ends within its header: it is truncated");
        let (&[major, minor], rest) = rest.split_first_chunk().ok_or_else(torn)?;
        let (length, rest) = match (major, minor) {
            (1, 0) => {
                let (length, rest) = rest.split_first_chunk().ok_or_else(torn)?;
                (usize::from(u16::from_le_bytes(*length)), rest)
            }
            (2 | 3, 0) => {
                let (length, rest) = rest.split_first_chunk().ok_or_else(torn)?;
                (usize::try_from(u32::from_le_bytes(*length))?, rest)
            }
            _ => bail!(".npy format {major}.{minor} is not read: save it with numpy.save (1.0, 2.0 or 3.0)"),
        };
        let (header, data) = rest.split_at_checked(length).ok_or_else(torn)?;
        let header = Header::parse(header)?;
        ensure!(
            !header.shape.is_empty(),
            "the array is a single number: rows need a dimension that counts them"
        );
        let size = header.shape.iter().try_fold(header.width.bytes(), |size, &n| size.checked_mul(n));
        let size = size.with_context(|| format!("the shape {:?} is larger than any file", header.shape))?;
        ensure!(size > 0, "the array of shape {:?} holds no values", header.shape);
        ensure!(
            data.len() >= size,
            "the shape {:?} needs {size} bytes of data where {} are there: the file is truncated",
            header.shape,
            data.len()
        );
        ensure!(
            data.len() == size,
            "{} bytes follow the array of shape {:?}: save one array per file",
            data.len() - size,
            header.shape
        );
        Ok(Self { header, data })
    }

    /// The converted values in C order.
    fn values<T>(&self, convert: impl Fn(f64) -> T) -> Vec<T> {
        let at = |position: usize| {
            let width = self.header.width.bytes();
            convert(self.header.width.read(&self.data[position * width..][..width]))
        };
        let count = self.data.len() / self.header.width.bytes();
        if self.header.fortran_order {
            (0..count).map(|index| at(fortran_position(index, &self.header.shape))).collect()
        } else {
            (0..count).map(at).collect()
        }
    }
}

/// Where the element with C-order `index` lies in Fortran order, whose first dimension runs fastest.
fn fortran_position(mut index: usize, shape: &[usize]) -> usize {
    let mut position = 0;
    let mut stride: usize = shape.iter().product();
    for &n in shape.iter().rev() {
        stride /= n;
        position += index % n * stride;
        index /= n;
    }
    position
}

/// How wide a little-endian float is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    F4,
    F8,
}

impl Width {
    const fn bytes(self) -> usize {
        match self {
            Self::F4 => 4,
            Self::F8 => 8,
        }
    }

    /// Reads one float of exactly this width.
    fn read(self, bytes: &[u8]) -> f64 {
        const EXACT: &str = "the slice was cut to this width";
        match self {
            Self::F4 => f32::from_le_bytes(bytes.try_into().expect(EXACT)).into(),
            Self::F8 => f64::from_le_bytes(bytes.try_into().expect(EXACT)),
        }
    }
}

/// The Python dictionary at the head of the file.
#[derive(Debug, PartialEq)]
struct Header {
    width: Width,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = str::from_utf8(bytes).map_err(|_| anyhow!("the header is no text"))?;
        let mut cursor = Cursor { text, rest: text };
        let (mut width, mut fortran_order, mut shape) = (None, None, None);
        cursor.expect("{")?;
        while !cursor.take("}") {
            let key = cursor.string()?;
            cursor.expect(":")?;
            let repeated = match key {
                "descr" => width.replace(cursor.width()?).is_some(),
                "fortran_order" => fortran_order.replace(cursor.boolean()?).is_some(),
                "shape" => shape.replace(cursor.tuple()?).is_some(),
                _ => bail!("the header has an unknown key `{key}`: save it with numpy.save"),
            };
            ensure!(!repeated, "the header has the key `{key}` twice");
            if !cursor.take(",") {
                cursor.expect("}")?;
                break;
            }
        }
        ensure!(cursor.rest.trim_ascii().is_empty(), "{} and has more", cursor.wrong());
        Ok(Self {
            width: width.context("the header lacks `descr`")?,
            fortran_order: fortran_order.context("the header lacks `fortran_order`")?,
            shape: shape.context("the header lacks `shape`")?,
        })
    }
}

/// A place in the header's text.
struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn wrong(&self) -> String {
        format!("the header is understood up to its byte {}", self.text.len() - self.rest.len())
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n']);
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_blanks();
        self.rest.strip_prefix(token).inspect(|rest| self.rest = rest).is_some()
    }

    fn expect(&mut self, token: &str) -> anyhow::Result<()> {
        ensure!(self.take(token), "{}, where `{token}` is missing", self.wrong());
        Ok(())
    }

    /// A quoted string; NumPy escapes nothing in the ones it writes here.
    fn string(&mut self) -> anyhow::Result<&'a str> {
        self.skip_blanks();
        let quoted =
            ['\'', '"'].into_iter().find_map(|quote| self.rest.strip_prefix(quote)?.split_once(quote));
        let (string, rest) =
            quoted.with_context(|| format!("{}, where a string is missing", self.wrong()))?;
        self.rest = rest;
        Ok(string)
    }

    fn width(&mut self) -> anyhow::Result<Width> {
        self.skip_blanks();
        ensure!(
            !self.rest.starts_with('['),
            "the array has named fields: save the plain columns as float32 (array.astype('<f4'))"
        );
        match self.string()? {
            "<f4" => Ok(Width::F4),
            "<f8" => Ok(Width::F8),
            dtype => bail!("the array's type is `{dtype}`: save it as float32 (array.astype('<f4'))"),
        }
    }

    fn boolean(&mut self) -> anyhow::Result<bool> {
        if self.take("True") {
            return Ok(true);
        }
        ensure!(self.take("False"), "{}, where True or False is missing", self.wrong());
        Ok(false)
    }

    /// A tuple of whole numbers: `()`, `(3,)`, `(3, 4)`.
    fn tuple(&mut self) -> anyhow::Result<Vec<usize>> {
        self.expect("(")?;
        let mut numbers = Vec::new();
        while !self.take(")") {
            numbers.push(self.whole_number()?);
            // `(3)` is no tuple in Python.
            if numbers.len() == 1 {
                self.expect(",")?;
            } else if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(numbers)
    }

    fn whole_number(&mut self) -> anyhow::Result<usize> {
        self.skip_blanks();
        let digits = self.rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(digits);
        let number = number.parse().with_context(|| format!("{}, where a size is wrong", self.wrong()))?;
        self.rest = rest;
        Ok(number)
    }
}

/// Writes rows as `<f4` in C order, byte for byte as `numpy.save` does.
///
/// # Errors
/// Why `out` takes no more.
pub fn write(out: &mut dyn Write, rows: &Rows) -> anyhow::Result<()> {
    let shape = match rows.shape() {
        RowShape { seq_len: None, n_features } => format!("({}, {n_features})", rows.n_rows()),
        RowShape { seq_len: Some(seq_len), n_features } => {
            format!("({}, {seq_len}, {n_features})", rows.n_rows())
        }
    };
    out.write_all(&header(&shape, rows.n_rows())?)?;
    for value in rows.data() {
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

/// All bytes before the data.
fn header(shape: &str, n_rows: usize) -> anyhow::Result<Vec<u8>> {
    let growth = GROWTH_DIGITS - n_rows.to_string().len();
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}{:growth$}", "");
    let prefix = MAGIC.len() + 2 + size_of::<u16>();
    // NumPy pads by 1 to 64 blanks, never by none.
    let padding = ALIGNMENT - (prefix + dictionary.len() + 1) % ALIGNMENT;
    let length = u16::try_from(dictionary.len() + padding + 1)?;
    let mut header = MAGIC.to_vec();
    header.extend([1, 0]);
    header.extend(length.to_le_bytes());
    header.extend(format!("{dictionary}{:padding$}\n", "").into_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";

    /// A file of format 1.0 with this dictionary and `data` zero bytes after it.
    fn file(dictionary: &str, data: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(dictionary.len()).unwrap().to_le_bytes());
        bytes.extend(dictionary.bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn error(dictionary: &str, data: usize) -> String {
        let bytes = file(dictionary, data);
        let (rows, array) = (rows(&bytes), array(&bytes));
        assert!(array.is_err() || dictionary.contains("1, 1, 1, 1"), "{array:?}");
        format!("{:#}", rows.unwrap_err())
    }

    fn sample(shape: RowShape) -> Vec<u8> {
        let data = (0..12_u8).map(f32::from).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, &Rows::new(shape, data, None).unwrap()).unwrap();
        bytes
    }

    #[test]
    fn gives_back_what_it_took() {
        for shape in
            [RowShape::flat(1), RowShape::flat(4), RowShape::sequence(2, 3), RowShape::sequence(3, 1)]
        {
            let bytes = sample(shape);
            assert_eq!((bytes.len() - 12 * 4) % ALIGNMENT, 0);
            let read = rows(&bytes).unwrap();
            assert_eq!((read.shape(), read.n_rows()), (shape, 12 / shape.values()));
            assert!(read.data().iter().zip(0_u8..).all(|(&value, n)| value == f32::from(n)));
        }
    }

    #[test]
    fn truncation_at_every_byte_is_refused() {
        let bytes = sample(RowShape::sequence(2, 3));
        for end in 0..bytes.len() {
            assert!(rows(&bytes[..end]).is_err() && array(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(
            rows(&longer).unwrap_err().to_string().contains("1 bytes follow the array of shape [2, 2, 3]")
        );
    }

    #[test]
    fn no_single_byte_makes_it_panic_or_grow() {
        let bytes = sample(RowShape::flat(3));
        for position in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut hostile = bytes.clone();
                hostile[position] = value;
                if let Ok(rows) = rows(&hostile) {
                    assert_eq!(rows.data().len(), 12);
                }
            }
        }
    }

    #[test]
    fn shapes_larger_than_the_file_allocate_nothing() {
        let shape = |shape: &str| error(&PLAIN.replace("(2, 3)", shape), 40);
        assert!(shape("(2500000000,)").contains("needs 10000000000 bytes of data where 40 are there"));
        assert!(shape("(18446744073709551615, 2)").contains("larger than any file"));
        assert!(shape("(4294967296, 4294967296)").contains("larger than any file"));
        assert!(shape("(18446744073709551616,)").contains("a size is wrong"));
        assert!(shape("(0, 18446744073709551615)").contains("holds no values"));
        assert!(shape("(0, 3)").contains("holds no values"));
        assert!(shape("()").contains("a single number"));
        assert!(shape("(1, 1, 1, 10)").contains("the array has 4 dimensions"));
    }

    #[test]
    fn bad_headers_are_refused_by_name() {
        let with = |from: &str, to: &str| error(&PLAIN.replace(from, to), 24);
        assert!(with("<f4", ">f4").contains("type is `>f4`: save it as float32"));
        assert!(with("<f4", "|O").contains("type is `|O`"));
        assert!(with("<f4", "<i8").contains("type is `<i8`"));
        assert!(with("'<f4'", "[('a', '<f4')]").contains("named fields"));
        assert!(with("'<f4'", "3").contains("where a string is missing"));
        assert!(with("False", "0").contains("where True or False is missing"));
        assert!(with("(2, 3)", "(6)").contains("where `,` is missing"));
        assert!(with("(2, 3)", "(2, -3)").contains("a size is wrong"));
        assert!(with("(2, 3)", "(2, 3").contains("a size is wrong"));
        assert!(with("(2, 3)", "(2 3)").contains("where `,` is missing"));
        assert!(with("(2, 3)", "[2, 3]").contains("where `(` is missing"));
        assert!(with("'shape': (2, 3), ", "").contains("lacks `shape`"));
        assert!(with("'descr': '<f4', ", "").contains("lacks `descr`"));
        assert!(with("'descr': '<f4'", "'descr': '<f4', 'descr': '<f4'").contains("`descr` twice"));
        assert!(with("'descr'", "'dtype'").contains("unknown key `dtype`"));
        assert!(with(", }", ", } x").contains("and has more"));
        assert!(with("{", "").contains("where `{` is missing"));
        assert!(with("}", "").contains("where a string is missing"));
        assert!(with("'shape'", "'shape").contains("missing"));
        assert!(error("", 24).contains("where `{` is missing"));
        let refused = |bytes: &[u8]| format!("{:#}", rows(bytes).unwrap_err());
        assert!(refused(b"PK\x03\x04").contains("no .npy file"));
        assert!(refused(b"\x93NUMPY\x04\x00\x00\x00").contains("format 4.0 is not read"));
        assert!(refused(b"\x93NUMPY\x01\x00\x02\x00\xff\xfe").contains("no text"));
        assert!(refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}").contains("truncated"));
    }

    #[test]
    fn other_layouts_mean_the_same() {
        let loose = "{\"shape\":(2,3),\n 'fortran_order' : False,'descr':'<f4'}   \n";
        assert_eq!(Header::parse(loose.as_bytes()).unwrap(), Header::parse(PLAIN.as_bytes()).unwrap());
    }

    #[test]
    fn fortran_order_is_turned() {
        // [[0, 1, 2], [3, 4, 5]], column after column.
        let mut bytes = file(&PLAIN.replace("False", "True").replace("<f4", "<f8"), 0);
        for value in [0.0_f64, 3.0, 1.0, 4.0, 2.0, 5.0] {
            bytes.extend(value.to_le_bytes());
        }
        assert_eq!(array(&bytes).unwrap().data(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let positions: Vec<_> = (0..8).map(|index| fortran_position(index, &[2, 2, 2])).collect();
        assert_eq!(positions, [0, 4, 2, 6, 1, 5, 3, 7]);
    }

    #[test]
    fn f64_is_rounded_once_for_rows_and_kept_for_arrays() {
        let value = 1.000_000_059_604_645_f64;
        let mut bytes = file("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", 0);
        bytes.extend(value.to_le_bytes());
        assert_eq!(rows(&bytes).unwrap().data(), [1.0 + f32::EPSILON]);
        assert_eq!((array(&bytes).unwrap().data(), array(&bytes).unwrap().shape()), (&[value][..], &[1][..]));
    }
}
