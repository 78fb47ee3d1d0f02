//! By whose word a bundle counts, and how a person adds theirs.
//!
//! Each bundle has a line of the station that wrote it. Where a root stands in it (`ROOT.json`), enough of the release keys
//! that the newest known version of that root names must have signed, too.

use std::path::{Path, PathBuf};

use airlock_core::bundle::{
    ExtraFile, MANIFEST, Manifest, ROOT, SIGNATURES, Sender, SignatureLine, fingerprint,
};
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::root::{Chain, RootFile, Tally};
use serde::Serialize;

use super::lines::Lines;
use super::text::Text;
use super::verify::{self, Opened};
use crate::error::{Error, Result, file_error};
use crate::personal::Signer;
use crate::progress::Progress;
use crate::roots;
use crate::trust::Trust;

/// Whose bundles count.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    keys: Vec<[u8; 32]>,
    /// By which packets of a one-way link are believed: the keys above, and those that count for nothing else.
    packets: Vec<[u8; 32]>,
    roots: Vec<Chain>,
    /// Also bundles that their root did not release yet.
    candidates: bool,
}

impl Trusted {
    /// Those that a station trusts. Of a root that is trusted several times the newest version counts.
    pub fn of(trusts: &[Trust]) -> Result<Self> {
        let mut out = Self::default();
        for trust in trusts {
            let Some(file) = &trust.root else {
                out.keys.extend(hex::decode::<32>(&trust.public_key));
                out.packets.extend(trust.packet_key());
                continue;
            };
            let chain =
                roots::chain(file.clone()).map_err(|e| e.while_(&format!("trust in `{}`", trust.name)))?;
            match out.roots.iter_mut().find(|held| held.identity() == chain.identity()) {
                Some(held) => *held = held.newer(&chain).map_err(|e| roots::refused(&e))?.clone(),
                None => out.roots.push(chain),
            }
        }
        Ok(out)
    }

    /// With one more key.
    #[must_use]
    pub fn and(mut self, key: Option<[u8; 32]>) -> Self {
        self.keys.extend(key);
        self
    }

    /// Whether no bundle counts.
    pub fn is_nobody(&self) -> bool {
        self.keys.is_empty() && self.roots.is_empty()
    }

    /// Whether a root that calls itself so is trusted. That it is the one is to be found out.
    fn knows(&self, file: &RootFile) -> bool {
        let first = file.versions.first().and_then(|first| first.root.id().ok());
        self.roots.iter().any(|held| Some(held.identity()) == first)
    }

    /// The keys of which one alone is enough.
    pub fn keys(&self) -> &[[u8; 32]] {
        &self.keys
    }

    /// The keys by which packets of a one-way link are believed.
    pub fn packet_keys(&self) -> &[[u8; 32]] {
        &self.packets
    }
}

impl<const N: usize> From<&[[u8; 32]; N]> for Trusted {
    fn from(keys: &[[u8; 32]; N]) -> Self {
        Self { keys: keys.to_vec(), ..Self::default() }
    }
}

impl From<Vec<[u8; 32]>> for Trusted {
    fn from(keys: Vec<[u8; 32]>) -> Self {
        Self { keys, ..Self::default() }
    }
}

impl From<Chain> for Trusted {
    fn from(root: Chain) -> Self {
        Self { roots: vec![root], ..Self::default() }
    }
}

/// By whose word a bundle counts.
#[derive(Clone, Debug)]
pub enum SignedBy {
    /// The sender's own key, which is trusted by itself.
    Key,
    /// Enough release keys of a root.
    Root {
        /// The newest version that is known, from before or from the bundle.
        chain: Box<Chain>,
        /// Who signed, by name.
        people: Vec<String>,
    },
}

impl SignedBy {
    /// The root, if there is one.
    pub fn root(&self) -> Option<&Chain> {
        match self {
            Self::Key => None,
            Self::Root { chain, .. } => Some(chain),
        }
    }

    /// Whether a trust is in whoever released it.
    pub(super) fn is_of(&self, trust: &Trust, sender: &[u8; 32]) -> bool {
        match (self, trust.root.as_ref().and_then(|file| file.versions.first())) {
            (Self::Root { chain, .. }, Some(first)) => first.root.id().is_ok_and(|id| id == chain.identity()),
            (Self::Key, None) => hex::decode(&trust.public_key) == Some(*sender),
            _ => false,
        }
    }
}

/// The signatures of a bundle and the root that it brings, before anything in its manifest is looked at.
pub(super) struct Signed<'a> {
    text: &'a Text,
    lines: Lines,
    by: SignedBy,
    keys: Vec<[u8; 32]>,
    /// SHA-256 of the root file.
    root: Option<Digest>,
}

