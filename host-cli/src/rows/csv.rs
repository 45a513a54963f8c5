//! Comma-separated values, with or without a line of names.
//!
//! The first line holds names if none of its cells is a number. An empty cell or NaN is a missing value.

use std::io::{BufRead, Write};

use anyhow::{Context, bail, ensure};

use super::lines::Lines;
use super::{RowShape, Rows, check_names, round_once};

pub(super) fn read(reader: impl BufRead) -> anyhow::Result<Rows> {
    let mut lines = Lines::new(reader);
    let Some((first, line)) = lines.next_filled()? else {
        bail!("there are no rows");
    };
    let names = names(line).with_context(|| format!("line {first}"))?;
    let mut data = Vec::new();
    if names.is_none() {
        push_row(line, &mut data).with_context(|| format!("line {first}"))?;
    }
    let n_features = names.as_ref().map_or(data.len(), Vec::len);
    while let Some((number, line)) = lines.next_filled()? {
        let cells = push_row(line, &mut data).with_context(|| format!("line {number}"))?;
        ensure!(cells == n_features, "line {number} has {cells} cells where line {first} has {n_features}");
    }
    if let (1, Some(blank)) = (n_features, lines.first_blank()) {
        bail!(
            "line {blank} is blank: in a file of one column write NaN for a missing value, or remove the line"
        );
    }
    Rows::new(RowShape::flat(n_features), data, names)
}

/// The names in the first line, or `None` if it is a row.
fn names(line: &str) -> anyhow::Result<Option<Vec<String>>> {
    // Only names can hold commas and quotes: this line alone needs the full rules.
    let mut reader =
        ::csv::ReaderBuilder::new().has_headers(false).trim(::csv::Trim::All).from_reader(line.as_bytes());
    let mut cells = ::csv::StringRecord::new();
    reader.read_record(&mut cells)?;
    let is_value = |cell: &str| cell.is_empty() || number(cell).is_some();
    if cells.iter().all(is_value) {
        ensure!(
            cells.len() < 2 || !cells.iter().enumerate().all(|(column, cell)| cell == column.to_string()),
            "counting names (0, 1, …) cannot be told from a row: name the columns or leave the line out \
             (pandas: header=False)"
        );
        return Ok(None);
    }
    if let Some(column) = cells.iter().position(|cell| number(cell).is_some()) {
        let text = cells.iter().find(|cell| !is_value(cell)).unwrap_or_default();
        bail!("`{text}` is no number, but column {} holds one: give all columns names or none", column + 1);
    }
    let names: Vec<String> = cells.iter().map(str::to_owned).collect();
    check_names(&names)?;
    Ok(Some(names))
}

/// Appends the cells of a line of numbers, which hold no commas, and returns how many there were.
fn push_row(line: &str, data: &mut Vec<f32>) -> anyhow::Result<usize> {
    let before = data.len();
    for (column, cell) in (1..).zip(line.split(',')) {
        let cell = cell.trim();
        let cell = cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')).unwrap_or(cell);
        let value = if cell.is_empty() { Some(f64::NAN) } else { number(cell) };
        let Some(value) = value else {
            bail!("column {column}: `{cell}` is no number (leave a missing value's cell empty)");
        };
        data.push(round_once(value));
    }
    Ok(data.len() - before)
}

fn number(cell: &str) -> Option<f64> {
    cell.parse().ok()
}

