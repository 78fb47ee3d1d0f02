//! Reading Simple pages. HTML pages become the same records as JSON ones.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::record::Artifact;
use airlock_core::shard::{Entry, Shard, ShardKey};

use super::html::{Attributes, tags};
use crate::limits;
use crate::read::{IndexError, IndexRead, brief, canonical, keep, text};
use crate::stream;

/// Name-level keys that are not carried: recomputed here, private to the index (PEP 691), or leading
/// outside (PEP 708).
const DROPPED: [&str; 6] = ["files", "name", "meta", "versions", "alternate-locations", "tracks"];

/// Whether a name-level key is carried from page to page.
pub(super) fn is_carried(key: &str) -> bool {
    !DROPPED.contains(&key) && !key.starts_with('_')
}

fn canonical_project(name: &str) -> Result<String, IndexError> {
    ecosystem::canonical_name(Ecosystem::Pypi, name).ok_or_else(|| {
        IndexError::Content(format!(
            "`{}` cannot be a project name",
            name.chars().take(80).collect::<String>()
        ))
    })
}

/// Reads the JSON page of `project` (its canonical name). `index` names it in messages.
pub fn read_project_json(project: &str, index: &str, bytes: &[u8]) -> Result<IndexRead, IndexError> {
    check_size(bytes, limits::PAGE_BYTES_MAX)?;
    let mut out = Collector::new(project, index);
    stream::members(text(bytes)?, |key, value| {
        match key {
            "meta" => check_version(value)?,
            "name" => {
                let name: String = serde_json::from_str(value.get())?;
                if canonical_project(&name)? != project {
                    return Err(IndexError::Content(format!(
                        "it is about project `{name}`, not `{project}`"
                    )));
                }
            }
            "files" => stream::items(value.get(), |file| match canonical(file.get()) {
                Ok(record) => out.record(record),
                Err(error) => {
                    out.read.leave_out(index, "(a file without a readable name)", error);
                    out.count()
                }
            })?,
            key if is_carried(key) => {
                let value = canonical(value.get()).map_err(IndexError::Content)?;
                out.shard.meta.insert(key.to_owned(), value);
                if out.shard.meta.len() > limits::ABOUT_KEYS_MAX {
                    return Err(IndexError::TooMany("keys beside its files", limits::ABOUT_KEYS_MAX as u64));
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(out.finish())
}

/// An index of another major version means something else by the same words (PEP 629).
fn check_version(meta: &RawValue) -> Result<(), IndexError> {
    stream::members(meta.get(), |key, value| {
        if key != "api-version" {
            return Ok(());
        }
        match serde_json::from_str::<String>(value.get()) {
            Ok(version) => check_major(&version),
            Err(_) => check_major(value.get()),
        }
    })
}

fn check_major(version: &str) -> Result<(), IndexError> {
    if version.split('.').next().map(str::trim) == Some("1") {
        return Ok(());
    }
    Err(IndexError::Content(format!("it speaks version {} of the Simple API, not 1", brief(version))))
}

fn check_size(bytes: &[u8], most: u64) -> Result<(), IndexError> {
    if bytes.len() as u64 > most { Err(IndexError::TooLarge(most)) } else { Ok(()) }
}

struct Collector<'a> {
    index: &'a str,
    shard: Shard,
    read: IndexRead,
    files: u64,
}

impl<'a> Collector<'a> {
    fn new(project: &str, index: &'a str) -> Self {
        Self {
            index,
            shard: Shard::new(Ecosystem::Pypi, project.to_owned(), None),
            read: IndexRead::default(),
            files: 0,
        }
    }

    /// Counts a file, bad or not.
    fn count(&mut self) -> Result<(), IndexError> {
        self.files += 1;
        if self.files > limits::PAGE_FILES_MAX {
            return Err(IndexError::TooMany("files", limits::PAGE_FILES_MAX));
        }
        Ok(())
    }

    /// Takes one record; only too many of them are an error.
    fn record(&mut self, record: Canonical) -> Result<(), IndexError> {
        self.count()?;
        let name = record
            .members()
            .into_iter()
            .find(|(k, _)| k == "filename")
            .and_then(|(_, v)| v.read::<String>().ok());
        let Some(file) = name else {
            self.read.leave_out(self.index, "(a file without a name)", "the record has no `filename`");
            return Ok(());
        };
        let entry = Entry { table: "files".to_owned(), record };
        if let Err(error) = Artifact::from_parts(Ecosystem::Pypi, &self.shard.name, &file, &entry) {
            self.read.leave_out(self.index, &file, error);
        } else if let Err(error) = keep(&mut self.shard.entries, &file, entry) {
            self.read.leave_out(self.index, &file, error);
        }
        Ok(())
    }

    fn finish(self) -> IndexRead {
        let mut read = self.read;
        let key = ShardKey { subdir: None, name: self.shard.name.clone() };
        read.shards.insert(key, self.shard);
        read
    }
}

/// Reads the HTML page of `project` (PEP 503): each anchor becomes the record that the JSON page would hold.
pub fn read_project_html(project: &str, index: &str, bytes: &[u8]) -> Result<IndexRead, IndexError> {
    check_size(bytes, limits::PAGE_BYTES_MAX)?;
    let mut out = Collector::new(project, index);
    let page = html_text(bytes)?;
    out.read.base_url = tags(page, "base").find_map(|mut base| base.remove("href"));
    if let Some(status) = meta_content(page, "pypi:project-status") {
        let mut value = serde_json::json!({ "status": status });
        if let Some(reason) = meta_content(page, "pypi:project-status-reason") {
            value["reason"] = reason.into();
        }
        out.shard.meta.insert("project-status".to_owned(), Canonical::of(&value)?);
    }
    for anchor in tags(page, "a") {
        match anchor_record(&anchor) {
            Some(record) => out.record(Canonical::of(&record)?)?,
            None => {
                let href = anchor.get("href").map_or("(a link without an address)", String::as_str);
                out.read.leave_out(index, href, "the link has no usable address");
                out.count()?;
            }
        }
    }
    Ok(out.finish())
}

fn anchor_record(anchor: &Attributes) -> Option<serde_json::Value> {
    let href = anchor.get("href")?;
    let (url, fragment) = href.split_once('#').unwrap_or((href, ""));
    let last = url.split(['?']).next()?.rsplit('/').next()?;
    let file = percent_decode(last)?;
    let mut hashes = serde_json::Map::new();
    for part in fragment.split('&') {
        if let Some((name @ ("sha256" | "md5" | "sha512" | "sha384" | "blake2b"), value)) =
            part.split_once('=')
        {
            hashes.insert(name.to_owned(), value.into());
        }
    }
    let mut record = serde_json::json!({"filename": file, "url": url, "hashes": hashes});
    if let Some(python) = anchor.get("data-requires-python") {
        record["requires-python"] = python.clone().into();
    }
    if let Some(reason) = anchor.get("data-yanked") {
        record["yanked"] = if reason.is_empty() { true.into() } else { reason.clone().into() };
    }
    // PEP 714: the second name is the first one's misspelt ancestor.
    if let Some(metadata) = anchor.get("data-core-metadata").or_else(|| anchor.get("data-dist-info-metadata"))
    {
        record["core-metadata"] = match metadata.split_once('=') {
            Some((algorithm, hash)) => serde_json::json!({ algorithm: hash }),
            None => (metadata != "false").into(),
        };
    }
    Some(record)
}

/// Decodes percent escapes once; what they hide must be UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next()?, bytes.next()?];
            let decoded: [u8; 1] = airlock_core::hex::decode(std::str::from_utf8(&pair).ok()?)?;
            out.extend(decoded);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// The text of a page, whose declared version was checked (PEP 629).
fn html_text(bytes: &[u8]) -> Result<&str, IndexError> {
    let page = text(bytes)?;
    if let Some(version) = meta_content(page, "pypi:repository-version") {
        check_major(&version)?;
    }
    Ok(page)
}

fn meta_content(page: &str, name: &str) -> Option<String> {
    let mut named = tags(page, "meta").filter(|meta| meta.get("name").is_some_and(|n| n == name));
    named.next()?.remove("content")
}

/// Reads the JSON list of all projects: their canonical names.
pub fn read_projects_json(bytes: &[u8]) -> Result<Vec<String>, IndexError> {
    #[derive(serde::Deserialize)]
    struct Project {
        name: String,
    }
    check_size(bytes, limits::PROJECTS_BYTES_MAX)?;
    let mut names = Names::default();
    stream::members(text(bytes)?, |key, value| match key {
        "meta" => check_version(value),
        "projects" => stream::items(value.get(), |project| {
            let project: Project = serde_json::from_str(project.get())?;
            names.add(ecosystem::canonical_name(Ecosystem::Pypi, &project.name))
        }),
        _ => Ok(()),
    })?;
    Ok(names.0.into_iter().collect())
}

/// Names of projects, each once.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn add(&mut self, name: Option<String>) -> Result<(), IndexError> {
        self.0.extend(name);
        if self.0.len() > limits::PROJECTS_MAX {
            return Err(IndexError::TooMany("names", limits::PROJECTS_MAX as u64));
        }
        Ok(())
    }
}

/// Reads the HTML list of all projects.
pub fn read_projects_html(bytes: &[u8]) -> Result<Vec<String>, IndexError> {
    check_size(bytes, limits::PROJECTS_BYTES_MAX)?;
    let page = html_text(bytes)?;
    let from_href = |a: &Attributes| {
        let href = a.get("href")?.split(['#', '?']).next()?.trim_end_matches('/').to_owned();
        ecosystem::canonical_name(Ecosystem::Pypi, &percent_decode(href.rsplit('/').next()?)?)
    };
    let mut names = Names::default();
    for anchor in tags(page, "a") {
        names.add(from_href(&anchor))?;
    }
    Ok(names.0.into_iter().collect())
}
