//! Rows of numbers from and to `.npy`, CSV and JSONL.
