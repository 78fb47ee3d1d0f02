//! Everything that reads what outsiders send, on random bytes and on damaged samples. `PROPTEST_CASES` makes it longer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use airlock_testkit::fuzz;
use proptest::prelude::*;

/// Damages of a sample: at a place, replace some bytes with others.
fn damages() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, Vec<u8>)>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6),
        prop::sample::select(vec!["{", "}", "[", "\"", "\\", ",", "null", "1e999", "<", "-->", "\0", "/../"])
            .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0..8_usize, piece), 0..5)
}

fn damaged(mut sample: Vec<u8>, damages: &[(prop::sample::Index, usize, Vec<u8>)]) -> Vec<u8> {
    for (at, length, piece) in damages {
        let at = at.index(sample.len() + 1);
        let end = (at + length).min(sample.len());
        drop(sample.splice(at..end, piece.iter().copied()));
    }
    sample
}

#[test]
fn no_reader_fails_on_its_own_sample() {
    for (name, body) in fuzz::ALL {
        body(&fuzz::sample(name));
    }
}

#[test]
fn the_samples_are_what_they_claim_to_be() {
    use airlock_formats::archive::{ArchiveLimits, open_conda, open_sdist, open_tar_bz2, open_wheel};
    let (limits, sample) = (ArchiveLimits::default(), fuzz::sample);
    open_conda(std::io::Cursor::new(sample("conda_package")), &limits).unwrap();
    open_tar_bz2(sample("tar_bz2").as_slice(), &limits).unwrap();
    open_wheel(std::io::Cursor::new(sample("wheel")), &limits).unwrap();
    open_sdist(sample("sdist").as_slice(), &limits).unwrap();
    airlock_core::policy::Policy::parse(std::str::from_utf8(&sample("policy")).unwrap()).unwrap();
    let index = br#"{"name":"x","version":"1","build":"0"}"#;
    let wrapped = fuzz::conda_of(&fuzz::tar(&[("info/index.json", index)]), &fuzz::tar(&[("a", b"a")]));
    open_conda(std::io::Cursor::new(wrapped), &limits).unwrap();
    assert_eq!(
        airlock_formats::conda::read_repodata("noarch", "x", &sample("repodata")).unwrap().records(),
        1
    );
}

proptest! {
    #[test]
    fn no_bytes_break_any_reader(data in prop::collection::vec(any::<u8>(), 0..300)) {
        for (_, body) in fuzz::ALL {
            body(&data);
        }
    }

    #[test]
    fn no_damaged_sample_breaks_its_reader(which in 0..fuzz::ALL.len(), damages in damages()) {
        let (name, body) = fuzz::ALL[which];
        body(&damaged(fuzz::sample(name), &damages));
    }

    #[test]
    fn no_damaged_tar_breaks_a_reader_behind_its_packing(damages in damages()) {
        let index = br#"{"name":"x","version":"1","build":"0"}"#;
        let paths = br#"{"paths":[{"_path":"a","path_type":"hardlink","size_in_bytes":1}],"paths_version":1}"#;
        let tar = fuzz::tar(&[("info/index.json", index), ("info/paths.json", paths), ("a", b"a")]);
        let tar = damaged(tar, &damages);
        fuzz::conda_package(&tar);
        fuzz::tar_bz2(&tar);
        fuzz::sdist(&tar);
    }
}
