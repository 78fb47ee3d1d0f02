//! Bundles that are sealed to a recipient.
//!
//! What travels is an ordinary bundle, the *outer* one: its files are encrypted, its manifest names them by what they are
//! encrypted. So whoever carries, checks, resends or rebuilds it needs no secret. Another manifest, the *inner* one, is encrypted among them
//! and says, by the same paths, what they are when they are opened; to both ends it is the bundle's manifest, and the hash of the
//! outer one is the bundle's name.

use serde::{Deserialize, Serialize};

use crate::bundle::Manifest;
use crate::place::FilePath;

/// The layout of bundles that are sealed.
pub const FORMAT: u32 = 5;
/// Where the inner manifest lies.
pub const MANIFEST: &str = "objects/manifest.age";
/// Where the objects lie.
pub const OBJECTS: &str = "objects/objects.age";
/// The most recipients of a bundle.
pub const RECIPIENTS_MAX: usize = 20;
/// Longest recipient, in characters.
const RECIPIENT_CHARS_MAX: usize = 200;

/// That a bundle is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The public keys of those who can open it: recipients of age.
    pub recipients: Vec<String>,
}

/// Where a sealed file lies, by 16 bytes that say nothing to others.
pub fn path(name: &[u8; 16]) -> FilePath {
    let hex = crate::hex::encode(name);
    FilePath::from(format!("files/{}/{hex}.age", &hex[..2]).as_str())
}

/// What is wrong with what a manifest says of its being sealed, if anything is.
pub fn fault(m: &Manifest) -> Option<&'static str> {
    let sealed = m.sealed.as_ref()?;
    let is_recipient =
        |text: &String| text.len() <= RECIPIENT_CHARS_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_inner_there = m.extra.iter().any(|file| file.path == MANIFEST);
    match () {
        () if m.format < FORMAT => Some("is sealed, which its layout is not"),
        () if sealed.recipients.is_empty() || sealed.recipients.len() > RECIPIENTS_MAX => {
            Some("is sealed to nobody, or to too many")
        }
        () if !sealed.recipients.iter().all(is_recipient) => Some("is sealed to a recipient that is none"),
        () if !is_inner_there => Some("is sealed and has no manifest inside"),
        () if !m.channels.is_empty()
            || !m.feeds.is_empty()
            || !m.objects.is_empty()
            || m.answers.is_some() =>
        {
            Some("is sealed and says what is in it")
        }
        () => None,
    }
}

