//! A decision takes no memory: 10 000 of the demo's four models under an allocator that counts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use qsc_cli::engine::{Engine, bundled};

thread_local! {
    /// Calls of the allocator by this thread: other tests and the harness run on others.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts who comes.
struct Counting;

fn count() {
    // A thread that is ending has no counter left, and nobody looks at it.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every method hands its arguments to the system's allocator unchanged and gives back what that returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the contract of `dealloc`, and `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, and `at` came from the system's allocator.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

#[test]
fn ten_thousand_decisions_allocate_nothing() {
    let (config, images) = (bundled::config().unwrap(), bundled::images());
    let mut engine = Engine::new(&config, images.load(&config, &mut |_| ()).unwrap()).unwrap();
    let events = bundled::events(engine.schema()).unwrap();
    // A symbol's windows are taken when it is first seen.
    engine.decide_features("BTCUSDT", &events[0], None, &mut ());
    let (mut sides, mut active) = (0, 0);
    let before = calls();
    for features in events.iter().cycle().take(10_000) {
        let decided = engine.decide_features("BTCUSDT", features, None, &mut ());
        active += decided.round.outcomes.iter().filter(|outcome| outcome.is_active()).count();
        sides += usize::from(decided.round.vote.is_ok());
    }
    assert_eq!(calls() - before, 0, "allocator calls in 10 000 decisions");
    // They were decisions, and the counter counts.
    assert!(sides > 9_000 && active > 25_000, "{sides} sides of {active} votes");
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert_eq!(calls() - before, 2);
}
