//! Any call with any arguments and memory, to values and back.
#![no_main]

mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::decode(data));
