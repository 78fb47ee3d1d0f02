//! Where things lie: URLs and paths, and how they are shown.

use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::error::{Error, Result, file_error};

/// Where a source lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A URL that ends in `/`.
    Http(Url),
    /// A directory or file.
    Path(PathBuf),
}

impl Location {
    /// Reads what a person typed.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with("http://") || text.starts_with("https://") {
            // What cannot be read may hold a password all the same, and is not repeated.
            let mut url =
                Url::parse(text).map_err(|e| Error::usage(format!("the source is not a URL: {e}")))?;
            if url.host_str().is_none() {
                return Err(Error::usage("the source's URL names no host"));
            }
            if !url.path().ends_with('/') {
                url.set_path(&format!("{}/", url.path()));
            }
            return Ok(Self::Http(url));
        }
        if text.is_empty() {
            return Err(Error::usage("the source is empty").hint("give a URL or the path of a directory"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Error::usage(format!("`{scheme}` is not a kind of source"))
                .hint("give an http:// or https:// URL, or the path of a directory"));
        }
        let path = std::path::absolute(text).map_err(file_error(text))?;
        Ok(Self::Path(path))
    }

    /// A place below this one, or wherever a reference of an index leads.
    pub fn join(&self, reference: &str) -> Result<Self> {
        match self {
            Self::Http(url) => {
                let joined = url
                    .join(reference)
                    .map_err(|e| Error::fault(format!("the upstream refers to `{reference}`: {e}")))?;
                Ok(Self::Http(joined))
            }
            Self::Path(path) => {
                let leads_out = reference.contains("://") || Path::new(reference).is_absolute();
                let reference = reference.split(['#', '?']).next().unwrap_or_default();
                let mut out = path.clone();
                for part in reference.split('/') {
                    match part {
                        "" | "." => {}
                        ".." => {
                            out.pop();
                        }
                        part => out.push(decode(part)),
                    }
                }
                if leads_out {
                    return Err(Error::fault(format!(
                        "the index in {} refers to `{reference}`, outside of it",
                        path.display()
                    )));
                }
                Ok(Self::Path(out))
            }
        }
    }

    /// For messages and the ledger: without a user, password or query.
    pub fn shown(&self) -> String {
        match self {
            Self::Http(url) => {
                let mut url = url.clone();
                // Both fail only for URLs without a host, which `parse` refuses.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.set_query(None);
                redact_token(url.as_str())
            }
            Self::Path(path) => path.display().to_string(),
        }
    }
}

/// Hides the token of a `/t/<token>/` path.
fn redact_token(url: &str) -> String {
    match url.split_once("/t/") {
        Some((before, after)) => match after.split_once('/') {
            Some((_, rest)) => format!("{before}/t/*****/{rest}"),
            None => format!("{before}/t/*****"),
        },
        None => url.to_owned(),
    }
}

/// Undoes `%2B` and the like in a file name; a name that decodes to a separator stays as it is.
fn decode(part: &str) -> String {
    let decoded = part.replace("%2B", "+").replace("%2b", "+").replace("%21", "!").replace("%7E", "~");
    if decoded.contains('/') { part.to_owned() } else { decoded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_source_is_shown() {
        for (typed, shown) in [
            ("https://ada:geheim@up.example/c?token=geheim", "https://up.example/c/"),
            ("https://up.example/t/geheim/conda", "https://up.example/t/*****/conda/"),
            ("https://up.example/t/geheim", "https://up.example/t/*****/"),
        ] {
            assert_eq!(Location::parse(typed).unwrap().shown(), shown);
        }
    }

    #[test]
    fn references_of_an_index_resolve_as_urls_and_as_paths() {
        let page = Location::parse("https://up.example/pypi/simple/idna/").unwrap();
        assert_eq!(
            page.join("../../files/a%2Bb.whl").unwrap().shown(),
            "https://up.example/pypi/files/a%2Bb.whl"
        );
        let page = Location::Path("/src/simple/idna".into());
        assert_eq!(
            page.join("../../files/a%2Bb.whl#sha256=0").unwrap(),
            Location::Path("/src/files/a+b.whl".into())
        );
        assert!(page.join("https://elsewhere.example/x").is_err());
        assert!(page.join("/etc/passwd").is_err());
        assert!(Location::parse("ftp://up.example/").is_err());
    }
}
