//! Answers every row, then measures: instructions by SysTick, stack by painting. Prints lines of hex words over semihosting.
//!
//! ```text
//! state BYTES          the engine's own value, beside its statics
//! start STACK          deepest stack while it is made ready
//! clock TICKS          of 4 000 002 instructions: 100 000 under `-icount shift=0`
//! out BITS…            one line per row, f32 bits
//! stack BYTES          deepest stack of a prediction
//! ticks TICKS IDLE     all rows once, and the same loop around a call that does nothing
//! ```

#![no_std]
#![no_main]

use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hio;

#[cfg_attr(feature = "qsc", path = "engine/qsc.rs")]
#[cfg_attr(feature = "c", path = "engine/c.rs")]
#[cfg_attr(feature = "microflow", path = "engine/microflow.rs")]
#[cfg_attr(not(any(feature = "qsc", feature = "c", feature = "microflow")), path = "engine/none.rs")]
mod engine;
mod job;

use engine::Engine;
use job::{FEATURES, OUTPUTS, ROWS};

type Predict = fn(&mut Engine, &[f32; FEATURES], &mut [f32; OUTPUTS]);

/// Stack that is painted, from the caller's down.
const PAINTED: usize = 512 * 1024;
const PAINT: u32 = 0xC5C5_C5C5;
/// The counter's width.
const TICKS: u32 = 0x00FF_FFFF;

#[cortex_m_rt::entry]
fn main() -> ! {
    let Some(mut core) = cortex_m::Peripherals::take() else { fail() };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(TICKS);
    core.SYST.clear_current();
    core.SYST.enable_counter();

    let mut made = None;
    let start = stack(|| made = Some(black_box(Engine::start as fn() -> Engine)()));
    let Some(mut engine) = made else { fail() };
    print("state", &[word(size_of::<Engine>())]);
    print("start", &[word(start)]);
    print("clock", &[ticks(|| cortex_m::asm::delay(2_000_000))]);

    let predict = black_box(Engine::predict as Predict);
    let mut out = [0.0; OUTPUTS];
    for row in black_box(&ROWS) {
        predict(&mut engine, row, &mut out);
        print("out", &out.map(f32::to_bits));
    }
    let mut pass = |predict: Predict| {
        for row in black_box(&ROWS) {
            predict(&mut engine, row, &mut out);
        }
    };
    print("stack", &[word(stack(|| pass(predict)))]);
    print("ticks", &[ticks(|| pass(predict)), ticks(|| pass(black_box(idle as Predict)))]);
    debug::exit(EXIT_SUCCESS);
    fail()
}

#[inline(never)]
fn idle(engine: &mut Engine, row: &[f32; FEATURES], out: &mut [f32; OUTPUTS]) {
    black_box((engine, row, out));
}

/// Ticks of 40 instructions that `work` takes.
fn ticks(work: impl FnOnce()) -> u32 {
    let start = SYST::get_current();
    work();
    start.wrapping_sub(SYST::get_current()) & TICKS
}

/// Bytes of stack that `work` reaches below this function.
#[inline(never)]
fn stack(work: impl FnOnce()) -> usize {
    let top = cortex_m::register::msp::read() as usize & !3;
    let bottom = top - PAINTED;
    for address in (bottom..top).step_by(4) {
        // SAFETY: RAM below the stack pointer, far above the statics; nothing is called and no interrupt is enabled meanwhile.
        unsafe { (address as *mut u32).write_volatile(PAINT) };
    }
    work();
    // SAFETY: as above; the words were written by the loop above or by what `work` called.
    let painted = |&address: &usize| unsafe { (address as *const u32).read_volatile() } == PAINT;
    top - (bottom..top).step_by(4).find(|address| !painted(address)).unwrap_or(top)
}

/// Every figure here is far below 2^32: the address space is.
fn word(bytes: usize) -> u32 {
    bytes as u32
}

/// One line: a name and hex words. By hand, since `core::fmt` would count for the harness where an engine needs it too.
fn print(name: &str, words: &[u32]) {
    let Ok(mut host) = hio::hstdout() else { fail() };
    let mut line = [b' '; 9];
    let mut sent = host.write_all(name.as_bytes());
    for word in words {
        for (at, digit) in line.iter_mut().skip(1).enumerate() {
            *digit = b"0123456789abcdef"[(word >> (28 - 4 * at)) as usize & 15];
        }
        sent = sent.and_then(|()| host.write_all(&line));
    }
    if sent.and_then(|()| host.write_all(b"\n")).is_err() {
        fail();
    }
}

fn fail() -> ! {
    debug::exit(EXIT_FAILURE);
    loop {
        cortex_m::asm::nop();
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    fail()
}
