//! Roots: who may change who releases. Signatures are stood in for by a hash, which only its maker knows here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::bundle::SignatureLine;
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::root::{Chain, Change, Root, RootError, RootFile, SignedRoot, SignersChange};
use proptest::prelude::*;

fn seal(key: [u8; 32], message: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    out[..32].copy_from_slice(Digest::of(&[&key, message].concat()).as_bytes());
    out
}

fn verify(line: &SignatureLine, message: &[u8]) -> bool {
    line.signature == seal(line.public_key, message)
}

fn line(key: u8, message: &[u8]) -> SignatureLine {
    SignatureLine { public_key: [key; 32], signature: seal([key; 32], message) }
}

fn named(keys: &[u8]) -> Vec<(String, [u8; 32])> {
    keys.iter().map(|key| (format!("person {key}"), [*key; 32])).collect()
}

fn of(add: &[u8], remove: &[u8], threshold: Option<u32>) -> SignersChange {
    SignersChange {
        add: named(add),
        remove: named(remove).into_iter().map(|(name, _)| name).collect(),
        threshold,
    }
}

/// Root keys 1, 2, 3, of which two sign; release keys 11, 12, 13, of which two sign.
fn first() -> Root {
    let change = Change {
        root: of(&[1, 2, 3], &[], Some(2)),
        release: of(&[11, 12, 13], &[], Some(2)),
        valid_until: None,
    };
    Root::first("agency", &change).unwrap()
}

fn signed(root: Root, by: &[u8]) -> SignedRoot {
    let message = root.message().unwrap();
    SignedRoot { signatures: by.iter().map(|key| line(*key, &message).to_string()).collect(), root }
}

fn chain(versions: Vec<SignedRoot>) -> Result<Chain, RootError> {
    RootFile { versions }.into_chain(&verify)
}

#[test]
fn golden_bytes_of_a_root_and_its_fingerprint() {
    let change = Change {
        root: of(&[1], &[], Some(1)),
        release: of(&[2], &[], Some(1)),
        valid_until: Some("2027-01-01T00:00:00Z".parse().unwrap()),
    };
    let root = Root::first("agency", &change).unwrap();
    let (one, two) = ("01".repeat(32), "02".repeat(32));
    assert_eq!(
        String::from_utf8(root.message().unwrap()).unwrap(),
        format!(
            r#"{{"kind":"airlock.root.v1","name":"agency","release":{{"keys":{{"{two}":"person 2"}},"threshold":1}},"root":{{"keys":{{"{one}":"person 1"}},"threshold":1}},"valid_until":"2027-01-01T00:00:00Z","version":1}}"#
        )
    );
    let chain = chain(vec![signed(root, &[1])]).unwrap();
    assert_eq!(chain.fingerprint(), "cceb3-8ad5d-c5e9a-6700e-2a267-6b3ac-17093-93e3f");
    let text = serde_json::to_string(chain.file()).unwrap();
    assert_eq!(RootFile::parse(&text).unwrap().into_chain(&verify).unwrap(), chain);
}

#[test]
fn each_key_counts_once_and_strangers_and_other_messages_not_at_all() {
    let root = first();
    let tally = |lines: &[SignatureLine]| {
        let tally = root.release.tally(lines, b"manifest", &verify);
        (tally.signed.len(), tally.missing)
    };
    let by = |key| line(key, b"manifest");
    assert_eq!(tally(&[]), (0, 2));
    assert_eq!(tally(&[by(11), by(11), by(11)]), (1, 1));
    assert_eq!(tally(&[by(11), by(1), by(2), by(99)]), (1, 1));
    assert_eq!(tally(&[by(11), line(12, b"another manifest")]), (1, 1));
    // A line that does not fit does not spoil one that does.
    assert_eq!(tally(&[line(12, b"another manifest"), by(12), by(13)]), (2, 0));
    assert_eq!(tally(&[by(11), by(12), by(13)]), (3, 0));
}

#[test]
fn a_root_is_signed_by_its_root_keys_and_by_no_release_key() {
    for (by, missing) in
        [(&[][..], 2), (&[1], 1), (&[1, 1], 1), (&[11, 12, 13], 2), (&[1, 11], 1), (&[7, 8], 2)]
    {
        let error = chain(vec![signed(first(), by)]).unwrap_err();
        let expected = RootError::Unsigned { version: 1, missing, whose: "its own root keys" };
        assert_eq!(error, expected, "{by:?}");
    }
    chain(vec![signed(first(), &[1, 3])]).unwrap();
}

