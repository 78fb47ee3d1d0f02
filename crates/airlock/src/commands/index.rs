//! `index`: indexes for a conda channel that lies in a directory.

use std::path::Path;
use std::process::ExitCode;

use airlock_core::unseen::plain;
use airlock_engine::error::Result;
use airlock_engine::index::{self, Indexed};

use super::Cx;
use crate::output::{count, table};

/// Files left out that are shown without --verbose.
const BAD_SHOWN: usize = 20;

pub async fn run(cx: &Cx, dir: &Path, out: Option<&Path>) -> Result<ExitCode> {
    let out = out.unwrap_or(dir);
    let indexed = index::index(dir, out, cx.options().threads).await?;
    cx.out.answer(|| json(&indexed), || text(cx, out, &indexed))?;
    // As with `sync`, what is left out is said and is no failure of the rest.
    Ok(ExitCode::SUCCESS)
}

fn json(indexed: &[Indexed]) -> Result<serde_json::Value> {
    let mut out = Vec::new();
    for subdir in indexed {
        let bad = subdir.bad.iter().map(|b| serde_json::json!({"file": b.file, "reason": b.reason}));
        let mut value = serde_json::to_value(subdir)?;
        if let Some(keys) = value.as_object_mut() {
            keys.insert("bad".to_owned(), bad.collect());
        }
        out.push(value);
    }
    Ok(serde_json::json!({"subdirs": out}))
}

fn text(cx: &Cx, out: &Path, indexed: &[Indexed]) -> String {
    let mut rows = vec![["subdir", "packages", "opened", "known", "left out"].map(str::to_owned).to_vec()];
    for i in indexed {
        let numbers = [i.packages, i.opened, i.known, i.bad_count].map(|n| n.to_string());
        rows.push([vec![i.subdir.clone()], numbers.to_vec()].concat());
    }
    let mut text = format!("Wrote the indexes in {}.\n\n{}", out.display(), table(&rows));
    let bad: Vec<_> = indexed.iter().flat_map(|i| &i.bad).collect();
    let total: u64 = indexed.iter().map(|i| i.bad_count).sum();
    let shown = if cx.out.is_verbose() { bad.len() } else { BAD_SHOWN };
    if total > 0 {
        text += &format!("\nLeft out: {}\n", count(total, "file"));
    }
    for b in bad.iter().take(shown) {
        text += &format!("  {}  {}\n", plain(&b.file), plain(&b.reason));
    }
    if total > shown.min(bad.len()) as u64 {
        text += "  ... (--verbose shows more)\n";
    }
    text
}
