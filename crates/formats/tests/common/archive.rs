//! Archives for tests: valid packages, and tar and zip writers with every field in the test's hand.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    clippy::disallowed_methods,
    reason = "each test file uses its part"
)]

pub use std::io::Cursor;
use std::io::Write;

pub use airlock_formats::archive::{
    ArchiveError as Fault, ArchiveLimits, Opened, open_conda, open_sdist, open_sdist_zip, open_tar_bz2,
    open_wheel, parse_metadata,
};
use airlock_formats::make::{CondaPackage, Sdist, Wheel};

pub const CONDA: CondaPackage = CondaPackage {
    name: "demo",
    version: "1.0",
    build: "py_0",
    build_number: 0,
    subdir: "noarch",
    depends: &["python >=3.8"],
    license: "MIT",
    summary: "A demonstration",
    timestamp_ms: 1_700_000_000_000,
    noarch_python: true,
    security: None,
    files: &[("demo/__init__.py", b"X = 1\n")],
};
pub const WHEEL: Wheel = Wheel {
    name: "Air.Demo",
    version: "1.2",
    requires_dist: &["six >=1", "attrs"],
    requires_python: ">=3.8",
    license: "MIT",
    summary: "A demonstration",
    files: &[("air_demo/__init__.py", b"X = 1\n")],
};
pub const SDIST: Sdist = Sdist {
    name: "air-demo",
    version: "1.2",
    requires_dist: &[],
    requires_python: ">=3.8",
    license: "MIT",
    summary: "A demonstration",
    files: &[("air_demo.py", b"X = 1\n")],
};
pub const INDEX: &[u8] =
    br#"{"name":"demo","version":"1.0","build":"0","subdir":"linux-64","license":"MIT"}"#;

/// The refusal must be of this variant, with messages that name what they are about.
macro_rules! refused {
    ($result:expr, $fault:pat) => {
        let error = $result.expect_err("it must be refused");
        assert!(matches!(error, $fault), "{error:?}");
        assert!(!error.to_string().is_empty());
    };
}

pub fn limits() -> ArchiveLimits {
    ArchiveLimits::default()
}

pub fn wheel(bytes: &[u8]) -> Result<Opened, Fault> {
    open_wheel(Cursor::new(bytes), &limits())
}

pub fn conda(bytes: &[u8]) -> Result<Opened, Fault> {
    open_conda(Cursor::new(bytes), &limits())
}

// ---- tar: members with every field in the test's hand

pub struct Tar(pub Vec<u8>);

impl Tar {
    /// A package that is valid but for what comes after.
    pub fn conda() -> Self {
        Self(Vec::new()).file("info/index.json", INDEX)
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.member(path, b'0', "", data)
    }

    pub fn member(self, path: &str, kind: u8, target: &str, data: &[u8]) -> Self {
        self.raw(path.as_bytes(), kind, target, data.len(), data)
    }

    pub fn raw(mut self, path: &[u8], kind: u8, target: &str, size: usize, data: &[u8]) -> Self {
        let mut block = [0_u8; 512];
        block[..path.len()].copy_from_slice(path);
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[148..156].fill(b' ');
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn pax(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let data: String = records
            .iter()
            .map(|(key, value)| {
                let body = key.len() + value.len() + 3;
                let length = (body..).find(|length| body + length.to_string().len() == *length).unwrap();
                format!("{length} {key}={value}\n")
            })
            .collect();
        self.member("pax", kind, "", data.as_bytes())
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    pub fn bz2(self) -> Vec<u8> {
        bz2(&self.end())
    }

    pub fn open(self) -> Result<Opened, Fault> {
        open_tar_bz2(self.bz2().as_slice(), &limits())
    }
}

pub fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

// ---- zip: members with every field in the test's hand

#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub local_name: String,
    pub data: Vec<u8>,
    pub unpacked: u32,
    pub crc: u32,
    pub method: u16,
    pub flags: u16,
    pub mode: u32,
    pub extra: Vec<u8>,
    pub local_extra: Vec<u8>,
    pub local_sizes: Option<u32>,
    pub descriptor: Vec<u8>,
}

pub fn entry(name: &str, data: &[u8]) -> Entry {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    Entry {
        name: name.into(),
        local_name: name.into(),
        data: data.into(),
        unpacked: data.len() as u32,
        crc: crc.sum(),
        method: 0,
        flags: 0,
        mode: 0o100_644,
        extra: Vec::new(),
        local_extra: Vec::new(),
        local_sizes: None,
        descriptor: Vec::new(),
    }
}

pub fn deflated(name: &str, data: &[u8]) -> Entry {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    Entry { data: encoder.finish().unwrap(), method: 8, ..entry(name, data) }
}

pub fn put(to: &mut Vec<u8>, fields: &[(u64, usize)]) {
    fields.iter().for_each(|(value, length)| to.extend(&value.to_le_bytes()[..*length]));
}

/// The archive's bytes, and where the directory starts.
pub fn zip_parts(entries: &[Entry]) -> (Vec<u8>, usize) {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for e in entries {
        let at = bytes.len() as u64;
        let (packed, unpacked, crc) = (e.data.len() as u64, u64::from(e.unpacked), u64::from(e.crc));
        let (flags, method) = (u64::from(e.flags), u64::from(e.method));
        let local = e.local_sizes.map_or([crc, packed, unpacked], |sizes| {
            [if sizes == 0 { 0 } else { crc }, sizes.into(), sizes.into()]
        });
        put(&mut bytes, &[(0x0403_4b50, 4), (20, 2), (flags, 2), (method, 2), (0, 4)]);
        put(&mut bytes, &[(local[0], 4), (local[1], 4), (local[2], 4)]);
        put(&mut bytes, &[(e.local_name.len() as u64, 2), (e.local_extra.len() as u64, 2)]);
        bytes.extend([e.local_name.as_bytes(), &e.local_extra, &e.data, &e.descriptor].concat());
        put(&mut directory, &[(0x0201_4b50, 4), (0x0314, 2), (20, 2), (flags, 2), (method, 2), (0, 4)]);
        put(
            &mut directory,
            &[(crc, 4), (packed, 4), (unpacked, 4), (e.name.len() as u64, 2), (e.extra.len() as u64, 2)],
        );
        put(&mut directory, &[(0, 6), (u64::from(e.mode) << 16, 4), (at, 4)]);
        directory.extend([e.name.as_bytes(), &e.extra].concat());
    }
    let start = bytes.len();
    bytes.extend(&directory);
    put(&mut bytes, &[(0x0605_4b50, 4), (0, 4), (entries.len() as u64, 2), (entries.len() as u64, 2)]);
    put(&mut bytes, &[(directory.len() as u64, 4), (start as u64, 4), (0, 2)]);
    (bytes, start)
}

pub fn zip(entries: &[Entry]) -> Vec<u8> {
    zip_parts(entries).0
}

/// The members of a valid wheel, and one more.
pub fn wheel_with(more: &[Entry]) -> Vec<u8> {
    let metadata = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n";
    let mut entries = vec![deflated("demo-1.0.dist-info/METADATA", metadata)];
    entries.push(entry("demo-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\n"));
    entries.push(entry("demo-1.0.dist-info/RECORD", b""));
    entries.extend_from_slice(more);
    zip(&entries)
}

pub fn conda_entries(info: Tar) -> Vec<Entry> {
    vec![
        entry("metadata.json", br#"{"conda_pkg_format_version": 2}"#),
        entry("pkg-demo-1.0-0.tar.zst", &zst(&Tar(Vec::new()).end())),
        entry("info-demo-1.0-0.tar.zst", &zst(&info.end())),
    ]
}
