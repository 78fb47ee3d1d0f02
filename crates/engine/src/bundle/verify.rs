//! Checking a bundle with nothing but a public key.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use airlock_core::bundle::{
    self, MANIFEST, MANIFEST_BYTES_MAX, Manifest, ObjectFile, SIGNATURES, SIGNATURES_BYTES_MAX, SignatureLine,
};
use airlock_core::canon::Canonical;
use airlock_core::id::Digest;
use airlock_core::litter;
use airlock_core::object;

use crate::error::{Error, Result, file_error};
use crate::keys;

/// Longest line of an object file, in bytes.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// A bundle whose manifest is signed by a known key. Its files are not looked at yet.
#[derive(Debug)]
pub struct Opened {
    /// Where it lies.
    pub dir: PathBuf,
    /// What it says.
    pub manifest: Manifest,
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// The key that signed it.
    pub signer: [u8; 32],
}

fn read_limited(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::unsafe_(format!("{} is missing: this is no whole bundle", path.display()))
                .hint("give the folder that holds AIRLOCK.json; if the copy was broken off, copy it again")
        }
        _ => file_error(path)(e),
    })?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(file_error(path))?;
    if bytes.len() as u64 > most {
        return Err(Error::unsafe_(format!("{} is larger than {most} bytes", path.display())));
    }
    Ok(bytes)
}

/// Opens a bundle: its manifest must be signed by one of `keys`.
pub fn open(dir: &Path, keys: &[[u8; 32]]) -> Result<Opened> {
    if !dir.is_dir() {
        return Err(Error::usage(format!("{} is no folder", dir.display()))
            .hint("give the folder that holds AIRLOCK.json"));
    }
    let bytes = read_limited(&dir.join(MANIFEST), MANIFEST_BYTES_MAX)?;
    let signatures = read_limited(&dir.join(SIGNATURES), SIGNATURES_BYTES_MAX)?;
    let lines =
        std::str::from_utf8(&signatures).ok().and_then(SignatureLine::parse_all).ok_or_else(|| {
            Error::unsafe_(format!("{SIGNATURES} is not a list of Ed25519 signatures"))
                .hint("ask the sender for a new copy")
        })?;
    let known: Vec<&SignatureLine> = lines.iter().filter(|l| keys.contains(&l.public_key)).collect();
    if known.is_empty() {
        let signers: Vec<String> = lines.iter().map(|l| bundle::fingerprint(&l.public_key)).collect();
        return Err(Error::unsafe_(format!("the bundle is signed by {}, which is not trusted here", signers.join(" and ")))
            .hint("if it should be, compare the fingerprint with the sender's administrator and run `airlock trust add`"));
    }
    let signer = known.iter().find(|l| keys::verifies(l, &bytes)).ok_or_else(|| {
        Error::unsafe_(format!(
            "the signature does not fit {MANIFEST}: one of the two was changed or damaged"
        ))
        .hint("copy the bundle again; if it stays so, tell your security officer")
    })?;
    let manifest = parse(&bytes)?;
    if manifest.sender.public_key != airlock_core::hex::encode(&signer.public_key) {
        return Err(Error::unsafe_("the manifest names another sender than the key that signed it"));
    }
    Ok(Opened { dir: dir.to_owned(), manifest, digest: Digest::of(&bytes), signer: signer.public_key })
}

/// Reads a manifest and checks everything that it alone can tell.
fn parse(bytes: &[u8]) -> Result<Manifest> {
    let bad = |what: String| Error::unsafe_(format!("{MANIFEST} {what}"));
    let text = std::str::from_utf8(bytes).map_err(|_| bad("is not UTF-8".to_owned()))?;
    let canonical = Canonical::parse(text).map_err(|e| bad(format!("cannot be read: {e}")))?;
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let format: Format = canonical.read().map_err(|e| bad(format!("cannot be read: {e}")))?;
    if format.format > bundle::FORMAT {
        return Err(bad(format!(
            "has layout {}, this program reads up to {}",
            format.format,
            bundle::FORMAT
        ))
        .hint("update this station's airlock"));
    }
    let manifest: Manifest = canonical.read().map_err(|e| bad(format!("cannot be read: {e}")))?;
    let mut seen = BTreeSet::new();
    for path in listed(&manifest) {
        if !bundle::is_bundle_path(path) {
            return Err(bad(format!("names a file outside the bundle: `{}`", path.escape_default())));
        }
        if !seen.insert(path.to_ascii_lowercase()) {
            return Err(bad(format!("names `{path}` twice")));
        }
    }
    Ok(manifest)
}

/// Every path that a manifest lists.
pub(super) fn listed(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let objects = manifest.objects.iter().map(|f| f.path.as_str());
    let files = manifest.files.iter().map(|f| f.path.as_str());
    objects.chain(files).chain(manifest.extra.iter().map(|f| f.path.as_str()))
}

