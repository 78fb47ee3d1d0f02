#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| airlock_testkit::fuzz::kev_feed(data));
