//! The lines to type, ready to copy.

use airlock_core::ecosystem::Ecosystem;

use super::format::shell_word;
use super::reply::Ask;

/// Something to type or to put into a file.
pub(super) struct Lines {
    /// What for.
    pub title: &'static str,
    /// Where it goes; empty for a command.
    pub file: &'static str,
    /// The text.
    pub text: String,
}

/// The URL of a channel's index.
fn index_url(ask: &Ask, ecosystem: Ecosystem, channel: &str) -> String {
    match ecosystem {
        Ecosystem::Conda => format!("{}/conda/{channel}", ask.base()),
        Ecosystem::Pypi => format!("{}/pypi/{channel}/simple/", ask.base()),
    }
}

/// The command that installs one version.
pub(super) fn command(ask: &Ask, ecosystem: Ecosystem, channel: &str, name: &str, version: &str) -> Lines {
    let url = index_url(ask, ecosystem, channel);
    match ecosystem {
        Ecosystem::Conda => Lines {
            title: "conda, mamba",
            file: "",
            text: format!(
                "conda install --override-channels -c {url} {}",
                shell_word(&format!("{name}={version}"))
            ),
        },
        Ecosystem::Pypi => Lines {
            title: "pip",
            file: "",
            text: format!("pip install --index-url {url} {}", shell_word(&format!("{name}=={version}"))),
        },
    }
}

/// The same for the other tool of the ecosystem.
pub(super) fn other_command(
    ask: &Ask,
    ecosystem: Ecosystem,
    channel: &str,
    name: &str,
    version: &str,
) -> Lines {
    let url = index_url(ask, ecosystem, channel);
    let spec = shell_word(&format!("{name}=={version}"));
    match ecosystem {
        Ecosystem::Conda => Lines {
            title: "pixi",
            file: "",
            text: format!("pixi workspace channel add {url}\npixi add {spec}"),
        },
        Ecosystem::Pypi => {
            Lines { title: "uv", file: "", text: format!("uv pip install --default-index {url} {spec}") }
        }
    }
}

/// What a user puts in place once, to use a channel.
pub(super) fn set_up(ask: &Ask, ecosystem: Ecosystem, channel: &str) -> Vec<Lines> {
    let url = index_url(ask, ecosystem, channel);
    match ecosystem {
        Ecosystem::Conda => vec![
            Lines {
                title: "conda and mamba",
                file: "~/.condarc",
                text: format!("channels:\n  - {url}\ndefault_channels: []\nchannel_priority: strict"),
            },
            Lines {
                title: "pixi",
                file: "pixi.toml",
                text: format!("[workspace]\nchannels = [\"{url}\"]\nchannel-priority = \"strict\""),
            },
        ],
        Ecosystem::Pypi => vec![
            Lines {
                title: "pip",
                file: "pip.conf",
                text: format!("[global]\nindex-url = {url}{}", trusted(ask)),
            },
            Lines {
                title: "uv",
                file: "uv.toml",
                text: format!("[[index]]\nurl = \"{url}\"\ndefault = true"),
            },
        ],
    }
}

/// pip takes nothing over plain HTTP from another machine unless it is told to.
fn trusted(ask: &Ask) -> String {
    let host = ask.base().strip_prefix("http://").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_near = name.is_empty() || ["localhost", "[::1]"].contains(&name) || name.starts_with("127.");
    if is_near { String::new() } else { format!("\ntrusted-host = {host}") }
}
