//! Compiled model images with their provenance.
