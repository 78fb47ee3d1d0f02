//! `client-config`: one index and no other, so that no name can come from elsewhere.

use std::process::ExitCode;

use airlock_core::ecosystem::Ecosystem;
use airlock_engine::channel;
use airlock_engine::error::{Error, Result};

use super::Cx;
use crate::cli::Client;

pub async fn run(cx: &Cx, name: &str, client: Option<Client>, base: Option<String>) -> Result<ExitCode> {
    let station = cx.open().await?;
    let channel = channel::find(&station, name).await?;
    let client = client.unwrap_or(match channel.ecosystem {
        Ecosystem::Conda => Client::Conda,
        Ecosystem::Pypi => Client::Pip,
    });
    let base = base.unwrap_or_else(|| format!("http://{}", station.config.listen));
    let host = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
    if host.is_none_or(str::is_empty) {
        return Err(Error::usage(format!("`{base}` is not an address"))
            .hint("give one such as https://packages.inside.example"));
    }
    let (file, text) = lines(channel.ecosystem, client, name, base.trim_end_matches('/'))?;
    cx.out.answer(|| Ok(serde_json::json!({"file": file, "text": text})), || format!("# {file}\n{text}"))?;
    Ok(ExitCode::SUCCESS)
}

/// The file to put it in, and what to put there.
pub fn lines(
    ecosystem: Ecosystem,
    client: Client,
    channel: &str,
    base: &str,
) -> Result<(&'static str, String)> {
    let conda = format!("{base}/conda/{channel}");
    let pypi = format!("{base}/pypi/{channel}/simple/");
    Ok(match (ecosystem, client) {
        (Ecosystem::Conda, Client::Conda) => (
            "~/.condarc",
            format!("channels:\n  - {conda}\ndefault_channels: []\nchannel_priority: strict\n"),
        ),
        (Ecosystem::Conda, Client::Pixi) => (
            "pixi.toml",
            format!(
                "[workspace]\nchannels = [\"{conda}\"]\nchannel-priority = \"strict\"\nconda-pypi-map = false\n"
            ),
        ),
        (Ecosystem::Pypi, Client::Pip) => {
            ("~/.config/pip/pip.conf", format!("[global]\nindex-url = {pypi}\n"))
        }
        (Ecosystem::Pypi, Client::Uv | Client::Pixi) => {
            ("~/.config/uv/uv.toml", format!("[[index]]\nurl = \"{pypi}\"\ndefault = true\n"))
        }
        (Ecosystem::Conda, Client::Pip | Client::Uv) | (Ecosystem::Pypi, Client::Conda) => {
            return Err(Error::usage(format!("that client does not read {ecosystem} channels"))
                .hint("leave --for away to get what fits"));
        }
    })
}
