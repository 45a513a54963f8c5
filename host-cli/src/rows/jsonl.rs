//! One JSON array of numbers, or one object name → number, per line.
//!
//! `null` is a missing value; so is the bare token `NaN`, which Python writes. Its `Infinity` and `-Infinity` are
//! read as those values. Every object has the names of the first, in any order.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use anyhow::{Context, anyhow, bail, ensure};

use super::lines::Lines;
use super::{RowShape, Rows, check_names, round_once};

pub(super) fn read(reader: impl BufRead) -> anyhow::Result<Rows> {
    let mut lines = Lines::new(reader);
    let mut data = Vec::new();
    let mut first: Option<First> = None;
    while let Some((number, line)) = lines.next_filled()? {
        let row = Row::parse(line).with_context(|| format!("line {number}"))?;
        match &first {
            None => {
                first = Some(First::new(number, row, &mut data).with_context(|| format!("line {number}"))?)
            }
            Some(first) => first.push(row, &mut data).with_context(|| format!("line {number}"))?,
        }
    }
    let first = first.context("there are no rows")?;
    Rows::new(RowShape::flat(first.n_features), data, first.names)
}

/// One line as written.
enum Row {
    Array(Vec<f32>),
    Object(Vec<(String, f32)>),
}

impl Row {
    fn parse(line: &str) -> anyhow::Result<Self> {
        let mut cursor = Cursor { line, at: 0 };
        let row = match cursor.take_any("[{") {
            Some('[') => Self::Array(cursor.list(']', Cursor::value)?),
            Some(_) => Self::Object(cursor.list('}', |cursor| {
                let name = cursor.name()?;
                ensure!(cursor.take_any(":").is_some(), "`:` is missing at byte {}", cursor.at);
                Ok((name, cursor.value()?))
            })?),
            None => bail!("a row is a JSON array of numbers or an object name → number"),
        };
        cursor.skip_blanks();
        ensure!(cursor.at == line.len(), "the row ends at byte {} but the line goes on", cursor.at);
        Ok(row)
    }
}

/// What the first row sets for all: whether there are names, and which.
struct First {
    line: usize,
    n_features: usize,
    names: Option<Vec<String>>,
    column: HashMap<String, usize>,
}

