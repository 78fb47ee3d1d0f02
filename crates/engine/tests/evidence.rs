//! Evidence that somebody changed: each part, each entry, each object, each component; by somebody without the station's key, and
//! by somebody with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use airlock_core::canon::Canonical;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::decision::Decisions;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::evidence::{MANIFEST, Manifest, PART_BYTES_MAX, SIGNATURE, part};
use airlock_core::id::Digest;
use airlock_engine::channel;
use airlock_engine::error::{Error, Kind, Result};
use airlock_engine::evidence::{self, Checked};
use airlock_engine::keys::StationKey;
use airlock_engine::progress::Progress;
use airlock_formats::archive::{ArchiveLimits, ZipFile, zip_files};
use airlock_testkit::{Kit, conda, osv, tamper, wheel};
use serde_json::{Value, json};

type Members = Vec<(String, Vec<u8>)>;

fn members(bytes: &[u8]) -> Members {
    let mut out = Vec::new();
    zip_files(Cursor::new(bytes), &ArchiveLimits::default(), &mut |name, data| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        out.push((name.to_owned(), bytes));
        Ok(())
    })
    .unwrap();
    out
}

fn pack(members: &Members) -> Vec<u8> {
    let mut zip = ZipFile::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.begin(name).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn member<'a>(members: &'a mut Members, name: &str) -> &'a mut Vec<u8> {
    &mut members.iter_mut().find(|(found, _)| found == name).unwrap().1
}

/// What somebody does who has the station's key: lists the parts as they are now, and signs that.
fn sign(members: &mut Members, key: &StationKey, change: impl FnOnce(&mut Manifest)) {
    let mut manifest: Manifest = serde_json::from_slice(member(members, MANIFEST)).unwrap();
    for part in &mut manifest.parts {
        let bytes = member(members, &part.path);
        (part.sha256, part.size) = (Digest::of(bytes), bytes.len() as u64);
    }
    change(&mut manifest);
    let text = Canonical::of(&manifest).unwrap();
    *member(members, SIGNATURE) = format!("{}\n", key.sign(text.as_str().as_bytes())).into_bytes();
    *member(members, MANIFEST) = text.as_str().as_bytes().to_vec();
}

struct Made {
    kit: Kit,
    bytes: Vec<u8>,
    path: PathBuf,
}

