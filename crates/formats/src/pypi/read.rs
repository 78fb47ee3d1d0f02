//! Reading Simple pages. HTML pages become the same records as JSON ones.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::record::Artifact;
use airlock_core::shard::{Entry, Shard, ShardKey};

use crate::limits;
use crate::read::{IndexError, IndexRead, brief, canonical, keep, text};

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
    let page: BTreeMap<String, &RawValue> = serde_json::from_str(text(bytes)?)?;
    check_version(page.get("meta").copied())?;
    if let Some(name) = page.get("name") {
        let name: String = serde_json::from_str(name.get())?;
        if canonical_project(&name)? != project {
            return Err(IndexError::Content(format!("it is about project `{name}`, not `{project}`")));
        }
    }
    let files: Vec<&RawValue> =
        page.get("files").map_or(Ok(Vec::new()), |f| serde_json::from_str(f.get()))?;
    let mut out = Collector::new(project, index);
    for file in files {
        match canonical(file.get()) {
            Ok(record) => out.record(record),
            Err(error) => out.read.leave_out(index, "(a file without a readable name)", error),
        }
    }
    for (key, value) in page {
        if is_carried(&key) {
            out.shard.meta.insert(key, canonical(value.get()).map_err(IndexError::Content)?);
        }
    }
    Ok(out.finish())
}

/// An index of another major version means something else by the same words (PEP 629).
fn check_version(meta: Option<&RawValue>) -> Result<(), IndexError> {
    let meta: BTreeMap<String, serde_json::Value> =
        meta.map_or(Ok(BTreeMap::new()), |m| serde_json::from_str(m.get()))?;
    match meta.get("api-version") {
        None => Ok(()),
        Some(serde_json::Value::String(version)) => check_major(version),
        Some(other) => check_major(&other.to_string()),
    }
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
}

impl<'a> Collector<'a> {
    fn new(project: &str, index: &'a str) -> Self {
        Self {
            index,
            shard: Shard::new(Ecosystem::Pypi, project.to_owned(), None),
            read: IndexRead::default(),
        }
    }

    fn record(&mut self, record: Canonical) {
        let name = record
            .members()
            .into_iter()
            .find(|(k, _)| k == "filename")
            .and_then(|(_, v)| v.read::<String>().ok());
        let Some(file) = name else {
            self.read.leave_out(self.index, "(a file without a name)", "the record has no `filename`");
            return;
        };
        let entry = Entry { table: "files".to_owned(), record };
        if let Err(error) = Artifact::from_parts(Ecosystem::Pypi, &self.shard.name, &file, &entry) {
            self.read.leave_out(self.index, &file, error);
            return;
        }
        if let Err(error) = keep(&mut self.shard.entries, &file, entry) {
            self.read.leave_out(self.index, &file, error);
        }
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
    let document = parse_html(text(bytes)?)?;
    out.read.base_url = tags(&document, b"base").find_map(|mut base| base.remove("href"));
    if let Some(status) = meta_content(&document, "pypi:project-status") {
        let mut value = serde_json::json!({ "status": status });
        if let Some(reason) = meta_content(&document, "pypi:project-status-reason") {
            value["reason"] = reason.into();
        }
        out.shard.meta.insert("project-status".to_owned(), Canonical::of(&value)?);
    }
    for anchor in tags(&document, b"a") {
        match anchor_record(&anchor) {
            Some(record) => out.record(Canonical::of(&record)?),
            None => {
                let href = anchor.get("href").map_or("(a link without an address)", String::as_str);
                out.read.leave_out(index, href, "the link has no usable address");
            }
        }
    }
    Ok(out.finish())
}

type Attributes = BTreeMap<String, String>;

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

/// Parses a page and checks the version that it declares (PEP 629).
fn parse_html(text: &str) -> Result<tl::VDom<'_>, IndexError> {
    let document = tl::parse(text, tl::ParserOptions::default())
        .map_err(|e| IndexError::Content(format!("it is not HTML that can be read: {e}")))?;
    if let Some(version) = meta_content(&document, "pypi:repository-version") {
        check_major(&version)?;
    }
    Ok(document)
}

/// The attributes of every tag of this name. The text inside is never asked for: to collect it, the parser
/// recurses as deep as the page nests.
fn tags<'a>(document: &'a tl::VDom<'a>, name: &'static [u8]) -> impl Iterator<Item = Attributes> + 'a {
    let tags = document.nodes().iter().filter_map(|node| node.as_tag());
    tags.filter(move |tag| tag.name().as_bytes().eq_ignore_ascii_case(name)).map(attributes)
}

fn attributes(tag: &tl::HTMLTag<'_>) -> Attributes {
    tag.attributes()
        .iter()
        .map(|(key, value)| {
            (key.to_ascii_lowercase(), value.map(|v| unescape(v.as_ref())).unwrap_or_default())
        })
        .collect()
}

fn meta_content(document: &tl::VDom<'_>, name: &str) -> Option<String> {
    let mut named = tags(document, b"meta").filter(|meta| meta.get("name").is_some_and(|n| n == name));
    named.next()?.remove("content")
}

/// Resolves the character references that Simple pages use: the five of XML and numeric ones.
fn unescape(text: &str) -> String {
    // `&#x10ffff;`, and room for a zero; searching further would make many `&` cost their square.
    const REFERENCE_BYTES_MAX: usize = 11;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(REFERENCE_BYTES_MAX).position(|b| b == b';');
        let resolved = end.and_then(|end| reference(&rest[1..end]));
        match (end, resolved) {
            (Some(end), Some(c)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// Reads the JSON list of all projects: their canonical names.
pub fn read_projects_json(bytes: &[u8]) -> Result<Vec<String>, IndexError> {
    #[derive(serde::Deserialize)]
    struct Project {
        name: String,
    }
    check_size(bytes, limits::PROJECTS_BYTES_MAX)?;
    let page: BTreeMap<String, &RawValue> = serde_json::from_str(text(bytes)?)?;
    check_version(page.get("meta").copied())?;
    let projects: Vec<Project> =
        page.get("projects").map_or(Ok(Vec::new()), |p| serde_json::from_str(p.get()))?;
    Ok(unique(projects.iter().filter_map(|p| ecosystem::canonical_name(Ecosystem::Pypi, &p.name))))
}

/// Reads the HTML list of all projects.
pub fn read_projects_html(bytes: &[u8]) -> Result<Vec<String>, IndexError> {
    check_size(bytes, limits::PROJECTS_BYTES_MAX)?;
    let document = parse_html(text(bytes)?)?;
    let from_href = |a: &Attributes| {
        let href = a.get("href")?.split(['#', '?']).next()?.trim_end_matches('/').to_owned();
        ecosystem::canonical_name(Ecosystem::Pypi, &percent_decode(href.rsplit('/').next()?)?)
    };
    Ok(unique(tags(&document, b"a").filter_map(|a| from_href(&a))))
}

fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let set: std::collections::BTreeSet<String> = names.collect();
    set.into_iter().collect()
}
