//! Lock files of every form, as the programs write them, and as nobody should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::ecosystem::Ecosystem::{self, Conda, Pypi};
use airlock_core::lock::{Contents, LockForm};
use airlock_formats::limits;
use airlock_formats::locks::{LockError, read};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const MD5: &str = "00112233445566778899aabbccddeeff";

/// Each package on a line, with its files.
fn lines(contents: &Contents) -> Vec<String> {
    let line = |p: &airlock_core::lock::Locked| {
        let files: String = p
            .files
            .iter()
            .map(|f| {
                let place = f.subdir.as_ref().map_or(String::new(), |s| format!("{s}/"));
                let name = f.name.as_deref().unwrap_or("?");
                let sha = f.sha256.map_or("-".to_owned(), |d| d.to_string()[..2].to_owned());
                let md5 = f.md5.as_ref().map_or("", |_| " md5");
                format!(" [{place}{name} {sha}{md5}]")
            })
            .collect();
        format!("{} {} {}{files}", p.ecosystem, p.name, p.version)
    };
    contents.packages.iter().map(line).collect()
}

fn reads(text: &str, form: LockForm, left_out: u64, expected: &[&str]) {
    let contents = read(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(contents.form, form);
    assert_eq!(lines(&contents), expected);
    assert_eq!(contents.left_out, left_out, "{text}");
    // No address is kept, and no password of one.
    let kept = serde_json::to_string(&contents).unwrap();
    assert!(!kept.contains("upstream.example") && !kept.contains("secret"), "{kept}");
}

#[test]
fn a_conda_lock_file_is_read_over_all_its_platforms() {
    let text = format!(
        "# made by conda-lock\nversion: 1\nmetadata:\n  content_hash:\n    linux-64: {A}\n  channels:\n  - url: https://u:secret@upstream.example/main\n\
         package:\n- name: openssl\n  version: 3.10\n  manager: conda\n  platform: linux-64\n  dependencies:\n    ca-certificates: ''\n  \
         url: https://u:secret@upstream.example/main/linux-64/openssl-3.10-h1_0.conda\n  hash:\n    md5: {MD5}\n    sha256: {A}\n  category: main\n  optional: false\n\
         - name: openssl\n  version: '3.10'\n  manager: conda\n  platform: osx-64\n  url: https://upstream.example/main/osx-64/openssl-3.10-h2_0.tar.bz2\n  hash:\n    md5: {MD5}\n\
         - name: Zope.Interface\n  version: 6.0\n  manager: pip\n  platform: linux-64\n  url: https://upstream.example/x/zope.interface-6.0-py3-none-any.whl\n  hash:\n    sha256: {B}\n\
         - name: odd\n  version: 1\n  manager: npm\n"
    );
    reads(
        &text,
        LockForm::CondaLock,
        1,
        &[
            "conda openssl 3.10 [linux-64/openssl-3.10-h1_0.conda aa md5] [osx-64/openssl-3.10-h2_0.tar.bz2 - md5]",
            "pypi zope-interface 6.0 [zope.interface-6.0-py3-none-any.whl bb]",
        ],
    );
}

#[test]
fn a_pixi_lock_file_is_read_in_its_new_form_and_its_older_ones() {
    let new = format!(
        "version: 6\nenvironments:\n  default:\n    channels:\n    - url: https://upstream.example/main/\n    packages:\n      linux-64:\n      \
         - conda: https://upstream.example/main/noarch/idna-3.10-pyhd8_1.conda\npackages:\n- conda: https://upstream.example/main/noarch/idna-3.10-pyhd8_1.conda\n  sha256: {A}\n  md5: {MD5}\n  \
         depends:\n  - python >=3.9\n- pypi: https://upstream.example/x/idna-3.10-py3-none-any.whl\n  name: idna\n  version: '3.10'\n  sha256: {B}\n\
         - pypi: ./\n  name: ours\n  version: 0.1.0\n- conda: .\n"
    );
    let expected = [
        "conda idna 3.10 [noarch/idna-3.10-pyhd8_1.conda aa md5]",
        "pypi idna 3.10 [idna-3.10-py3-none-any.whl bb]",
    ];
    reads(&new, LockForm::Pixi, 0, &expected);
    reads(&new.replace("- pypi: ./\n", "- pypi: ./lib\n"), LockForm::Pixi, 1, &expected);
    let newest = new.replace(
        "version: 6\n",
        "version: 7\nplatforms:\n- name: linux-64\n  virtual-packages:\n  - __glibc=2.28\n",
    );
    reads(&newest.replace("- conda: .", "- conda_source: ours[12345678] @ ."), LockForm::Pixi, 1, &expected);
    let old = format!(
        "version: 5\nenvironments: {{}}\npackages:\n- kind: conda\n  name: idna\n  version: 3.10\n  build: pyhd8_1\n  subdir: noarch\n  \
         url: https://upstream.example/main/noarch/idna-3.10-pyhd8_1.conda\n  sha256: {A}\n  md5: {MD5}\n- kind: pypi\n  name: idna\n  version: '3.10'\n  \
         url: https://upstream.example/x/idna-3.10-py3-none-any.whl\n  sha256: {B}\n"
    );
    reads(&old, LockForm::Pixi, 0, &expected);
}

#[test]
fn a_uv_lock_file_names_every_file_of_a_version_and_not_the_project_itself() {
    let text = format!(
        "version = 1\nrevision = 3\nrequires-python = \">=3.9\"\n\n[[package]]\nname = \"idna\"\nversion = \"3.10\"\nsource = {{ registry = \"https://u:secret@upstream.example/simple\" }}\n\
         sdist = {{ url = \"https://upstream.example/x/idna-3.10.tar.gz\", hash = \"sha256:{A}\", size = 190490, upload-time = \"2024-09-15T18:07:39Z\" }}\n\
         wheels = [\n    {{ url = \"https://upstream.example/x/idna-3.10-py3-none-any.whl\", hash = \"sha256:{B}\", size = 70442 }},\n]\n\n\
         [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\nsource = {{ editable = \".\" }}\ndependencies = [{{ name = \"idna\" }}]\n\n[[package]]\nname = \"fromgit\"\nversion = \"1\"\nsource = {{ git = \"https://upstream.example/r?rev=x#abc\" }}\n"
    );
    let expected = ["pypi fromgit 1", "pypi idna 3.10 [idna-3.10-py3-none-any.whl bb] [idna-3.10.tar.gz aa]"];
    reads(&text, LockForm::Uv, 0, &expected);
    reads(&text.replace("{ editable = \".\" }", "{ virtual = \"part\" }"), LockForm::Uv, 0, &expected);
    for folder in ["{ editable = \"part\" }", "{ directory = \"part\" }", "{ path = \"ours.whl\" }"] {
        reads(&text.replace("{ editable = \".\" }", folder), LockForm::Uv, 1, &expected);
    }
}

#[test]
fn a_pylock_file_is_read_with_versions_that_only_its_files_tell() {
    let text = format!(
        "lock-version = \"1.0\"\ncreated-by = \"a tool\"\n\n[[packages]]\nname = \"idna\"\nversion = \"3.10\"\nindex = \"https://upstream.example/simple\"\n\
         [[packages.wheels]]\nname = \"idna-3.10-py3-none-any.whl\"\nurl = \"https://upstream.example/x/y\"\nhashes = {{ sha256 = \"{B}\" }}\n\
         [packages.sdist]\nurl = \"https://upstream.example/x/idna-3.10.tar.gz\"\nhashes = {{ sha256 = \"{A}\" }}\n\n\
         [[packages]]\nname = \"x\"\n[packages.archive]\npath = \"./x-2.0.tar.gz\"\nhashes = {{ sha256 = \"{A}\" }}\n\n[[packages]]\nname = \"ours\"\ndirectory = {{ path = \".\" }}\n"
    );
    let expected = [
        "pypi idna 3.10 [idna-3.10-py3-none-any.whl bb] [idna-3.10.tar.gz aa]",
        "pypi x 2.0 [x-2.0.tar.gz aa]",
    ];
    reads(&text, LockForm::Pylock, 0, &expected);
    reads(&text.replace("{ path = \".\" }", "{ path = \"../other\" }"), LockForm::Pylock, 1, &expected);
}

#[test]
fn requirements_are_read_where_they_pin_a_version() {
    let text = format!(
        "# compiled\n--index-url https://u:secret@upstream.example/simple\nJinja2[i18n]==3.1.2 ; python_version >= \"3.9\" \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n    # via ours\n\
         idna == 3.10  # pinned\nold===1.0-odd\nrange>=1,<2\nwild==1.*\nsecret-free @ https://u:secret@upstream.example/x/secret_free-1.0-py3-none-any.whl#sha256={A}\n\
         git @ git+https://upstream.example/r@v1\n-e ./ours\n-r more.txt\n--constraint=c.txt\n--extra-index-url https://upstream.example/y\nbare\nlast==1 \\"
    );
    let expected = [
        "pypi idna 3.10",
        "pypi jinja2 3.1.2 [? aa] [? bb]",
        "pypi last 1",
        "pypi old 1.0-odd",
        "pypi own 1.0 [own-1.0-py3-none-any.whl aa]",
    ];
    reads(
        &text.replace("secret-free", "own").replace("secret_free", "own"),
        LockForm::Requirements,
        7,
        &expected,
    );
}

#[test]
fn an_explicit_list_is_read_with_either_hash_or_none() {
    let text = format!(
        "# This file may be used to create an environment using:\n# platform: linux-64\n@EXPLICIT\nhttps://u:secret@upstream.example/t/secret/main/linux-64/zlib-1.3.1-h1_2.conda#{MD5}\n\
         https://upstream.example/main/noarch/idna-3.10-pyhd8_1.conda#sha256:{A}\nhttps://upstream.example/main/noarch/tzdata-2025a-h7_0.tar.bz2#{B}\nhttps://upstream.example/main/noarch/bare-1-0.conda\nnonsense\n"
    );
    reads(
        &text,
        LockForm::Explicit,
        1,
        &[
            "conda bare 1 [noarch/bare-1-0.conda -]",
            "conda idna 3.10 [noarch/idna-3.10-pyhd8_1.conda aa]",
            "conda tzdata 2025a [noarch/tzdata-2025a-h7_0.tar.bz2 bb]",
            "conda zlib 1.3.1 [linux-64/zlib-1.3.1-h1_2.conda - md5]",
        ],
    );
}

fn fails(bytes: &[u8]) -> LockError {
    read(bytes).expect_err("it is refused")
}

#[test]
fn what_is_no_lock_file_or_of_an_unknown_version_is_refused_as_a_whole() {
    assert_eq!(fails(b"\xff\xfe"), LockError::NoText);
    for nothing in [
        "",
        "# only words\n",
        "dear reader,\nhow are you\n",
        "{}",
        "a: 1\n",
        "[project]\nname = \"x\"\n",
        "numpy\nrequests>=2\n",
    ] {
        assert_eq!(fails(nothing.as_bytes()), LockError::Unknown, "{nothing}");
    }
    for (text, form) in [
        ("version: 2\npackage: []\n", LockForm::CondaLock),
        ("version: 99\npackages: []\n", LockForm::Pixi),
        ("version = 7\n[[package]]\nname = \"x\"\n", LockForm::Uv),
        ("lock-version = \"2.0\"\n", LockForm::Pylock),
        ("version: 1\npackage: [1\n", LockForm::CondaLock),
        ("version: 1\npackage: []\npackage: []\n", LockForm::CondaLock),
        ("version = 1\n[[package]\n", LockForm::Uv),
        ("version = 1\n[[package]]\nname = 1\n", LockForm::Uv),
    ] {
        assert!(matches!(fails(text.as_bytes()), LockError::Malformed(of, _) if of == form), "{text}");
    }
    for empty in ["version: 1\npackage: []\n", "version = 1\n", "@EXPLICIT\n"] {
        assert_eq!(fails(empty.as_bytes()), LockError::Empty, "{empty}");
    }
}

#[test]
fn names_and_versions_that_can_be_none_are_left_out() {
    let long = "1".repeat(limits::LOCK_VERSION_BYTES_MAX + 1);
    let text = format!("good==1\n../evil==1\nbad name==1\nlong=={long}\nctl==1\u{7}\n");
    reads(&text, LockForm::Requirements, 4, &["pypi good 1"]);
}

#[test]
fn limits_are_kept_and_bombs_end_soon() {
    let large = vec![b'#'; usize::try_from(limits::LOCK_BYTES_MAX).unwrap() + 1];
    assert_eq!(fails(&large), LockError::TooLarge);
    let many: String = (0..=limits::LOCK_FILES_MAX).map(|n| format!("a{n}==1\n")).collect();
    assert_eq!(fails(many.as_bytes()), LockError::TooMany);
    let many: String = (0..=limits::LOCK_FILES_MAX / 2).map(|n| format!(" --hash=sha256:{n:064}")).collect();
    assert_eq!(fails(format!("a==1{many}\nb==1{many}\n").as_bytes()), LockError::TooMany);
    let mut bomb = "version: 1\na0: &a0 [xxxxxxxxxxxxxxxx]\n".to_owned();
    for n in 1..40 {
        bomb += &format!("a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(10));
    }
    assert!(matches!(fails(bomb.as_bytes()), LockError::Malformed(_, why) if why.contains("aliases")));
    for piece in ["[", "{a=", "a.", "a = [", "\"", "'''", "[[", "a==", "\\\n", "- ", "? "] {
        for start in ["version = 1\nx = ", "version = 1\n", "version: 1\nx: ", "a==1 ", "@EXPLICIT\n"] {
            let _ = read(format!("{start}{}", piece.repeat(100_000)).as_bytes());
        }
    }
}

#[test]
fn the_order_of_a_file_changes_nothing() {
    let lines = ["b==2", "a==1", "a==1 --hash=sha256:", "c==3"];
    let text = |order: [usize; 4]| -> String {
        order.iter().map(|n| format!("{}\n", lines[*n].replace("sha256:", &format!("sha256:{A}")))).collect()
    };
    let once = read(text([0, 1, 2, 3]).as_bytes()).unwrap();
    for order in [[3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
        assert_eq!(read(text(order).as_bytes()).unwrap(), once);
    }
    let ecosystems: Vec<Ecosystem> = once.packages.iter().map(|p| p.ecosystem).collect();
    assert!(ecosystems.iter().all(|e| *e == Pypi && *e != Conda));
}