/// Writes rows as CSV, under a line of names where they have them; NaN is written as `NaN`.
///
/// # Errors
/// Why `out` takes no more, or that the rows are sequences.
pub fn write(out: &mut dyn Write, rows: &Rows) -> anyhow::Result<()> {
    ensure!(rows.shape().seq_len.is_none(), "a line of CSV holds no sequence: use .npy");
    if let Some(names) = rows.names() {
        // Bare at the very beginning it would be read as the file's byte order mark.
        let marked = names.iter().any(|name| name.starts_with('\u{feff}'));
        let style = if marked { ::csv::QuoteStyle::Always } else { ::csv::QuoteStyle::Necessary };
        let mut writer = ::csv::WriterBuilder::new().quote_style(style).from_writer(&mut *out);
        writer.write_record(names)?;
        writer.flush()?;
    }
    for row in rows.iter() {
        for (column, value) in row.iter().enumerate() {
            let comma = if column == 0 { "" } else { "," };
            // Debug prints the shortest digits that read back as the same f32.
            write!(out, "{comma}{value:?}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Rows> {
        read(text.as_bytes())
    }

    fn error(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn with_and_without_names() {
        let rows = parse("1,2\n3,4").unwrap();
        assert_eq!((rows.names(), rows.data()), (None, &[1.0, 2.0, 3.0, 4.0][..]));
        let rows = parse("\u{feff}a ,\"b, c\"\r\n1,\"2\"\r\n\r\n 3 ,4e0\r\n").unwrap();
        assert_eq!(rows.names().unwrap(), ["a", "b, c"]);
        assert_eq!(rows.data(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn a_name_that_begins_like_a_file_stays_as_it_is() {
        let rows = parse("\"\u{feff}a\",b\n1,2\n").unwrap();
        let mut written = Vec::new();
        write(&mut written, &rows).unwrap();
        assert_eq!(read(&written[..]).unwrap().names().unwrap(), ["\u{feff}a", "b"]);
    }

    #[test]
    fn missing_values() {
        let rows = parse(",nan\nNaN,2\n").unwrap();
        assert_eq!(rows.n_rows(), 2);
        assert!(rows.data()[..3].iter().all(|value| value.is_nan()) && rows.data()[3] == 2.0);
        assert_eq!(parse("x\nNaN\n1\n").unwrap().n_rows(), 2);
    }

    #[test]
    fn values_are_rounded_to_f32_once() {
        // A hair above the middle between two f32, which is the nearest f64: from there ties go to the even f32.
        assert_eq!(parse("1.00000005960464485").unwrap().data(), [1.0]);
        assert_eq!(parse("1.0000000596046449").unwrap().data(), [1.0 + f32::EPSILON]);
        assert_eq!(
            parse("1e39,-1e39,inf").unwrap().data(),
            [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY]
        );
    }

    #[test]
    fn refusals_say_where_and_what() {
        assert!(error("").contains("no rows"));
        assert!(error("\n\n").contains("no rows"));
        assert!(error("a,b\n").contains("no rows"));
        assert!(error("a,b\n1,2\n1\n").contains("line 3 has 1 cells where line 1 has 2"));
        assert!(error("a,b\n1,2\n\n1,2,3\n").contains("line 4 has 3 cells where line 1 has 2"));
        assert!(error("a,b\r\n1,2\r\n1,N/A\r\n").contains("line 3: column 2: `N/A` is no number"));
        assert!(error("a,2\n").contains("line 1: `a` is no number, but column 2 holds one"));
        assert!(error(",a\n0,1\n").contains("line 1: column 1 has no name"));
        assert!(error("a,a\n0,1\n").contains("the same name `a`"));
        assert!(error("0,1,2\n5,6,7\n").contains("line 1: counting names"));
        for text in ["x\n1\n\n2\n", "x\n1\n\n", "1\n2\n \n", "1\n\u{20}\r\n2"] {
            assert!(error(text).contains("is blank"), "{text:?}");
        }
        assert!(error("\u{feff}\n1\n").contains("line 1 is blank"));
        let torn = read(&b"1,2\n\xff,2\n"[..]).unwrap_err().to_string();
        assert!(torn.contains("line 2 is no UTF-8"), "{torn}");
    }

    #[test]
    fn writes_shortest_digits() {
        let names = Some(vec!["p".to_owned(), "a,b".to_owned()]);
        let rows = Rows::new(RowShape::flat(2), vec![0.1, 1e-7, f32::NAN, 1.0], names).unwrap();
        let mut out = Vec::new();
        write(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "p,\"a,b\"\n0.1,1e-7\nNaN,1.0\n");
        let sequence = Rows::new(RowShape::sequence(1, 1), vec![0.0], None).unwrap();
        assert!(write(&mut Vec::new(), &sequence).is_err());
    }
}
