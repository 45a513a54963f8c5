//! QSC kernel.
#![no_std]
