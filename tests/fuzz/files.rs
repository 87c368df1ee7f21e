//! Files before a recording, and calls that change them, in postcard's encoding.
#![no_main]

mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::files(data));
