//! `airlock plan`: what people need, held against what may be had.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use airlock_core::ecosystem::Ecosystem;
use airlock_engine::error::{Error, Result};
use airlock_engine::plan::{self, Needs, Plan};
use airlock_engine::station::Station;
use airlock_engine::sync::Rejudged;
use airlock_engine::view::{ChannelView, View};
use airlock_formats::environment::Environment;
use airlock_formats::limits::ENVIRONMENT_BYTES_MAX;

use super::Cx;
use super::judging::{self, published};
use crate::cli::PlanArgs;
use crate::output::{count, table};

pub async fn run(cx: &Cx, args: PlanArgs) -> Result<ExitCode> {
    let station = cx.open().await?;
    let mut channels: Vec<(View, ChannelView)> = Vec::new();
    for name in &args.channels {
        let (view, channel) = published(&station, name).await?;
        let ecosystem = channel.channel.ecosystem;
        if channels.iter().any(|(_, other)| other.channel.ecosystem == ecosystem) {
            return Err(Error::usage(format!("two channels of ecosystem {ecosystem} were named"))
                .hint("a client asks one; plan for each by itself"));
        }
        channels.push((view, channel));
    }
    let has = |ecosystem| channels.iter().any(|(_, channel)| channel.channel.ecosystem == ecosystem);
    let subdir = args.platform.unwrap_or_else(this_machine);
    let mut needs = Needs {
        environment: read(
            &subdir,
            &args.what,
            if has(Ecosystem::Conda) { Ecosystem::Conda } else { Ecosystem::Pypi },
        )?,
        subdir,
        python: args.python,
        virtual_packages: args.virtual_packages,
    };
    let Environment { conda, pypi, unanswerable } = &needs.environment;
    if conda.is_empty() && pypi.is_empty() && unanswerable.is_empty() && needs.python.is_none() {
        return Err(Error::usage("nothing is asked for").hint("give a file that names packages, or specs"));
    }
    for (ecosystem, asked) in [
        (Ecosystem::Conda, needs.environment.conda.clone()),
        (Ecosystem::Pypi, needs.environment.pypi.clone()),
    ] {
        if !has(ecosystem) {
            let why = format!("no {ecosystem} channel was named with --channel");
            needs.environment.unanswerable.extend(asked.iter().map(|one| format!("{one}: {why}")));
        }
    }
    let mut plans = Vec::new();
    for (view, channel) in &channels {
        plans.push(plan::plan(view, channel, &needs).await?);
    }
    let unanswerable = &needs.environment.unanswerable;
    if let Some(name) = &args.closure {
        if let Some(first) = unanswerable.first() {
            return Err(Error::no(format!("{first}; so that the channel would lack it"))
                .hint("leave it out of what is asked for, or name a channel that can answer it; nothing was changed"));
        }
        return close(cx, &station, &plans, name, args.policy.as_deref()).await;
    }
    let passes = unanswerable.is_empty() && plans.iter().all(|plan| plan.passes);
    let json = || Ok(serde_json::json!({"passes": passes, "plans": plans, "unanswerable": unanswerable}));
    cx.out.answer(json, || {
        let refused = unanswerable.iter().map(|one| format!("not looked at: {one}\n"));
        plans.iter().map(|plan| text(cx, plan)).chain(refused).collect::<String>()
    })?;
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Makes what was planned the content of a child.
async fn close(
    cx: &Cx,
    station: &Station,
    plans: &[Plan],
    name: &str,
    policy: Option<&str>,
) -> Result<ExitCode> {
    let [plan] = plans else {
        return Err(Error::usage("a child is of one channel").hint("name one --channel"));
    };
    let Rejudged { outcomes, failed } = plan::close(station, plan, name, policy).await?;
    cx.out.answer(|| judging::json(&outcomes), || Ok(text(cx, plan) + &judging::text(cx, &outcomes)?))?;
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// The subdir of the machine that this runs on.
fn this_machine() -> String {
    let system = match std::env::consts::OS {
        "macos" => "osx",
        "windows" => "win",
        other => other,
    };
    let machine = match (system, std::env::consts::ARCH) {
        (_, "x86_64") => "64",
        ("osx" | "win", "aarch64") => "arm64",
        (_, other) => other,
    };
    format!("{system}-{machine}")
}

/// All that is needed: of files and specs together.
fn read(subdir: &str, what: &[String], plain: Ecosystem) -> Result<Environment> {
    let mut all = Environment::default();
    for one in what {
        // `ruamel.yaml` may be both.
        let path = Path::new(one);
        if !path.is_file() && !one.contains(std::path::is_separator) {
            match plain {
                Ecosystem::Conda => all.conda.push(one.clone()),
                Ecosystem::Pypi => all.pypi.push(one.clone()),
            }
            continue;
        }
        let text = file(path)?;
        let read = Environment::read(&text, subdir, one.ends_with(".txt"));
        let read = read.map_err(|why| {
            Error::usage(format!("{one}: {why}"))
                .hint("give a lock file, an environment.yml, a requirements file of pip (.txt), or specs")
        })?;
        all.conda.extend(read.conda);
        all.pypi.extend(read.pypi);
        all.unanswerable.extend(read.unanswerable);
    }
    Ok(all)
}

fn file(path: &Path) -> Result<String> {
    let fault = |e: std::io::Error| {
        Error::usage(format!("{}: {e}", path.display()))
            .hint("give a file that is there and that this user may read")
    };
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut text = String::new();
    file.take(ENVIRONMENT_BYTES_MAX + 1).read_to_string(&mut text).map_err(fault)?;
    if text.len() as u64 > ENVIRONMENT_BYTES_MAX {
        return Err(Error::usage(format!("{} is larger than {ENVIRONMENT_BYTES_MAX} bytes", path.display())));
    }
    Ok(text)
}

fn text(cx: &Cx, plan: &Plan) -> String {
    let platform = plan.platform.as_ref().map(|p| format!(" for {p}")).unwrap_or_default();
    let good = plan.members.iter().filter(|member| member.why.is_none()).count();
    let mut out =
        format!("{}{platform}: {good} of {} pass\n", plan.channel, count(plan.members.len() as u64, "file"));
    let rows = plan.members.iter().filter(|member| cx.out.is_verbose() || member.why.is_some());
    let rows: Vec<Vec<String>> = rows
        .map(|member| {
            let nearest = member.nearest.as_ref().map(|version| format!("; nearest that passes: {version}"));
            let why = member.why.as_deref().unwrap_or(member.verdict);
            vec![format!("  {}", member.artifact), format!("{why}{}", nearest.unwrap_or_default())]
        })
        .collect();
    out += &table(&rows);
    for missing in &plan.missing {
        out += &format!("  {missing}\n");
    }
    if let Some(nearest) = &plan.nearest {
        out += &format!("nearest that passes: {}\n", count(nearest.artifacts.len() as u64, "file"));
        for asked in &nearest.asked {
            out += &format!("  asked for as {} in place of {}\n", asked.to, asked.from);
        }
        let shown = |version: &Option<String>| version.clone().unwrap_or_else(|| "not needed".to_owned());
        let changes: Vec<Vec<String>> = nearest
            .changes
            .iter()
            .map(|c| vec![format!("  {}", c.name), format!("{} -> {}", shown(&c.from), shown(&c.to))])
            .collect();
        out += &table(&changes);
    } else if !plan.passes {
        out += "nothing that passes satisfies it\n";
    }
    for reason in &plan.reasons {
        out += &format!("  | {reason}\n");
    }
    for unread in &plan.unread {
        out += &format!("  left out: {unread}\n");
    }
    out
}
