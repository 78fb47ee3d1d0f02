//! Bundles with content that a test chooses, signed by a station.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Digest;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::station::Station;
use airlock_engine::trust;
use serde_json::{Value, json};

use crate::{Kit, conda};

/// A station that has something to export.
pub async fn sender() -> Kit {
    let low = Kit::new(&[]).await;
    let mut source = low.conda_source("source");
    source.add(&conda("good", "1.0"), &json!({}));
    source.write();
    low.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    low.sync("main").await;
    low
}

/// A bundle of a station with files of these sizes besides what it has.
pub async fn export(station: &Station, disk: &Path, sizes: &[usize]) {
    let report = export::export(station, disk, &What::default()).await.unwrap();
    let mut random = report.number;
    let files: Vec<Value> = sizes.iter().map(|size| plant(disk, *size, &mut random)).collect();
    resign(station, disk, |manifest| {
        let list = manifest["files"].as_array_mut().unwrap();
        list.extend(files);
        list.sort_by_key(|file| file["path"].as_str().unwrap().to_owned());
    });
}

/// Makes a station trust the key of another one.
pub async fn believe(one: &Station, other: &Station) {
    let limits = trust::Limits::default();
    trust::add(one, "peer", other.key.public(), &other.key.fingerprint(), limits).await.unwrap();
}

/// Noise of this size among the files of a bundle.
pub fn plant(disk: &Path, size: usize, random: &mut u64) -> Value {
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(*random ^ (*random >> 29)).to_le_bytes());
    }
    bytes.truncate(size);
    let sha256 = Digest::of(&bytes);
    let path = airlock_core::place::FilePath::of(sha256, "x-1-0.conda").to_string();
    let place = disk.join(&path);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(place, bytes).unwrap();
    json!({"name": "x-1-0.conda", "path": path, "sha256": sha256, "size": size})
}

/// Changes a manifest and signs it.
pub fn resign(signer: &Station, disk: &Path, change: impl FnOnce(&mut Value)) {
    let path = disk.join("AIRLOCK.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    let text = Canonical::of(&manifest).unwrap();
    std::fs::write(&path, text.as_str()).unwrap();
    let line = signer.key.sign(text.as_str().as_bytes());
    std::fs::write(disk.join("AIRLOCK.sig"), format!("{line}\n")).unwrap();
}

/// Every file below a folder.
pub fn content(dir: &Path) -> BTreeMap<PathBuf, Digest> {
    let (mut out, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                out.insert(path.strip_prefix(dir).unwrap().to_owned(), Digest::of(&bytes));
            }
        }
    }
    out
}
