//! Gates: `observe(event)` … `finish(&Rules) -> Verdict`, no I/O.