impl Made {
    /// Evidence of a channel with some packages, a finding and a decision.
    async fn of(ecosystem: Ecosystem) -> Self {
        let kit = Kit::new(&[osv("CVE-1", "PyPI", "b", "3", 5.3)]).await;
        let (mut channel, mut index) = (kit.conda_source("conda"), kit.pypi_source("pypi"));
        for (name, version) in [("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("d", "1")] {
            channel.add(&conda(name, version), &json!({}));
            index.add_wheel(&wheel(name, version), &json!({}));
        }
        channel.write();
        index.write();
        let source = match ecosystem {
            Ecosystem::Conda => channel.path().to_owned(),
            Ecosystem::Pypi => index.path().to_owned(),
        };
        kit.add_channel("main", ecosystem, &source, &[]).await;
        kit.sync("main").await;
        kit.block("main", "d").await;
        kit.judge("main").await;
        let path = kit.path().join("evidence.zip");
        write(&kit, &path).await.unwrap();
        let bytes = std::fs::read(&path).unwrap();
        Self { kit, bytes, path }
    }

    fn check(&self, bytes: &[u8]) -> Result<Checked> {
        let path = self.path.with_extension("tried");
        std::fs::write(&path, bytes).unwrap();
        check(&path, &self.kit.station.key.public())
    }

    /// Why somebody's work is refused; it has to be.
    fn refused(&self, change: impl FnOnce(&mut Members)) -> String {
        let mut members = members(&self.bytes);
        change(&mut members);
        unsafe_message(self.check(&pack(&members)).unwrap_err())
    }

    /// The same, where they had the station's key.
    fn refused_though_signed(&self, change: impl FnOnce(&mut Members)) -> String {
        self.refused(|members| {
            change(members);
            sign(members, &self.kit.station.key, |_| ());
        })
    }
}

async fn write(kit: &Kit, path: &Path) -> Result<evidence::Written> {
    write_of(kit, "main", path).await
}

async fn write_of(kit: &Kit, name: &str, path: &Path) -> Result<evidence::Written> {
    let channel = kit.view().channel(name).await.unwrap().unwrap();
    evidence::write(&kit.station, &channel, path, |summary| Ok(format!("{summary:?}"))).await
}

fn check(path: &Path, key: &[u8; 32]) -> Result<Checked> {
    evidence::check(&evidence::open(path, &[*key])?, &Progress::default())
}

fn unsafe_message(error: Error) -> String {
    assert_eq!(error.kind, Kind::Unsafe, "{error}");
    assert!(error.hint.is_some(), "{error}");
    error.message
}

/// The lines of a part, changed.
fn lines(members: &mut Members, name: &str, change: impl FnOnce(&mut Vec<String>)) {
    let bytes = member(members, name);
    let mut lines: Vec<String> = std::str::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    *bytes = lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes();
}

fn bill(members: &mut Members, name: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let list = if name == part::SPDX { "packages" } else { "components" };
    let bytes = member(members, name);
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    change(document[list].as_array_mut().unwrap());
    *bytes = document.to_string().into_bytes();
}

#[tokio::test]
async fn what_is_whole_is_accepted_and_says_how_much_it_was() {
    for ecosystem in [Ecosystem::Conda, Ecosystem::Pypi] {
        let made = Made::of(ecosystem).await;
        let checked = made.check(&made.bytes).unwrap();
        assert_eq!((checked.components, checked.decisions), (4, 1));
        assert!(checked.unproven.is_empty() && checked.objects > 15 && checked.entries > 4, "{checked:?}");
        // Another order of the same members is the same evidence, and so it is signed anew.
        let mut members = members(&made.bytes);
        members.reverse();
        assert_eq!(made.check(&pack(&members)).unwrap(), checked);
        sign(&mut members, &made.kit.station.key, |_| ());
        assert_eq!(made.check(&pack(&members)).unwrap(), checked);
    }
}

#[tokio::test]
async fn a_child_that_leaves_all_to_its_parent_has_a_policy_that_is_built_in_and_not_one_that_is_unproven() {
    let made = Made::of(Ecosystem::Conda).await;
    assert!(!made.check(&made.bytes).unwrap().policy_is_built_in);
    let feed = ChannelFeed::Parent { only: Vec::new(), exclude: Vec::new(), exactly: None };
    let child =
        Channel { name: "main/c".into(), ecosystem: Ecosystem::Conda, feed, policy: "inherited".into() };
    channel::add(&made.kit.station, child).await.unwrap();
    made.kit.sync("main/c").await;
    let path = made.kit.path().join("child.zip");
    write_of(&made.kit, "main/c", &path).await.unwrap();
    let checked = check(&path, &made.kit.station.key.public()).unwrap();
    assert!(checked.policy_is_built_in && checked.unproven.is_empty(), "{checked:?}");
}

#[tokio::test]
async fn a_changed_byte_in_any_part_is_found_and_the_part_named() {
    let made = Made::of(Ecosystem::Conda).await;
    let names: Vec<String> = members(&made.bytes).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), part::ALL.len() + 2);
    for name in &names {
        for place in [0, 2, 1] {
            let said = made.refused(|members| {
                let bytes = member(members, name);
                let at = (bytes.len() - 1) * place / 2;
                bytes[at] ^= 1;
            });
            let expected = if name == SIGNATURE { "sign" } else { name };
            assert!(said.to_lowercase().contains(&expected.to_lowercase()), "{name}: {said}");
        }
    }
}

#[tokio::test]
async fn a_changed_byte_of_the_archive_itself_is_found_or_changes_nothing_that_is_signed() {
    let made = Made::of(Ecosystem::Pypi).await;
    let (whole, mut passed) = (members(&made.bytes), 0);
    for at in (0..made.bytes.len()).step_by(7) {
        let mut bytes = made.bytes.clone();
        bytes[at] ^= 0x20;
        match made.check(&bytes) {
            Ok(_) => {
                assert_eq!(members(&bytes), whole, "byte {at}");
                passed += 1;
            }
            Err(error) => drop(unsafe_message(error)),
        }
    }
    assert!(passed * 20 < made.bytes.len() / 7, "{passed} of {} changes passed", made.bytes.len() / 7);
}

#[tokio::test]
async fn a_file_that_was_cut_is_no_evidence() {
    let made = Made::of(Ecosystem::Pypi).await;
    let whole = made.bytes.len();
    for length in [0, 1, 30, whole / 3, whole / 2, whole - 100, whole - 22, whole - 1] {
        unsafe_message(made.check(&made.bytes[..length]).unwrap_err());
    }
    let said = unsafe_message(made.check(&made.bytes[..whole - 30]).unwrap_err());
    assert!(said.contains("was cut off or damaged"), "{said}");
}

