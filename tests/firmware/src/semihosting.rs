//! The debugger's services, and the defmt logger on them.
//!
//! `defmt-semihosting` would do, but it panics when it is entered twice, and the linker cannot see that it never is.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// Arm semihosting, operation numbers and reasons: ARM IHI 0100.
const SYS_OPEN: usize = 0x01;
const SYS_WRITE: usize = 0x05;
const SYS_EXIT: usize = 0x18;
const STOPPED_APPLICATION_EXIT: usize = 0x2_0026;
const STOPPED_RUN_TIME_ERROR: usize = 0x2_0023;
/// Mode `wb`.
const WRITE_BINARY: usize = 5;

fn call(operation: usize, argument: usize) -> usize {
    let result: usize;
    // SAFETY: the debugger reads what `argument` points at, which every caller below keeps alive, and answers in r0.
    unsafe {
        core::arch::asm!("bkpt 0xab", inlateout("r0") operation => result, in("r1") argument, options(nostack));
    }
    result
}

/// Ends the emulation.
pub(crate) fn exit(success: bool) -> ! {
    loop {
        call(SYS_EXIT, if success { STOPPED_APPLICATION_EXIT } else { STOPPED_RUN_TIME_ERROR });
    }
}

fn open_stdout() -> usize {
    let name = c":tt";
    let block = [name.as_ptr().addr(), WRITE_BINARY, name.count_bytes()];
    call(SYS_OPEN, block.as_ptr().addr())
}

/// What is on its way to the debugger: defmt gives a frame in pieces.
struct Output {
    stdout: Option<usize>,
    bytes: [u8; 64],
    len: usize,
}

impl Output {
    fn put(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.len == self.bytes.len() {
                self.send();
            }
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
    }

    fn send(&mut self) {
        let stdout = *self.stdout.get_or_insert_with(open_stdout);
        let block = [stdout, self.bytes.as_ptr().addr(), self.len];
        call(SYS_WRITE, block.as_ptr().addr());
        self.len = 0;
    }
}

struct Shared(UnsafeCell<(defmt::Encoder, Output)>);

// SAFETY: `TAKEN` lets one user in at a time, and there is one thread without interrupts.
unsafe impl Sync for Shared {}

static TAKEN: AtomicBool = AtomicBool::new(false);
static SHARED: Shared =
    Shared(UnsafeCell::new((defmt::Encoder::new(), Output { stdout: None, bytes: [0; 64], len: 0 })));

#[defmt::global_logger]
struct Logger;

/// Lends encoder and output.
///
/// # Safety
/// Only whoever holds `TAKEN` may call it, and not from within `work`.
unsafe fn lend(work: impl FnOnce(&mut defmt::Encoder, &mut Output)) {
    // SAFETY: the caller holds `TAKEN`.
    let (encoder, output) = unsafe { &mut *SHARED.0.get() };
    work(encoder, output);
}

// SAFETY: `acquire` ends the program when entered twice, so frames never mix.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // Nothing can come between: no interrupt is enabled.
        if TAKEN.load(Ordering::Relaxed) {
            exit(false);
        }
        TAKEN.store(true, Ordering::Relaxed);
        // SAFETY: it was taken just now.
        unsafe { lend(|encoder, output| encoder.start_frame(|bytes| output.put(bytes))) };
    }

    unsafe fn flush() {
        // The debugger has every frame when `release` returns.
    }

    unsafe fn release() {
        // SAFETY: defmt calls this after `acquire`.
        unsafe {
            lend(|encoder, output| {
                encoder.end_frame(|bytes| output.put(bytes));
                output.send();
            });
        }
        TAKEN.store(false, Ordering::Relaxed);
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: defmt calls this between `acquire` and `release`.
        unsafe { lend(|encoder, output| encoder.write(bytes, |bytes| output.put(bytes))) };
    }
}
