//! Pages of the PyPI Simple API: both forms are read alike, and what is written leads nowhere but here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::FileFact;
use airlock_core::id::Digest;
use airlock_core::publish;
use airlock_core::shard::Shard;
use airlock_formats::limits::RECORD_DEPTH_MAX;
use airlock_formats::pypi::{
    project_html, project_json, projects_html, projects_json, read_project_html, read_project_json,
    read_projects_html, read_projects_json,
};
use airlock_formats::{IndexError, IndexRead};
use serde_json::{Value, json};

const HASH: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn json_page(project: &str, text: &str) -> Result<IndexRead, IndexError> {
    read_project_json(project, "test", text.as_bytes())
}

fn html_page(project: &str, text: &str) -> Result<IndexRead, IndexError> {
    read_project_html(project, "test", text.as_bytes())
}

fn shard(read: &IndexRead) -> &Shard {
    assert_eq!(read.shards.len(), 1);
    read.shards.values().next().unwrap()
}

fn record(read: &IndexRead, file: &str) -> Value {
    shard(read).entries[file].record.read().unwrap()
}

/// One link's record.
fn link(attributes: &str) -> Value {
    let read = html_page("x", &format!("<a {attributes}>x</a>")).unwrap();
    assert_eq!((read.records(), read.bad_count), (1, 0), "{attributes}: {:?}", read.bad);
    shard(&read).entries.values().next().unwrap().record.read().unwrap()
}

/// What the engine publishes of a page; wheels have their metadata served.
fn published(read: &IndexRead) -> Shard {
    let mut shard = shard(read).clone();
    for (file, entry) in &mut shard.entries {
        let metadata = file.ends_with(".whl").then(|| Digest::of(b"metadata"));
        let fact = FileFact {
            sha256: Digest::of(file.as_bytes()),
            size: 7,
            metadata,
            licence: None,
            summary: None,
            requires: vec![],
            run_exports: None,
            security: Vec::new(),
        };
        entry.record = publish::record(Ecosystem::Pypi, file, entry, &fact);
    }
    shard
}

/// A page with everything odd that must survive, and everything that must not come out.
fn odd() -> IndexRead {
    let page = json!({
        "meta": {"api-version": "1.9", "_last-serial": 7, "tracks": ["https://evil.example/"]},
        "name": "Odd.Project", "versions": ["0"], "_private": "evil", "vendor": {"kept": [null, 1.5]},
        "alternate-locations": ["https://evil.example/"], "tracks": ["https://evil.example/"],
        "project-status": {"status": "quarantined", "reason": "<b>\"why\" & how</b>"},
        "files": [
            {"filename": "odd_project-1.10-py3-none-any.whl", "url": "https://evil.example/a.whl", "hashes": {"sha256": HASH, "md5": null},
             "requires-python": ">=3.8,<4 \"'&><script>", "core-metadata": {"sha256": HASH}, "dist-info-metadata": true,
             "data-dist-info-metadata": true, "provenance": "https://evil.example/p", "gpg-sig": true, "size": 1,
             "upload-time": "2024-01-01T00:00:00.123456Z", "yanked": false, "vendor": [null, 12345678901234567890123_u128.to_string()], "_p": "evil"},
            {"filename": "odd_project-1.9.tar.gz", "url": "https://evil.example/b", "hashes": {}, "yanked": "\"bad\" <i>&amp;", "requires-python": null},
            {"filename": "odd-project-1.10+local.1.zip", "url": "https://evil.example/c", "hashes": {"sha256": HASH}, "yanked": true, "requires-python": 3},
            {"filename": "odd.project-1.10rc1.tar.gz", "url": "d", "hashes": {"sha256": HASH}, "size": null},
            {"filename": "odd.project-not.a.version.tar.gz", "url": "e", "hashes": {}},
        ],
    });
    let read = json_page("odd-project", &page.to_string()).unwrap();
    assert_eq!((read.records(), read.bad_count), (5, 0), "{:?}", read.bad);
    read
}

