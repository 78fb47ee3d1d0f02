//! The text of a manifest, read and written piece by piece, so that nobody holds all of it.
//!
//! What is long in it is the list of files. While a text is read, each file is taken out of the list as soon as it is there; what
//! is left, which is as short as the manifest of a bundle without files, is read as a whole in the end, and held against the rules
//! of canonical text as each file was. So no key stands twice and nothing nests too deep, wherever in the text.
//!
//! ```text
//! {"channels":{..},..,"files":[{file},{file},..],"format":1,..}
//!  `------ left ------------'   taken one by one `--- left ---'
//! ```

use serde::Deserialize;

use super::files::Line;
use super::{FORMAT, Files, Manifest};
use crate::canon::{self, Canonical};

/// The member that is taken out, as its key stands in the text.
const FILES: &[u8] = b"\"files\"";
/// How deep files stand in the text.
const FILE_DEPTH: usize = 2;
/// The least that a file takes in the text, in bytes: what else its line says has so many.
const FILE_BYTES_MIN: usize = 150;
/// What is written is handed on when there are so many bytes of it.
const PIECE_BYTES: usize = 64 << 10;

/// Why a text is no manifest that this program reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is no text.
    #[error("is not UTF-8")]
    NoText,
    /// It says nothing that a manifest says.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// A newer program wrote it.
    #[error("has layout {layout}, this program reads up to {}", FORMAT)]
    Layout {
        /// Which it has.
        layout: u32,
    },
}

fn unreadable(why: impl ToString) -> Unread {
    Unread::Unreadable(why.to_string())
}

/// A manifest that is being read.
#[derive(Debug)]
pub struct Reading {
    at: At,
    /// Where in the text the reader is, as brackets go.
    nesting: Nesting,
    /// The text without what was taken out of it.
    left: Vec<u8>,
    /// Where in that the last string begins.
    string: usize,
    /// The file of which a part is there.
    file: Vec<u8>,
    files: Files,
    /// What is wrong with a file or its place, first of all. It is told when nothing else is: a newer layout may have other files.
    wrong: Option<Unread>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Anything, outside of the list.
    Left,
    /// The colon, and then the bracket, with which the list begins, if it is it.
    Colon,
    Bracket,
    /// A file, or the end of the list where it is empty.
    First,
    /// A file.
    Next,
    /// The rest of a file.
    File,
    /// A comma, or the end of the list.
    After,
    /// Nothing any more: it is no list.
    Nothing,
}

/// How deep a place in the text is nested.
#[derive(Clone, Copy, Debug, Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Nesting {
    /// Goes on by a byte. Whether a string, a list or an object ends with it.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return !self.in_string;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return true;
            }
            _ => {}
        }
        false
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

impl Reading {
    /// Begins to read a text of so many bytes.
    pub fn new(bytes: u64) -> Self {
        // What is not used of it is never touched, and a list that grows is copied again and again.
        let most = usize::try_from(bytes).unwrap_or_default() / FILE_BYTES_MIN;
        Self {
            at: At::Left,
            nesting: Nesting::default(),
            left: Vec::new(),
            string: 0,
            file: Vec::new(),
            files: Files::with_capacity(most),
            wrong: None,
        }
    }

