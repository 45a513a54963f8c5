//! XGBoost's JSON: like JSON, but with bare `NaN`, `Infinity` and `-Infinity`.
//!
//! One pass over the text; arrays of numbers are checked and kept as slices of it. Keys that occur twice are refused:
//! readers disagree on which one counts.

use std::borrow::Cow;

use anyhow::{Context, Result, bail, ensure};

use super::document::{MAX_DEPTH, MAX_VALUES, Number, Numbers, Object, SAVE_AGAIN, Value};

/// Reads the one value a JSON text consists of.
pub(super) fn parse(bytes: &[u8]) -> Result<Value<'_>> {
    let text = str::from_utf8(bytes).map_err(|error| {
        anyhow::anyhow!("the JSON is damaged at byte {}: not UTF-8; {SAVE_AGAIN}", error.valid_up_to())
    })?;
    let mut parser = Parser { text, at: 0, values: 0 };
    parser
        .document()
        .map_err(|error| anyhow::anyhow!("the JSON is damaged at byte {}: {error}; {SAVE_AGAIN}", parser.at))
}

struct Parser<'a> {
    text: &'a str,
    /// The next byte; always on a character boundary when text is sliced.
    at: usize,
    values: usize,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<Value<'a>> {
        let value = self.value(0)?;
        self.skip_space();
        ensure!(self.at == self.text.len(), "something follows the model");
        Ok(value)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        if found {
            self.at += word.len();
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        ensure!(self.take(byte), "expected {:?}, found {}", char::from(byte), self.found());
        Ok(())
    }

    fn found(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(character) => format!("{character:?}"),
            None => "the end of the file".to_owned(),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>> {
        ensure!(depth < MAX_DEPTH, "nested deeper than {MAX_DEPTH} levels");
        self.values += 1;
        ensure!(self.values <= MAX_VALUES, "more than {MAX_VALUES} values");
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::Text),
            _ if self.take_word("true") => Ok(Value::Bool(true)),
            _ if self.take_word("false") => Ok(Value::Bool(false)),
            _ if self.take_word("null") => Ok(Value::Null),
            _ => self.number().map(|text| Value::Number(Number::Text(text))),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>> {
        self.expect(b'{')?;
        let mut object = Object::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Object(object));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            ensure!(!object.contains_key(&key), "the key {key:?} occurs twice");
            let value = self.value(depth + 1)?;
            object.insert(key, value);
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::Object(object));
            }
            self.expect(b',')?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>> {
        self.expect(b'[')?;
        self.skip_space();
        if matches!(self.peek(), Some(b'-' | b'0'..=b'9' | b'N' | b'I')) {
            return self.numbers().map(Value::Numbers);
        }
        let mut list = Vec::new();
        if self.take(b']') {
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::List(list));
            }
            self.expect(b',')?;
        }
    }

    /// The rest of an array that begins with a number: all must be numbers.
    fn numbers(&mut self) -> Result<Numbers<'a>> {
        let start = self.at;
        loop {
            self.skip_space();
            self.number()?;
            self.skip_space();
            if self.peek() == Some(b']') {
                let numbers = Numbers::Text(&self.text[start..self.at]);
                self.at += 1;
                return Ok(numbers);
            }
            self.expect(b',')?;
        }
    }

    /// The text of one number, by JSON's grammar or as a bare `NaN`, `Infinity`, `-Infinity`.
    fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        if self.take_word("NaN") || self.take_word("Infinity") || self.take_word("-Infinity") {
            return Ok(&self.text[start..self.at]);
        }
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'-') || self.take(b'+');
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<()> {
        ensure!(
            self.peek().is_some_and(|byte| byte.is_ascii_digit()),
            "expected a value, found {}",
            self.found()
        );
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"')?;
        let mut unescaped: Option<String> = None;
        let mut start = self.at;
        loop {
            let byte = self.peek().context("the file ends within a text")?;
            match byte {
                b'"' => {
                    let rest = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(match unescaped {
                        Some(text) => Cow::Owned(text + rest),
                        None => Cow::Borrowed(rest),
                    });
                }
                b'\\' => {
                    let text = unescaped.get_or_insert_default();
                    text.push_str(&self.text[start..self.at]);
                    self.at += 1;
                    let character = self.escape()?;
                    text.push(character);
                    start = self.at;
                }
                0..=0x1f => bail!("a control character within a text"),
                _ => self.at += 1,
            }
        }
    }

    /// The character an escape sequence stands for; the backslash is already taken.
    fn escape(&mut self) -> Result<char> {
        let byte = self.peek().context("the file ends within a text")?;
        let character = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => bail!("unknown escape sequence in a text"),
        };
        self.at += 1;
        Ok(character)
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                ensure!(self.take_word("\\u"), "half a surrogate pair in a text");
                let second = self.hex4()?;
                ensure!((0xdc00..=0xdfff).contains(&second), "half a surrogate pair in a text");
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        char::from_u32(code).context("half a surrogate pair in a text")
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).context("the file ends within a text")?;
        ensure!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "a bad \\u escape in a text");
        self.at += 4;
        Ok(u32::from_str_radix(digits, 16)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        format!("{:#}", parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn bare_tokens_are_numbers() {
        let Value::Numbers(numbers) = parse(b"[NaN, Infinity,-Infinity , 1E-1]").unwrap() else { panic!() };
        assert_eq!(numbers, Numbers::Text("NaN, Infinity,-Infinity , 1E-1"));
        assert_eq!(parse(b"NaN").unwrap(), Value::Number(Number::Text("NaN")));
        for bad in [
            "[nan]",
            "[+1]",
            "[01]",
            "[1.]",
            "[.5]",
            "[1e]",
            "[-]",
            "[Inf]",
            "[NaNN]",
            "[1,]",
            "[1 2]",
            "[1,\"a\"]",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_are_unescaped() {
        let Value::Text(text) = parse(r#""a\"\\\/\b\f\n\r\tb\u00e9\ud83d\ude00ö""#.as_bytes()).unwrap()
        else {
            panic!()
        };
        assert_eq!(text, "a\"\\/\u{8}\u{c}\n\r\tbé😀ö");
        for bad in [
            r#""\x""#,
            r#""\u12"#,
            r#""\u12g4""#,
            r#""\ud83d""#,
            r#""\ud83dx""#,
            "\"a\nb\"",
            "\"",
            r#""\"#,
            "\"\\u+123\"",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn duplicate_keys_are_refused() {
        assert!(error(r#"{"a":1,"b":2,"a":3}"#).contains("\"a\" occurs twice"));
        assert!(error(r#"{"a":1,"\u0061":3}"#).contains("\"a\" occurs twice"));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(1_000_000);
        assert!(error(&deep).contains("nested deeper"));
        assert!(error(&r#"{"a":"#.repeat(1_000_000)).contains("nested deeper"));
    }

    #[test]
    fn messages_name_the_place() {
        let message = "the JSON is damaged at byte 5: expected a value, found the end of the file; \
                       save the model again with XGBoost's save_model";
        assert_eq!(error("{\"a\":"), message);
        assert!(error("{} x").contains("byte 3: something follows the model"));
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(error("").contains("end of the file"));
    }
}