/// Every file of a directory but the manifest, the signatures and what operating systems leave there.
pub(super) fn files_in(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut out = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(file_error(&folder))? {
            let entry = entry.map_err(file_error(&folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_own = folder == dir && [MANIFEST, SIGNATURES].contains(&name.as_str());
            if is_own || litter::is_litter(&name) {
                continue;
            }
            if entry.file_type().map_err(file_error(entry.path()))?.is_dir() {
                folders.push(entry.path());
            } else {
                out.insert(entry.path());
            }
        }
    }
    Ok(out)
}

impl Opened {
    /// Compares the files that are there with those that are listed, by name, kind and size.
    pub fn check_listing(&self) -> Result<()> {
        let there = files_in(&self.dir)?;
        let listed: BTreeSet<PathBuf> = listed(&self.manifest).map(|p| self.dir.join(p)).collect();
        if let Some(stranger) = there.difference(&listed).next() {
            return Err(Error::unsafe_(format!(
                "{} is not in the manifest: somebody put it there",
                stranger.display()
            ))
            .hint("do not import this; tell your security officer"));
        }
        if let Some(missing) = listed.difference(&there).next() {
            return Err(Error::unsafe_(format!("{} is missing: the manifest lists it", missing.display()))
                .hint("the copy was broken off or the medium is damaged: copy the bundle again"));
        }
        for (path, size) in self.sizes() {
            let path = self.dir.join(path);
            let meta = fs::symlink_metadata(&path).map_err(file_error(&path))?;
            if !meta.is_file() {
                return Err(Error::unsafe_(format!("{} is no ordinary file", path.display())));
            }
            if meta.len() != size {
                let what = if meta.len() < size { "cut short" } else { "too long" };
                return Err(Error::unsafe_(format!(
                    "{} is {what}: it has {} bytes, the manifest says {size}",
                    path.display(),
                    meta.len()
                ))
                .hint("the copy was broken off or the medium is damaged: copy the bundle again"));
            }
        }
        Ok(())
    }

    fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        let m = &self.manifest;
        let objects = m.objects.iter().map(|f| (f.path.as_str(), f.size));
        let files = m.files.iter().map(|f| (f.path.as_str(), f.size));
        objects.chain(files).chain(m.extra.iter().map(|f| (f.path.as_str(), f.size)))
    }

    /// Reads one file, hands its bytes to `each`, and compares its hash.
    pub fn read_file(
        &self,
        path: &str,
        sha256: Digest,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let path = self.dir.join(path);
        let mut file = File::open(&path).map_err(file_error(&path))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer).map_err(file_error(&path))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            each(&buffer[..n])?;
        }
        if Digest::from_bytes(hasher.finalize().into()) == sha256 { Ok(()) } else { Err(changed(&path)) }
    }

    /// Reads the objects of one file and hands each to `each`, checked against its own name. The file's hash
    /// must have been compared before: what is unpacked here is what the sender wrote.
    pub fn read_objects(
        &self,
        file: &ObjectFile,
        mut each: impl FnMut(object::Encoded) -> Result<()>,
    ) -> Result<()> {
        let path = self.dir.join(&file.path);
        let source = File::open(&path).map_err(file_error(&path))?;
        let mut decoder = zstd::Decoder::new(source).map_err(file_error(&path))?;
        decoder.window_log_max(27).map_err(file_error(&path))?;
        let mut reader = BufReader::with_capacity(1 << 18, decoder.take(file.unpacked.saturating_add(1)));
        let (mut lines, mut seen) = (0u64, 0u64);
        loop {
            let mut line = Vec::new();
            let n =
                (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(file_error(&path))?;
            if n == 0 {
                break;
            }
            seen += n as u64;
            lines += 1;
            if line.pop() != Some(b'\n') || seen > file.unpacked {
                return Err(Error::unsafe_(format!(
                    "{} holds more than the manifest says, or ends in the middle of a line",
                    path.display()
                )));
            }
            let digest = Digest::of(&line);
            object::check(digest, &line)
                .map_err(|e| Error::unsafe_(format!("{}, line {lines}: {e}", path.display())))?;
            each(object::Encoded { digest, bytes: line })?;
        }
        if lines != file.lines || seen != file.unpacked {
            return Err(Error::unsafe_(format!(
                "{} holds {lines} objects, the manifest says {}",
                path.display(),
                file.lines
            )));
        }
        Ok(())
    }

    /// Compares every file with its hash, and every object with its name.
    pub fn check_files(&self) -> Result<()> {
        let m = &self.manifest;
        for file in &m.extra {
            self.read_file(&file.path, file.sha256, |_| Ok(()))?;
        }
        for file in &m.objects {
            self.read_file(&file.path, file.sha256, |_| Ok(()))?;
            self.read_objects(file, |_| Ok(()))?;
        }
        for file in &m.files {
            self.read_file(&file.path, file.sha256, |_| Ok(()))?;
        }
        Ok(())
    }
}

fn changed(path: &Path) -> Error {
    Error::unsafe_(format!(
        "{} was changed or is damaged: its hash is not the one in the manifest",
        path.display()
    ))
    .hint("copy the bundle again; if it stays so, tell your security officer")
}