    /// Takes the next piece of the text.
    pub fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some((byte, behind)) = rest.split_first() {
            rest = match self.at {
                At::Left | At::Colon | At::Bracket => {
                    self.outside(*byte);
                    behind
                }
                At::File => self.inside(rest),
                At::First | At::Next | At::After if is_space(*byte) => behind,
                At::First | At::After if *byte == b']' => {
                    self.left.push(b']');
                    self.at = At::Left;
                    self.nesting = Nesting { depth: 1, ..Nesting::default() };
                    behind
                }
                At::After if *byte == b',' => {
                    self.at = At::Next;
                    behind
                }
                At::First | At::Next if *byte != b',' && *byte != b']' => {
                    self.at = At::File;
                    self.nesting = Nesting::default();
                    rest
                }
                At::First | At::Next | At::After => {
                    self.wrong.get_or_insert(unreadable("`files` is no list"));
                    self.at = At::Nothing;
                    behind
                }
                At::Nothing => return,
            };
        }
    }

    /// A byte outside of the list.
    fn outside(&mut self, byte: u8) {
        let was_in_string = self.nesting.in_string;
        let ends = self.nesting.step(byte);
        if self.nesting.in_string && !was_in_string {
            self.string = self.left.len();
        }
        self.left.push(byte);
        let is_key = || self.left.get(self.string..) == Some(FILES);
        self.at = match (self.at, byte) {
            (At::Left, _) if was_in_string && ends && self.nesting.depth == 1 && is_key() => At::Colon,
            (At::Colon | At::Bracket, byte) if is_space(byte) => self.at,
            (At::Colon, b':') => At::Bracket,
            (At::Bracket, b'[') => At::First,
            _ => At::Left,
        };
    }

    /// As much of a file as is there. Gives what is behind it.
    fn inside<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let mut end = None;
        for (at, byte) in rest.iter().enumerate() {
            let is_open = self.nesting.in_string || self.nesting.depth > 0;
            if !is_open && (is_space(*byte) || matches!(byte, b',' | b']')) {
                end = Some(at);
                break;
            }
            if self.nesting.step(*byte) && self.nesting.depth == 0 {
                end = Some(at + 1);
                break;
            }
        }
        let (file, behind) = rest.split_at(end.unwrap_or(rest.len()));
        match end {
            Some(_) if self.file.is_empty() => self.take(file),
            Some(_) => {
                self.file.extend_from_slice(file);
                let whole = std::mem::take(&mut self.file);
                self.take(&whole);
            }
            None => self.file.extend_from_slice(file),
        }
        if end.is_some() {
            self.at = At::After;
        }
        behind
    }

    fn take(&mut self, file: &[u8]) {
        let listed = read_file(file).and_then(|line| self.files.push(&line.file()).map_err(unreadable));
        if let Err(e) = listed {
            self.wrong.get_or_insert(e);
        }
    }

    /// All of the text was there.
    ///
    /// # Errors
    ///
    /// It is no manifest, or one that only a newer program reads.
    pub fn finish(self) -> Result<Manifest, Unread> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        // A text that ends in the list has no layout that could be asked for.
        if let (At::Nothing, Some(wrong)) = (self.at, &self.wrong) {
            return Err(wrong.clone());
        }
        let text = std::str::from_utf8(&self.left).map_err(|_| Unread::NoText)?;
        let text = Canonical::parse(text).map_err(unreadable)?;
        let Format { format } = text.read().map_err(unreadable)?;
        if format > FORMAT {
            return Err(Unread::Layout { layout: format });
        }
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let mut manifest: Manifest = text.read().map_err(unreadable)?;
        // What is left has a list still where its key was spelled in another way.
        if manifest.files.is_empty() {
            manifest.files = self.files;
        }
        Ok(manifest)
    }
}

fn read_file(text: &[u8]) -> Result<Line, Unread> {
    let text = std::str::from_utf8(text).map_err(|_| Unread::NoText)?;
    Canonical::parse_within(text, FILE_DEPTH).map_err(unreadable)?;
    serde_json::from_str(text).map_err(unreadable)
}

