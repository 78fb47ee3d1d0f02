//! What to say when nobody here knows what was asked for.

use airlock_engine::error::Error;
use airlock_engine::view::View;

use super::format::encoded;
use super::reply::{Fault, Missing};

/// Links to the station's other channels that one page names at most.
const LINKS_MAX: usize = 20;

/// A URL that can name nothing.
pub(super) fn nothing() -> Missing {
    Missing {
        title: "This address names nothing".to_owned(),
        next: vec![(
            "Start at the station's first page:".to_owned(),
            Some(("all channels".to_owned(), String::new())),
        )],
        crumbs: Vec::new(),
    }
}

/// A channel that is not there, or that was never published.
pub(super) async fn channel(view: &View, name: &str) -> Fault {
    let defined = match airlock_engine::channel::list(view.station()).await {
        Ok(defined) => defined,
        Err(error) => return error.into(),
    };
    if defined.iter().any(|c| c.name == name) {
        let next = vec![
            ("It is defined, and nothing has been published in it yet.".to_owned(), None),
            (format!("Whoever runs this station fills it with `airlock sync {name}`."), None),
        ];
        return Missing { title: format!("Channel {name} is still empty"), next, crumbs: Vec::new() }.into();
    }
    let mut next = vec![("Check the spelling; names of channels are in lower case.".to_owned(), None)];
    for other in defined.iter().take(LINKS_MAX) {
        let link = (other.name.clone(), format!("channels/{}", other.name));
        next.push((format!("This station has a {} channel:", other.ecosystem), Some(link)));
    }
    if defined.is_empty() {
        next.push(("This station has no channel yet: `airlock channel add` makes one.".to_owned(), None));
    }
    Missing { title: format!("There is no channel called {}", cut(name)), next, crumbs: Vec::new() }.into()
}

/// A package of which a channel knows nothing.
pub(super) async fn package(view: &View, channel: &str, name: &str) -> Fault {
    match elsewhere(view, channel, name).await {
        Ok(elsewhere) => unknown_package(channel, name, &elsewhere).into(),
        Err(error) => error.into(),
    }
}

/// The other channels that know the name.
async fn elsewhere(view: &View, channel: &str, name: &str) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    for other in view.channel_names().await?.into_iter().filter(|c| c != channel).take(LINKS_MAX) {
        let Some(there) = view.channel(&other).await? else { continue };
        if super::read::knows(view, &there, name).await? {
            out.push(other);
        }
    }
    Ok(out)
}

fn unknown_package(channel: &str, name: &str, elsewhere: &[String]) -> Missing {
    let shown = cut(name);
    let mut next: Vec<(String, Option<(String, String)>)> = elsewhere
        .iter()
        .map(|other| {
            let link = (format!("{shown} in {other}"), format!("packages/{other}/{}", encoded(name)));
            ("Another channel knows it:".to_owned(), Some(link))
        })
        .collect();
    let search =
        (format!("names that contain “{shown}”"), format!("channels/{channel}?q={}", encoded(&shown)));
    next.push(("Perhaps it is spelt differently. Look for".to_owned(), Some(search)));
    next.push((
        "Otherwise the channel's source has no such package, or the channel leaves it out on purpose."
            .to_owned(),
        None,
    ));
    next.push((
        format!("Ask whoever runs this station to bring it in. Say: “please add {shown} to channel {channel}”, and what you need it for."),
        None,
    ));
    Missing {
        title: format!("Nobody here knows {shown} in channel {channel}"),
        next,
        crumbs: vec![(channel.to_owned(), format!("channels/{channel}"))],
    }
}

/// A version of which a channel knows nothing, although it knows the package.
pub(super) fn version(channel: &str, name: &str, version: &str) -> Missing {
    let package = format!("packages/{channel}/{}", encoded(name));
    Missing {
        title: format!("Channel {channel} knows no version {} of {name}", cut(version)),
        next: vec![
            ("See the versions that it does know:".to_owned(), Some((name.to_owned(), package.clone()))),
            (
                "If you need this very version, ask whoever runs this station whether its source has it."
                    .to_owned(),
                None,
            ),
        ],
        crumbs: vec![(channel.to_owned(), format!("channels/{channel}")), (name.to_owned(), package)],
    }
}

/// What somebody typed into an address, at a length that fits on a page.
fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX).chain(['…']).collect()
}
