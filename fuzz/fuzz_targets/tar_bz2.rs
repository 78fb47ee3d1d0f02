#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| airlock_testkit::fuzz::tar_bz2(data));