/// What an inner manifest says otherwise than the outer one in which it came, if anything is. Of an outer manifest without
/// [`fault`].
pub fn contradiction(outer: &Manifest, inner: &Manifest) -> Option<&'static str> {
    let same = outer.stream == inner.stream
        && outer.number == inner.number
        && outer.predecessor == inner.predecessor
        && outer.base == inner.base
        && outer.sender == inner.sender
        && outer.recipient == inner.recipient
        && outer.created == inner.created
        && outer.ledger == inner.ledger;
    if !same {
        return Some("is of another bundle");
    }
    let is_plain = inner.sealed.is_none() && inner.volumes.is_empty() && inner.joined.is_empty();
    if !is_plain || !inner.extra.is_empty() {
        return Some("is sealed again, split, cut, or brings something beside objects and files");
    }
    let extra: Vec<&str> = outer.extra.iter().map(|file| file.path.as_str()).collect();
    let is_object = |path: &str| path != MANIFEST && path.starts_with("objects/") && extra.contains(&path);
    if !inner.objects.iter().all(|file| is_object(&file.path)) {
        return Some("has objects that the bundle does not bring");
    }
    let (inside, mut there) = (inner.files.by_path(), 0);
    let is_inside = outer.wholes().all(|whole| {
        there += 1;
        inside.find(&whole.path).is_some()
    });
    // No path is twice in a manifest.
    match is_inside && there == inner.files.len() {
        true => None,
        false => Some("lists other files than the bundle brings"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{BundledFile, ExtraFile, Files, ObjectFile};
    use crate::id::Digest;

    const TEXT: &str = r#"{"channels":{},"created":"2026-03-01T00:00:00Z","extra":[],"feeds":{},"files":[],"format":5,"ledger":{"hash":"0707070707070707070707070707070707070707070707070707070707070707","number":1},"number":1,"objects":[],"sender":{"name":"low","public_key":""},"stream":"s"}"#;

    /// Files that lie where what is sealed by these bytes does.
    fn files(of: &[u8]) -> Files {
        let path = |n: &u8| path(&[*n; 16]);
        let file =
            |path| BundledFile { name: "".into(), path, sha256: Digest::of(b"x"), size: 1, volume: None };
        Files::of(of.iter().map(path).map(file)).unwrap()
    }

    /// An outer manifest, and what is in it.
    fn pair() -> (Manifest, Manifest) {
        let mut inner: Manifest = serde_json::from_str(TEXT).unwrap();
        inner.files = files(&[1, 2]);
        let mut outer = inner.clone();
        outer.sealed = Some(Sealed { recipients: vec!["age1x".to_owned()] });
        let extra = |path: &str| ExtraFile { path: path.to_owned(), sha256: Digest::of(b"x"), size: 1 };
        outer.extra = [MANIFEST, OBJECTS].map(extra).to_vec();
        let (path, sha256) = (OBJECTS.to_owned(), Digest::of(b"x"));
        inner.objects = vec![ObjectFile { path, sha256, size: 1, lines: 1, unpacked: 1 }];
        (outer, inner)
    }

    #[test]
    fn the_paths_of_what_is_sealed_fit_into_a_bundle() {
        assert_eq!(&*path(&[0xab; 16]).text(), "files/ab/abababababababababababababababab.age");
        assert!(
            [MANIFEST, OBJECTS, &path(&[1; 16]).text()]
                .iter()
                .all(|path| crate::bundle::is_bundle_path(path))
        );
    }

    #[test]
    fn an_outer_manifest_says_nothing_of_what_is_in_it() {
        let (good, inner) = pair();
        assert_eq!((fault(&good), fault(&inner)), (None, None));
        type Harm = fn(&mut Manifest);
        let harms: &[(&str, Harm)] = &[
            ("layout", |m| m.format = 4),
            ("to nobody", |m| m.sealed = Some(Sealed { recipients: Vec::new() })),
            ("too many", |m| {
                m.sealed = Some(Sealed { recipients: vec!["x".to_owned(); RECIPIENTS_MAX + 1] })
            }),
            ("that is none", |m| m.sealed = Some(Sealed { recipients: vec!["a\nb".to_owned()] })),
            ("that is none", |m| m.sealed = Some(Sealed { recipients: vec!["x".repeat(201)] })),
            ("no manifest inside", |m| m.extra.clear()),
            ("says what is in it", |m| m.objects = pair().1.objects),
            ("says what is in it", |m| m.answers = Some(crate::id::Id::new(Digest::of(b"x")))),
        ];
        for (word, harm) in harms {
            let mut m = good.clone();
            harm(&mut m);
            assert!(fault(&m).is_some_and(|found| found.contains(word)), "{word}: {:?}", fault(&m));
        }
    }

    #[test]
    fn an_inner_manifest_is_of_the_bundle_in_which_it_came() {
        let (outer, good) = pair();
        assert_eq!(contradiction(&outer, &good), None);
        type Harm = fn(&mut Manifest);
        let harms: &[(&str, Harm)] = &[
            ("another bundle", |m| m.number = 2),
            ("another bundle", |m| m.stream = "other".to_owned()),
            ("another bundle", |m| m.recipient = Some("other".to_owned())),
            ("another bundle", |m| m.predecessor = Some(Digest::of(b"x"))),
            ("another bundle", |m| {
                m.base = Some(crate::bundle::Base { number: 1, manifest: Digest::of(b"x") })
            }),
            ("another bundle", |m| m.sender.name = "other".to_owned()),
            ("another bundle", |m| m.ledger.number = 2),
            ("another bundle", |m| m.created = crate::time::Time::from_seconds(0)),
            ("sealed again", |m| m.sealed = pair().0.sealed),
            ("sealed again", |m| m.extra = pair().0.extra),
            ("sealed again", |m| m.volumes = vec![crate::volume::Volume { bytes: 0, files: 0 }]),
            ("does not bring", |m| m.objects[0].path = MANIFEST.to_owned()),
            ("does not bring", |m| m.objects[0].path = "objects/other.age".to_owned()),
            ("other files", |m| m.files = files(&[1])),
            ("other files", |m| m.files = files(&[1, 2, 3])),
            ("other files", |m| m.files = files(&[3, 2])),
        ];
        for (word, harm) in harms {
            let mut m = good.clone();
            harm(&mut m);
            let found = contradiction(&outer, &m);
            assert!(found.is_some_and(|found| found.contains(word)), "{word}: {found:?}");
        }
    }
}