impl First {
    fn new(line: usize, row: Row, data: &mut Vec<f32>) -> anyhow::Result<Self> {
        let names = match row {
            Row::Array(values) => {
                data.extend(values);
                None
            }
            Row::Object(pairs) => {
                let (names, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                check_names(&names)?;
                data.extend(values);
                Some(names)
            }
        };
        ensure!(!data.is_empty(), "the row has no values");
        let column = names.iter().flatten().cloned().zip(0..).collect();
        Ok(Self { line, n_features: data.len(), names, column })
    }

    fn push(&self, row: Row, data: &mut Vec<f32>) -> anyhow::Result<()> {
        match (row, &self.names) {
            (Row::Array(values), None) => {
                ensure!(
                    values.len() == self.n_features,
                    "the row has {} values where line {} has {}",
                    values.len(),
                    self.line,
                    self.n_features
                );
                data.extend(values);
            }
            (Row::Object(pairs), Some(names)) => {
                let mut values = vec![None; self.n_features];
                for (name, value) in pairs {
                    let Some(&column) = self.column.get(&name) else {
                        bail!("the name `{name}` is not in line {}: all rows have the same names", self.line);
                    };
                    ensure!(values[column].replace(value).is_none(), "the name `{name}` is there twice");
                }
                for (name, value) in names.iter().zip(values) {
                    data.push(value.ok_or_else(|| {
                        anyhow!(
                            "the name `{name}` of line {} is absent: write null where a value is",
                            self.line
                        )
                    })?);
                }
            }
            _ => bail!("the row is not of line {}'s kind: use arrays or objects throughout", self.line),
        }
        Ok(())
    }
}

/// A place in a line. serde_json knows no bare NaN, so it reads only the single names and numbers here.
struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    /// Steps over blanks and then one of `wanted` (ASCII), if it is next.
    fn take_any(&mut self, wanted: &str) -> Option<char> {
        self.skip_blanks();
        let next = self.rest().chars().next().filter(|&next| wanted.contains(next))?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// The items up to `end`, separated by commas; the opening bracket is behind.
    fn list<T>(
        &mut self,
        end: char,
        mut item: impl FnMut(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        if self.take_any(end.encode_utf8(&mut [0; 4])).is_some() {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            match self.take_any(",]}") {
                Some(',') => {}
                Some(found) if found == end => return Ok(items),
                _ => bail!("`,` or `{end}` is missing at byte {}", self.at),
            }
        }
    }

    fn value(&mut self) -> anyhow::Result<f32> {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest.find([',', ']', '}', ' ', '\t']).unwrap_or(rest.len());
        let value = match &rest[..end] {
            "null" | "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            text if text.starts_with('[') => {
                bail!("rows within rows at byte {}: write sequences as .npy", self.at)
            }
            text => serde_json::from_str(text).map_err(|_| {
                anyhow!("`{text}` at byte {} is no number (a missing value is null)", self.at)
            })?,
        };
        self.at += end;
        Ok(round_once(value))
    }

    fn name(&mut self) -> anyhow::Result<String> {
        self.skip_blanks();
        let mut stream = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
        match stream.next() {
            Some(Ok(name)) => {
                self.at += stream.byte_offset();
                Ok(name)
            }
            _ => bail!("a name in double quotes is missing at byte {}", self.at),
        }
    }
}

/// Writes rows as JSON lines: objects where the columns have names, else arrays; NaN is written as `null`.
///
/// # Errors
/// Why `out` takes no more, that a value is infinite (JSON has no word for it), or that the rows are sequences.
pub fn write(out: &mut dyn Write, rows: &Rows) -> anyhow::Result<()> {
    ensure!(rows.shape().seq_len.is_none(), "a line of JSON holds no sequence: use .npy");
    let names =
        rows.names().map(|names| names.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>());
    let names = names.transpose()?;
    let (open, close) = if names.is_some() { ('{', '}') } else { ('[', ']') };
    for (number, row) in rows.iter().enumerate() {
        write!(out, "{open}")?;
        for (column, &value) in row.iter().enumerate() {
            ensure!(
                !value.is_infinite(),
                "row {number} has an infinity, which JSON cannot say: use .npy or .csv"
            );
            let comma = if column == 0 { "" } else { "," };
            write!(out, "{comma}")?;
            if let Some(names) = &names {
                write!(out, "{}:", names[column])?;
            }
            // Debug prints the shortest digits that read back as the same f32.
            if value.is_nan() { write!(out, "null")? } else { write!(out, "{value:?}")? }
        }
        writeln!(out, "{close}")?;
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
    fn arrays() {
        let rows = parse("[1, 2.5]\r\n\n\t[ -0 ,4e0 ]").unwrap();
        assert_eq!((rows.names(), rows.data()), (None, &[1.0, 2.5, -0.0, 4.0][..]));
    }

    #[test]
    fn objects_in_any_order() {
        let rows = parse("{\"a\":1,\"b \\\"c\\u00df\":2}\n{ \"b \\\"cß\" : 4 , \"a\" : 3 }\n").unwrap();
        assert_eq!(rows.names().unwrap(), ["a", "b \"cß"]);
        assert_eq!(rows.data(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn missing_and_infinite_values() {
        let rows = parse("[null,NaN,Infinity,-Infinity]").unwrap();
        assert!(rows.data()[0].is_nan() && rows.data()[1].is_nan());
        assert_eq!(rows.data()[2..], [f32::INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn values_are_rounded_to_f32_once() {
        // By way of f64 the first falls on a tie and from there on the even f32.
        let rows = parse("[1.00000005960464485,1.0000000596046449,9007199254740993]").unwrap();
        assert_eq!(rows.data(), [1.0, 1.0 + f32::EPSILON, 9_007_199_254_740_992.0]);
    }

    #[test]
    fn refusals_say_where_and_what() {
        assert!(error("").contains("no rows"));
        assert!(error("[]").contains("line 1: the row has no values"));
        assert!(error("{}").contains("line 1: the row has no values"));
        assert!(error("3").contains("line 1: a row is a JSON array"));
        assert!(error("[1]\n[1,2]").contains("line 2: the row has 2 values where line 1 has 1"));
        assert!(error("[1]\n{\"a\":1}").contains("line 2: the row is not of line 1's kind"));
        assert!(error("{\"a\":1}\n{\"b\":1}").contains("line 2: the name `b` is not in line 1"));
        assert!(error("{\"a\":1,\"b\":2}\n{\"b\":1}").contains("line 2: the name `a` of line 1 is absent"));
        assert!(error("{\"a\":1,\"a\":2}").contains("line 1: columns 1 and 2 have the same name `a`"));
        assert!(error("{\"a\":1}\n{\"a\":1,\"a\":2}").contains("line 2: the name `a` is there twice"));
        assert!(error("[1,\"2\"]").contains("`\"2\"` at byte 3 is no number"));
        assert!(error("[true]").contains("`true` at byte 1 is no number"));
        assert!(error("[nan]").contains("`nan` at byte 1 is no number"));
        assert!(error("[01]").contains("`01` at byte 1 is no number"));
        assert!(error("[1e999]").contains("`1e999` at byte 1 is no number"));
        assert!(error("[[1]]").contains("rows within rows"));
        assert!(error("[1] [2]").contains("ends at byte 4 but the line goes on"));
        assert!(error("{a:1}").contains("a name in double quotes is missing at byte 1"));
        assert!(error("{\"a\" 1}").contains("`:` is missing"));
        assert!(error("[1}").contains("`,` or `]` is missing"));
    }

    #[test]
    fn truncation_at_every_byte_is_refused() {
        for line in ["[1.5, NaN, -Infinity, 2]", "{\"a\": 1.5, \"ß\": null}"] {
            assert!(parse(line).is_ok());
            for end in 1..line.len() {
                assert!(read(&line.as_bytes()[..end]).is_err(), "{:?}", line.get(..end));
            }
        }
    }

    #[test]
    fn writes_what_strict_readers_take() {
        let rows = Rows::new(RowShape::flat(2), vec![0.1, f32::NAN], Some(vec!["p".into(), "\"q\"".into()]));
        let mut out = Vec::new();
        write(&mut out, &rows.unwrap()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"p\":0.1,\"\\\"q\\\"\":null}\n");
        let infinite = Rows::new(RowShape::flat(1), vec![f32::INFINITY], None).unwrap();
        assert!(write(&mut Vec::new(), &infinite).unwrap_err().to_string().contains("row 0"));
    }
}
