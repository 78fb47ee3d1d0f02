//! The age format: its published test vectors, files that were changed, and the `age` of the system in both directions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use airlock_core::id::Digest;
use airlock_engine::age::{AgeError, Opening, Seal, recipient};
use airlock_formats::age::{CHUNK_BYTES, Identity, identities, sealed_bytes};

/// What comes of a file: all that it gave, and how it ended.
fn opened(file: &[u8], with: &[Identity]) -> (Vec<u8>, Result<(), String>) {
    let mut plain = Vec::new();
    let ended = match Opening::new(file, with) {
        Ok(mut opening) => match opening.read_to_end(&mut plain) {
            Ok(_) => Ok(()),
            Err(e) => {
                let inner = e.get_ref().and_then(|e| e.downcast_ref::<AgeError>());
                assert!(matches!(inner, Some(AgeError::Payload)), "{e}");
                Err("payload failure".to_owned())
            }
        },
        Err(AgeError::Header(_)) => Err("header failure".to_owned()),
        Err(AgeError::NoMatch) => Err("no match".to_owned()),
        Err(AgeError::Mac) => Err("HMAC failure".to_owned()),
        Err(other) => panic!("{other}"),
    };
    (plain, ended)
}

fn sealed(plain: &[u8], to: &[&Identity]) -> Vec<u8> {
    let mut all = Vec::new();
    seal(to).open_at(Cursor::new(plain), plain.len() as u64, 0).unwrap().read_to_end(&mut all).unwrap();
    all
}

fn seal(to: &[&Identity]) -> Seal {
    let recipients: Vec<_> =
        to.iter().zip(1..).map(|(to, n)| (recipient(to).unwrap(), [n; 32].into())).collect();
    Seal::new([7; 16].into(), [8; 16], &recipients).unwrap()
}

fn plain(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

/// Lengths around where chunks end.
fn lengths() -> Vec<usize> {
    let ends = (0..4).flat_map(|n| [n * CHUNK_BYTES, n * CHUNK_BYTES + 1, (n + 1) * CHUNK_BYTES - 1]);
    ends.chain([5, 1000, 1_000_000]).collect()
}

fn text_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap()
}

#[test]
fn every_published_vector_ends_as_it_says() {
    let mut seen = BTreeMap::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/age")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let Some(end) = bytes.windows(2).position(|w| w == b"\n\n").filter(|_| path.extension().is_none())
        else {
            continue;
        };
        let text = std::str::from_utf8(&bytes[..end]).unwrap();
        let told = |key: &str| {
            let of_key = |line: &'_ str| line.strip_prefix(key)?.strip_prefix(": ").map(str::to_owned);
            text.lines().filter_map(of_key).collect::<Vec<_>>()
        };
        let mut file = bytes[end + 2..].to_vec();
        if told("compressed") == ["zlib"] {
            let mut unpacked = Vec::new();
            flate2::read::ZlibDecoder::new(file.as_slice()).read_to_end(&mut unpacked).unwrap();
            file = unpacked;
        }
        let with = identities(&told("identity").join("\n")).unwrap();
        let (plain, ended) = opened(&file, &with);
        let ended = ended.err().unwrap_or_else(|| "success".to_owned());
        assert_eq!(told("expect"), [ended.as_str()], "{}", path.display());
        // What was handed out before the end was right, too. Where a last chunk is not marked as such, or something lies behind it,
        // it is not handed out here; others do, and then find the end.
        let is_early = ["stream_two_final", "stream_trailing", "stream_no_final"];
        let is_behind = is_early.iter().any(|name| text_of(&path).starts_with(name));
        if let ([payload], false) = (told("payload").as_slice(), is_behind) {
            assert_eq!(Digest::of(&plain).to_string(), *payload, "{}", path.display());
        }
        *seen.entry(ended).or_insert(0) += 1;
    }
    let all: i32 = seen.values().sum();
    assert!(all >= 60 && seen.len() == 5, "{seen:?}");
}

