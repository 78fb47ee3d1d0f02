#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| airlock_testkit::fuzz::vex_feed(data));
