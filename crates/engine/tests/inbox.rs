//! Bundles that are put file by file into a spool by whoever reaches it: nothing but what a trusted sender signed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "inbox/post.rs"]
mod post;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use airlock_core::bundle::SignatureLine;
use airlock_core::id::Digest;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::import;
use airlock_engine::bundle::signing::Candidate;
use airlock_engine::error::Kind;
use airlock_engine::oneway::inbox::{Answer, Begun, Inbox, Target, Why, Wish};
use airlock_engine::oneway::receive::Outcome;
use airlock_engine::trust::{self, Limits};
use airlock_testkit::Kit;
use airlock_testkit::bundles::{self, believe, content, resign};
use post::{Gap, MANIFEST, SIGNATURES, Spool, bundle_of, files_of, person, why};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_put_file_by_file_has_its_name_when_the_last_one_fits_and_not_before() {
    let gap = Gap::new(&[0, 1, 4096, 300_000]).await;
    let mut spool = gap.open(gap.wish()).await;
    let Some(Answer::Wanted(list)) = spool.introduce(&gap.disk).await.unwrap() else { panic!() };
    let files = files_of(&gap.disk);
    // The empty one may be made already.
    for path in files.iter().filter(|path| std::fs::metadata(gap.disk.join(path)).unwrap().len() > 0) {
        assert!(list.lines().any(|line| line == format!("whole {path}")), "{path}: {list}");
    }
    let (last, most) = files.split_last().unwrap();
    for path in most {
        // The empty one is made here.
        let answer = spool.put_file(&gap.disk, path).await.unwrap();
        assert!(matches!(answer, None | Some(Answer::Stored)), "{answer:?}");
    }
    assert_eq!(std::fs::read_dir(gap.spool()).unwrap().count(), 1, "nothing but what is not whole");
    assert_eq!(spool.put_file(&gap.disk, last).await.unwrap(), Some(Answer::Delivered));
    let bundle = spool.delivered();
    assert_eq!(content(&bundle), content(&gap.disk));
    assert_eq!(gap.incoming(), Vec::<String>::new());
    import::import(&gap.high, &bundle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_before_a_manifest_is_believed_and_nothing_but_what_it_lists_after() {
    let gap = Gap::new(&[5000, 70_000]).await;
    let (spool, bundle) = (gap.open(gap.wish()).await, bundle_of(&gap.disk));
    let (file, size) = (&files_of(&gap.disk)[0], content(&gap.disk).len());
    assert_eq!(why(spool.put_file(&gap.disk, file).await), Why::Unknown);
    assert_eq!(why(spool.put_file(&gap.disk, SIGNATURES).await), Why::Unknown, "of which manifest?");
    // A manifest that is another than its address says.
    assert_eq!(why(spool.put(bundle, MANIFEST, b"{}").await), Why::Hash);
    assert_eq!(why(spool.put_file(&gap.disk, SIGNATURES).await), Why::Unknown);
    spool.introduce(&gap.disk).await.unwrap();
    let bytes = std::fs::read(gap.disk.join(file)).unwrap();
    for other in ["files/aa/0123456789abcdef0123456789abcdef.whl", "README.txt2", "objects/x.jsonl.zst"] {
        assert_eq!(why(spool.put(bundle, other, &bytes).await), Why::NotListed, "{other}");
    }
    assert_eq!(why(spool.put(bundle, file, &bytes[1..]).await), Why::Length);
    assert_eq!(why(spool.put(bundle, file, &[&bytes[..], b"x"].concat()).await), Why::Length);
    let mut wrong = bytes.clone();
    wrong[0] ^= 1;
    assert_eq!(why(spool.put(bundle, file, &wrong).await), Why::Hash);
    // More bytes than were announced, and fewer.
    let target = Target { bundle, path: file.clone() };
    let Begun::Write(writing) = spool.inbox.begin(target.clone(), bytes.len() as u64, None).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(why(spool.inbox.begin(target.clone(), bytes.len() as u64, None).await), Why::Busy);
    assert_eq!(why(writing.write(vec![bytes[1..].to_vec(), vec![0, 0]]).await), Why::Length);
    let Begun::Write(writing) = spool.inbox.begin(target, bytes.len() as u64, None).await.unwrap() else {
        panic!()
    };
    assert_eq!(why(writing.write(vec![bytes[1..].to_vec()]).await.unwrap().finish().await), Why::Length);
    assert_eq!(spool.put(bundle, file, &bytes).await.unwrap(), Some(Answer::Stored));
    assert_eq!(spool.put(bundle, file, &bytes).await.unwrap(), None);
    assert!(gap.incoming().len() < size + 3, "{:?}", gap.incoming());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_trusted_key_signed_counts_for_nothing_and_spoils_nothing() {
    let gap = Gap::new(&[5000]).await;
    let mut spool = gap.open(gap.wish()).await;
    let other = Kit::new(&[]).await;
    let own = std::fs::read(gap.disk.join(SIGNATURES)).unwrap();
    spool.put_file(&gap.disk, MANIFEST).await.unwrap();
    for signatures in
        [&b""[..], b"ed25519 00 00\n", &[255, 254], format!("{}\n", other.station.key.sign(b"x")).as_bytes()]
    {
        assert_eq!(why(spool.put(bundle_of(&gap.disk), SIGNATURES, signatures).await), Why::Untrusted);
        // What waits for its signatures is within bounds of its own, and no bundle.
        assert!(gap.incoming().iter().all(|name| name.starts_with("arriving-")), "{:?}", gap.incoming());
        assert_eq!(why(spool.put_file(&gap.disk, &files_of(&gap.disk)[0]).await), Why::Unknown);
    }
    // One of many strangers is told of, and not each.
    assert!(matches!(spool.told.try_recv().unwrap().outcome, Outcome::Refused { .. }));
    assert!(spool.told.try_recv().is_err());
    // Whoever wrote it says so, and need not say once more what it is.
    spool.put(bundle_of(&gap.disk), SIGNATURES, &own).await.unwrap();
    assert!(gap.incoming().iter().all(|name| !name.starts_with("arriving-")), "{:?}", gap.incoming());
    // Nor does anybody hear what is missing of a bundle of which they do not have the signatures.
    assert_eq!(why(spool.put(bundle_of(&gap.disk), SIGNATURES, b"").await), Why::Untrusted);
    assert_eq!(spool.put_all(&gap.disk).await, Some(Answer::Delivered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_a_manifest_does_not_list_spoils_nothing_and_parts_that_break_off_take_nothing_away() {
    let mut gap = Gap::of_strangers(&[]).await;
    let (root, _) = gap.released_by_two().await;
    let disk = gap.low.path().join("released");
    export::export(&gap.low.station, &disk, &What::default()).await.unwrap();
    Candidate::open(&disk).unwrap().sign(&person(2)).unwrap();
    let mut spool = gap.open(gap.wish()).await;
    let bundle = bundle_of(&disk);
    let rubbish = std::fs::read(&root).unwrap().into_iter().chain(*b" ").collect::<Vec<u8>>();
    assert_eq!(why(spool.put(bundle, "ROOT.json", &rubbish).await), Why::Unknown, "of which manifest?");
    spool.put_file(&disk, MANIFEST).await.unwrap();
    assert_eq!(why(spool.put(bundle, "ROOT.json", &rubbish).await), Why::Hash);
    // Somebody begins with the manifest and the root and goes.
    for path in [MANIFEST, "ROOT.json"] {
        let target = Target { bundle, path: path.to_owned() };
        match spool.inbox.begin(target, 1000, None).await.unwrap() {
            Begun::Here => assert_eq!(path, MANIFEST),
            Begun::Write(writing) => drop(writing.write(vec![b"x".to_vec()]).await.unwrap()),
        }
    }
    spool.put_file(&disk, "ROOT.json").await.unwrap();
    assert_eq!(spool.put(bundle, "ROOT.json", &rubbish).await.unwrap(), None);
    assert!(matches!(spool.put_file(&disk, SIGNATURES).await, Ok(Some(Answer::Wanted(_)))));
    assert_eq!(spool.put_files(&disk).await, Some(Answer::Delivered));
    import::import(&gap.high, &spool.delivered()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_is_asked_anew_for_each_manifest_and_before_a_bundle_gets_its_name() {
    let gap = Gap::of_strangers(&[5000]).await;
    let nobody = Inbox::open(&gap.high, gap.wish()).await.unwrap_err();
    assert!(nobody.kind == Kind::Usage, "{nobody}");
    let other = Kit::new(&[]).await;
    believe(&gap.high, &other.station).await;
    let spool = gap.open(gap.wish()).await;
    assert_eq!(why(spool.introduce(&gap.disk).await), Why::Untrusted);
    trust::revoke(&gap.high, "peer").await.unwrap();
    believe(&gap.high, &gap.low.station).await;
    spool.introduce(&gap.disk).await.unwrap();
    let files = files_of(&gap.disk);
    let (last, most) = files.split_last().unwrap();
    for path in most {
        spool.put_file(&gap.disk, path).await.unwrap();
    }
    trust::revoke(&gap.high, "peer").await.unwrap();
    assert_eq!(why(spool.put_file(&gap.disk, last).await), Why::Untrusted);
    assert_eq!(why(spool.put_file(&gap.disk, last).await), Why::Untrusted, "also when it is opened again");
    assert_eq!(std::fs::read_dir(gap.spool()).unwrap().count(), 1);
    believe(&gap.high, &gap.low.station).await;
    spool.put_file(&gap.disk, SIGNATURES).await.unwrap();
    let answer = spool.put_file(&gap.disk, SIGNATURES).await;
    assert!(matches!(answer, Ok(Some(Answer::Wanted(_) | Answer::Delivered))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_import_would_refuse_is_refused_when_it_comes() {
    let gap = Gap::of_strangers(&[5000]).await;
    let (key, print) = (gap.low.station.key.public(), gap.low.station.key.fingerprint());
    let cases = [
        ("another stream", Limits { stream: Some("other".to_owned()), ..Limits::default() }),
        ("another station", Limits { recipient: Some("mid".to_owned()), ..Limits::default() }),
        ("another channel", Limits { channels: vec!["other".to_owned()], ..Limits::default() }),
    ];
    resign(&gap.low.station, &gap.disk, |manifest| manifest["recipient"] = json!("high"));
    for (what, limits) in cases {
        trust::add(&gap.high, "low", key, &print, limits).await.unwrap();
        let spool = gap.open(gap.wish()).await;
        assert_eq!(why(spool.introduce(&gap.disk).await), Why::Untrusted, "{what}");
        assert!(gap.incoming().iter().all(|name| name.starts_with("arriving-")), "{what}");
        trust::revoke(&gap.high, "low").await.unwrap();
    }
    trust::add(&gap.high, "low", key, &print, Limits::default()).await.unwrap();
    let mut spool = gap.open(gap.wish()).await;
    assert_eq!(spool.put_all(&gap.disk).await, Some(Answer::Delivered));
    let first = spool.delivered();
    // The next one, which builds on it, comes before it is imported; what is older than what is in does not.
    let next = gap.low.path().join("next");
    bundles::export(&gap.low.station, &next, &[]).await;
    let base = json!({"manifest": bundle_of(&gap.disk), "number": 1});
    resign(&gap.low.station, &next, |manifest| {
        manifest["predecessor"] = base["manifest"].clone();
        manifest["base"] = base;
    });
    assert_eq!(spool.put_all(&next).await, Some(Answer::Delivered));
    let next = spool.delivered();
    assert_eq!(import::import(&gap.high, &next).await.unwrap_err().kind, Kind::No, "its base is missing");
    import::import(&gap.high, &first).await.unwrap();
    import::import(&gap.high, &next).await.unwrap();
    std::fs::remove_dir_all(gap.spool()).unwrap();
    drop(spool);
    let spool = gap.open(gap.wish()).await;
    assert_eq!(why(spool.introduce(&gap.disk).await), Why::Untrusted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_there_is_never_written_over_and_gets_further_signatures() {
    let mut gap = Gap::of_strangers(&[5000, 20_000]).await;
    gap.released_by_two().await;
    believe(&gap.high, &gap.low.station).await;
    let disk = gap.low.path().join("released");
    export::export(&gap.low.station, &disk, &What::default()).await.unwrap();
    let candidate = Candidate::open(&disk).unwrap();
    candidate.sign(&person(2)).unwrap();
    let mut spool = gap.open(gap.wish()).await;
    let (bundle, signatures) = (bundle_of(&disk), std::fs::read_to_string(disk.join(SIGNATURES)).unwrap());
    for path in [MANIFEST, "ROOT.json", SIGNATURES] {
        spool.put_file(&disk, path).await.unwrap();
    }
    // While it waits, a second person signs it.
    candidate.sign(&person(3)).unwrap();
    let more = std::fs::read_to_string(disk.join(SIGNATURES)).unwrap();
    spool.put_file(&disk, SIGNATURES).await.unwrap();
    let waiting = gap.spool().join("incoming").join(bundle.to_string());
    assert_eq!(std::fs::read_to_string(waiting.join(SIGNATURES)).unwrap(), more);
    // What says less takes nothing away.
    spool.put(bundle, SIGNATURES, signatures.as_bytes()).await.unwrap();
    assert_eq!(std::fs::read_to_string(waiting.join(SIGNATURES)).unwrap(), more);
    // What anybody can add to what they saw pass makes nothing of it count for less.
    let manifest = std::fs::read(disk.join(MANIFEST)).unwrap();
    let (stranger, own) = (Kit::new(&[]).await.station.key, person(3).public_key());
    let line = |key: [u8; 32], n: u8| format!("{}\n", SignatureLine { public_key: key, signature: [n; 64] });
    let of_a_stranger = format!("{signatures}{}\n", stranger.sign(&manifest));
    let comment = format!("# seen\n{signatures}");
    let copies = |n: u8| -> String { (n..n + 4).map(|n| line(own, n)).collect() };
    let many = [format!("{signatures}{}", copies(0)), format!("{signatures}{}", copies(4))];
    let strangers = async |spool: &Spool, place: &Path| {
        for text in [&of_a_stranger, &comment, &many[0], &many[1]] {
            // Whether it is refused is all one.
            let _ = spool.put(bundle, SIGNATURES, text.as_bytes()).await;
            assert_eq!(std::fs::read_to_string(place.join(SIGNATURES)).unwrap(), more, "{text}");
        }
    };
    strangers(&spool, &waiting).await;
    assert_eq!(spool.put_files(&disk).await, Some(Answer::Delivered));
    let place = spool.delivered();
    strangers(&spool, &place).await;
    let before = content(&place);
    let file = &files_of(&disk)[0];
    let wrong = vec![7; std::fs::read(disk.join(file)).unwrap().len()];
    assert_eq!(spool.put(bundle, file, &wrong).await.unwrap(), None);
    assert_eq!(content(&place), before);
    // When it stands there, by this receiver and by the next one.
    std::fs::write(place.join(SIGNATURES), &signatures).unwrap();
    assert_eq!(spool.put_file(&disk, SIGNATURES).await.unwrap(), Some(Answer::Delivered));
    assert_eq!(std::fs::read_to_string(place.join(SIGNATURES)).unwrap(), more);
    drop(spool);
    std::fs::write(place.join(SIGNATURES), &signatures).unwrap();
    let spool = gap.open(gap.wish()).await;
    for path in [MANIFEST, "ROOT.json"] {
        spool.put_file(&disk, path).await.unwrap();
    }
    assert_eq!(spool.put_file(&disk, SIGNATURES).await.unwrap(), Some(Answer::Delivered));
    assert_eq!(std::fs::read_to_string(place.join(SIGNATURES)).unwrap(), more);
    assert_eq!(gap.incoming(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(gap.spool()).unwrap().count(), 2);
    import::import(&gap.high, &place).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_broke_off_goes_on_where_it_was_and_what_was_poisoned_comes_anew() {
    let gap = Gap::new(&[900_000]).await;
    let bundle = bundle_of(&gap.disk);
    let large = files_of(&gap.disk)
        .into_iter()
        .max_by_key(|p| std::fs::metadata(gap.disk.join(p)).unwrap().len())
        .unwrap();
    let bytes = std::fs::read(gap.disk.join(&large)).unwrap();
    let size = bytes.len() as u64;
    let spool = gap.open(gap.wish()).await;
    spool.introduce(&gap.disk).await.unwrap();
    let begin = async |spool: &Spool, bytes: Vec<u8>| {
        let target = Target { bundle, path: large.clone() };
        let Begun::Write(writing) = spool.inbox.begin(target, size, None).await.unwrap() else { panic!() };
        drop(writing.write(vec![bytes]).await.unwrap());
    };
    begin(&spool, bytes[..500_000].to_vec()).await;
    // Another receiver on the same spool, as after a kill.
    drop(spool);
    let mut spool = gap.open(gap.wish()).await;
    let Some(Answer::Wanted(list)) = spool.put_file(&gap.disk, SIGNATURES).await.unwrap() else { panic!() };
    assert!(list.contains(&format!("500000-{} {large}\n", size - 1)), "{list}");
    let part = |from: u64| Some((from..size, size));
    let rest = &bytes[500_001..];
    assert_eq!(why(spool.put_part(bundle, &large, rest, part(500_001)).await), Why::Range);
    assert_eq!(why(spool.put_part(bundle, &large, rest, part(500_000)).await), Why::Length);
    // Somebody sent other bytes before: the hash says so, and the whole file comes.
    begin(&spool, vec![0; 600_000]).await;
    assert_eq!(why(spool.put_part(bundle, &large, &bytes[600_000..], part(600_000)).await), Why::Hash);
    begin(&spool, bytes[..700_000].to_vec()).await;
    for path in files_of(&gap.disk).into_iter().filter(|path| *path != large) {
        spool.put_file(&gap.disk, &path).await.unwrap();
    }
    assert_eq!(
        spool.put_part(bundle, &large, &bytes[700_000..], part(700_000)).await.unwrap(),
        Some(Answer::Delivered)
    );
    assert_eq!(content(&spool.delivered()), content(&gap.disk));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_of_a_file_stays_small_however_it_comes() {
    let gap = Gap::new(&[900_000]).await;
    let bundle = bundle_of(&gap.disk);
    let of_size = |path: &String| std::fs::metadata(gap.disk.join(path)).unwrap().len();
    let large = files_of(&gap.disk).into_iter().max_by_key(of_size).unwrap();
    let (bytes, size) = (std::fs::read(gap.disk.join(&large)).unwrap(), of_size(&large));
    let spool = gap.open(gap.wish()).await;
    spool.introduce(&gap.disk).await.unwrap();
    let record = gap.spool().join("incoming").join(format!("{bundle}.have"));
    let mut largest = 0;
    // It begins anew again and again, in pieces of a few bytes.
    for _ in 0..12 {
        let target = Target { bundle, path: large.clone() };
        let Begun::Write(mut writing) = spool.inbox.begin(target, size, None).await.unwrap() else {
            panic!()
        };
        for piece in bytes.chunks(7).take(1000) {
            writing = writing.write(vec![piece.to_vec()]).await.unwrap();
        }
        let pieces: Vec<Vec<u8>> = bytes[7000..].chunks(7).take(10_000).map(<[u8]>::to_vec).collect();
        drop(writing.write(pieces).await.unwrap());
        largest = largest.max(std::fs::metadata(&record).unwrap().len());
    }
    assert!(largest < 80_000, "{largest} bytes of record");
    assert_eq!(spool.put_file(&gap.disk, &large).await.unwrap(), Some(Answer::Stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_senders_of_one_bundle_bring_it_together() {
    let sizes: Vec<usize> = (0..60).map(|n| 1000 + n * 997).collect();
    let gap = Gap::new(&sizes).await;
    let mut spool = gap.open(gap.wish()).await;
    spool.introduce(&gap.disk).await.unwrap();
    let files = files_of(&gap.disk);
    let one = async {
        for path in &files {
            let put = spool.put_file(&gap.disk, path).await;
            assert!(put.is_ok() || put.unwrap_err().why == Why::Busy);
        }
    };
    let other = async {
        for path in files.iter().rev() {
            let put = spool.put_file(&gap.disk, path).await;
            assert!(put.is_ok() || put.unwrap_err().why == Why::Busy);
        }
    };
    tokio::join!(one, other);
    // What each found in the other's hands was brought by the other.
    assert_eq!(spool.put_file(&gap.disk, SIGNATURES).await.unwrap(), Some(Answer::Delivered));
    assert_eq!(content(&spool.delivered()), content(&gap.disk));
    // Another receiver may not write there meanwhile.
    let error = Inbox::open(&gap.high, gap.wish()).await.unwrap_err();
    assert!(error.kind == Kind::Usage && error.message.contains("another `airlock receive`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_counts_what_files_take_and_holds_for_what_nobody_signed_too() {
    let gap = Gap::new(&[1; 1]).await;
    let taken: u64 = content(&gap.disk).len() as u64 * 4096;
    let spool = gap.open(Wish { quota: Some(taken), ..gap.wish() }).await;
    assert_eq!(why(spool.introduce(&gap.disk).await), Why::Full, "folders take room as well");
    assert!(gap.incoming().iter().all(|name| name.starts_with("arriving-")));
    drop(spool);
    let spool = gap.open(Wish { quota: Some(2 * taken + 200_000), ..gap.wish() }).await;
    spool.introduce(&gap.disk).await.unwrap();
    // A second bundle does not fit beside it: also if whoever sent the first is trusted no longer, for what is there is there.
    let next = gap.low.path().join("next");
    bundles::export(&gap.low.station, &next, &[400_000]).await;
    assert_eq!(why(spool.introduce(&next).await), Why::Full);
    let unsigned = vec![b' '; usize::try_from(2 * taken + 200_001).unwrap()];
    let target = Target { bundle: Digest::of(&unsigned), path: MANIFEST.to_owned() };
    assert_eq!(why(spool.inbox.begin(target, unsigned.len() as u64, None).await), Why::Full);
    let target = Target { bundle: Digest::of(b"x"), path: MANIFEST.to_owned() };
    assert_eq!(why(spool.inbox.begin(target, (512 << 20) + 1, None).await), Why::Large);
    let target = Target { bundle: Digest::of(b"x"), path: SIGNATURES.to_owned() };
    assert_eq!(why(spool.inbox.begin(target, (64 << 10) + 1, None).await), Why::Large);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_for_too_long_goes_and_what_arrives_stays() {
    let gap = Gap::new(&[5000]).await;
    let spool = gap.open(gap.wish()).await;
    spool.introduce(&gap.disk).await.unwrap();
    spool.put_file(&gap.disk, &files_of(&gap.disk)[0]).await.unwrap();
    drop(spool);
    // What a kill left of what was arriving.
    std::fs::create_dir_all(gap.spool().join("incoming/arriving-x/y")).unwrap();
    let before = gap.incoming().len();
    drop(gap.open(gap.wish()).await);
    assert_eq!(gap.incoming().len(), before);
    assert!(!gap.spool().join("incoming/arriving-x").exists());
    std::thread::sleep(Duration::from_millis(50));
    let spool = gap.open(Wish { keep: Duration::from_millis(40), ..gap.wish() }).await;
    assert_eq!(gap.incoming(), Vec::<String>::new());
    assert_eq!(spool.put_all(&gap.disk).await, Some(Answer::Delivered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_which_nothing_comes_any_more_is_told_with_its_list() {
    let gap = Gap::new(&[5000, 30_000]).await;
    let mut spool = gap.open(Wish { silence: Duration::ZERO, ..gap.wish() }).await;
    spool.introduce(&gap.disk).await.unwrap();
    let keeping = tokio::spawn(spool.inbox.clone().keep());
    let arrival = spool.told.recv().await.unwrap();
    let Outcome::Incomplete { list, missing_files, .. } = arrival.outcome else { panic!("{arrival:?}") };
    // The empty files, if there were any, would be here.
    assert_eq!(missing_files, files_of(&gap.disk).len() as u64);
    let text = std::fs::read_to_string(list).unwrap();
    let listed: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (b, a)).collect();
    assert!(files_of(&gap.disk).iter().all(|path| listed.get(path.as_str()) == Some(&"whole")), "{text}");
    keeping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_root_releases_comes_to_whoever_trusts_the_root_alone_when_it_is_released() {
    let mut gap = Gap::of_strangers(&[]).await;
    let (_, chain) = gap.released_by_two().await;
    let print = chain.fingerprint();
    assert_eq!(trust::list(&gap.high).await.unwrap()[0].fingerprint().unwrap(), print);
    let disk = gap.low.path().join("released");
    export::export(&gap.low.station, &disk, &What::default()).await.unwrap();
    let mut spool = gap.open(gap.wish()).await;
    let introduce = async |spool: &Spool| {
        spool.put_file(&disk, MANIFEST).await?;
        spool.put_file(&disk, "ROOT.json").await?;
        spool.put_file(&disk, SIGNATURES).await
    };
    assert_eq!(why(introduce(&spool).await), Why::Untrusted, "a candidate");
    Candidate::open(&disk).unwrap().sign(&person(2)).unwrap();
    assert!(matches!(introduce(&spool).await, Ok(Some(Answer::Wanted(_)))));
    // Nobody writes over the root by which it was believed.
    let size = std::fs::metadata(disk.join("ROOT.json")).unwrap().len();
    let rubbish = vec![b' '; usize::try_from(size).unwrap()];
    assert_eq!(spool.put(bundle_of(&disk), "ROOT.json", &rubbish).await.unwrap(), None);
    assert!(matches!(spool.put_file(&disk, SIGNATURES).await, Ok(Some(Answer::Wanted(_)))));
    assert_eq!(spool.put_files(&disk).await, Some(Answer::Delivered));
    import::import(&gap.high, &spool.delivered()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_goes_on_after_a_long_pause_has_its_time_again() {
    let gap = Gap::new(&[5000, 30_000]).await;
    let spool = gap.open(gap.wish()).await;
    spool.introduce(&gap.disk).await.unwrap();
    let files = files_of(&gap.disk);
    spool.put_file(&gap.disk, &files[0]).await.unwrap();
    drop(spool);
    let record = gap.spool().join("incoming").join(format!("{}.have", bundle_of(&gap.disk)));
    let old = SystemTime::now() - Duration::from_secs(1800);
    std::fs::File::options().append(true).open(record).unwrap().set_modified(old).unwrap();
    let mut spool = gap.open(Wish { silence: Duration::from_secs(60), ..gap.wish() }).await;
    let keeping = tokio::spawn(spool.inbox.clone().keep());
    spool.put_file(&gap.disk, SIGNATURES).await.unwrap();
    // Longer than it takes until it is looked whether anything comes.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(spool.told.try_recv().is_err(), "it is told to have fallen silent");
    for path in &files[1..] {
        spool.put_file(&gap.disk, path).await.unwrap();
    }
    assert_eq!(content(&spool.delivered()), content(&gap.disk));
    keeping.abort();
}