#[test]
fn root_keys_are_replaced_by_the_signatures_of_both_the_old_and_the_new() {
    let one = signed(first(), &[1, 2]);
    // 3 goes, 4 and 5 come, and three must sign from now on.
    let change = Change { root: of(&[4, 5], &[3], Some(3)), ..Change::default() };
    let two = first().next(&change).unwrap();
    let with = |by: &[u8]| chain(vec![one.clone(), signed(two.clone(), by)]);
    let lacks = |by: &[u8]| match with(by).unwrap_err() {
        RootError::Unsigned { version: 2, missing, whose } => (missing, whose),
        other => panic!("{other}"),
    };
    // The new ones by themselves cannot come in, and the old ones cannot leave without them.
    assert_eq!(lacks(&[4, 5, 1]), (1, "the root keys before it"));
    assert_eq!(lacks(&[1, 2]), (1, "its own root keys"));
    assert_eq!(lacks(&[1, 3]), (2, "its own root keys"));
    assert_eq!(lacks(&[11, 12, 13]), (3, "its own root keys"));
    let moved = with(&[1, 2, 4]).unwrap();
    assert_eq!((moved.newest().version, moved.newest().root.keys.len()), (2, 4));
    assert_eq!(moved.identity(), chain(vec![one]).unwrap().identity());
}

#[test]
fn versions_are_neither_left_out_nor_exchanged_nor_brought_again() {
    let one = signed(first(), &[1, 2]);
    let two = signed(
        first().next(&Change { release: of(&[], &[13], None), ..Change::default() }).unwrap(),
        &[1, 2],
    );
    let three = signed(
        two.root.next(&Change { release: of(&[14], &[], None), ..Change::default() }).unwrap(),
        &[2, 3],
    );
    let whole = chain(vec![one.clone(), two.clone(), three.clone()]).unwrap();
    for wrong in [
        vec![one.clone(), three.clone()],
        vec![two.clone(), three.clone()],
        vec![one.clone(), one.clone()],
        vec![one.clone(), two.clone(), two.clone(), three.clone()],
        vec![two.clone(), one.clone()],
    ] {
        assert!(matches!(chain(wrong), Err(RootError::Order(..))));
    }
    // Numbers that run ahead, so that no true version could follow.
    let far = Root { version: u64::MAX, ..two.root.clone() };
    assert_eq!(
        chain(vec![one.clone(), signed(far, &[1, 2])]).unwrap_err(),
        RootError::Order(2, "its number is another one")
    );
    let renamed = Root { name: "another".to_owned(), ..two.root.clone() };
    assert_eq!(
        chain(vec![one.clone(), signed(renamed, &[1, 2])]).unwrap_err(),
        RootError::Order(2, "its name is another one")
    );
    let short = chain(vec![one.clone(), two]).unwrap();
    assert_eq!(short.newer(&whole).unwrap(), &whole);
    assert_eq!(whole.newer(&short).unwrap(), &whole);
    let other = signed(
        first().next(&Change { release: of(&[], &[12], None), ..Change::default() }).unwrap(),
        &[1, 2],
    );
    let parted = chain(vec![one, other]).unwrap();
    assert_eq!(whole.newer(&parted).unwrap_err(), RootError::Forked(2));
}

