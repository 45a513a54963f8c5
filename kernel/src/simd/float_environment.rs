//! The caller's float environment must not change a bit: predictions run with rounding to nearest, without flush-to-zero and
//! without traps, and the control bits that were found are put back.
//!
//! Exception flags are sticky and no control: in the default environment a prediction raises them as any arithmetic does. Where
//! something had to be set aside, the flags are put back with it.
//!
//! Proven where a register is known below: x86-64 with SSE2, AArch64 with NEON, and Arm with a float unit. Targets without one have
//! no environment to change. Others (32-bit x86, RISC-V) are built for the environment they start in.
#![allow(unsafe_code, reason = "control registers are reached by inline assembly only")]

/// Runs `work` in the default float environment and restores the caller's afterwards, also on unwinding.
pub(crate) fn with_default_float_environment<R>(work: impl FnOnce() -> R) -> R {
    let _restore = Restore::enter();
    call(work)
}

/// A call the compiler cannot look through: float operations of `work` stay between the two register writes.
#[inline(never)]
fn call<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Puts the control register back when dropped, if it had to be changed.
struct Restore(Option<Control>);

impl Restore {
    fn enter() -> Self {
        let found = read();
        if found & CONTROL == DEFAULT {
            return Self(None);
        }
        write(found & !CONTROL | DEFAULT);
        Self(Some(found))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(found) = self.0 {
            write(found);
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod register {
    pub(super) type Control = u32;
    /// MXCSR: flush-to-zero (15), rounding mode (13, 14), exception masks (7 to 12), denormals-are-zero (6).
    pub(super) const CONTROL: Control = 0xFFC0;
    /// All exceptions masked, nothing else.
    pub(super) const DEFAULT: Control = 0x1F80;

    pub(super) fn read() -> Control {
        let mut value: Control = 0;
        // SAFETY: stmxcsr stores 32 bits to the address given, which is that of a live u32.
        unsafe {
            core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags))
        };
        value
    }

    pub(super) fn write(value: Control) {
        // SAFETY: ldmxcsr loads 32 bits from a live u32; `value` comes from stmxcsr with defined bits changed
        // or as found, so no reserved bit is set.
        unsafe {
            core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags))
        };
    }
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
mod register {
    pub(super) type Control = u64;
    /// FPCR: alternative half precision (26), default NaN (25), flush-to-zero (24), rounding mode (22, 23), traps (15, 8 to 12), and
    /// alternate handling: NEP (2), AH (1), FIZ (0).
    pub(super) const CONTROL: Control = 0x07C0_9F07;
    pub(super) const DEFAULT: Control = 0;

    pub(super) fn read() -> Control {
        let value: Control;
        // SAFETY: reading FPCR has no effect beyond the output register.
        unsafe { core::arch::asm!("mrs {}, fpcr", out(reg) value, options(nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Control) {
        // SAFETY: `value` is what FPCR held, with defined control bits changed or as found.
        unsafe { core::arch::asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "arm", target_abi = "eabihf", not(miri)))]
mod register {
    pub(super) type Control = u32;
    /// FPSCR: alternative half precision (26), default NaN (25), flush-to-zero (24), rounding mode (22, 23), traps (15, 8 to 12).
    pub(super) const CONTROL: Control = 0x07C0_9F00;
    pub(super) const DEFAULT: Control = 0;

    pub(super) fn read() -> Control {
        let value: Control;
        // SAFETY: reading FPSCR has no effect beyond the output register; hard-float targets have it.
        unsafe { core::arch::asm!("vmrs {}, fpscr", out(reg) value, options(nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Control) {
        // SAFETY: `value` is what FPSCR held, with defined control bits changed or as found.
        unsafe { core::arch::asm!("vmsr fpscr, {}", in(reg) value, options(nostack)) };
    }
}

// Soft-float targets have no control register, that of others is not known here, and Miri has no inline assembly.
#[cfg(any(
    miri,
    not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon"),
        all(target_arch = "arm", target_abi = "eabihf")
    ))
))]
mod register {
    pub(super) type Control = u32;
    pub(super) const CONTROL: Control = 0;
    pub(super) const DEFAULT: Control = 0;

    pub(super) fn read() -> Control {
        0
    }

    pub(super) fn write(_value: Control) {}
}

use register::{CONTROL, Control, DEFAULT, read, write};

/// Runs `work` with every control bit set: for tests of the entry points. On x86-64 that leaves exceptions masked.
#[cfg(test)]
pub(crate) fn with_hostile_float_environment<R>(work: impl FnOnce() -> R) -> R {
    let before = read();
    write(before | CONTROL);
    let result = call(work);
    write(before);
    result
}

#[cfg(all(test, target_arch = "x86_64", target_feature = "sse2", not(miri)))]
mod tests {
    use super::*;
    use core::hint::black_box;

    #[test]
    fn a_hostile_environment_is_set_aside_and_put_back() {
        let before = read();
        // No flag is raised, nothing is masked, and what rounds or flushes is on.
        write(CONTROL ^ DEFAULT);
        let inside = with_default_float_environment(|| {
            // A trap would end the test: the division raises the flag of a division by zero, the sum that of an inexact result.
            let quotient = black_box(1.0_f32) / black_box(0.0);
            (read(), black_box(f32::MIN_POSITIVE) / 2.0, quotient, black_box(1.0_f32) + black_box(1e-20))
        });
        let after = read();
        write(before);
        assert_eq!(inside.0 & CONTROL, DEFAULT);
        assert!(inside.1 > 0.0, "a subnormal survived");
        assert_eq!((inside.2, inside.3), (f32::INFINITY, 1.0));
        assert_eq!(after, CONTROL ^ DEFAULT, "control bits and flags are as they were found");
    }

    #[test]
    fn a_single_unmasked_exception_is_set_aside() {
        for bit in 7..13 {
            let before = read();
            write(before & !(CONTROL | 0x3F) | (DEFAULT & !(1 << bit)));
            let inside = with_default_float_environment(read);
            let after = read();
            write(before);
            assert_eq!(inside & CONTROL, DEFAULT, "bit {bit}");
            assert_eq!(after & CONTROL, DEFAULT & !(1 << bit), "bit {bit}");
        }
    }
}