#[tokio::test]
async fn a_part_that_is_missing_foreign_exchanged_or_longer_is_refused_by_name() {
    let made = Made::of(Ecosystem::Conda).await;
    let names: Vec<String> = members(&made.bytes).into_iter().map(|(name, _)| name).collect();
    for name in &names {
        let said = made.refused(|members| members.retain(|(found, _)| found != name));
        assert!(said.contains(&format!("{name} is missing")), "{said}");
    }
    let said = made.refused(|members| members.push(("objects/more.jsonl".to_owned(), b"{}\n".to_vec())));
    assert!(said.contains("`objects/more.jsonl` is not in the manifest"), "{said}");
    let said = made.refused(|members| {
        let first = std::mem::take(member(members, part::CYCLONEDX));
        let second = std::mem::replace(member(members, part::SPDX), first);
        *member(members, part::CYCLONEDX) = second;
    });
    assert!(said.contains("sbom.cdx.json was changed"), "{said}");
    let said = made.refused(|members| member(members, part::SUMMARY).extend(vec![b' '; 10 << 20]));
    assert!(said.contains("summary.html was changed"), "{said}");
    let said = made.refused(|members| member(members, MANIFEST).extend(vec![b' '; 1 << 20]));
    assert!(said.contains("EVIDENCE.json is larger than"), "{said}");
    let said = made.refused(|members| member(members, SIGNATURE).extend(vec![b' '; 5 << 10]));
    assert!(said.contains("EVIDENCE.sig is larger than"), "{said}");
    let said = made.refused(|members| {
        sign(members, &made.kit.station.key, |manifest| manifest.parts[3].size = PART_BYTES_MAX + 1);
    });
    assert!(said.contains("objects/judgements.jsonl is larger than"), "{said}");
    let said = made.refused(|members| {
        members.extend((0..100).map(|n| (format!("{n}"), Vec::new())));
    });
    assert!(said.contains("more than 64 entries"), "{said}");
    // Twice the limit in a file of some hundred kilobytes.
    let said = made.refused(|members| *member(members, part::README) = vec![0; 100 << 20]);
    assert!(said.contains("times its size"), "{said}");
}

#[tokio::test]
async fn another_key_counts_for_nothing_whatever_it_signed() {
    let made = Made::of(Ecosystem::Conda).await;
    let other = StationKey::create(&made.kit.path().join("other")).unwrap();
    let said = unsafe_message(check(&made.path, &other.public()).unwrap_err());
    assert!(said.contains("not a key that is trusted here"), "{said}");
    let said = made.refused(|members| sign(members, &other, |_| ()));
    assert!(said.contains("not a key that is trusted here"), "{said}");
    // With both keys known, it has to say who it is from.
    let mut members = members(&made.bytes);
    sign(&mut members, &other, |_| ());
    std::fs::write(&made.path, pack(&members)).unwrap();
    let keys = [other.public(), made.kit.station.key.public()];
    let said = unsafe_message(evidence::open(&made.path, &keys).unwrap_err());
    assert!(said.contains("names another station"), "{said}");
    let said = made.refused(|members| {
        sign(members, &made.kit.station.key, |manifest| manifest.format = 2);
    });
    assert!(said.contains("has layout 2"), "{said}");
}

#[tokio::test]
async fn the_ledger_is_followed_to_its_signed_head_even_if_the_rest_is_signed_anew() {
    let made = Made::of(Ecosystem::Conda).await;
    let ledger = |change: fn(&mut Vec<String>)| {
        made.refused_though_signed(|members| lines(members, part::LEDGER, change))
    };
    for (expected, change) in [
        ("is missing: entry", (|l| drop(l.remove(1))) as fn(&mut Vec<String>)),
        ("is missing: entry", |l| l.swap(1, 2)),
        ("does not follow from the entry before it", |l| l[1] = l[1].replace("tester", "nobody")),
        ("does not lead to entry", |l| drop(l.pop())),
        ("does not lead to entry", |l| {
            let last = l.pop().unwrap();
            l.push(last.replace("tester", "nobody"));
        }),
        ("is missing: entry", |l| l.push(l[0].clone())),
        ("not in canonical form", |l| l[0] = l[0].replacen(':', ": ", 1)),
        ("is no entry", |l| l[0] = "{}".to_owned()),
        ("does not lead to entry", Vec::clear),
        // What goes before the publication belongs to it too.
        ("no entry of the ledger tells of decision d1", |l| {
            let at = l.iter().position(|line| line.contains("decision.add")).unwrap();
            l.drain(..=at);
        }),
    ] {
        let said = ledger(change);
        assert!(said.contains("ledger.jsonl: ") && said.contains(expected), "{expected}: {said}");
    }
    let said = made.refused(|members| {
        sign(members, &made.kit.station.key, |manifest| manifest.published -= 1);
    });
    assert!(said.contains("the manifest names another"), "{said}");
    let said = made.refused(|members| {
        sign(members, &made.kit.station.key, |manifest| manifest.channel = "other".to_owned());
    });
    assert!(said.contains("not the one that the manifest tells of"), "{said}");
}

