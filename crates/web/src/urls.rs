//! Reading the path of a package request from the raw URL.
//!
//! Segments are decoded exactly once and then held against what a segment may be, so that no second spelling of
//! a separator gets through. None of them ever becomes a path of the file system: they are keys to look up.

use airlock_core::channel::{NAME_PARTS_MAX, is_channel_name};
use airlock_core::ecosystem::Ecosystem;
use airlock_engine::view::{ChannelView, View};
use axum::http::Uri;

use crate::problem::Problem;

/// How many segments at the beginning may be the `t` of `/t/<token>/`: behind the protocol and all parts of a channel's
/// name. Further behind, a project may have that name.
const TOKEN_WITHIN: usize = 2 + NAME_PARTS_MAX;
/// What stands behind the channel where something of PyPI is asked for.
const PYPI: [&str; 2] = ["simple", "packages"];
/// What a conda channel offers for all its subdirs.
pub(crate) const CHANNELDATA: &str = "channeldata.json";
/// What leaves a conda channel soon.
pub(crate) const NOTICES: &str = "notices.json";

/// What a package request asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// The channel's name.
    pub channel: String,
    /// The snapshot or date behind `@`.
    pub when: Option<String>,
    /// What follows the channel, decoded.
    pub rest: Vec<String>,
    /// Whether the path ends in `/`.
    pub has_slash: bool,
    /// How many folders the requested path is below the root of this server.
    depth: usize,
}

impl Target {
    /// Reads `/<protocol>/<channel>[@<when>]/<rest>`. A token, `/t/<token>/` before or behind the protocol or
    /// behind the channel, is passed over and appears in nothing that is answered.
    pub fn read(protocol: &str, uri: &Uri) -> Result<Self, Problem> {
        let path = uri.path();
        let mut raw: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let depth = raw.len().saturating_sub(1);
        let has_slash = raw.len() > 1 && raw.last() == Some(&"");
        if has_slash {
            raw.pop();
        }
        // A channel may have the name of what else stands behind channels.
        let is_behind = |at: usize| at > 1 && raw.get(at).is_some_and(|segment| PYPI.contains(segment));
        let end = (0..raw.len()).find(|at| is_behind(*at)).unwrap_or(raw.len());
        let token = raw.iter().take(TOKEN_WITHIN.min(end)).position(|s| *s == "t");
        if let Some(at) = token.filter(|at| at + 1 < raw.len()) {
            raw.drain(at..at + 2);
        }
        let mut segments = raw.into_iter();
        if segments.next() != Some(protocol) {
            return Err(Problem::nothing_here());
        }
        let mut segments = segments.map(decode).collect::<Result<Vec<String>, Problem>>()?;
        let parts = parts_of_channel(protocol, &segments);
        let rest = segments.split_off(parts.min(segments.len()));
        let channel = segments.join("/");
        if channel.is_empty() {
            return Err(Problem::nothing_here());
        }
        let (channel, when) = match channel.split_once('@') {
            Some((channel, when)) => (channel.to_owned(), Some(when.to_owned())),
            None => (channel, None),
        };
        Ok(Self { channel, when, rest, has_slash, depth })
    }

    /// The channel as it stands, or stood at the snapshot or date that was asked for.
    pub async fn open(&self, view: &View, ecosystem: Ecosystem) -> Result<ChannelView, Problem> {
        let known = is_channel_name(&self.channel);
        let found = match &self.when {
            _ if !known => None,
            None => view.channel(&self.channel).await?,
            Some(when) => view.channel_at(&self.channel, when).await?,
        };
        found.filter(|f| f.channel.ecosystem == ecosystem).ok_or_else(|| {
            let detail = match &self.when {
                Some(_) => format!("no published {ecosystem} channel of this name and date or snapshot"),
                None => format!("no {ecosystem} channel of this name has been published"),
            };
            Problem::not_found(&detail)
        })
    }

    /// A reference to `path` below the root of this server, relative to the URL that was asked for: it holds
    /// under whatever prefix a reverse proxy mounts the server.
    pub fn relative(&self, path: &str) -> String {
        "../".repeat(self.depth) + path
    }
}

/// How many segments at the beginning name the channel, told by what stands behind it: children lie in the names of their
/// parents, and have no name of what can stand there.
fn parts_of_channel(protocol: &str, segments: &[String]) -> usize {
    let is =
        |at: usize, known: &[&str]| segments.get(at).is_some_and(|segment| known.contains(&segment.as_str()));
    let count = segments.len();
    let behind = match protocol {
        "pypi" => (1..count).find(|at| is(*at, &PYPI)).map_or(count.saturating_sub(1), |at| count - at),
        _ if is(count.wrapping_sub(1), &[CHANNELDATA, NOTICES]) => 1,
        _ if is(count.wrapping_sub(2), &["shards"]) => 3,
        _ => 2,
    };
    count.saturating_sub(behind).max(1)
}

