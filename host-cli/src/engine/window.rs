//! The last steps of one symbol, as a sequence model sees them.

use std::collections::HashMap;

/// Windows of every symbol for one model: `[seq_len, n_features] f32` each. Memory is taken when a symbol is first seen.
#[derive(Clone, Debug)]
pub struct Windows {
    row_len: usize,
    n_features: usize,
    symbols: HashMap<String, Vec<f32>>,
}

impl Windows {
    /// No symbol seen yet.
    #[must_use]
    pub fn new(seq_len: usize, n_features: usize) -> Self {
        Self { row_len: seq_len * n_features, n_features, symbols: HashMap::new() }
    }

    /// Appends a step `[n_features]` to a symbol's window.
    pub fn push(&mut self, symbol: &str, step: &[f32]) {
        let (row_len, n_features) = (self.row_len, self.n_features);
        if !self.symbols.contains_key(symbol) {
            self.symbols.insert(symbol.to_owned(), Vec::with_capacity(2 * row_len));
        }
        let Some(values) = self.symbols.get_mut(symbol) else { return };
        // Twice the room: the window stays in one piece and is moved to the front once per row.
        if values.len() == 2 * row_len {
            values.copy_within(row_len + n_features.., 0);
            values.truncate(row_len - n_features);
        }
        values.extend_from_slice(step);
    }

    /// Forgets a symbol's steps: after one that could not be read the window would hide a gap in time.
    pub fn clear(&mut self, symbol: &str) {
        if let Some(values) = self.symbols.get_mut(symbol) {
            values.clear();
        }
    }

    /// The symbol's last `seq_len` steps, oldest first; `None` until there are so many.
    #[must_use]
    pub fn row(&self, symbol: &str) -> Option<&[f32]> {
        let values = self.symbols.get(symbol)?;
        values.get(values.len().checked_sub(self.row_len)?..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_the_last_steps_of_its_symbol() {
        let mut windows = Windows::new(3, 2);
        for step in 0..20_u8 {
            let value = f32::from(step);
            windows.push("A", &[value, -value]);
            windows.push("B", &[100.0 + value, 0.0]);
            if step < 2 {
                assert_eq!(windows.row("A"), None);
                continue;
            }
            let expected = [value - 2.0, 2.0 - value, value - 1.0, 1.0 - value, value, -value];
            assert_eq!(windows.row("A"), Some(&expected[..]), "step {step}");
            assert_eq!(windows.row("B").map(|row| row[4]), Some(100.0 + value));
        }
        assert_eq!(windows.row("C"), None);
        windows.clear("A");
        windows.push("A", &[1.0, 2.0]);
        assert_eq!(windows.row("A"), None);
        assert!(windows.row("B").is_some());
    }

    #[test]
    fn a_window_takes_memory_once() {
        let mut windows = Windows::new(4, 1);
        windows.push("A", &[0.0]);
        let before = windows.symbols["A"].capacity();
        (0..1000_u16).for_each(|step| windows.push("A", &[f32::from(step)]));
        assert_eq!(windows.symbols["A"].capacity(), before);
    }
}