/// Hands on the text of a manifest, piece by piece.
///
/// # Errors
///
/// That of whoever takes it.
pub fn write<E: From<serde_json::Error>>(
    manifest: &mut Manifest,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let files = std::mem::take(&mut manifest.files);
    let left = Canonical::of(manifest);
    manifest.files = files;
    let left = left?;
    let mut out = String::with_capacity(PIECE_BYTES + (PIECE_BYTES >> 3));
    let mut first = '{';
    for (key, value) in left.parts() {
        out.push(std::mem::replace(&mut first, ','));
        canon::append(&mut out, &*key)?;
        out.push(':');
        if key != "files" {
            out.push_str(value);
            continue;
        }
        let mut before = '[';
        for file in manifest.files.iter() {
            out.push(std::mem::replace(&mut before, ','));
            canon::append(&mut out, &file)?;
            if out.len() >= PIECE_BYTES {
                each(out.as_bytes())?;
                out.clear();
            }
        }
        out.push_str(if before == '[' { "[]" } else { "]" });
    }
    out.push('}');
    each(out.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::BundledFile;
    use crate::id::Digest;
    use crate::place::FilePath;

    const EMPTY: &str = r#"{"channels":{},"created":"2026-03-01T00:00:00Z","extra":[],"feeds":{},"files":[],"format":1,"ledger":{"hash":"0707070707070707070707070707070707070707070707070707070707070707","number":1},"number":1,"objects":[],"sender":{"name":"a \"files\":[","public_key":""},"stream":"s"}"#;

    fn manifest(names: &[String]) -> Manifest {
        let mut manifest: Manifest = serde_json::from_str(EMPTY).unwrap();
        for name in names {
            let sha256 = Digest::of(name.as_bytes());
            let path = FilePath::of(sha256, name);
            manifest
                .files
                .push(&BundledFile { name: name.into(), path, sha256, size: 7, volume: None })
                .unwrap();
        }
        manifest
    }

    fn read(text: &[u8], piece: usize) -> Result<Manifest, Unread> {
        let mut reading = Reading::new(text.len() as u64);
        text.chunks(piece).for_each(|piece| reading.push(piece));
        reading.finish()
    }

    /// As it was read before it was read in pieces.
    fn at_once(text: &str) -> Option<Manifest> {
        Canonical::parse(text).ok()?.read().ok().filter(|manifest: &Manifest| manifest.format <= FORMAT)
    }

    fn written(manifest: &Manifest) -> String {
        let mut out = Vec::new();
        let mut manifest = manifest.clone();
        write(&mut manifest, |piece| {
            out.extend_from_slice(piece);
            Ok::<(), serde_json::Error>(())
        })
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn a_manifest_in_pieces_is_the_manifest(names in proptest::collection::vec("[a\"\\\\\\]}é ]{0,5}", 0..5), piece in 1usize..40) {
            let manifest = manifest(&names);
            let text = written(&manifest);
            let whole = Canonical::of(&manifest).unwrap();
            prop_assert_eq!(&text, whole.as_str());
            prop_assert_eq!(read(text.as_bytes(), piece).unwrap(), manifest.clone());
            let wild = serde_json::to_string_pretty(&manifest).unwrap();
            prop_assert_eq!(read(wild.as_bytes(), piece).unwrap(), manifest);
        }

        #[test]
        fn what_is_read_in_pieces_is_what_is_read_at_once(
            at in 0usize..900, cut in 0usize..3, with in "|,|\\[|\\]|\\{|\\}|\"|\\\\|:| |1|\"a\":1,|\"files\":\\[\\],|\"size\":7,", piece in 1usize..40,
        ) {
            let mut text = written(&manifest(&["a.whl".to_owned(), "b]}".to_owned()]));
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, &with);
            prop_assert_eq!(read(text.as_bytes(), piece).ok(), at_once(&text), "{}", text);
        }
    }

    #[test]
    fn a_long_list_goes_out_in_pieces() {
        let names: Vec<String> = (0..3000).map(|n| format!("p{n}.conda")).collect();
        let mut manifest = manifest(&names);
        let mut longest = 0;
        write(&mut manifest, |piece| {
            longest = longest.max(piece.len());
            Ok::<(), serde_json::Error>(())
        })
        .unwrap();
        let whole = Canonical::of(&manifest).unwrap();
        assert!(longest < 2 * PIECE_BYTES && whole.as_str().len() > 5 * PIECE_BYTES);
        assert_eq!(written(&manifest), whole.as_str());
        let line = whole.as_str().len() - Canonical::of(&self::manifest(&[])).unwrap().as_str().len();
        assert!(line / names.len() >= FILE_BYTES_MIN);
    }

    #[test]
    fn keys_that_stand_twice_and_depths_are_found_wherever_they_are() {
        let good = written(&manifest(&["a.whl".to_owned()]));
        let twice = |from: &str, to: &str| {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            read(text.as_bytes(), 7).unwrap_err().to_string()
        };
        for (from, to) in [
            ("\"size\":7", "\"size\":7,\"size\":7"),
            ("\"size\":7", "\"size\":7,\"x\":{\"y\":1,\"y\":2}"),
            ("\"format\":1", "\"files\":[],\"format\":1"),
            ("\"format\":1", "\"\\u0066iles\":[],\"format\":1"),
            ("\"extra\":[]", "\"extra\":[],\"extra\":[]"),
        ] {
            assert!(twice(from, to).contains("twice"), "{to}: {}", twice(from, to));
        }
        let nested = |depth: usize| format!("\"size\":7,\"x\":{}{}", "[".repeat(depth), "]".repeat(depth));
        let most = canon::DEPTH_MAX - FILE_DEPTH - 1;
        assert!(read(good.replacen("\"size\":7", &nested(most), 1).as_bytes(), 7).is_ok());
        assert!(twice("\"size\":7", &nested(most + 1)).contains("deeper"));
        // A list whose key is spelled in another way is a list.
        let spelled = good.replacen("\"files\"", "\"f\\u0069les\"", 1);
        assert_eq!(read(spelled.as_bytes(), 7), read(good.as_bytes(), 7));
    }

    #[test]
    fn a_newer_layout_is_told_whatever_its_files_are() {
        let newer = |files: &str| {
            let text = EMPTY.replacen("\"files\":[]", files, 1).replacen("\"format\":1", "\"format\":999", 1);
            read(text.as_bytes(), 7)
        };
        for files in ["\"files\":[]", "\"files\":[1,\"]\",[2],{\"a\":1}]", "\"files\":{}", "\"none\":1"] {
            assert_eq!(newer(files), Err(Unread::Layout { layout: 999 }), "{files}");
        }
        assert_eq!(
            read(&EMPTY.as_bytes()[1..], 7).unwrap_err().to_string().split(':').next(),
            Some("cannot be read")
        );
        assert_eq!(read(b"\xff", 7), Err(Unread::NoText));
        assert_eq!(
            read(&[&b"{\"files\":[\""[..], b"\xff", b"\"],\"format\":1}"].concat(), 7),
            Err(Unread::NoText)
        );
    }
}
