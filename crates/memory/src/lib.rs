//! The program's allocator.
//!
//! Indexes and feeds are millions of small values: the system's allocator spends a fifth of their time. mimalloc does not, but
//! keeps what is free for a second before the system gets it back. A command whose steps each need other memory than the one before
//! is by that as large as several of them together. The libraries in C (SQLite, zstd) allocate by it too, with the feature `override`: what
//! the system's allocator keeps of their large buffers on each thread was a fourth of an import's memory.
//!
//! This is the only crate with unsafe code: mimalloc can be told otherwise by nothing but a call into C, or by the environment of
//! whoever starts the program.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`: how long what is free is kept, in milliseconds.
const PURGE_DELAY: c_int = 15;

/// Long enough that what is taken again at once is not given back first.
const MILLISECONDS: c_long = 1;

// SAFETY: the declarations are those of `mimalloc.h`, where `mi_option_t` is an enum of C and as wide as `int`. The function writes
// a number into a table of the allocator if the first argument is a place in it, and does nothing otherwise; it takes no pointer
// and keeps nothing. Threads that allocate read the number without a lock. It is one aligned word, so that they read the old number
// or the new one, and either is a delay; but C calls that a race, which is why [`give_back_soon`] asks for a single thread.
#[expect(unsafe_code, reason = "there is no other way to set an option of the allocator from within")]
unsafe extern "C" {
    safe fn mi_option_set_default(option: c_int, value: c_long);
    #[cfg(test)]
    safe fn mi_option_get(option: c_int) -> c_long;
}

/// From now on memory that is free goes back to the system, at the next call of the allocator that is a millisecond later.
///
/// To be called once, before there is a second thread that allocates. Whoever sets `MIMALLOC_PURGE_DELAY` (see mimalloc's documentation) has
/// their way.
pub fn give_back_soon() {
    mi_option_set_default(PURGE_DELAY, MILLISECONDS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_that_is_set_is_the_one_whose_default_is_a_second() {
        // Whoever sets it from outside tests something else.
        if std::env::vars().any(|(name, _)| name.to_ascii_uppercase().starts_with("MIMALLOC_")) {
            return;
        }
        // No other option has this default: were the numbers of a newer mimalloc others, this would say so.
        assert_eq!(mi_option_get(PURGE_DELAY), 1000);
        give_back_soon();
        assert_eq!(mi_option_get(PURGE_DELAY), MILLISECONDS);
    }
}
