//! The page in the archive that tells what it is, and how to check it by hand.

use airlock_core::evidence::Manifest;

/// Makes it.
pub(super) fn readme(manifest: &Manifest, fingerprint: &str) -> String {
    let Manifest { channel, snapshot, time, station, published, ledger, .. } = manifest;
    format!(
        "Evidence of what an Airlock station published.\n\n\
         Station      {} (key fingerprint {fingerprint})\nChannel      {channel}\nSnapshot     {snapshot}\nJudged       {time}\n\
         Ledger       entry {published} tells of it; the ledger ends at entry {}\n\n\
         Read summary.html first. sbom.cdx.json and sbom.spdx.json list what is published, vex.openvex.json what was ruled.\n\n\
         To verify all of it with nothing but the station's public key:\n\n    airlock verify FILE --key station.pub\n\n\
         By hand, in a folder of its own: EVIDENCE.sig holds `ed25519`, a public key and a signature over the exact bytes of\n\
         EVIDENCE.json, in hexadecimal.\n\n    \
         unzip -q FILE\n    \
         awk '/^ed25519/ {{print $3}}' EVIDENCE.sig | xxd -r -p > signature.bin\n    \
         openssl pkeyutl -verify -pubin -inkey station.pub -rawin -in EVIDENCE.json -sigfile signature.bin\n    \
         python3 -c \"import json; [print(p['sha256'] + '  ' + p['path']) for p in json.load(open('EVIDENCE.json'))['parts']]\" | sha256sum -c\n\n\
         Each line of objects/ and of ledger.jsonl is named by the SHA-256 of its text without the line's end. docs/evidence.md\n\
         of Airlock goes on from there.\n",
        station.name, ledger.number,
    )
}
