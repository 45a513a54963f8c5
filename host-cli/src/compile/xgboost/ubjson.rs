//! The subset of UBJSON that XGBoost writes.
//!
//! Big-endian; object keys are a length and bytes without a marker; arrays may be counted (`[#`) or counted and typed
//! (`[$d#`), and then have no closing bracket. Every length is checked against the bytes that are left before
//! anything is set aside for it.

use std::borrow::Cow;

use anyhow::{Context, Result, bail, ensure};

use super::document::{MAX_DEPTH, MAX_VALUES, Number, NumberType, Numbers, Object, SAVE_AGAIN, Value};

/// Reads the one value a UBJSON file consists of.
pub(super) fn parse(bytes: &[u8]) -> Result<Value<'_>> {
    let mut parser = Parser { rest: bytes, values: 0 };
    parser.document().map_err(|error| {
        let at = bytes.len() - parser.rest.len();
        anyhow::anyhow!("the UBJSON is damaged at byte {at}: {error:#}; {SAVE_AGAIN}")
    })
}

struct Parser<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<Value<'a>> {
        let marker = self.byte()?;
        let value = self.value(marker, 0)?;
        ensure!(self.rest.is_empty(), "something follows the model");
        Ok(value)
    }

    fn byte(&mut self) -> Result<u8> {
        let (&byte, rest) = self.rest.split_first().context("the file ends too early")?;
        self.rest = rest;
        Ok(byte)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(count)
            .with_context(|| format!("{count} bytes are announced but {} are left", self.rest.len()))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Takes `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn number(&mut self, kind: NumberType) -> Result<Number<'a>> {
        let bytes = self.bytes(kind.size())?;
        kind.read(bytes).context("a number has the size of its type")
    }

    /// A length: an integer with its marker, not negative.
    fn length(&mut self) -> Result<usize> {
        let marker = self.byte()?;
        let kind = NumberType::of_marker(marker).with_context(|| unknown(marker, "a length"))?;
        let length = self.number(kind)?.i64()?;
        usize::try_from(length).ok().with_context(|| format!("{length} is no length"))
    }

    fn text(&mut self) -> Result<&'a str> {
        let length = self.length()?;
        str::from_utf8(self.bytes(length)?).context("a text is not UTF-8")
    }

    fn value(&mut self, marker: u8, depth: usize) -> Result<Value<'a>> {
        ensure!(depth < MAX_DEPTH, "nested deeper than {MAX_DEPTH} levels");
        self.values += 1;
        ensure!(self.values <= MAX_VALUES, "more than {MAX_VALUES} values");
        if let Some(kind) = NumberType::of_marker(marker) {
            return self.number(kind).map(Value::Number);
        }
        match marker {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'S' => self.text().map(|text| Value::Text(Cow::Borrowed(text))),
            b'C' => {
                let character = str::from_utf8(self.bytes(1)?).context("a character is not ASCII")?;
                Ok(Value::Text(Cow::Borrowed(character)))
            }
            b'T' => Ok(Value::Bool(true)),
            b'F' => Ok(Value::Bool(false)),
            b'Z' => Ok(Value::Null),
            _ => bail!(unknown(marker, "a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>> {
        let mut object = Object::new();
        while !self.take(b'}') {
            let key = self.text()?;
            ensure!(!object.contains_key(key), "the key {key:?} occurs twice");
            let marker = self.byte()?;
            let value = self.value(marker, depth + 1)?;
            object.insert(Cow::Borrowed(key), value);
        }
        Ok(Value::Object(object))
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>> {
        if self.take(b'$') {
            let marker = self.byte()?;
            let kind = NumberType::of_marker(marker).with_context(|| unknown(marker, "an element type"))?;
            ensure!(self.take(b'#'), "a typed array without a count");
            let count = self.length()?;
            let size = count.checked_mul(kind.size()).context("an array longer than memory")?;
            let bytes = self.bytes(size)?;
            return Ok(if bytes.is_empty() {
                Value::List(Vec::new())
            } else {
                Value::Numbers(Numbers::Typed(kind, bytes))
            });
        }
        let mut list = Vec::new();
        if self.take(b'#') {
            let count = self.length()?;
            ensure!(
                count <= self.rest.len(),
                "{count} elements are announced but {} bytes are left",
                self.rest.len()
            );
            for _ in 0..count {
                let marker = self.byte()?;
                list.push(self.value(marker, depth + 1)?);
            }
        } else {
            while !self.take(b']') {
                let marker = self.byte()?;
                list.push(self.value(marker, depth + 1)?);
            }
        }
        Ok(Value::List(list))
    }
}

fn unknown(marker: u8, expected: &str) -> String {
    format!("expected {expected}, found the byte {marker:#04x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        format!("{:#}", parse(bytes).unwrap_err())
    }

    fn object_of(key: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = b"{L".to_vec();
        bytes.extend((key.len() as i64).to_be_bytes());
        bytes.extend(key.as_bytes());
        bytes.extend(value);
        bytes.push(b'}');
        bytes
    }

    #[test]
    fn typed_arrays_have_no_closing_bracket() {
        let mut array = b"[$d#L\0\0\0\0\0\0\0\x02".to_vec();
        array.extend(0.1_f32.to_be_bytes());
        array.extend(f32::NEG_INFINITY.to_be_bytes());
        let bytes = object_of("a", &array);
        let document = parse(&bytes).unwrap();
        let section = super::super::document::Section::new("x", &document).unwrap();
        assert_eq!(section.f32s("a").unwrap(), [0.1, f32::NEG_INFINITY]);
        assert!(section.i64s("a").is_err());

        for (kind, element) in [('U', &[200][..]), ('i', &[56]), ('I', &[0, 200]), ('l', &[0, 0, 0, 200])] {
            let mut array = format!("[${kind}#U\x01").into_bytes();
            array.extend(element);
            let bytes = object_of("a", &array);
            let document = parse(&bytes).unwrap();
            let section = super::super::document::Section::new("x", &document).unwrap();
            assert_eq!(section.i64s("a").unwrap(), [if kind == 'i' { 56 } else { 200 }]);
        }
        assert_eq!(
            parse(b"[$d#L\0\0\0\0\0\0\0\0").unwrap(),
            Value::List(vec![]),
            "an empty array has no element type"
        );
    }

    #[test]
    fn plain_and_counted_arrays() {
        let ones = || vec![Value::Number(Number::Integer(1)), Value::Bool(true)];
        assert_eq!(parse(b"[i\x01T]").unwrap(), Value::List(ones()));
        assert_eq!(parse(b"[#U\x02i\x01T").unwrap(), Value::List(ones()));
        assert!(error(b"[#U\x02i\x01T]").contains("something follows"));
    }

    #[test]
    fn hostile_lengths_cost_nothing() {
        let huge = i64::MAX.to_be_bytes();
        let mut typed = b"[$D#L".to_vec();
        typed.extend(huge);
        assert!(error(&typed).contains("longer than memory"));
        let mut counted = b"[#L".to_vec();
        counted.extend(huge);
        assert!(error(&counted).contains("elements are announced but 0 bytes"));
        let mut text = b"SL".to_vec();
        text.extend(10_000_000_000_i64.to_be_bytes());
        assert!(error(&text).contains("10000000000 bytes are announced"));
        assert!(error(b"SL\xff\xff\xff\xff\xff\xff\xff\xff").contains("-1 is no length"));
        assert!(error(b"Sd\0\0\0\0").contains("is no integer"));
        for no_size in [b'Z', b'T', b'N', b'[', b'{', b'S'] {
            let mut bytes = vec![b'[', b'$', no_size, b'#', b'L'];
            bytes.extend(huge);
            assert!(error(&bytes).contains("element type"));
        }
        assert!(error(&b"[".repeat(1_000_000)).contains("nested deeper"));
    }

    #[test]
    fn damage_is_named() {
        let message = "the UBJSON is damaged at byte 2: 8 bytes are announced but 1 are left; \
                       save the model again with XGBoost's save_model";
        assert_eq!(error(b"{L\0"), message);
        assert!(error(b"").contains("ends too early"));
        assert!(error(b"{").contains("ends too early"));
        assert!(error(b"N").contains("0x4e"));
        assert!(error(b"{U\x01aTU\x01aF}").contains("occurs twice"));
        assert!(error(b"{U\x01\xffT}").contains("not UTF-8"));
        assert!(error(b"{}{").contains("something follows"));
    }
}
