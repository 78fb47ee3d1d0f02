use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use airlock_testkit::{conda as package, sdist, wheel};
use tempfile::TempDir;

use super::*;

struct Place {
    dir: TempDir,
    /// Before anything was written.
    start: SystemTime,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), start: SystemTime::now() }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn put(&self, below: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root().join(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn package(&self, name: &str) -> PathBuf {
        let package = package(name, "1.0");
        self.put(&format!("noarch/{}", package.file_name("conda")), &package.conda().unwrap())
    }

    fn cache(&self) -> CacheFile {
        CacheFile::new(self.dir.path().join("cache"), "x.zst".into())
    }

    /// Reads `noarch` as if so many seconds had passed since the files were written.
    fn read_later(&self, seconds: u64) -> Bare {
        let how = How { threads: 3, now: self.start + Duration::from_secs(seconds) };
        conda(&self.root(), "noarch", &|_| true, how, &self.cache(), true).unwrap().unwrap()
    }

    fn read(&self) -> Bare {
        self.read_later(0)
    }

    fn pypi(&self) -> Bare {
        pypi(&self.root(), &|_| true, How::now(2), &self.cache()).unwrap().unwrap()
    }
}

fn files(bare: &Bare) -> BTreeSet<&str> {
    bare.read.shards.values().flat_map(|s| s.entries.keys().map(String::as_str)).collect()
}

fn reason<'a>(bare: &'a Bare, file: &str) -> &'a str {
    let bad = bare.read.bad.iter().find(|b| b.file == file);
    &bad.unwrap_or_else(|| panic!("{file} is not among {:?}", bare.read.bad)).reason
}

#[test]
fn nothing_that_lies_among_packages_stops_them_from_being_read() {
    let place = Place::new();
    place.package("good");
    let target = place.package("linked");
    place.put("noarch/empty-1.0-0.conda", b"");
    place.put("noarch/text-1.0-0.tar.bz2", b"no package");
    place.put("noarch/README.txt", b"about");
    place.put("noarch/._good-1.0-0.conda", b"what a Mac leaves");
    place.put("noarch/.hidden-1.0-0.conda", b"x");
    place.put("noarch/other-1.0-0.conda", &package("good", "1.0").conda().unwrap());
    place.put("noarch/platform-1.0-0.conda", &{
        let mut p = package("platform", "1.0");
        p.subdir = "linux-64";
        p.conda().unwrap()
    });
    let outside = place.dir.path().join("secret-1.0-0.conda");
    std::fs::write(&outside, package("secret", "1.0").conda().unwrap()).unwrap();
    let noarch = place.root().join("noarch");
    symlink(&outside, noarch.join("secret-1.0-0.conda")).unwrap();
    symlink("nowhere", noarch.join("broken-1.0-0.conda")).unwrap();
    symlink(&target, noarch.join("again-1.0-0.conda")).unwrap();
    std::fs::create_dir(noarch.join("folder-1.0-0.conda")).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, noarch.join("pipe-1.0-0.conda"), pipe, 0o600.into(), 0).unwrap();
    std::fs::write(noarch.join(OsStr::from_bytes(b"b\xffd-1.0-0.conda")), b"x").unwrap();

    let bare = place.read();
    assert_eq!(files(&bare), BTreeSet::from(["good-1.0-0.conda", "linked-1.0-0.conda"]));
    for (file, part) in [
        ("empty", "zip"),
        ("other", "does not fit"),
        ("platform", "it is for linux-64, and lies in noarch"),
        ("secret", "leads out of the source"),
        ("broken", "cannot be read"),
        ("again", "does not fit"),
        ("folder", "a directory"),
        ("pipe", "no regular file"),
        ("b\u{fffd}d", "not UTF-8"),
        (".hidden", "its name"),
    ] {
        let said = reason(&bare, &format!("noarch/{file}-1.0-0.conda"));
        assert!(said.contains(part), "{file}: {said}");
    }
    assert!(reason(&bare, "noarch/text-1.0-0.tar.bz2").contains("cannot be read"));
    assert_eq!(bare.read.bad_count, 11);
}