#[test]
fn what_is_sealed_is_opened_by_each_recipient_and_by_nobody_else_from_any_place() {
    let [one, two, other] = [[1; 32], [2; 32], [3; 32]].map(Identity::from);
    for length in lengths() {
        let plain = plain(length);
        let file = sealed(&plain, &[&one, &two]);
        assert_eq!(file.len() as u64, sealed_bytes(length as u64, 2));
        for with in [&one, &two] {
            assert_eq!(opened(&file, &[other.clone(), with.clone()]), (plain.clone(), Ok(())), "{length}");
        }
        assert_eq!(opened(&file, std::slice::from_ref(&other)).1, Err("no match".to_owned()));
        // As parity and parts read it.
        let ends =
            [0, 1, 250, 296, 297, 312, 313, CHUNK_BYTES, CHUNK_BYTES + 400, file.len() - 1, file.len()];
        for at in ends.into_iter().filter(|at| *at <= file.len()) {
            let mut rest = Vec::new();
            let from = seal(&[&one, &two]).open_at(Cursor::new(&plain), length as u64, at as u64);
            from.unwrap().read_to_end(&mut rest).unwrap();
            assert!(rest == file[at..], "{length} from {at}");
        }
    }
    // A source that is shorter than it was.
    let mut short = seal(&[&one]).open_at(Cursor::new(vec![0; 10]), 11, 0).unwrap();
    assert!(short.read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn whatever_is_changed_moved_or_taken_away_is_found() {
    let own = Identity::from([1; 32]);
    let (plain, sealed_chunk) = (plain(3 * CHUNK_BYTES + 100), CHUNK_BYTES + 16);
    let file = sealed(&plain, &[&own]);
    let front = file.len() - (plain.len() + 4 * 16);
    let harmed = |harm: &dyn Fn(&mut Vec<u8>)| {
        let mut file = file.clone();
        harm(&mut file);
        let (before, ended) = opened(&file, std::slice::from_ref(&own));
        // Only what is right is handed out, in order.
        assert!(plain.starts_with(&before));
        ended.unwrap_err()
    };
    for at in (0..front).chain((front..file.len()).step_by(997)).chain([file.len() - 1]) {
        harmed(&|file| file[at] ^= 1);
    }
    // At every place of the front, and around the ends of chunks.
    let ends = (1..4)
        .flat_map(|n| [front + n * sealed_chunk - 1, front + n * sealed_chunk, front + n * sealed_chunk + 1]);
    for length in (0..front + 20).chain(ends).chain([file.len() - 1]) {
        harmed(&|file| file.truncate(length));
    }
    let chunk = |n: usize| front + n * sealed_chunk..front + (n + 1) * sealed_chunk;
    let swapped = [&file[..front], &file[chunk(1)], &file[chunk(0)], &file[chunk(2).start..]].concat();
    assert_eq!(harmed(&|file| *file = swapped.clone()), "payload failure");
    let dropped = [&file[..chunk(1).start], &file[chunk(2).start..]].concat();
    assert_eq!(harmed(&|file| *file = dropped.clone()), "payload failure");
    assert_eq!(harmed(&|file| file.push(0)), "payload failure");
    assert_eq!(harmed(&|file| file.extend(file.clone())), "payload failure");
    // Chunks of another file to the same recipient.
    let recipients = [(recipient(&own).unwrap(), [9; 32].into())];
    let other = Seal::new([6; 16].into(), [8; 16], &recipients).unwrap();
    let mut foreign = Vec::new();
    other.open_at(Cursor::new(&plain), plain.len() as u64, 0).unwrap().read_to_end(&mut foreign).unwrap();
    assert_eq!(harmed(&|file| file[chunk(1)].copy_from_slice(&foreign[chunk(1)])), "payload failure");
    assert_eq!(harmed(&|file| file[..front].copy_from_slice(&foreign[..front])), "payload failure");
}

/// The `age` of the system, if it has one.
fn age(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("age");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        airlock_testkit::skipped("there is no `age` on this system");
        return None;
    };
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    Some(output.stdout)
}

#[test]
fn the_age_of_the_system_opens_what_is_sealed_here_and_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.txt");
    let Ok(made) = Command::new("age-keygen").arg("-o").arg(&key).output() else {
        airlock_testkit::skipped("there is no `age-keygen` on this system");
        return;
    };
    assert!(made.status.success());
    let own = identities(&std::fs::read_to_string(&key).unwrap()).unwrap().remove(0);
    // Both say the same of who it is.
    let public = recipient(&own).unwrap().to_string();
    assert!(String::from_utf8_lossy(&made.stderr).contains(&public));
    let (stranger, key) = (Identity::from([4; 32]), key.to_str().unwrap());
    let strangers = recipient(&stranger).unwrap().to_string();
    for length in lengths() {
        let plain = plain(length);
        let Some(theirs) = age(&["-d", "-i", key], &sealed(&plain, &[&stranger, &own])) else { return };
        assert!(theirs == plain, "{length}");
        let theirs = age(&["-r", &strangers, "-r", &public], &plain).unwrap();
        assert_eq!(opened(&theirs, std::slice::from_ref(&own)), (plain, Ok(())), "{length}");
    }
}