/// Reads the root that a bundle brings, if it brings one.
fn read_root(dir: &Path) -> Result<Option<(RootFile, Digest)>> {
    let path = dir.join(ROOT);
    if std::fs::symlink_metadata(&path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let text = roots::read_text(&path)?;
    let file = RootFile::parse(&text).map_err(|e| roots::refused(&e))?;
    Ok(Some((file, Digest::of(text.as_bytes()))))
}

/// Holds the signatures over a manifest against who is trusted.
///
/// # Errors
///
/// Nobody who is trusted signed it, or not enough of them.
pub(super) fn check<'a>(dir: &Path, text: &'a Text, trusted: &Trusted) -> Result<Signed<'a>> {
    let mut lines = Lines::read(dir)?;
    lines.hold(text, |key| trusted.keys.contains(key))?;
    let keys: Vec<[u8; 32]> = trusted.keys.iter().filter(|key| lines.has_signed(key)).copied().collect();
    let brought = read_root(dir)?.map(|(file, digest)| (trusted.knows(&file), file, digest));
    let root = brought.as_ref().map(|(.., digest)| *digest);
    let mut lacks = None;
    // Whoever is known here neither by key nor by root can ask for no more work: a root may name many keys, and each
    // signature over the manifest costs a pass over all of it.
    if let Some((is_trusted, file, _)) = brought.filter(|(known, ..)| *known || !keys.is_empty()) {
        if !is_trusted && claimed_root(text) != root {
            return Err(another_root());
        }
        let chain = newest(file, &trusted.roots)?;
        let release = &chain.newest().release;
        lines.hold(text, |key| release.person(key).is_some())?;
        let tally = lines.tally(release);
        match tally.missing {
            0 if is_trusted => {
                let by = SignedBy::Root { chain: Box::new(chain), people: tally.signed };
                return Ok(Signed { text, lines, by, keys, root });
            }
            0 => {}
            _ => lacks = Some((chain, tally)),
        }
    }
    // Also for those who trust the station by itself, a candidate is none of its bundles yet.
    if !keys.is_empty() && (lacks.is_none() || trusted.candidates) {
        return Ok(Signed { text, lines, by: SignedBy::Key, keys, root });
    }
    let is_known = |key: &[u8; 32]| {
        let named = lacks.as_ref().and_then(|(chain, _)| chain.newest().release.person(key));
        (trusted.keys.contains(key) || named.is_some()) && !lines.has_signed(key)
    };
    if lines.keys().any(is_known) {
        return Err(Error::unsafe_(format!(
            "the signature does not fit {MANIFEST}: one of the two was changed or damaged"
        ))
        .hint("copy the bundle again; if it stays so, tell your security officer"));
    }
    Err(match lacks {
        Some((chain, tally)) => not_released(&chain, &tally, &lines),
        None => {
            let signers: Vec<String> = lines.keys().map(fingerprint).collect();
            Error::unsafe_(format!("the bundle is signed by {}, which is not trusted here", signers.join(" and ")))
                .hint("if it should be, compare the fingerprint with the sender's administrator and run `airlock trust add`")
        }
    })
}

/// The signatures over a bundle's manifest that count for something, of its own list and that of another copy: those of the keys that
/// are trusted, of the station that it names, and of the people whom its root names, one of each. None where the copy adds nobody.
///
/// What anybody may have added says nothing here, however much of it there is.
///
/// # Errors
///
/// A list, the manifest or the root cannot be read.
pub(crate) fn merged(dir: &Path, copy: &Path, trusted: &Trusted) -> Result<Option<String>> {
    let text = Text::read(&dir.join(MANIFEST))?;
    let sender = claimed_sender(&text);
    let root = read_root(dir)?.map(|(file, _)| newest(file, &trusted.roots)).transpose()?;
    let is_named = |key: &[u8; 32]| {
        trusted.keys.contains(key)
            || sender == Some(*key)
            || root.as_ref().is_some_and(|chain| chain.newest().release.person(key).is_some())
    };
    let (mut own, mut others) = (Lines::read(dir)?, Lines::read(copy)?);
    own.hold(&text, is_named)?;
    others.hold(&text, is_named)?;
    let mut all: Vec<&SignatureLine> = Vec::new();
    for line in own.good().chain(others.good()) {
        if !all.iter().any(|other| other.public_key == line.public_key) {
            all.push(line);
        }
    }
    let is_new = all.iter().any(|line| !own.has_signed(&line.public_key));
    Ok(is_new.then(|| all.iter().map(|line| format!("{line}\n")).collect()))
}