#[test]
fn both_forms_of_one_page_are_read_to_the_same_records() {
    let html = format!(
        r#"<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.4">
        <META NAME="pypi:project-status" CONTENT="archived"><meta name="pypi:project-status-reason" content="done &amp; dusted">
        <title>Links for x</title></head><body><h1>Links for x</h1>
        <a href="https://files.example/x-1-py3-none-any.whl#sha256={HASH}" data-requires-python="&gt;=3.8,&lt;4"
           data-core-metadata="sha256={HASH}" data-dist-info-metadata="sha256={HASH}">x-1-py3-none-any.whl</a><br>
        <A HREF='../../f/x-1.1%2Blocal.tar.gz#md5=00112233445566778899aabbccddeeff' data-yanked>text</A><br />
        <a href=x-2.zip data-yanked="it&#x27;s &quot;broken&quot;" data-core-metadata="true">x</a>
        </body></html>"#
    );
    let json = json!({"meta": {"api-version": "1.4"}, "name": "x",
    "project-status": {"status": "archived", "reason": "done & dusted"},
    "files": [
        {"filename": "x-1-py3-none-any.whl", "url": "https://files.example/x-1-py3-none-any.whl", "hashes": {"sha256": HASH},
         "requires-python": ">=3.8,<4", "core-metadata": {"sha256": HASH}},
        {"filename": "x-1.1+local.tar.gz", "url": "../../f/x-1.1%2Blocal.tar.gz", "yanked": true,
         "hashes": {"md5": "00112233445566778899aabbccddeeff"}},
        {"filename": "x-2.zip", "url": "x-2.zip", "hashes": {}, "yanked": "it's \"broken\"", "core-metadata": true},
    ]});
    let (html, json) = (html_page("x", &html).unwrap(), json_page("x", &json.to_string()).unwrap());
    assert_eq!((html.bad_count, json.bad_count), (0, 0));
    assert_eq!(html.shards, json.shards);
}

#[test]
fn character_references_and_percent_escapes_are_decoded_once() {
    let file = |href: &str| link(&format!("href=\"{href}\""))["filename"].clone();
    assert_eq!(file(&format!("a/x-1%2B1.tar.gz?token=a/b&amp;c#sha256={HASH}")), "x-1+1.tar.gz");
    assert_eq!(file("x&#45;1&#x21;2.tar.gz"), "x-1!2.tar.gz");
    assert_eq!(file("x%2d1.0%2Etar.gz"), "x-1.0.tar.gz");
    let python = |text: &str| {
        link(&format!("href=x-1.zip data-requires-python=\"{text}\""))["requires-python"].clone()
    };
    assert_eq!(python("&gt;=3&quot;&apos;&#39;&amp;lt;"), ">=3\"''&lt;");
    assert_eq!(
        python("&unknown; &; &# &#x; &#xd800; &#x110000; &#99999999999; &"),
        "&unknown; &; &# &#x; &#xd800; &#x110000; &#99999999999; &"
    );
    assert_eq!(python("&#x10ffff;"), "\u{10ffff}");
    // Decoded once: what remains is no file name.
    for href in [
        "x-1%252e.tar.gz",
        "x-1%",
        "x-1%2.tar.gz",
        "x-1%zz.zip",
        "%ff-1.zip",
        "a%2f..%2fx-1.zip",
        "x-1%00.zip",
    ] {
        let read = html_page("x", &format!("<a href=\"{href}\">x</a>")).unwrap();
        assert_eq!((read.records(), read.bad_count), (0, 1), "{href}");
    }
}

#[test]
fn hashes_come_out_of_the_fragment() {
    let hashes = |fragment: &str| link(&format!("href=\"x-1.zip#{fragment}\""))["hashes"].clone();
    assert_eq!(hashes(&format!("sha256={HASH}&egg=x&md5=00")), json!({"sha256": HASH, "md5": "00"}));
    assert_eq!(hashes(&format!("egg=x&amp;sha256={HASH}")), json!({"sha256": HASH}));
    assert_eq!(hashes("sha999=00"), json!({}));
    assert_eq!(hashes(""), json!({}));
}

