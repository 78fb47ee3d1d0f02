//! Keys of persons: what this program encrypts `openssl` opens, and the other way round; commands sign for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};

use airlock_engine::error::{Error, Kind};
use airlock_engine::keys;
use airlock_engine::personal::{self, Passphrase, Signer};

const GOOD: &str = "three plain words";

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned())
}

fn open(path: &Path, text: &str) -> Result<Signer, Error> {
    personal::open(path, || Ok(passphrase(text)))
}

/// Runs `openssl`; false where there is none.
fn openssl(args: &[&str]) -> bool {
    match Command::new("openssl").args(args).stderr(Stdio::null()).output() {
        Ok(output) => {
            assert!(output.status.success(), "{args:?}");
            true
        }
        Err(e) => {
            airlock_testkit::skipped(&format!("openssl cannot be started: {e}"));
            false
        }
    }
}

#[test]
fn a_key_opens_with_its_passphrase_and_signs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ada.key");
    let (public, key) = personal::create(&path, &passphrase(GOOD)).unwrap();
    assert_eq!(public, dir.path().join("ada.key.pub"));
    assert_eq!(keys::read_public(&public).unwrap(), key);
    let signer = open(&path, GOOD).unwrap();
    assert_eq!(signer.public_key(), key);
    assert!(keys::verifies(&signer.sign(b"message").unwrap(), b"message"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let shown = format!("{signer:?}");
    assert!(shown.starts_with("Signer(") && shown.len() < 60, "{shown}");
    // Neither half is written over.
    let error = personal::create(&path, &passphrase(GOOD)).unwrap_err();
    assert!(error.kind == Kind::Usage && error.message.contains("is there already"), "{error}");
    let error = personal::create(&dir.path().join("x"), &passphrase("short")).unwrap_err();
    assert!(error.message.contains("fewer than 12"), "{error}");
}

#[test]
fn a_wrong_passphrase_opens_nothing_and_is_repeated_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ada.key");
    if !openssl(&[
        "genpkey",
        "-algorithm",
        "ed25519",
        "-aes256",
        "-pass",
        &format!("pass:{GOOD}"),
        "-out",
        path.to_str().unwrap(),
    ]) {
        return;
    }
    // Many, since one in 256 leaves what looks like padding.
    for n in 0..600 {
        let typed = format!("wrong words {n}");
        let error = open(&path, &typed).unwrap_err();
        assert!(error.message.contains("the passphrase is another one"), "{error}");
        assert!(!format!("{error:?}").contains(&typed));
    }
    open(&path, GOOD).unwrap();
}

#[test]
fn openssl_opens_what_this_program_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ada.key");
    let (public, _) = personal::create(&path, &passphrase(GOOD)).unwrap();
    let out = dir.path().join("ada.again");
    let pass = format!("pass:{GOOD}");
    if openssl(&[
        "pkey",
        "-in",
        path.to_str().unwrap(),
        "-passin",
        &pass,
        "-pubout",
        "-out",
        out.to_str().unwrap(),
    ]) {
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(public).unwrap());
        // A station's own key is not encrypted, and reads as well.
        let station = keys::StationKey::create(dir.path()).unwrap();
        let path = dir.path().join("station.key");
        openssl(&["pkey", "-in", path.to_str().unwrap(), "-pubout", "-out", out.to_str().unwrap()]);
        assert_eq!(keys::read_public(&out).unwrap(), station.public());
    }
}

#[test]
fn keys_that_openssl_encrypted_in_its_ways_open() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain.pem");
    if !openssl(&["genpkey", "-algorithm", "ed25519", "-out", plain.to_str().unwrap()]) {
        return;
    }
    let public = dir.path().join("plain.pub");
    openssl(&["pkey", "-in", plain.to_str().unwrap(), "-pubout", "-out", public.to_str().unwrap()]);
    let expected = keys::read_public(&public).unwrap();
    let error = open(&plain, GOOD).unwrap_err();
    assert!(error.message.contains("is no encrypted key"), "{error}");
    assert!(error.hint.unwrap().contains("openssl pkcs8 -topk8"));
    let pass = format!("pass:{GOOD}");
    let encrypt = |name: &str, how: &[&str]| {
        let path = dir.path().join(name);
        let mut args = vec!["pkcs8", "-topk8", "-in", plain.to_str().unwrap(), "-passout", &pass];
        args.extend(how);
        args.extend(["-out", path.to_str().unwrap()]);
        openssl(&args);
        path
    };
    for (name, how) in [
        ("default", &[][..]),
        ("aes128", &["-v2", "aes-128-cbc"]),
        ("aes192", &["-v2", "aes-192-cbc"]),
        ("sha1", &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"]),
        ("sha512", &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512", "-iter", "20000"]),
    ] {
        let signer = open(&encrypt(name, how), GOOD).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(signer.public_key(), expected, "{name}");
    }
    for (name, how) in [("scrypt", &["-scrypt"][..]), ("des", &["-v2", "des3"])] {
        let error = open(&encrypt(name, how), GOOD).unwrap_err();
        assert!(error.kind == Kind::Usage && error.message.contains("not known here"), "{name}: {error}");
        assert!(error.hint.unwrap().contains("openssl pkcs8"), "{name}");
    }
}

#[test]
fn what_is_no_key_of_ed25519_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for bytes in [&b""[..], b"hello", b"\xff\xfe", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(open(&path, GOOD).unwrap_err().kind, Kind::Usage);
    }
    assert_eq!(open(&dir.path().join("absent"), GOOD).unwrap_err().kind, Kind::Fault);
    let pass = format!("pass:{GOOD}");
    if openssl(&[
        "genpkey",
        "-algorithm",
        "x25519",
        "-aes256",
        "-pass",
        &pass,
        "-out",
        path.to_str().unwrap(),
    ]) {
        let error = open(&path, GOOD).unwrap_err();
        assert!(error.message.contains("another key than one of Ed25519"), "{error}");
    }
}

#[test]
fn a_command_signs_with_the_key_that_it_was_said_to_have() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for name in ["one", "two"] {
        if !openssl(&["genpkey", "-algorithm", "ed25519", "-out", &at(name)]) {
            return;
        }
        openssl(&["pkey", "-in", &at(name), "-pubout", "-out", &at(&format!("{name}.pub"))]);
    }
    let by = |command: &str| Signer::Command {
        command: command.to_owned(),
        public_key: keys::read_public(Path::new(&at("one.pub"))).unwrap(),
    };
    let message = vec![7; 3 << 20];
    let from_file = format!("openssl pkeyutl -sign -rawin -inkey {} -in \"$AIRLOCK_MESSAGE\"", at("one"));
    assert!(keys::verifies(&by(&from_file).sign(&message).unwrap(), &message));
    let from_stdin =
        format!("cat > {0} && openssl pkeyutl -sign -rawin -inkey {1} -in {0}", at("m"), at("one"));
    assert!(keys::verifies(&by(&from_stdin).sign(&message).unwrap(), &message));
    let refused = |command: &str, kind: Kind, text: &str| {
        let error = by(command).sign(&message).unwrap_err();
        assert!(error.kind == kind && error.message.contains(text), "{command}: {error}");
    };
    refused(&from_file.replace(&at("one"), &at("two")), Kind::Unsafe, "signed with another key");
    refused("exit 3", Kind::Fault, "failed");
    refused("printf short", Kind::Fault, "answered with 5 bytes");
    refused("cat \"$AIRLOCK_MESSAGE\" 2>&1; true", Kind::Fault, "answered with 65 bytes");
}