/// The newest version of a root: the one that is known, or the one that a bundle brings.
fn newest(file: RootFile, held: &[Chain]) -> Result<Chain> {
    let brought = roots::chain(file)?;
    match held.iter().find(|held| held.identity() == brought.identity()) {
        Some(known) => Ok(known.newer(&brought).map_err(|e| roots::refused(&e))?.clone()),
        None => Ok(brought),
    }
}

fn not_released(chain: &Chain, tally: &Tally, lines: &Lines) -> Error {
    let root = chain.newest();
    let strange = lines.keys().filter(|key| root.release.person(key).is_none());
    let strange: Vec<String> = strange.map(fingerprint).collect();
    let by = if tally.signed.is_empty() { "nobody".to_owned() } else { tally.signed.join(", ") };
    let strange = match strange.is_empty() {
        true => String::new(),
        false => format!("; the signature of {} counts for nothing by it", strange.join(" and ")),
    };
    Error::unsafe_(format!(
        "the bundle is not released: version {} of root `{}` asks for {} signatures, and {by} signed{strange}",
        root.version, root.name, root.release.threshold
    ))
    .hint(format!("{} can sign it with `airlock sign`", people(&tally.open)))
}

/// Names, as a sentence has them.
fn people(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

impl Signed<'_> {
    /// Holds the manifest, which is read by now, against its signatures. Gives the key of the sender.
    pub(super) fn of(mut self, manifest: &Manifest) -> Result<([u8; 32], SignedBy)> {
        let named = hex::decode::<32>(&manifest.sender.public_key);
        self.lines.hold(self.text, |key| Some(*key) == named)?;
        let Some(sender) = named.filter(|key| self.lines.has_signed(key)) else {
            return Err(another_sender());
        };
        if self.root != listed_root(manifest) {
            return Err(another_root());
        }
        match &self.by {
            SignedBy::Key if self.keys.contains(&sender) => {}
            SignedBy::Key => return Err(another_sender()),
            SignedBy::Root { chain, .. } if chain.newest().root.person(&sender).is_some() => {
                return Err(Error::unsafe_(
                    "the sender's own key is a root key: its root can be replaced by it",
                )
                .hint("ask the root's owners for a version without it"));
            }
            SignedBy::Root { .. } => {}
        }
        Ok((sender, self.by))
    }
}

fn listed_root(manifest: &Manifest) -> Option<Digest> {
    root_among(&manifest.extra)
}

fn root_among(extra: &[ExtraFile]) -> Option<Digest> {
    extra.iter().find(|file| file.path == ROOT).map(|file| file.sha256)
}

/// The same of a manifest that is not read yet, and must not be believed to be one.
pub(crate) fn claimed_root(manifest: &Text) -> Option<Digest> {
    #[derive(serde::Deserialize)]
    struct Claim {
        extra: RootAmong,
    }
    serde_json::from_reader::<_, Claim>(manifest.reader()).ok().and_then(|claim| claim.extra.0)
}

/// The root among the files of a list, of which nothing else is held however long it is.
struct RootAmong(Option<Digest>);

impl<'de> serde::Deserialize<'de> for RootAmong {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Files;
        impl<'de> serde::de::Visitor<'de> for Files {
            type Value = RootAmong;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of files")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut files: A,
            ) -> std::result::Result<RootAmong, A::Error> {
                let mut root = None;
                while let Some(file) = files.next_element::<ExtraFile>()? {
                    root = root.or_else(|| root_among(std::slice::from_ref(&file)));
                }
                Ok(RootAmong(root))
            }
        }
        deserializer.deserialize_seq(Files)
    }
}

/// The key of the station that a manifest says to be of.
fn claimed_sender(manifest: &Text) -> Option<[u8; 32]> {
    #[derive(serde::Deserialize)]
    struct Claim {
        sender: Sender,
    }
    let claim: Claim = serde_json::from_reader(manifest.reader()).ok()?;
    hex::decode(&claim.sender.public_key)
}

fn another_sender() -> Error {
    Error::unsafe_("the manifest names another sender than the key that signed it")
}

fn another_root() -> Error {
    Error::unsafe_(format!("{ROOT} is not the one that the manifest lists"))
}

/// How a bundle stands with its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Released {
    /// The root.
    pub root: String,
    /// Its version.
    pub version: u64,
    /// The fingerprint of that.
    pub fingerprint: String,
    /// Who signed, and who is to.
    pub tally: Tally,
}

impl Released {
    pub(super) fn by(chain: &Chain, lines: &Lines) -> Self {
        let root = chain.newest();
        Self {
            root: root.name.clone(),
            version: root.version,
            fingerprint: chain.fingerprint(),
            tally: lines.tally(&root.release),
        }
    }
}

