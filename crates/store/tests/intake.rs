//! Blobs on their way into the store, and what a kill leaves of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use airlock_core::id::Digest;
use airlock_store::{Blobs, Intake, Part, StoreError};

#[test]
fn an_intake_that_was_broken_off_is_resumed_and_believes_nothing_but_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&dir.path().join("blobs"), true).unwrap();
    let put = |intake: &Intake, number: u32, bytes: &[u8]| {
        let mut incoming = intake.begin((number, Digest::of(bytes))).unwrap();
        incoming.write(bytes).unwrap();
        incoming.finish().unwrap();
    };
    let mut buffer = vec![0; 1024];
    let intake = blobs.intake("x").unwrap();
    put(&intake, 0, b"whole");
    put(&intake, 1, b"rotten");
    assert!(blobs.intake("x").is_err(), "two processes at once");
    let mut wrong = intake.begin((2, Digest::of(b"announced"))).unwrap();
    wrong.write(b"other").unwrap();
    assert!(matches!(wrong.finish(), Err(StoreError::Hash { .. })));
    // As a kill leaves it; then one file changes.
    drop(intake);
    let hex = Digest::of(b"rotten").to_string();
    let rotten = dir.path().join("blobs/staging/import-x").join(&hex[..2]).join(&hex);
    std::fs::write(rotten, b"r0tten").unwrap();
    let intake = blobs.intake("x").unwrap();
    assert!(intake.holds((0, Digest::of(b"whole")), 5, &mut buffer).unwrap());
    for (number, gone, size) in [(1, &b"rotten"[..], 6), (2, b"announced", 5)] {
        assert!(!intake.holds((number, Digest::of(gone)), size, &mut buffer).unwrap());
    }
    // The last bit of the first stretch of marks, the first of another one, and the same bytes under two numbers.
    put(&intake, 63, b"new");
    put(&intake, 200, b"new");
    assert!(blobs.find(Digest::of(b"whole")).is_none());
    let list =
        [(0, &b"whole"[..]), (1, b"rotten"), (2, b"announced"), (63, b"new"), (200, b"new"), (201, b"other")];
    intake.commit(list.map(|(number, bytes)| (number, Digest::of(bytes)))).unwrap();
    assert!(blobs.find(Digest::of(b"whole")).is_some() && blobs.find(Digest::of(b"new")).is_some());
    assert!(blobs.find(Digest::of(b"rotten")).is_none());
    let again = blobs.intake("y").unwrap();
    put(&again, 0, b"refused");
    again.discard().unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("blobs/staging")).unwrap().count(), 0);
}

#[test]
fn what_came_and_has_no_hash_by_which_it_is_called_is_told_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&dir.path().join("blobs"), true).unwrap();
    let intake = blobs.intake("x").unwrap();
    let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
    for (number, bytes) in [(1, &b"one"[..]), (2, b"other")] {
        let mut incoming = intake.begin((number, Digest::of(bytes))).unwrap();
        incoming.write(bytes).unwrap();
        incoming.finish().unwrap();
    }
    let absent = Digest::of(b"never came");
    let error = intake.commit([(0, absent), (1, one)]).unwrap_err();
    assert!(error.to_string().contains("2 blobs came, and the 1"), "{error}");
    for lying in [[(1, one), (2, absent)], [(1, one), (2, one)]] {
        let again = blobs.intake("x").unwrap();
        for (number, digest, size) in [(1, one, 3), (2, other, 5), (2, other, 5)] {
            assert!(again.holds((number, digest), size, &mut [0; 9]).unwrap());
        }
        assert!(again.commit(lying).is_err());
        assert!(blobs.find(one).is_none() && blobs.find(other).is_none());
    }
    let again = blobs.intake("x").unwrap();
    assert!(again.holds((2, other), 5, &mut [0; 9]).unwrap());
    again.commit([(2, other)]).unwrap();
    assert!(blobs.find(other).is_some());
}

#[test]
fn a_blob_comes_in_parts_in_any_order_and_is_one_when_all_of_it_hashes_to_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&dir.path().join("blobs"), true).unwrap();
    let (whole, cut): (&[u8], [&[u8]; 3]) = (b"abcdefgh", [b"abc", b"def", b"gh"]);
    let (blob, mut buffer) = (Digest::of(whole), vec![0; 2]);
    let part = |n: usize| {
        let (sha256, size) = (Digest::of(cut[n]), cut[n].len() as u64);
        Part { blob, first: n as u64 * 3, sha256, size }
    };
    let write = |intake: &Intake, n: usize, bytes: &[u8]| {
        let mut part = intake.begin_part(&part(n)).unwrap();
        part.write(b"void and more than fits").unwrap();
        part.restart().unwrap();
        part.write(bytes).unwrap();
        part.finish()
    };
    let intake = blobs.intake("x").unwrap();
    write(&intake, 2, cut[2]).unwrap();
    write(&intake, 0, cut[0]).unwrap();
    assert!(matches!(write(&intake, 1, b"dEf"), Err(StoreError::Hash { .. })));
    assert!(!intake.join((4, blob), 8, &mut buffer).unwrap(), "a part is wrong");
    // Killed, and gone on with: what came is known by its hash, and takes its place once.
    drop(intake);
    let intake = blobs.intake("x").unwrap();
    let held = |n: usize| intake.holds_part(&part(n), &mut [0; 2]).unwrap();
    assert_eq!([0, 1, 2].map(held), [true, false, true]);
    assert!(intake.may_hold_of(blob) > 0 && !intake.holds((4, blob), 8, &mut buffer).unwrap());
    assert!(!intake.holds_part(&Part { first: u64::MAX, ..part(0) }, &mut buffer).unwrap());
    write(&intake, 1, cut[1]).unwrap();
    assert!(intake.join((4, blob), 8, &mut buffer).unwrap());
    let lie = Digest::of(b"another");
    let of_lie = Part { blob: lie, first: 0, sha256: Digest::of(b"x"), size: 1 };
    intake.begin_part(&of_lie).unwrap().write(b"x").unwrap();
    assert!(!intake.join((5, lie), 1, &mut buffer).unwrap());
    assert!(!intake.join((6, Digest::of(b"nothing of it")), 1, &mut buffer).unwrap());
    intake.commit([(4, blob), (5, lie)]).unwrap();
    assert_eq!(std::fs::read(blobs.find(blob).unwrap().path()).unwrap(), whole);
    assert!(blobs.find(lie).is_none() && cut.iter().all(|part| blobs.find(Digest::of(part)).is_none()));
    assert_eq!(std::fs::read_dir(dir.path().join("blobs/staging")).unwrap().count(), 0);
}

#[test]
fn what_a_killed_process_staged_is_swept_and_what_a_living_one_stages_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("blobs");
    let blobs = Blobs::open(&root, true).unwrap();
    let mut staged = blobs.stage().unwrap();
    staged.write(b"on its way").unwrap();
    let dead = root.join("staging/run-dead");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("x"), "x").unwrap();
    let other = Blobs::open(&root, false).unwrap();
    assert!(!dead.exists());
    let mut batch = other.batch();
    let digest = batch.add(staged, None).unwrap();
    batch.commit().unwrap();
    assert!(blobs.find(digest).is_some());
}