#[test]
fn yanked_files_and_metadata_are_seen_in_every_spelling() {
    assert_eq!(link("href=x-1.zip data-yanked")["yanked"], true);
    assert_eq!(link("href=x-1.zip data-yanked=\"\"")["yanked"], true);
    assert_eq!(link("href=x-1.zip DATA-YANKED='bad &amp; ugly'")["yanked"], "bad & ugly");
    assert!(link("href=x-1.zip").get("yanked").is_none());
    assert_eq!(link("href=x-1.zip data-dist-info-metadata=true")["core-metadata"], true);
    assert_eq!(link("href=x-1.zip data-core-metadata=false")["core-metadata"], false);
    let both = format!("href=x-1.zip data-dist-info-metadata=true data-core-metadata=sha256={HASH}");
    assert_eq!(link(&both)["core-metadata"], json!({"sha256": HASH}));
}

#[test]
fn a_base_of_the_page_is_told() {
    let read =
        html_page("x", "<head><base href=\"https://files.example/a/\"></head><a href=x-1.zip>x</a>").unwrap();
    assert_eq!(read.base_url.as_deref(), Some("https://files.example/a/"));
    assert_eq!(html_page("x", "<a href=x-1.zip>x</a>").unwrap().base_url, None);
}

#[test]
fn hostile_names_are_left_out_and_listed() {
    let names = [
        "../x-1.tar.gz",
        "/etc/passwd",
        ".x-1.tar.gz",
        "x-1.tar.gz\n",
        "x-1.exe",
        "x.tar.gz",
        "y-1.tar.gz",
        "x-1.tar.bz2",
        "x-1\u{0}.tar.gz",
        "x-<script>.tar.gz",
        "x-é.tar.gz",
        "C:x-1.zip",
        "x-1-py3-none-any.whl.asc",
        "",
        "x-1.whl",
        "a\\x-1.zip",
    ];
    let mut files: Vec<Value> =
        names.iter().map(|n| json!({"filename": n, "url": "u", "hashes": {}})).collect();
    let long = format!("x-1.{}.zip", "0".repeat(300));
    files.extend([
        json!({"filename": long, "url": "u", "hashes": {}}),
        json!({"url": "u"}),
        json!({"filename": 7}),
        json!(7),
        json!(null),
        json!({"filename": "x-1.zip", "hashes": []}),
        json!({"filename": "x-2.zip", "size": -1}),
        json!({"filename": "x-3.zip", "url": "u", "hashes": {}}),
    ]);
    let (count, page) = (files.len() as u64, json!({"files": files}));
    let read = json_page("x", &page.to_string()).unwrap();
    assert_eq!((read.records(), read.bad_count), (1, count - 1));
    assert!(read.bad.iter().all(|bad| !bad.reason.is_empty() && bad.file.len() <= 300));
    let page = r#"{"files": [{"filename": "x-1.zip", "a": 1, "a": 2}, {"filename": "x-2.zip"}]}"#;
    let read = json_page("x", page).unwrap();
    assert_eq!((read.records(), read.bad_count), (1, 1));
}

#[test]
fn of_two_links_to_one_file_one_is_kept_and_the_other_is_listed() {
    let (a, b) = ("<a href=a/x-1.zip>x</a>", "<a href=b/x-1.zip>x</a>");
    let (one, two) = (html_page("x", &[a, b].concat()).unwrap(), html_page("x", &[b, a].concat()).unwrap());
    assert_eq!(one.shards, two.shards);
    assert_eq!((one.records(), one.bad_count), (1, 1));
    assert_eq!(html_page("x", &[a, a].concat()).unwrap().bad_count, 0);
}