#[test]
fn a_link_within_the_source_is_followed_and_a_subdir_that_leads_out_is_refused() {
    let place = Place::new();
    let bytes = package("pooled", "1.0").conda().unwrap();
    let target = place.put("pool/pooled-1.0-0.conda", &bytes);
    std::fs::create_dir(place.root().join("noarch")).unwrap();
    symlink(&target, place.root().join("noarch/pooled-1.0-0.conda")).unwrap();
    assert_eq!(files(&place.read()), BTreeSet::from(["pooled-1.0-0.conda"]));

    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), place.root().join("linux-64")).unwrap();
    let refused = conda(&place.root(), "linux-64", &|_| true, How::now(1), &place.cache(), true);
    assert!(refused.unwrap_err().message.contains("leads out of the source"));
}

#[test]
fn a_record_is_what_the_package_says_and_what_its_bytes_are() {
    let place = Place::new();
    let mut said = package("x", "1.0");
    said.depends = &["python >=3.8"];
    let bytes = said.conda().unwrap();
    place.put("noarch/x-1.0-0.conda", &bytes);
    let old = said.tar_bz2().unwrap();
    place.put("noarch/x-1.0-0.tar.bz2", &old);
    let bare = place.read();
    let shard = bare.read.shards.values().next().unwrap();
    let record = |file: &str| {
        let entry = &shard.entries[file];
        (entry.table.as_str(), serde_json::from_str::<serde_json::Value>(entry.record.as_str()).unwrap())
    };
    assert_eq!(record("x-1.0-0.conda"), ("packages.conda", said.record(&bytes)));
    assert_eq!(record("x-1.0-0.tar.bz2"), ("packages", said.record(&old)));
}