/// In a line, for people: what is missing yet.
impl std::fmt::Display for Released {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { root, version, tally, .. } = self;
        let by = match tally.signed.is_empty() {
            true => String::new(),
            false => format!(", signed by {}", tally.signed.join(", ")),
        };
        match tally.missing {
            0 => write!(f, "released by root `{root}`, version {version}{by}"),
            n => {
                let signatures = if n == 1 { "signature" } else { "signatures" };
                write!(
                    f,
                    "not released yet: root `{root}`, version {version}, asks for {n} more {signatures}{by}; {} can sign it with `airlock sign`",
                    people(&tally.open)
                )
            }
        }
    }
}

/// A bundle that waits for signatures, as one finds it.
#[derive(Debug)]
pub struct Candidate {
    opened: Opened,
    chain: Chain,
    text: Text,
}

impl Candidate {
    /// Opens a bundle that brings a root, whoever signed it until now.
    ///
    /// # Errors
    ///
    /// It brings no root, or is not signed by the station that it names.
    pub fn open(dir: &Path) -> Result<Self> {
        let (text, lines) = (verify::text(dir)?, Lines::read(dir)?);
        // Of all that may have signed, only the station that it names writes it.
        let sender = claimed_sender(&text);
        let keys: Vec<[u8; 32]> = lines.keys().copied().filter(|key| Some(*key) == sender).collect();
        if keys.is_empty() {
            return Err(another_sender());
        }
        let trusted = Trusted { keys, candidates: true, ..Trusted::default() };
        let opened = verify::open_text(dir, &text, &trusted)?;
        let root = read_root(dir)?.filter(|(_, digest)| Some(*digest) == listed_root(&opened.manifest));
        let (file, _) = root.ok_or_else(|| {
            Error::usage("this bundle brings no root: the key of the station that wrote it releases it").hint(
                "name a root in [release] of that station's airlock.toml, then export; see docs/signing.md",
            )
        })?;
        Ok(Self { opened, chain: roots::chain(file)?, text })
    }

    /// What the bundle says.
    pub const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The root that the bundle brings.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Looks at every file, so that what a person signs is whole.
    pub fn check(&self, threads: usize, progress: &Progress) -> Result<()> {
        self.opened.check_listing()?;
        self.opened.check_files(threads, progress)
    }

    /// How it stands.
    pub fn standing(&self) -> Result<Released> {
        Ok(Released::by(&self.chain, &self.lines()?))
    }

    /// Its signatures, each of which was held against it if it is of somebody who releases.
    fn lines(&self) -> Result<Lines> {
        let (mut lines, release) = (Lines::read(&self.opened.dir)?, &self.chain.newest().release);
        lines.hold(&self.text, |key| release.person(key).is_some())?;
        Ok(lines)
    }

    /// Adds a person's signature, unless it is there. Gives their name, and how it stands then.
    ///
    /// # Errors
    ///
    /// The root does not name the key.
    pub fn sign(&self, signer: &Signer) -> Result<(String, Released)> {
        let (root, key) = (self.chain.newest(), signer.public_key());
        let person = root.release.person(&key).ok_or_else(|| {
            Error::unsafe_(format!(
                "version {} of root `{}` does not name {} as a release key",
                root.version,
                root.name,
                fingerprint(&key)
            ))
            .hint("nothing was signed; `airlock key root show FILE` says whose keys release")
        })?;
        let mut lines = self.lines()?;
        if !lines.has_signed(&key) {
            // One that does not fit is of no use.
            let all = lines.with(signer.sign(&self.text.whole()?)?);
            let text: String = all.iter().map(|line| format!("{line}\n")).collect();
            replace(&self.opened.dir, &text)?;
            lines = self.lines()?;
        }
        Ok((person.to_owned(), Released::by(&self.chain, &lines)))
    }
}

/// Replaces the signatures of a bundle: those from before are there, or those from now. What a kill leaves looks like what
/// operating systems leave, which nobody takes for a part of the bundle.
pub(crate) fn replace(dir: &Path, text: &str) -> Result<()> {
    let path: PathBuf = dir.join(SIGNATURES);
    let mut file = tempfile::Builder::new().prefix("._AIRLOCK.").tempfile_in(dir).map_err(file_error(dir))?;
    let mut put = || -> std::io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::PermissionsExt as _;
        file.write_all(text.as_bytes())?;
        let mode = std::fs::metadata(&path)?.permissions().mode();
        // Media without permissions have none to set.
        let _ = file.as_file().set_permissions(std::fs::Permissions::from_mode(mode));
        file.as_file().sync_all()
    };
    put().map_err(file_error(&path))?;
    file.persist(&path).map_err(|e| file_error(&path)(e.error))?;
    super::media::sync(dir)
}