#[tokio::test]
async fn every_object_is_the_one_that_is_named_and_none_is_missing_or_too_many() {
    let made = Made::of(Ecosystem::Pypi).await;
    for name in [part::INPUTS, part::CONTENT, part::JUDGEMENTS, part::FACTS] {
        for (expected, change) in [
            ("one was changed, left out, added", (|l| drop(l.remove(1))) as fn(&mut Vec<String>)),
            ("is missing", |l| drop(l.pop())),
            ("one was changed, left out, added", |l| l.swap(1, 2)),
            ("one was changed, left out, added", |l| l.insert(1, l[2].clone())),
            ("that nothing names", |l| l.push(l[0].clone())),
            ("one was changed, left out, added", |l| {
                let last = l.pop().unwrap();
                l.push(last.replacen('a', "b", 1));
            }),
        ] {
            let said = made.refused_though_signed(|members| lines(members, name, change));
            assert!(said.contains(&format!("{name}: ")) && said.contains(expected), "{expected}: {said}");
        }
        let said = made.refused_though_signed(|members| {
            member(members, name).pop();
        });
        assert!(said.contains("the part ends in the middle"), "{said}");
    }
}

#[tokio::test]
async fn a_bill_of_materials_lists_what_is_published_and_nothing_else() {
    for ecosystem in [Ecosystem::Conda, Ecosystem::Pypi] {
        let made = Made::of(ecosystem).await;
        let last = if ecosystem == Ecosystem::Conda { "noarch/c-1-0.conda" } else { "c-1-py3-none-any.whl" };
        for name in [part::CYCLONEDX, part::SPDX] {
            let changed = |change: &dyn Fn(&mut Vec<Value>)| {
                let said = made.refused_though_signed(|members| bill(members, name, |list| change(list)));
                assert!(said.contains(&format!("{name}: ")), "{said}");
                said
            };
            let said = changed(&|list| drop(list.pop()));
            assert!(said.contains(&format!("it leaves out `{last}`")), "{said}");
            let said = changed(&|list| drop(list.remove(1)));
            assert!(said.contains("where the snapshot publishes"), "{said}");
            let said = changed(&|list| list.push(list[1].clone()));
            assert!(said.contains("which the snapshot does not publish"), "{said}");
            let said = changed(&|list| list.swap(1, 2));
            assert!(said.contains("where the snapshot publishes"), "{said}");
            let at = "/hashes/0/content";
            let at = if name == part::SPDX { "/checksums/0/checksumValue" } else { at };
            let said = changed(&|list| *list[1].pointer_mut(at).unwrap() = json!("00"));
            assert!(said.contains("its SHA-256 is `00`, and it is"), "{said}");
            let said = changed(&|list| list[1]["name"] = json!("other"));
            assert!(said.contains("its name is `other`"), "{said}");
            let version = if name == part::SPDX { "versionInfo" } else { "version" };
            let said = changed(&|list| list[1][version] = json!("9"));
            assert!(said.contains("its version is `9`"), "{said}");
            let said = made.refused_though_signed(|members| *member(members, name) = b"{}".to_vec());
            assert!(said.contains("is missing"), "{said}");
            // A second list of the same name, which some readers would take.
            let said = made.refused_though_signed(|members| {
                let text = String::from_utf8(std::mem::take(member(members, name))).unwrap();
                let list = if name == part::SPDX { "packages" } else { "components" };
                let more = format!(",\"{list}\":[]}}");
                *member(members, name) =
                    text.trim_end().strip_suffix('}').map(|t| t.to_owned() + &more).unwrap().into_bytes();
            });
            assert!(said.contains("stands twice"), "{said}");
        }
    }
}

#[tokio::test]
async fn what_somebody_changed_in_the_database_is_not_signed() {
    let made = Made::of(Ecosystem::Conda).await;
    let path = made.kit.path().join("again.zip");
    let channel = made.kit.view().channel("main").await.unwrap().unwrap();
    let decisions = channel.snapshot.inputs.decisions;
    tamper::put_under(&made.kit.station, decisions, &Decisions { list: Vec::new() }).await;
    let error = write(&made.kit, &path).await.unwrap_err();
    assert_eq!(error.kind, Kind::No, "{error}");
    assert!(error.message.contains("is not what its name says"), "{error}");
    assert!(!path.exists());

    let made = Made::of(Ecosystem::Conda).await;
    tamper::tamper(&made.kit.station, "update ledger set actor = 'nobody' where number = 3").await;
    let error = write(&made.kit, &path).await.unwrap_err();
    assert_eq!(error.kind, Kind::No, "{error}");
    // What lay there before lies there still, and nothing else.
    let before = std::fs::read(&made.path).unwrap();
    write(&made.kit, &made.path).await.unwrap_err();
    assert_eq!(std::fs::read(&made.path).unwrap(), before);
    let left = std::fs::read_dir(made.kit.path()).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(names.filter(|name| name.contains("airlock-evidence")).count(), 0);
}
