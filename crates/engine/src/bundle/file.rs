//! A bundle as one file: a tar archive of its folder, for what is small enough to be handed over so. It is signed as the
//! folder is, and taken in as the folder is.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Component, Path};

use tar::{Archive, Builder, EntryType, Header};

use super::export::{self, Report, What};
use super::import::{self, Wish};
use crate::error::{Error, Result, file_error, joined};
use crate::station::Station;
use crate::work;

/// Files in such an archive.
const FILES_MAX: usize = 10_000;
/// Their bytes.
const BYTES_MAX: u64 = 64 << 30;

/// Writes a bundle into one file, which stands there whole or not at all.
pub async fn export(station: &Station, path: &Path, what: &What) -> Result<Report> {
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::tempdir_in(beside).map_err(file_error(beside))?;
    let bundle = folder.path().join("bundle");
    let report = export::export(station, &bundle, what).await?;
    let (path, beside, from) = (path.to_owned(), beside.to_owned(), bundle.clone());
    let archive = move || replace(&from, &beside, &path);
    match joined(tokio::task::spawn_blocking(archive).await) {
        Ok(()) => Ok(report),
        Err(e) => {
            // The number is taken and signed: what has it is not to be lost.
            let kept = folder.keep().join("bundle");
            Err(e.hint(format!(
                "bundle {} itself is written: it lies in {}, and can be carried as it is",
                report.number,
                kept.display()
            )))
        }
    }
}

/// Works on the folder of a bundle, which may be one file: then the file holds afterwards what the folder does.
pub fn in_folder<T>(path: &Path, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    if !path.is_file() {
        return work(path);
    }
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::tempdir_in(beside).map_err(file_error(beside))?;
    unpack(path, folder.path())?;
    let done = work(folder.path())?;
    replace(folder.path(), beside, path)?;
    Ok(done)
}

/// Archives a folder into a file that stands there whole or not at all.
fn replace(from: &Path, beside: &Path, path: &Path) -> Result<()> {
    let file = tempfile::NamedTempFile::new_in(beside).map_err(file_error(beside))?;
    pack(from, file.as_file()).map_err(file_error(path))?;
    file.as_file().sync_all().map_err(file_error(path))?;
    file.persist(path).map_err(|e| file_error(path)(e.error))?;
    Ok(())
}

/// Archives a folder. Names, sizes and bytes are all that is kept, in the order of their names.
fn pack(folder: &Path, into: &File) -> std::io::Result<()> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    let mut tar = Builder::new(std::io::BufWriter::with_capacity(1 << 20, into));
    for path in files {
        let file = File::open(&path)?;
        let mut header = Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(0o644);
        header.set_mtime(0);
        let name = path.strip_prefix(folder).unwrap_or(&path);
        tar.append_data(&mut header, name, BufReader::with_capacity(1 << 20, file))?;
    }
    tar.into_inner()?.flush()
}

/// Takes in a bundle that is one file, or a folder.
///
/// # Errors
///
/// As for a folder; and if the archive holds anything but plain files with plain names.
pub async fn import(station: &Station, path: &Path) -> Result<import::Report> {
    import_with(station, path, &Wish::default()).await
}

/// The same, as a person wishes it.
pub async fn import_with(station: &Station, path: &Path, wish: &Wish) -> Result<import::Report> {
    if path.is_dir() {
        return import::import_with(station, &[path.to_owned()], wish).await;
    }
    let folder = work::folder(&station.dir)?;
    let (from, into) = (path.to_owned(), folder.path().to_owned());
    joined(tokio::task::spawn_blocking(move || unpack(&from, &into)).await)?;
    import::import_with(station, &[folder.path().to_owned()], wish).await
}