#[test]
fn a_second_reading_opens_only_what_is_new_and_says_the_same() {
    let place = Place::new();
    place.package("one");
    place.put("noarch/none-1.0-0.conda", b"no package");
    let first = place.read_later(10000);
    assert_eq!((first.opened, first.known), (2, 0));
    place.package("two");
    let second = place.read_later(20000);
    assert_eq!((second.opened, second.known), (1, 2));
    assert_eq!(reason(&second, "noarch/none-1.0-0.conda"), reason(&first, "noarch/none-1.0-0.conda"));

    // The same size and time of modification, other bytes: the time of change tells.
    let path = place.package("one");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let zeros = bytes.len();
    bytes.fill(0);
    std::fs::write(&path, &bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let third = place.read_later(30000);
    assert_eq!((third.opened, std::fs::metadata(&path).unwrap().len()), (1, zeros as u64));
    assert_eq!(files(&third), BTreeSet::from(["two-1.0-0.conda"]));

    std::fs::remove_file(&path).unwrap();
    assert_eq!((place.read_later(40000).known, place.read_later(40000).read.bad_count), (2, 1));
    assert_eq!(place.read_later(40000).read.shards, {
        std::fs::remove_dir_all(place.dir.path().join("cache")).unwrap();
        place.read_later(40000).read.shards
    });
}

#[test]
fn a_file_that_changed_a_moment_ago_is_read_again_the_next_time() {
    let place = Place::new();
    place.package("one");
    assert_eq!(place.read().opened, 1);
    assert_eq!(place.read().opened, 1);
    assert_eq!(place.read_later(10000).opened, 1);
    assert_eq!(place.read_later(10000).opened, 0);
}

#[test]
fn a_file_that_is_another_than_was_listed_is_not_taken() {
    let place = Place::new();
    let path = place.package("one");
    let root = place.root().canonicalize().unwrap();
    let listing = list::list(&root, "noarch", Ecosystem::Conda).unwrap().unwrap();
    std::fs::write(&path, package("one", "1.0").tar_bz2().unwrap()).unwrap();
    let read = read::read_all(Ecosystem::Conda, "noarch", &listing.found, How::now(1)).unwrap();
    assert!(read[0].said.as_ref().unwrap_err().contains("changed while it was read") && !read[0].lasts);
    std::fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    let read = read::read_all(Ecosystem::Conda, "noarch", &listing.found, How::now(1)).unwrap();
    assert!(read[0].said.is_err() && !read[0].lasts);
}

#[test]
fn an_index_that_is_not_read_is_not_passed_over() {
    let place = Place::new();
    place.package("one");
    place.put("noarch/repodata.json.bz2", b"x");
    let refused = conda(&place.root(), "noarch", &|_| true, How::now(1), &place.cache(), true);
    assert!(refused.unwrap_err().message.contains("repodata.json.bz2"));
    assert!(conda(&place.root(), "noarch", &|_| true, How::now(1), &place.cache(), false).is_ok());
    assert!(conda(&place.root(), "osx-64", &|_| true, How::now(1), &place.cache(), true).unwrap().is_none());
}

#[test]
fn python_files_lie_flat_or_by_project_and_say_where() {
    let place = Place::new();
    let (wheel_, sdist_) = (wheel("Air.Demo", "1.2"), sdist("other", "2.0"));
    place.put(&wheel_.file_name(), &wheel_.bytes().unwrap());
    place.put(&format!("other/{}", sdist_.file_name()), &sdist_.bytes().unwrap());
    place.put("other/deep/x-1.0-py3-none-any.whl", b"too deep");
    place.put("two words/y-1.0.tar.gz", b"x");
    place.put("z-3.0.zip", &sdist("z", "3.0").zip_bytes().unwrap());
    place.put("liar-1.0-py3-none-any.whl", &wheel("liar", "2.0").bytes().unwrap());
    let bare = place.pypi();
    let urls: Vec<String> = bare
        .read
        .shards
        .values()
        .flat_map(|s| s.entries.values())
        .map(|e| e.record.read::<serde_json::Value>().unwrap()["url"].as_str().unwrap().to_owned())
        .collect();
    let expected = [wheel_.file_name(), format!("other/{}", sdist_.file_name()), "z-3.0.zip".to_owned()];
    assert_eq!(urls, expected.map(|below| format!("../../{below}")));
    assert!(reason(&bare, "liar-1.0-py3-none-any.whl").contains("version 2.0"));
    assert!(reason(&bare, "two words/y-1.0.tar.gz").contains("directory"));
    let entry = &bare.read.shards.values().next().unwrap().entries[&wheel_.file_name()];
    let record: serde_json::Value = entry.record.read().unwrap();
    let bytes = wheel_.bytes().unwrap();
    let expected = serde_json::json!({
        "filename": wheel_.file_name(), "url": format!("../../{}", wheel_.file_name()), "size": bytes.len(),
        "hashes": {"sha256": Digest::of(&bytes).to_string()}, "requires-python": ">=3.8",
    });
    assert_eq!(record, expected);
}

#[test]
fn of_two_files_with_one_name_that_differ_neither_is_taken() {
    let place = Place::new();
    let file = wheel("x", "1.0").file_name();
    let mut other = wheel("x", "1.0");
    other.summary = "other bytes";
    place.put(&format!("a/{file}"), &wheel("x", "1.0").bytes().unwrap());
    place.put(&format!("b/{file}"), &other.bytes().unwrap());
    let bare = place.pypi();
    assert!(files(&bare).is_empty() && bare.read.bad_count == 2);
    assert!(reason(&bare, &format!("a/{file}")).contains("not the same"));
    place.put(&format!("b/{file}"), &wheel("x", "1.0").bytes().unwrap());
    assert_eq!((files(&place.pypi()), place.pypi().read.bad_count), (BTreeSet::from([file.as_str()]), 0));
}
