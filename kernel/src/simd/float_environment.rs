//! The caller's float environment must not change a bit: predictions run with rounding to nearest and without
//! flush-to-zero, and what was found is put back.
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
        if found & NON_DEFAULT == 0 {
            return Self(None);
        }
        write(found & !NON_DEFAULT);
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

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod register {
    pub(super) type Control = u32;
    /// MXCSR: flush-to-zero (15), rounding mode (13, 14), denormals-are-zero (6).
    pub(super) const NON_DEFAULT: Control = 0b1110_0000_0100_0000;

    pub(super) fn read() -> Control {
        let mut value: Control = 0;
        // SAFETY: stmxcsr stores 32 bits to the address given, which is that of a live u32.
        unsafe {
            core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags))
        };
        value
    }

    pub(super) fn write(value: Control) {
        // SAFETY: ldmxcsr loads 32 bits from a live u32; `value` comes from stmxcsr with defined bits cleared
        // or as found, so no reserved bit is set.
        unsafe {
            core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags))
        };
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod register {
    pub(super) type Control = u64;
    /// FPCR: alternative half precision (26), default NaN (25), flush-to-zero (24), rounding mode (22, 23), FIZ (0).
    pub(super) const NON_DEFAULT: Control = 0x07C0_0001;

    pub(super) fn read() -> Control {
        let value: Control;
        // SAFETY: reading FPCR has no effect beyond the output register.
        unsafe { core::arch::asm!("mrs {}, fpcr", out(reg) value, options(nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Control) {
        // SAFETY: `value` is what FPCR held, with defined control bits cleared or as found.
        unsafe { core::arch::asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "arm", target_abi = "eabihf", not(miri)))]
mod register {
    pub(super) type Control = u32;
    /// FPSCR: alternative half precision (26), default NaN (25), flush-to-zero (24), rounding mode (22, 23).
    pub(super) const NON_DEFAULT: Control = 0x07C0_0000;

    pub(super) fn read() -> Control {
        let value: Control;
        // SAFETY: reading FPSCR has no effect beyond the output register; hard-float targets have it.
        unsafe { core::arch::asm!("vmrs {}, fpscr", out(reg) value, options(nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Control) {
        // SAFETY: `value` is what FPSCR held, with defined control bits cleared or as found.
        unsafe { core::arch::asm!("vmsr fpscr, {}", in(reg) value, options(nostack)) };
    }
}

// Soft-float targets have no control register, and Miri no inline assembly.
#[cfg(any(
    miri,
    not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        all(target_arch = "arm", target_abi = "eabihf")
    ))
))]
mod register {
    pub(super) type Control = u32;
    pub(super) const NON_DEFAULT: Control = 0;

    pub(super) fn read() -> Control {
        0
    }

    pub(super) fn write(_value: Control) {}
}

use register::{Control, NON_DEFAULT, read, write};

/// Runs `work` with every control bit a caller may have set: for tests of the entry points.
#[cfg(test)]
pub(crate) fn with_hostile_float_environment<R>(work: impl FnOnce() -> R) -> R {
    let before = read();
    write(before | NON_DEFAULT);
    let result = call(work);
    write(before);
    result
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_environment_is_set_aside_and_put_back() {
        let before = read();
        write(before | NON_DEFAULT);
        let inside =
            with_default_float_environment(|| (read(), core::hint::black_box(f32::MIN_POSITIVE) / 2.0));
        let after = read();
        write(before);
        assert_eq!(inside.0 & NON_DEFAULT, 0);
        assert!(inside.1 > 0.0, "a subnormal survived");
        assert_eq!(after & NON_DEFAULT, NON_DEFAULT);
    }
}