/// Unpacks an archive that anybody may have made; nothing of it counts before the bundle in it was verified.
fn unpack(path: &Path, into: &Path) -> Result<()> {
    let shown = path.display();
    let refused = |why: String| {
        Error::unsafe_(format!("{shown} is no bundle in one file: {why}")).hint(
            "`airlock advisories export` writes one; a bundle in a folder is taken in with `airlock import`, and what is no bundle with `--channel NAME`",
        )
    };
    let file = crate::files::open_regular(path).map_err(file_error(path))?;
    let room = file.metadata().map_err(file_error(path))?.len();
    super::media::check_room(into, super::media::room_for(std::iter::once(room)))?;
    let mut tar = Archive::new(BufReader::with_capacity(1 << 20, file));
    let (mut files, mut left) = (0, BYTES_MAX.min(room));
    // Raw: long names and other extensions, which would be read whole, are refused as what they are.
    for entry in tar.entries().map_err(|e| refused(e.to_string()))?.raw(true) {
        let mut entry = entry.map_err(|e| refused(e.to_string()))?;
        let name = entry.path().map_err(|e| refused(e.to_string()))?.into_owned();
        if entry.header().entry_type() != EntryType::Regular || !is_plain(&name) {
            return Err(refused(format!("`{}` is no plain file", name.display().to_string().escape_debug())));
        }
        files += 1;
        if files > FILES_MAX || entry.size() > left {
            return Err(refused("it holds more than it may".to_owned()));
        }
        left -= entry.size();
        let to = into.join(&name);
        let folder = to.parent().unwrap_or(into);
        std::fs::create_dir_all(folder).map_err(file_error(folder))?;
        let mut out = File::create_new(&to).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => refused(format!("`{}` is in it twice", name.display())),
            _ => file_error(&to)(e),
        })?;
        copy(&mut entry, &mut out).map_err(|e| refused(e.to_string()))?;
    }
    Ok(())
}

fn copy(from: &mut impl std::io::Read, to: &mut File) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..n).unwrap_or_default())?;
    }
}

/// Whether a name leads to a file within a folder, on every system.
fn is_plain(name: &Path) -> bool {
    let is_plain = |part: &str| {
        !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let parts: Vec<Component<'_>> = name.components().collect();
    let shown = name.to_str().unwrap_or_default();
    !parts.is_empty()
        && parts.len() <= 8
        && shown == parts.iter().map(|p| p.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
        && parts.iter().all(|part| match part {
            Component::Normal(part) => part.to_str().is_some_and(is_plain),
            _ => false,
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, kind, bytes) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // As an attacker writes it, not as the library would.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(bytes);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    fn unpacked(bytes: &[u8]) -> (Result<()>, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let (path, into) = (dir.path().join("in.tar"), dir.path().join("a/into"));
        std::fs::create_dir_all(&into).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let result = unpack(&path, &into);
        let outside = ["evil", "a/evil"].map(|name| dir.path().join(name));
        (result, outside.into_iter().filter(|path| path.exists()).collect())
    }

    #[test]
    fn an_archive_leads_nowhere_but_into_its_folder() {
        for (name, kind) in [
            ("../evil", EntryType::Regular),
            ("x/../../evil", EntryType::Regular),
            ("/tmp/evil-of-a-test", EntryType::Regular),
            (".hidden", EntryType::Regular),
            ("a b", EntryType::Regular),
            ("link", EntryType::Symlink),
            ("link", EntryType::Link),
            ("fifo", EntryType::Fifo),
            ("folder", EntryType::Directory),
            ("longname", EntryType::GNULongName),
            ("longlink", EntryType::GNULongLink),
            ("pax", EntryType::XHeader),
            ("pax-for-all", EntryType::XGlobalHeader),
        ] {
            let (result, outside) = unpacked(&archive(&[(name, kind, b"")]));
            assert!(result.unwrap_err().message.contains("no plain file"), "{name}");
            assert_eq!(outside, Vec::<PathBuf>::new(), "{name}");
        }
        let twice = archive(&[("a", EntryType::Regular, b"1"), ("a", EntryType::Regular, b"2")]);
        assert!(unpacked(&twice).0.unwrap_err().message.contains("twice"));
        let (result, _) = unpacked(&archive(&[("objects/x.zst", EntryType::Regular, b"1")]));
        result.unwrap();
        assert!(unpacked(&[7; 5000]).0.unwrap_err().message.contains("is no bundle in one file"));
        // A size that is not there.
        let mut header = Header::new_gnu();
        header.set_size(1 << 40);
        header.set_path("a").unwrap();
        header.set_cksum();
        let (result, _) = unpacked(header.as_bytes());
        assert!(result.unwrap_err().message.contains("more than it may"));
    }
}
