//! Writing Simple pages, version 1.4. File addresses are relative to the page, so that a prefix of a reverse
//! proxy does not matter.

use std::fmt::Write as _;

use serde_json::Value;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::python_file_version;
use airlock_core::shard::Shard;
use airlock_core::version::Order;

const API_VERSION: &str = "1.4";

/// Every version that has files, yanked ones too, in PEP 440 order.
fn versions(shard: &Shard) -> Vec<String> {
    let mut versions: Vec<String> =
        shard.entries.keys().filter_map(|file| python_file_version(&shard.name, file)).collect();
    versions.sort();
    versions.dedup();
    Order::Pep440.sort(&mut versions);
    versions
}

/// Where a file lies, seen from its project's page at `simple/<project>/`.
fn file_url(project: &str, file: &str) -> String {
    format!("../../packages/{project}/{}", file.replace('+', "%2B"))
}

/// The JSON page of a project.
pub fn project_json(shard: &Shard) -> serde_json::Result<String> {
    let mut files = String::from("[");
    for (i, (file, entry)) in shard.entries.iter().enumerate() {
        let mut members = entry.record.members();
        // PEP 691: keys that begin with an underscore are private to the index that wrote them.
        members.retain(|(key, _)| !key.starts_with('_'));
        members.push(("url".to_owned(), Canonical::string(&file_url(&shard.name, file))));
        files.push_str(if i > 0 { "," } else { "" });
        files.push_str(Canonical::object(members.iter().map(|(k, v)| (k.as_str(), v))).as_str());
    }
    files.push(']');
    let meta = Canonical::of(&serde_json::json!({"api-version": API_VERSION}))?;
    let name = Canonical::string(&shard.name);
    let versions = Canonical::of(&versions(shard))?;
    let files = Canonical::parse(&files).map_err(serde::de::Error::custom)?;
    let own = [("meta", &meta), ("name", &name), ("versions", &versions), ("files", &files)];
    let carried = shard.meta.iter().map(|(k, v)| (k.as_str(), v)).filter(|(k, _)| super::read::is_carried(k));
    Ok(Canonical::object(carried.chain(own)).as_str().to_owned() + "\n")
}

/// What of a record an HTML page shows. One odd value must not take the project's page away, so that each is
/// read as whatever it is.
#[derive(Default)]
struct Shown {
    hashes: Value,
    requires_python: Value,
    yanked: Value,
    core_metadata: Value,
}

impl Shown {
    fn of(record: &Canonical) -> Self {
        let mut shown = Self::default();
        for (key, value) in record.members() {
            let place = match key.as_str() {
                "hashes" => &mut shown.hashes,
                "requires-python" => &mut shown.requires_python,
                "yanked" => &mut shown.yanked,
                "core-metadata" => &mut shown.core_metadata,
                _ => continue,
            };
            *place = value.read().unwrap_or_default();
        }
        shown
    }
}

/// Escapes text for HTML, attributes included.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            c => out.push(c),
        }
    }
    out
}

fn page(title: &str, head: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html>\n<head>\n<meta name=\"pypi:repository-version\" content=\"{API_VERSION}\">\n{head}<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

/// The HTML page of a project (PEP 503 with the attributes of 592, 658, 714 and 792).
pub fn project_html(shard: &Shard) -> serde_json::Result<String> {
    let mut body = String::new();
    for (file, entry) in &shard.entries {
        let shown = Shown::of(&entry.record);
        let fragment = shown.hashes["sha256"].as_str().map(|h| format!("#sha256={h}")).unwrap_or_default();
        let _ = write!(body, "<a href=\"{}{}\"", escape(&file_url(&shard.name, file)), escape(&fragment));
        if let Some(python) = shown.requires_python.as_str() {
            let _ = write!(body, " data-requires-python=\"{}\"", escape(python));
        }
        match &shown.yanked {
            Value::String(reason) => {
                let _ = write!(body, " data-yanked=\"{}\"", escape(reason));
            }
            Value::Bool(true) => body.push_str(" data-yanked=\"\""),
            _ => {}
        }
        if let Some(hash) = shown.core_metadata["sha256"].as_str() {
            let hash = escape(hash);
            let _ = write!(
                body,
                " data-core-metadata=\"sha256={hash}\" data-dist-info-metadata=\"sha256={hash}\""
            );
        }
        let _ = writeln!(body, ">{}</a><br>", escape(file));
    }
    let status: Value = shard.meta.get("project-status").and_then(|s| s.read().ok()).unwrap_or_default();
    let mut head = String::new();
    for (key, name) in [("status", "pypi:project-status"), ("reason", "pypi:project-status-reason")] {
        if let Some(value) = status[key].as_str() {
            let _ = writeln!(head, "<meta name=\"{name}\" content=\"{}\">", escape(value));
        }
    }
    Ok(page(&format!("Links for {}", escape(&shard.name)), &head, &body))
}

/// The JSON list of all projects.
pub fn projects_json<'a>(names: impl IntoIterator<Item = &'a str>) -> serde_json::Result<String> {
    let projects: Vec<Value> = names.into_iter().map(|n| serde_json::json!({"name": n})).collect();
    let document = serde_json::json!({"meta": {"api-version": API_VERSION}, "projects": projects});
    Ok(Canonical::of(&document)?.as_str().to_owned() + "\n")
}

/// The HTML list of all projects.
pub fn projects_html<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut body = String::new();
    for name in names {
        let name = escape(name);
        let _ = writeln!(body, "<a href=\"{name}/\">{name}</a><br>");
    }
    page("Simple index", "", &body)
}
