//! The plain interpreter of the intermediate model.