/// Decodes one segment, once, and checks it.
fn decode(raw: &str) -> Result<String, Problem> {
    if raw.is_empty() {
        return Err(Problem::nothing_here());
    }
    let decoded = percent_decode(raw).and_then(|bytes| String::from_utf8(bytes).ok());
    // Names of channels, packages and files are ASCII; a `%` that is left over is a second encoding.
    let plain = |text: &String| text.bytes().all(|b| b.is_ascii_graphic() && !b"/\\%".contains(&b));
    decoded.filter(|text| plain(text) && text != "." && text != "..").ok_or_else(Problem::bad_path)
}

fn percent_decode(raw: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// Encodes one segment of a reference. `!` stays, since conda cannot read it otherwise.
pub fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<Target, u16> {
        Target::read("conda", &path.parse().unwrap()).map_err(|p| p.status().as_u16())
    }

    #[test]
    fn raw_and_encoded_characters_of_file_names_are_the_same() {
        for file in ["x264-1!164.3095-h1_2.conda", "py-2.1+sirius6~1-py_0.conda"] {
            let encoded: String = file
                .chars()
                .map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("%{:02x}", u32::from(c)) })
                .collect();
            for spelling in [file, &encoded] {
                let target = read(&format!("/conda/main/noarch/{spelling}")).unwrap();
                assert_eq!(target.rest, ["noarch", file]);
            }
        }
    }

    #[test]
    fn second_spellings_of_separators_are_refused() {
        for segment in [
            "a%2Fb", "a%2fb", "a%5Cb", "a%00", "%0a", "%7f", "..", ".", "%2e%2e", "%2E", "a%252Fb", "a%25",
            "%", "%4", "%zz", "%+1", "%ff", "%20", "%c3%a9",
        ] {
            assert_eq!(read(&format!("/conda/main/noarch/{segment}")), Err(400), "{segment}");
            assert_eq!(read(&format!("/conda/{segment}/noarch")), Err(400), "{segment}");
        }
        assert_eq!(read("/conda/main//repodata.json"), Err(404));
        assert_eq!(read("/conda//main"), Err(404));
    }

    #[test]
    fn a_token_is_passed_over_wherever_clients_put_it() {
        for path in
            ["/t/tk-1/conda/main/noarch/x", "/conda/t/*****/main/noarch/x", "/conda/main/t/%zz/noarch/x"]
        {
            let target = read(path).unwrap();
            assert_eq!(
                (target.channel.as_str(), &target.rest[..]),
                ("main", &["noarch".into(), "x".into()][..])
            );
            assert_eq!(target.relative("packages"), "../../../../../packages", "{path}");
        }
        let project = Target::read("pypi", &"/pypi/main/simple/t/".parse().unwrap()).unwrap();
        assert_eq!(project.rest, ["simple", "t"]);
        assert!(project.has_slash);
        assert_eq!(read("/conda/t").unwrap().channel, "t");
        assert_eq!(read("/t/tk"), Err(404));
    }

    #[test]
    fn a_child_lies_behind_its_parent() {
        for (path, channel, rest) in [
            ("/conda/main/dev/noarch/x-1-0.conda", "main/dev", "noarch x-1-0.conda"),
            (
                "/conda/main/dev@2026-01-02/noarch/shards/ab.msgpack.zst",
                "main/dev",
                "noarch shards ab.msgpack.zst",
            ),
            ("/conda/main/dev/notices.json", "main/dev", "notices.json"),
            ("/conda/main/dev/t/tk-1/noarch/repodata.json", "main/dev", "noarch repodata.json"),
            ("/conda/shards/noarch/repodata.json", "shards", "noarch repodata.json"),
            ("/conda/main/notices.json", "main", "notices.json"),
            ("/conda/main/noarch", "main", "noarch"),
            ("/conda/main", "main", ""),
        ] {
            let target = read(path).unwrap();
            assert_eq!((target.channel.as_str(), target.rest.join(" ").as_str()), (channel, rest), "{path}");
        }
        for (path, channel, rest) in [
            ("/pypi/main/dev/simple/idna/", "main/dev", "simple idna"),
            ("/pypi/main/dev/packages/t/t-1.tar.gz", "main/dev", "packages t t-1.tar.gz"),
            ("/pypi/main/packages/t/t-1.tar.gz", "main", "packages t t-1.tar.gz"),
            ("/pypi/simple/simple/simple/", "simple", "simple simple"),
            ("/pypi/a/b/t/tk-1/simple/t/", "a/b", "simple t"),
            ("/pypi/main/other/", "main", "other"),
        ] {
            let target = Target::read("pypi", &path.parse().unwrap()).unwrap();
            assert_eq!((target.channel.as_str(), target.rest.join(" ").as_str()), (channel, rest), "{path}");
        }
    }

    #[test]
    fn a_snapshot_stands_behind_an_at_sign() {
        let target = read("/conda/main%402026-01-02/noarch/x").unwrap();
        assert_eq!((target.channel.as_str(), target.when.as_deref()), ("main", Some("2026-01-02")));
        assert_eq!(target.relative("x"), "../../../x");
    }

    #[test]
    fn references_keep_what_conda_cannot_read_otherwise() {
        assert_eq!(encode("1!2.0+a_b~c"), "1!2.0%2Ba_b~c");
        assert_eq!(encode("../é"), "..%2F%C3%A9");
    }
}
