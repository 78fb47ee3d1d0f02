#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| airlock_testkit::fuzz::one_way(data));
