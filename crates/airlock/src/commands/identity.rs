//! `key identity`

use airlock_engine::age::identity;
use airlock_engine::error::Result;
use airlock_formats::age::Recipient;

use super::Cx;

/// What others seal bundles to; a new one where there is none, or where one more is asked for.
pub async fn run(cx: &Cx, add: bool) -> Result<()> {
    let station = cx.open().await?;
    let all: Vec<String> = identity::ensure(&station, add).await?.iter().map(Recipient::to_string).collect();
    let text = || {
        let (newest, before) = all.split_last().map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
        let before: String =
            before.iter().map(|old| format!("  also opens what is sealed to {old}\n")).collect();
        let path = identity::path(&station.dir);
        format!(
            "{newest}\n  give this to whoever exports for this station: `export --seal`, or `[seal]` of airlock.toml there\n  \
             the secret half is in {}: keep a copy in a safe place\n{before}",
            path.display()
        )
    };
    cx.out.answer(|| Ok(serde_json::json!({"recipients": all})), text)
}
