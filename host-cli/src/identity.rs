//! What this binary was built from.
