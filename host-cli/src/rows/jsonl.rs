//! One JSON array of numbers, or one object name → number, per line.
//!
//! `null` is a missing value; so is the bare token `NaN`, which Python writes. Its `Infinity` and `-Infinity` are
//! read as those values. Every object has the names of the first; columns are in the order of their names.

use std::io::{BufRead, Write};

use anyhow::{Context, anyhow, bail, ensure};

use super::lines::Lines;
use super::{RowShape, Rows, round_once};
use crate::stream::{Json, Members};

pub(super) fn read(reader: impl BufRead) -> anyhow::Result<Rows> {
    let mut lines = Lines::new(reader);
    let mut data = Vec::new();
    let mut first: Option<First> = None;
    while let Some((number, line)) = lines.next_filled()? {
        let at = || format!("line {number}");
        let row = Json::parse(line).map_err(|error| anyhow!("this is no JSON: {error}")).with_context(at)?;
        match &first {
            None => first = Some(First::new(number, row, &mut data).with_context(at)?),
            Some(first) => first.push(row, &mut data).with_context(at)?,
        }
    }
    let first = first.context("there are no rows")?;
    Rows::new(RowShape::flat(first.n_features), data, first.names)
}

/// What the first row sets for all: how many values there are and which names.
struct First {
    line: usize,
    n_features: usize,
    names: Option<Vec<String>>,
}

impl First {
    fn new(line: usize, row: Json<'_>, data: &mut Vec<f32>) -> anyhow::Result<Self> {
        let names = match row {
            Json::List(values) => {
                push_list(values, data)?;
                None
            }
            Json::Object(members) => {
                push_members(&members, data)?;
                Some(members.names().map(str::to_owned).collect())
            }
            _ => bail!(NO_ROW),
        };
        ensure!(!data.is_empty(), "the row has no values");
        Ok(Self { line, n_features: data.len(), names })
    }

    fn push(&self, row: Json<'_>, data: &mut Vec<f32>) -> anyhow::Result<()> {
        let Self { line, n_features, names } = self;
        match (row, names) {
            (Json::List(values), None) => {
                let found = values.len();
                ensure!(
                    found == *n_features,
                    "the row has {found} values where line {line} has {n_features}"
                );
                push_list(values, data)
            }
            (Json::Object(members), Some(names)) => {
                if let Some(name) = names.iter().find(|name| members.get(name).is_none()) {
                    bail!("the name `{name}` of line {line} is absent: write null where a value is missing");
                }
                // No name of the first line is absent, so one more is one that it lacks.
                if members.len() > names.len() {
                    let more =
                        members.names().find(|name| !names.iter().any(|own| own == name)).unwrap_or("");
                    bail!("the name `{more}` is not in line {line}: all rows have the same names");
                }
                push_members(&members, data)
            }
            (Json::List(_) | Json::Object(_), _) => {
                bail!("the row is not of line {line}'s kind: use arrays or objects throughout")
            }
            _ => bail!(NO_ROW),
        }
    }
}

const NO_ROW: &str = "a row is a JSON array of numbers or an object name → number";

fn push_list(values: Vec<Json<'_>>, data: &mut Vec<f32>) -> anyhow::Result<()> {
    for (column, value) in (1..).zip(&values) {
        data.push(number(value).with_context(|| format!("value {column}"))?);
    }
    Ok(())
}

fn push_members(members: &Members<'_>, data: &mut Vec<f32>) -> anyhow::Result<()> {
    for (name, value) in members.iter() {
        data.push(number(value).with_context(|| format!("`{name}`"))?);
    }
    Ok(())
}

fn number(value: &Json<'_>) -> anyhow::Result<f32> {
    match value {
        Json::Number(number) => Ok(round_once(*number)),
        Json::Null => Ok(f32::NAN),
        Json::List(_) => bail!("a list within a row: write sequences as .npy"),
        _ => bail!("this is no number (a missing value is null)"),
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
    for (number, row) in (1..).zip(rows.iter()) {
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
        assert!(error("[1]\n\n3").contains("line 3: a row is a JSON array"));
        assert!(error("[1]\n[1,2]").contains("line 2: the row has 2 values where line 1 has 1"));
        assert!(error("[1]\n{\"a\":1}").contains("line 2: the row is not of line 1's kind"));
        assert!(error("{\"a\":1}\n{\"b\":1}").contains("line 2: the name `a` of line 1 is absent"));
        assert!(error("{\"a\":1}\n{\"a\":1,\"b\":1}").contains("line 2: the name `b` is not in line 1"));
        assert!(error("{\"\":1}").contains("column 1 has no name"));
        for twice in ["{\"a\":1,\"a\":2}", "{\"a\":1}\n{\"a\":1,\"a\":2}"] {
            assert!(error(twice).contains("\"a\" appears twice"));
        }
        for value in ["\"2\"", "\"NaN\"", "true", "{}"] {
            assert!(error(&format!("[1,{value}]")).contains("line 1: value 2: this is no number"), "{value}");
        }
        assert!(error("{\"a\":\"x\"}").contains("line 1: `a`: this is no number"));
        assert!(error("[[1]]").contains("a list within a row"));
        for broken in ["[nan]", "[01]", "[1e999]", "[1] [2]", "{a:1}", "{\"a\" 1}", "[1}", "[1,]"] {
            assert!(error(broken).contains("line 1: this is no JSON"), "{broken}");
        }
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
        assert!(write(&mut Vec::new(), &infinite).unwrap_err().to_string().contains("row 1"));
    }
}