#[test]
fn what_makes_no_sense_is_no_version() {
    let wrong = |root: SignersChange, release: SignersChange| {
        Root::first("agency", &Change { root, release, valid_until: None }).unwrap_err()
    };
    let good = || of(&[1, 2], &[], Some(2));
    let says = |error: String, text: &str| assert!(error.contains(text), "{error}");
    says(wrong(good(), of(&[2], &[], Some(1))), "has the release key of `person 2` among its root keys");
    says(wrong(good(), of(&[3], &[], None)), "asks for 0 signatures of 1 release keys");
    says(wrong(of(&[1], &[], Some(2)), of(&[3], &[], Some(1))), "asks for 2 signatures of 1 root keys");
    let twice = vec![("Ada".to_owned(), [3; 32]), ("ada".to_owned(), [4; 32])];
    says(
        wrong(good(), SignersChange { add: twice, threshold: Some(1), ..SignersChange::default() }),
        "each person signs once",
    );
    says(wrong(good(), of(&[3, 3], &[], Some(1))), "already");
    says(wrong(good(), of(&[3], &[4], Some(1))), "no release key is `person 4`'s");
    let nameless = vec![("two\nlines".to_owned(), [3; 32])];
    says(
        wrong(good(), SignersChange { add: nameless, threshold: Some(1), ..SignersChange::default() }),
        "no name on one line",
    );
    says(Root::first("Agency 1", &Change::default()).unwrap_err(), "has no name");
    // A key in another spelling would be a second one.
    let mut root = first();
    root.release.keys.insert(hex::encode(&[0xab; 32]).to_uppercase(), "eve".to_owned());
    assert!(matches!(chain(vec![signed(root, &[1, 2])]), Err(RootError::Version(1, _))));
    // Whoever loses a key gets another in the same step.
    let change = Change {
        release: SignersChange {
            remove: vec!["person 11".to_owned()],
            add: vec![("person 11".to_owned(), [21; 32])],
            threshold: None,
        },
        ..Change::default()
    };
    assert_eq!(first().next(&change).unwrap().release.person(&[21; 32]), Some("person 11"));
}

#[test]
fn a_file_with_more_than_this_program_knows_is_refused_and_not_read_in_part() {
    let file = RootFile { versions: vec![signed(first(), &[1, 2])] };
    let text = serde_json::to_string(&file).unwrap();
    let more = text.replacen(r#""version":1"#, r#""version":1,"revokes":["x"]"#, 1);
    for bad in [more.as_str(), "", "[]", r#"{"versions":[]}"#, r#"{"versions":[{"root":1}]}"#] {
        let read = RootFile::parse(bad).and_then(|file| file.into_chain(&verify));
        assert!(matches!(read, Err(RootError::Shape(_))), "{bad}");
    }
    assert!(RootFile::parse(&" ".repeat(2 << 20)).unwrap_err().to_string().contains("larger"));
    let endless = vec![file.versions[0].clone(); 1001];
    assert!(chain(endless).unwrap_err().to_string().contains("more than 1000 versions"));
}

#[test]
fn a_root_ends_when_it_says() {
    let until = Some("2027-01-01T00:00:00Z".parse().unwrap());
    let root = first().next(&Change { valid_until: until, ..Change::default() }).unwrap();
    assert!(!root.has_ended("2027-01-01T00:00:00Z".parse().unwrap()));
    assert!(root.has_ended("2027-01-01T00:00:01Z".parse().unwrap()));
    assert!(!first().has_ended("2999-01-01T00:00:00Z".parse().unwrap()));
}

/// Root keys of a version, how many must sign, and who signed it.
type Step = (Vec<u8>, u32, Vec<u8>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys =
        || prop::collection::btree_set(1u8..6, 1..5).prop_map(|set| set.into_iter().collect::<Vec<_>>());
    let step = (keys(), 1u32..3, prop::collection::vec(1u8..7, 0..6));
    prop::collection::vec(step, 1..5)
}

proptest! {
    #[test]
    fn a_chain_is_believed_exactly_if_every_version_has_enough_signatures_of_both(steps in steps()) {
        let mut versions: Vec<SignedRoot> = Vec::new();
        let mut should = true;
        let mut held: Vec<u8> = Vec::new();
        let mut before: Option<(Vec<u8>, u32)> = None;
        for (keys, threshold, by) in steps {
            let threshold = threshold.min(keys.len() as u32);
            let root = of(&keys, &held, Some(threshold));
            let release = if held.is_empty() { of(&[100], &[], Some(1)) } else { SignersChange::default() };
            let change = Change { root, release, valid_until: None };
            let version = match versions.last() {
                Some(last) => last.root.next(&change).unwrap(),
                None => Root::first("agency", &change).unwrap(),
            };
            let enough = |keys: &[u8], threshold: u32| {
                keys.iter().filter(|key| by.contains(key)).count() >= threshold as usize
            };
            should &= enough(&keys, threshold);
            should &= before.as_ref().is_none_or(|(keys, threshold)| enough(keys, *threshold));
            versions.push(signed(version, &by));
            before = Some((keys.clone(), threshold));
            held = keys;
        }
        prop_assert_eq!(chain(versions).is_ok(), should);
    }
}