#[test]
fn another_major_version_is_refused_in_both_forms() {
    for version in ["\"2.0\"", "\"0.9\"", "\"\"", "\"10.1\"", "2", "null", "[]"] {
        assert!(
            json_page("x", &format!(r#"{{"meta": {{"api-version": {version}}}}}"#)).is_err(),
            "{version}"
        );
        let projects = format!(r#"{{"meta": {{"api-version": {version}}}, "projects": []}}"#);
        assert!(read_projects_json(projects.as_bytes()).is_err(), "{version}");
    }
    for version in ["1.0", "1.99", "1"] {
        assert!(json_page("x", &format!(r#"{{"meta": {{"api-version": "{version}"}}}}"#)).is_ok());
        let html = format!("<meta name=\"pypi:repository-version\" content=\"{version}\">");
        assert!(html_page("x", &html).is_ok());
    }
    let html = "<html><head><meta name=\"pypi:repository-version\" content=\"2.0\"></head></html>";
    assert!(matches!(html_page("x", html), Err(IndexError::Content(_))));
    assert!(read_projects_html(html.as_bytes()).is_err());
    let long = "9".repeat(1 << 20);
    let error = json_page("x", &format!(r#"{{"meta": {{"api-version": "{long}"}}}}"#)).unwrap_err();
    assert!(error.to_string().len() < 500);
}

#[test]
fn a_page_about_another_project_or_of_another_shape_is_refused() {
    assert!(json_page("jinja2", r#"{"name": "Jinja2"}"#).is_ok());
    assert!(json_page("zope-interface", r#"{"name": "zope.interface"}"#).is_ok());
    for text in [
        r#"{"name": "django"}"#,
        r#"{"name": 7}"#,
        r#"{"name": "../jinja2"}"#,
        "",
        "[]",
        "null",
        "<html>",
        "{}x",
        r#"{"files": {}}"#,
        r#"{"files": "x"}"#,
        r#"{"meta": []}"#,
        r#"{"vendor": {"a": 1, "a": 2}}"#,
    ] {
        assert!(json_page("jinja2", text).is_err(), "{text}");
    }
    assert!(read_project_json("x", "i", b"{\"a\": \"\xff\"}").is_err());
    assert!(read_project_html("x", "i", b"<a href=\"\xff\">").is_err());
    let page = project_json(&published(&odd())).unwrap();
    let page = page.trim_end();
    for end in (0..page.len()).step_by(7) {
        assert!(json_page("odd-project", &page[..end]).is_err(), "cut at {end}");
        let _ = html_page("odd-project", &page[..end]);
    }
}

#[test]
fn the_json_page_offers_what_was_published_and_nothing_more() {
    let shard = published(&odd());
    let page: Value = serde_json::from_str(&project_json(&shard).unwrap()).unwrap();
    assert_eq!(page["meta"], json!({"api-version": "1.4"}));
    assert_eq!(page["name"], "odd-project");
    assert_eq!(page["vendor"], json!({"kept": [null, 1.5]}));
    assert_eq!(page["project-status"]["status"], "quarantined");
    assert_eq!(page["versions"], json!(["not.a.version", "1.9", "1.10rc1", "1.10", "1.10+local.1"]));
    let wheel = &page["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["filename"] == "odd_project-1.10-py3-none-any.whl");
    let hash = Digest::of(b"odd_project-1.10-py3-none-any.whl").to_string();
    let expected = json!({"filename": "odd_project-1.10-py3-none-any.whl", "hashes": {"sha256": hash, "md5": null},
        "url": "../../packages/odd-project/odd_project-1.10-py3-none-any.whl", "requires-python": ">=3.8,<4 \"'&><script>",
        "core-metadata": {"sha256": Digest::of(b"metadata").to_string()}, "size": 1,
        "upload-time": "2024-01-01T00:00:00.123456Z", "yanked": false, "vendor": [null, "12345678901234567890123"]});
    assert_eq!(wheel.unwrap(), &expected);
    assert_eq!(page["files"].as_array().unwrap().len(), 5);
}

#[test]
fn nothing_that_leads_outside_or_is_private_comes_out_in_either_form() {
    let shard = published(&odd());
    for text in [project_json(&shard).unwrap(), project_html(&shard).unwrap()] {
        for never in [
            "evil",
            "://",
            "_private",
            "_last-serial",
            "\"_p\"",
            "tracks",
            "alternate-locations",
            "provenance",
            "gpg-sig",
        ] {
            assert!(!text.contains(never), "{never} stands in {text}");
        }
    }
}

#[test]
fn addresses_are_relative_and_escape_the_plus() {
    let shard = published(&odd());
    let page: Value = serde_json::from_str(&project_json(&shard).unwrap()).unwrap();
    for file in page["files"].as_array().unwrap() {
        let name = file["filename"].as_str().unwrap().replace('+', "%2B");
        assert_eq!(file["url"], format!("../../packages/odd-project/{name}"));
    }
    let html = project_html(&shard).unwrap();
    assert!(html.contains("href=\"../../packages/odd-project/odd-project-1.10%2Blocal.1.zip#sha256="));
}

#[test]
fn the_html_page_escapes_whatever_a_record_says() {
    let html = project_html(&published(&odd())).unwrap();
    assert!(!html.contains("<script") && !html.contains("<b>") && !html.contains("<i>"), "{html}");
    assert!(html.contains("data-requires-python=\"&gt;=3.8,&lt;4 &quot;&#x27;&amp;&gt;&lt;script&gt;\""));
    assert!(
        html.contains("data-yanked=\"&quot;bad&quot; &lt;i&gt;&amp;amp;\"")
            && html.contains("data-yanked=\"\"")
    );
    assert!(html.contains("<meta name=\"pypi:project-status\" content=\"quarantined\">"));
    assert!(html.contains("content=\"&lt;b&gt;&quot;why&quot; &amp; how&lt;/b&gt;\""));
    let metadata = Digest::of(b"metadata").to_string();
    assert_eq!(html.matches(&format!("data-core-metadata=\"sha256={metadata}\"")).count(), 1);
    assert_eq!(html.matches("<a href").count(), 5);
}

#[test]
fn what_is_written_is_read_back_in_both_forms() {
    let shard = published(&odd());
    let json = json_page("odd-project", &project_json(&shard).unwrap()).unwrap();
    let html = html_page("odd-project", &project_html(&shard).unwrap()).unwrap();
    assert_eq!((json.bad_count, html.bad_count), (0, 0));
    assert_eq!(json.shards.values().next().unwrap().meta, shard.meta);
    assert_eq!(html.shards.values().next().unwrap().meta["project-status"], shard.meta["project-status"]);
    for (file, entry) in &shard.entries {
        let mut expected: Value = entry.record.read().unwrap();
        expected["url"] = record(&json, file)["url"].clone();
        expected.as_object_mut().unwrap().remove("_p");
        assert_eq!(record(&json, file), expected);
        // HTML has room for less.
        let told = record(&html, file);
        for (key, value) in told.as_object().unwrap() {
            match key.as_str() {
                "hashes" => assert_eq!(value["sha256"], expected["hashes"]["sha256"]),
                _ => assert_eq!(value, &expected[key], "{file} {key}"),
            }
        }
        for key in ["yanked", "requires-python", "core-metadata"] {
            let said = expected.get(key).is_some_and(|v| v.is_string() || v.is_object() || *v == true);
            assert_eq!(told.get(key).is_some(), said, "{file} {key}");
        }
    }
    // Published and rendered again, nothing changes any more.
    assert_eq!(project_json(&published(&json)).unwrap(), project_json(&shard).unwrap());
}

#[test]
fn a_status_without_a_readable_reason_is_still_told() {
    for reason in ["", r#", "reason": null"#, r#", "reason": ["x"]"#] {
        let page = format!(r#"{{"project-status": {{"status": "deprecated"{reason}}}}}"#);
        let html = project_html(&published(&json_page("x", &page).unwrap())).unwrap();
        assert!(html.contains("content=\"deprecated\""), "{reason}");
    }
}

#[test]
fn a_project_without_files_has_valid_pages() {
    let shard = Shard::new(Ecosystem::Pypi, "x".into(), None);
    let page: Value = serde_json::from_str(&project_json(&shard).unwrap()).unwrap();
    assert_eq!(page, json!({"meta": {"api-version": "1.4"}, "name": "x", "versions": [], "files": []}));
    assert_eq!(html_page("x", &project_html(&shard).unwrap()).unwrap().records(), 0);
}

#[test]
fn records_that_nest_to_the_limit_are_served_and_deeper_ones_are_left_out() {
    for (depth, records) in [(RECORD_DEPTH_MAX - 1, 1), (RECORD_DEPTH_MAX, 0)] {
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let page = format!(
            r#"{{"files": [{{"filename": "x-1.zip", "url": "u", "hashes": {{}}, "deep": {deep}}}]}}"#
        );
        let read = json_page("x", &page).unwrap();
        assert_eq!(read.records(), records);
        let again = json_page("x", &project_json(&published(&read)).unwrap()).unwrap();
        assert_eq!(again.records(), records);
    }
    assert!(json_page("x", &format!("{{\"files\": {}", "[".repeat(1_000_000))).is_err());
}

#[test]
fn html_that_nests_without_end_costs_no_more_than_its_length() {
    // With a cost of the square each of these would take hours.
    let unclosed = "<a href=x-1.zip>".repeat(100_000);
    assert_eq!(html_page("x", &unclosed).unwrap().records(), 1);
    let nested = format!("<a>{}", "<b><i>".repeat(100_000));
    assert_eq!(html_page("x", &nested).unwrap().bad_count, 1);
    let ampersands = format!("<a href=\"x-1.zip\" data-yanked=\"{}\">x</a>", "&".repeat(1_000_000));
    assert_eq!(html_page("x", &ampersands).unwrap().records(), 1);
}

#[test]
fn links_in_comments_are_none() {
    let read =
        html_page("x", "<!-- <a href=x-1.zip>x</a> --><a href=x-2.zip>x</a><!--<a href=x-3.zip>").unwrap();
    assert_eq!(shard(&read).entries.keys().collect::<Vec<_>>(), ["x-2.zip"]);
}

#[test]
fn lists_of_projects_are_read_alike_and_written_so_that_they_can_be_read() {
    let html = "<a href=\"/simple/Zope.Interface/\">x</a><a href='jinja2'>y</a><a href=\"../%41ir_demo/#x\">z</a><a>n</a><a href=\"/%2e%2e/\">n</a>";
    let json = r#"{"meta": {"api-version": "1.0", "_last-serial": 1}, "projects": [{"name": "Jinja2", "_last-serial": 1},
        {"name": "zope-interface"}, {"name": "air.demo"}, {"name": "zope.interface"}, {"name": "../x"}]}"#;
    let expected = ["air-demo", "jinja2", "zope-interface"];
    assert_eq!(read_projects_html(html.as_bytes()).unwrap(), expected);
    assert_eq!(read_projects_json(json.as_bytes()).unwrap(), expected);
    let written = projects_json(expected).unwrap();
    assert_eq!(read_projects_json(written.as_bytes()).unwrap(), expected);
    assert_eq!(read_projects_html(projects_html(expected).as_bytes()).unwrap(), expected);
    assert!(Canonical::parse(written.trim_end()).is_ok());
    for text in ["", "[]", r#"{"projects": {}}"#, r#"{"projects": [{}]}"#] {
        assert!(read_projects_json(text.as_bytes()).is_err(), "{text}");
    }
    assert!(read_projects_json(b"{}").unwrap().is_empty());
}
